"""Planning and resuming a run of a million segments, half of them done: seconds and memory of the driver.

    python benchmarks/resume.py

The ledger is written as workers write it (records of real size, 256 a part), for RefinedWeb's 5,534 shards.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import save

SHARDS = 5534


def write_run(output: Path, segments: int, segment_documents: int) -> int:
    """A run directory: plan, and the records of every other segment; gives how many are recorded."""
    from ipt_stream.corpus.formats import Format, ShardSpec
    from ipt_stream.ledger import RECORDS_A_PART
    from ipt_stream.synthesis.plan import RunPlan, save_plan, segment_id, segment_path
    from ipt_stream.synthesis.read_segments import SegmentInput
    from ipt_stream.synthesis.rounds import SegmentResult
    from ipt_stream.synthesis.worker import describe

    each = -(-segments // SHARDS)
    shards = tuple(
        ShardSpec(f"/web/{i:05d}.parquet", i, f"{i:05d}.parquet", Format.PARQUET, "content", "url", 10**9,
                  each * segment_documents)
        for i in range(SHARDS)
    )  # fmt: skip
    save_plan(str(output), RunPlan(shards, segment_documents, 2, 0.2, 0))
    base = describe(
        SegmentInput(0, 0, 0, segment_documents, (), {"empty": [7]}), SegmentResult((), 180_000, 90_000, {})
    )
    base |= {
        "augmented": 390, "raw": segment_documents - 391, "unselected": 1638, "pieces": 409, "pairs": 1950,
        "no_pairs": {"unfinished": 19}, "dropped": {"unfinished": 212, "duplicate": 40}, "started": 1790000000.0,
        "seconds": 84.2, "sha256": "0" * 64,
    }  # fmt: skip
    folder = output / "ledger"
    folder.mkdir(parents=True)
    lines: list[str] = []
    count = part = 0
    for shard in range(SHARDS):
        for number in range(0, each, 2):
            record = {**base, "id": segment_id(shard, number), "shard": shard, "number": number,
                      "start_row": number * segment_documents, "path": segment_path(shard, number)}  # fmt: skip
            lines.append(json.dumps(record, separators=(",", ":"), sort_keys=True))
            count += 1
            if len(lines) == RECORDS_A_PART:
                (folder / f"part-{part % 64:012x}-{part:06d}.jsonl").write_text("\n".join(lines) + "\n")
                lines, part = [], part + 1
    (folder / f"part-last-{part:06d}.jsonl").write_text("\n".join(lines) + "\n")
    return count


def plan(output: str, engines: int) -> dict[str, float]:
    """What a driver does before any engine starts."""
    from ipt_stream.ledger import read_ledger
    from ipt_stream.synthesis.orders import plan_orders
    from ipt_stream.synthesis.plan import load_plan
    from ipt_stream.synthesis.tally import tally

    started = time.perf_counter()
    known = load_plan(output)
    made = tally(read_ledger(output))
    orders = list(plan_orders(known.shards, made, known.segment_documents, engines * 4, 1000.0))
    return {
        "seconds": time.perf_counter() - started,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "orders": len(orders),
        "segments": made.counts["segments"],
    }


def main() -> None:
    """Write the run, and plan it in processes of their own."""
    if len(sys.argv) == 4 and sys.argv[1] == "plan":
        print(json.dumps(plan(sys.argv[2], int(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--engines", type=int, default=100)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "run"
        recorded = write_run(output, options.segments, 2048)
        size = sum(file.stat().st_size for file in (output / "ledger").iterdir())
        results = []
        for _ in range(options.times):
            command = [sys.executable, __file__, "plan", str(output), str(options.engines)]
            results.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    assert {result["segments"] for result in results} == {recorded}
    save(
        "resume",
        "Planning and resuming a run of a million segments, half of them done",
        {
            "segments, recorded, shards": f"{options.segments:,}, {recorded:,}, {SHARDS:,}",
            "ledger": f"{size / 2**20:.0f} MiB",
            "seconds": round(statistics.median(result["seconds"] for result in results), 2),
            "peak memory, MB": round(max(result["mb"] for result in results)),
            f"work orders for {options.engines} engines": f"{results[0]['orders']:,}",
        },
        f"Median of {options.times} runs.",
    )


if __name__ == "__main__":
    main()
