"""Loading a mixture in its planned order, against Streaming's own dataset with shuffling, from the same shards.

    python benchmarks/loading.py

One rank, loader processes as given, batches collated as training takes them. Each way runs in a process of its own, in
turn; the first batch (start of the processes, building of the order) is not counted, nor is unpacking the shards.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import answer, measure, save

LENGTH, BATCH = 2048, 32


def write_mixture(root: Path, sequences: int, shard_bytes: int) -> None:
    """A mixture of three sources of random tokens, with its plan."""
    import numpy as np

    from ipt_stream.mixture import mds
    from ipt_stream.mixture.plan import make_plan, save_plan
    from ipt_stream.mixture.shares import Passes, Stock

    stocks, passes = [], {"raw": 1.0, "augmented": 1.0, "tuning": 4.0}
    generator = np.random.default_rng(0)
    for name, part in (("raw", 0.7), ("augmented", 0.25), ("tuning", 0.0125)):
        count = round(sequences * part)
        directory = str(root / "sources" / name)
        with mds.publish_mds(directory, mds.token_columns(np.dtype(np.uint16), LENGTH), shard_bytes=shard_bytes) as out:
            # Words repeat in text, so that it shrinks to about a half.
            out.write_rows(generator.zipf(1.3, (1, LENGTH)).clip(0, 31_999).astype(np.uint16) for _ in range(count))
        facts = mds.read_facts(directory) or {}
        held = mds.index_sha256(directory)
        stocks.append(Stock(name, count, count * LENGTH, count, held, facts["shard_samples"]))
    plan = make_plan(
        stocks, {name: Passes(n) for name, n in passes.items()}, total=None, sequence_length=LENGTH, seed=0,
        vocabulary_size=32_000, eos_token_id=2, shuffle_shards=16,
    )  # fmt: skip
    save_plan(str(root), plan)


def load(path: str, way: str, workers: int) -> dict[str, Any]:
    """One epoch of batches."""
    root = Path(path)
    from streaming import Stream, StreamingDataLoader, StreamingDataset

    from ipt_stream.mixture.plan import load_plan
    from ipt_stream.training.stream import Collate, open_loader

    if way == "planned":
        loader = open_loader(str(root), global_batch_size=BATCH, start_workers=workers)
    else:
        plan = load_plan(str(root))
        streams = [Stream(local=str(root / "sources" / source.name), repeat=source.passes) for source in plan.streamed]
        dataset = StreamingDataset(
            streams=streams, batch_size=BATCH, shuffle=True, validate_hash="xxh64", num_canonical_nodes=1,
            batching_method="random",
        )  # fmt: skip
        loader = StreamingDataLoader(
            dataset, batch_size=BATCH, num_workers=workers, collate_fn=Collate(plan.eos_token_id)
        )
    batches = iter(loader)
    next(batches)
    started = time.perf_counter()
    count = sum(len(batch["input_ids"]) for batch in batches)
    return {"samples_a_second": count / (time.perf_counter() - started), "samples": count + BATCH}


def main() -> None:
    """Measure both, in turn."""
    if answer({"load": load}):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=40_000)
    parser.add_argument("--shard-bytes", type=int, default=1 << 22)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"planned": [], "streaming": []}
    with tempfile.TemporaryDirectory() as scratch:
        write_mixture(Path(scratch), options.sequences, options.shard_bytes)
        measure("load", scratch, "streaming", options.workers)  # unpacks the shards
        for _ in range(options.times):
            for way, results in found.items():
                results.append(measure("load", scratch, way, options.workers))
    speed = {way: statistics.median(f["samples_a_second"] for f in results) for way, results in found.items()}
    save(
        "loading",
        "Loading in the planned order, against Streaming's own shuffling",
        {
            "sequences of 2,048 tokens an epoch": found["planned"][0]["samples"],
            "sequences/s: planned order": round(speed["planned"]),
            "sequences/s: Streaming, shuffle=True": round(speed["streaming"]),
            "planned / Streaming (wanted: 0.95)": round(speed["planned"] / speed["streaming"], 3),
        },
        f"Medians of {options.times} runs of each, in turn; batches of {BATCH}, {options.workers} loader process.",
    )


if __name__ == "__main__":
    main()
