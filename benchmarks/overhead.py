"""What the synthesize stage costs around its engine: with an engine that answers at once, and a real tokenizer.

    python benchmarks/overhead.py

Documents of 300 words through the whole stage (reading, tokenizing, chains, parsing, publishing, recording, Ray), per
second and core; CPU time of the driver a segment; memory of the worker from 10 to 1,000 segments.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from common import HERE, save, write_model, write_shards

DRIVER = f"""
import json, resource, sys, time
sys.path.insert(0, {str(HERE)!r})
from common import Paced
from ipt_stream.synthesis.pipeline import SynthesizeConfig, synthesize
from ipt_stream.synthesis.ray_session import ensure_ray
ensure_ray()
import ray.data
before = time.process_time()
report = synthesize(SynthesizeConfig.model_validate(json.loads(sys.argv[1])), Paced())
print(json.dumps({{**report.figures, "driver_cpu": time.process_time() - before}}))
"""


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """One run in a process of its own, looked at five times a second.

    Gives the stage's figures, and `samples`: segments done, CPU seconds and MB of all workers together.
    """
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, json.dumps(settings)], env=environment, stdout=subprocess.PIPE, text=True
    )
    folder = Path(settings["output"], "segments")
    samples: list[tuple[int, float, float]] = []
    while process.poll() is None:
        cpu = held = 0.0
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                if "ray::MapWorker" in " ".join(child.cmdline()):
                    times = child.cpu_times()
                    cpu += times.user + times.system
                    held += child.memory_full_info().uss / 2**20
            except psutil.Error:
                continue
        if cpu and folder.is_dir():
            samples.append((sum(1 for _ in folder.glob("*.parquet")), cpu, held))
        time.sleep(0.2)
    output, _ = process.communicate()
    assert process.returncode == 0
    return {**json.loads(output.strip().splitlines()[-1]), "samples": samples}


def at(samples: list[tuple[int, float, float]], segments: int) -> tuple[int, float, float]:
    """The first sample with so many segments done."""
    return next(sample for sample in samples if sample[0] >= segments)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--documents", type=int, default=40_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = str(write_model(folder / "model", 8000))
        shards = write_shards(folder / "shards", 4, options.documents // 4, 300)
        small = write_shards(folder / "small", 4, 10_000, 300)
        cores = os.cpu_count() or 1
        base: dict[str, Any] = {"rounds": 2, "engine": {
            "model": model, "gpus": 0, "cpus": 1, "max_model_len": 4096, "max_new_tokens": 256, "max_num_seqs": 256,
            "replicas": cores,
        }}  # fmt: skip
        rates, walls, driver = [], [], []
        memory: list[list[float]] = []
        for number in range(options.times):
            settings = {
                **base, "input": {"shards": [str(shards)]}, "output": str(folder / f"rate-{number}"),
                "segment_documents": 500,
            }  # fmt: skip
            done = run(settings)
            most = max(sample[0] for sample in done["samples"])
            first, last = at(done["samples"], most // 10), at(done["samples"], most)
            rates.append((last[0] - first[0]) * settings["segment_documents"] / (last[1] - first[1]))
            walls.append(done["documents_in"] / done["synthesis_seconds"])
            settings |= {
                "input": {"shards": [str(small)]},
                "segment_documents": 10,
                "engine": {**base["engine"], "replicas": 1, "segments_in_flight": 4},
                "output": str(folder / f"driver-{number}"),
            }
            done = run(settings)
            driver.append(1000 * done["driver_cpu"] / done["segments"])
            most = max(sample[0] for sample in done["samples"])
            memory.append([at(done["samples"], segments)[2] for segments in (10, 1000, most)])
            print(
                f"{number + 1}  {rates[-1]:,.0f} documents/s and core, driver {driver[-1]:.2f} ms a segment", flush=True
            )
    held = [statistics.median(sizes) for sizes in zip(*memory, strict=True)]
    save(
        "overhead",
        "The synthesize stage around an engine that answers at once",
        {
            "documents of 300 words a second of a worker's CPU time, end to end": round(statistics.median(rates)),
            f"documents/s on the clock, {cores} workers": round(statistics.median(walls)),
            "CPU of the driver a segment, ms (4,000 segments, start included)": round(statistics.median(driver), 2),
            "memory of a worker, MB: after 10, 1,000 and 4,000 segments": ", ".join(f"{mb:.0f}" for mb in held),
        },
        f"Medians of {options.times} runs; one tokenizer thread a worker.",
    )


if __name__ == "__main__":
    main()
