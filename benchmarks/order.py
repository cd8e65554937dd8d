"""The training order of a large mixture: time and memory on one core.

    python benchmarks/order.py

100 million sequences from 8 sources of very different sizes and passes, in shards of 16,384 sequences; once with
constant shares, and once with shares that change over training.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from typing import Any

from common import answer, measure, save

PASSES = (0.2, 1, 1, 1, 2, 4, 4, 8)
PARTS = (0.4, 0.2, 0.15, 0.1, 0.08, 0.04, 0.02, 0.01)


def build(sequences: int, changing: bool) -> dict[str, Any]:
    """One order, built in this process on one core."""
    import numpy as np

    from ipt_stream.mixture.order import training_order
    from ipt_stream.mixture.plan import Plan, PlannedSource

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sources = []
    left = sequences
    for index, (passes, part) in enumerate(zip(PASSES, PARTS, strict=True)):
        planned = round(sequences * part) if index else 0
        left -= planned
        held = max(round(planned / passes), 1)
        curve = {1: ((0.0, 1.0), (1.0, 0.2)), 7: ((0.6, 0.0), (1.0, 1.0))}.get(index, ()) if changing else ()
        sources.append(PlannedSource(f"source-{index}", 1, held, held, planned, "", 16_384, curve))
    first = PlannedSource("source-0", 1, round(left / 0.2), round(left / 0.2), left, "", 16_384)
    plan = Plan((first, *sources[1:]), 2048, 0, 32_000, 2, 16)
    training_order(Plan(tuple(PlannedSource(s.name, 1, 8, 8, 8, "", 4, s.curve and ((0.0, 1.0),)) for s in sources[:3]),
                        2048, 0, 32_000, 2, 16))  # fmt: skip  # compiles the loops
    started = time.perf_counter()
    order = training_order(plan)
    seconds = time.perf_counter() - started
    assert len(order) == sequences
    # The promise, at a million places: every count within one of its target.
    ends = np.cumsum([source.sequences for source in plan.streamed])
    head = np.searchsorted(ends, order[:1_000_000], side="right")
    seen = np.cumsum(head[:, None] == np.arange(len(ends)), axis=0)
    if not changing:
        aims = np.arange(1, len(head) + 1)[:, None] * np.array([s.planned for s in plan.streamed]) / sequences
        assert np.abs(seen - aims).max() < 1
    return {"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Measure both kinds of order."""
    if answer({"build": build}):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=100_000_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    figures: dict[str, Any] = {"sequences, sources": f"{options.sequences:,}, {len(PASSES)}"}
    for changing in (False, True):
        found = [measure("build", options.sequences, changing) for _ in range(options.times)]
        kind = "changing shares" if changing else "constant shares"
        figures[f"{kind}: seconds (wanted: under 60)"] = round(statistics.median(f["seconds"] for f in found), 1)
        figures[f"{kind}: MiB at most (wanted: under 2,048)"] = round(max(f["peak_mib"] for f in found))
    save("order", "Building the training order, on one core", figures, f"Medians of {options.times} runs.")


if __name__ == "__main__":
    main()
