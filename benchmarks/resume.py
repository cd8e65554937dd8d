"""Planning and resuming a run of a million segments, half of them done: seconds and memory of the driver.

    python benchmarks/resume.py

All that a driver does before it gives out the first order (`synthesis.begin`), imports too: it lists RefinedWeb's
number of shards, takes the claim, looks for what killed writers left among the segments, reads the ledger, and makes
the orders. The ledger is written as workers write it (records of real size, 256 a part), with a file of no content for
each segment and shard. And `ipt-stream status`, the whole command, for the longest ledger that it reads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import answer, measure, save

if TYPE_CHECKING:
    from ipt_stream.synthesis.pipeline import SynthesizeConfig

SHARDS = 5534
SEGMENT_DOCUMENTS = 2048


def config_of(scratch: Path, engines: int) -> SynthesizeConfig:
    """Settings of the run."""
    from ipt_stream.synthesis.pipeline import SynthesizeConfig

    return SynthesizeConfig.model_validate(
        {
            "input": {"shards": [str(scratch / "shards")]},
            "output": str(scratch / "run"),
            "segment_documents": SEGMENT_DOCUMENTS,
            "fraction": 0.2,
            "engine": {"model": str(scratch / "model"), "max_num_seqs": 512, "replicas": engines},
        }
    )


def write_run(scratch: Path, segments: int, engines: int, most: int | None = None) -> int:
    """A run's input, model and output: plan, and the records and files of every other segment, `most` of them; gives
    how many are recorded."""
    from ipt_stream.corpus.formats import Format, ShardSpec
    from ipt_stream.ledger import RECORDS_A_PART
    from ipt_stream.synthesis.plan import RunPlan, save_plan, segment_id, segment_path
    from ipt_stream.synthesis.read_segments import SegmentInput
    from ipt_stream.synthesis.rounds import SegmentResult
    from ipt_stream.synthesis.worker import describe

    each = -(-segments // SHARDS)
    output, segment_documents = scratch / "run", SEGMENT_DOCUMENTS
    for folder in ("shards", "model", "run/ledger", "run/segments"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "model" / "config.json").write_text("{}")
    config = config_of(scratch, engines)
    shards = tuple(
        ShardSpec(str(scratch / "shards" / f"{i:05d}.parquet"), i, f"{i:05d}.parquet", Format.PARQUET, "content", "url",
                  0, each * segment_documents)
        for i in range(SHARDS)
    )  # fmt: skip
    for shard in shards:
        Path(shard.path).touch()
    named = (config.input.text_column, config.input.id_column, config.input.format)
    save_plan(str(output), RunPlan(shards, segment_documents, config.rounds, config.fraction, config.seed, named))
    base = describe(
        SegmentInput(0, 0, 0, segment_documents, (), {"empty": [7]}), SegmentResult((), 180_000, 90_000, {})
    )
    base |= {
        "augmented": 390, "raw": segment_documents - 391, "unselected": 1638, "pieces": 409, "pairs": 1950,
        "no_pairs": {"unfinished": 19}, "dropped": {"unfinished": 212, "duplicate": 40}, "started": 1790000000.0,
        "seconds": 84.2, "sha256": "0" * 64,
    }  # fmt: skip
    folder = output / "ledger"
    lines: list[str] = []
    count = part = 0
    for shard, number in islice(((s, n) for s in range(SHARDS) for n in range(0, each, 2)), most):
        path = segment_path(shard, number)
        record = {**base, "id": segment_id(shard, number), "shard": shard, "number": number,
                  "start_row": number * segment_documents, "path": path}  # fmt: skip
        lines.append(json.dumps(record, separators=(",", ":"), sort_keys=True) + "\n")
        (output / path).touch()
        count += 1
        if len(lines) == RECORDS_A_PART:
            (folder / f"part-{part % 64:012x}-{part:06d}.jsonl").write_text("".join(lines))
            lines, part = [], part + 1
    if lines:
        (folder / f"part-last-{part:06d}.jsonl").write_text("".join(lines))
    return count


def resume(scratch: str, engines: int) -> dict[str, Any]:
    """What a driver does before it gives out the first order."""
    started = time.perf_counter()
    from ipt_stream.stage import StageReport, peak_memory_bytes
    from ipt_stream.synthesis.begin import begin

    with begin(config_of(Path(scratch), engines)) as run:
        seconds = time.perf_counter() - started
        assert not isinstance(run, StageReport)
        return {
            "seconds": seconds,
            "cpu": time.process_time(),
            "mb": round(peak_memory_bytes() / 1e6),
            "orders": len(run.orders),
            "segments": run.before.counts["segments"],
            "shards": len(run.plan.shards),
        }


def status(scratch: str) -> float:
    """Seconds that `ipt-stream status` takes, from its start to its end."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "ipt_stream.cli", "status", f"{scratch}/run"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert f"{status_records():,} segments done" in said, said
    return time.perf_counter() - started


def status_records() -> int:
    """Records of the longest ledger that a status reads."""
    from ipt_stream.status import MOST_RECORDS

    return MOST_RECORDS


def main() -> None:
    """Write the run, and resume it in processes of their own."""
    if answer({"resume": resume}):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--engines", type=int, default=100)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        records = status_records()
        write_run(Path(scratch), 4 * records, options.engines, records)
        asked = [status(scratch) for _ in range(options.times)]
    with tempfile.TemporaryDirectory() as scratch:
        recorded = write_run(Path(scratch), options.segments, options.engines)
        size = sum(file.stat().st_size for file in Path(scratch, "run", "ledger").iterdir())
        results = [measure("resume", scratch, options.engines) for _ in range(options.times)]
    assert {(result["segments"], result["shards"]) for result in results} == {(recorded, SHARDS)}
    save(
        "resume",
        "Planning and resuming a run of a million segments, half of them done",
        {
            "segments, recorded, shards": f"{options.segments:,}, {recorded:,}, {SHARDS:,}",
            "ledger": f"{size / 2**20:.0f} MiB",
            "seconds to the first order": round(statistics.median(result["seconds"] for result in results), 2),
            "of them CPU, with Python's own start": round(statistics.median(result["cpu"] for result in results), 2),
            "peak memory, MB": max(result["mb"] for result in results),
            f"work orders for {options.engines} engines": f"{results[0]['orders']:,}",
            f"status, whole command, {records:,} records: seconds": round(statistics.median(asked), 2),
        },
        f"Medians of {options.times} runs.",
    )


if __name__ == "__main__":
    main()
