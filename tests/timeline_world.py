"""Timelines made by hand: an engine that does the same every second."""

from __future__ import annotations

from typing import Any

from ipt_stream.benchmark.recorder import COUNTERS, GAUGES
from ipt_stream.benchmark.timelines import Timeline, read_timeline

A_SECOND = {
    "requests": 2, "failed": 0, "documents": 2, "raw_tokens": 100, "prompt_tokens": 400, "cached_tokens": 100,
    "generated_tokens": 60, "contexts": 4000, "read_tokens": 2000, "parsed": 1, "parsed_pairs": 5, "steps": 10,
}  # fmt: skip


def engine(
    ready: float = 100.0, seconds: int = 40, drained: int = 0, name: str = "a", factor: float = 1.0, **changes: Any
) -> Timeline:
    """An engine that was up at `ready`, worked for so many seconds, and then ran empty for `drained` more."""
    rows = []
    for second in range(seconds + drained + 1):
        worked = min(second, seconds)
        gauges = (24, 16, 8, 0.5) if second < seconds else (max(23 - 6 * (second - seconds), 0), 4, 0, 0.1)
        late = max(second - seconds, 0)  # the last requests are answered while it runs empty
        counts = [factor * A_SECOND[name] * worked + (late if name == "requests" else 0) for name in COUNTERS]
        rows.append([ready + second, *counts, *gauges])
    record = {
        "name": name, "host": "h", "pid": 1, "gpus": 0.0, "max_num_seqs": 32, "begun": ready - 20, "ready": ready,
        "facts": {"device": "Some CPU", "dtype": "float32", "arguments": {}},
        "columns": ["time", *COUNTERS, *GAUGES], "rows": rows,
    }  # fmt: skip
    return read_timeline({**record, **changes})


def figures(rate: float, spread: float = 0.02, **settings: Any) -> dict[str, Any]:
    """A trial's figures with that many raw tokens a GPU-day."""
    per_second = rate / 86_400
    names = ("raw_tokens", "prompt_tokens", "computed_tokens", "generated_tokens", "pairs", "documents", "requests")
    rates = dict.fromkeys(names, per_second)
    return {
        "seconds": {"startup": 30.0, "engine_start": 25.0, "warm_up": 5.0, "steady": 10.0, "tail": 2.0},
        "stopped": True, "devices": 1.0, "drift": 0.0, "window_raw_tokens_per_second": [per_second] * 8,
        "total": {
            "counts": dict.fromkeys(names, per_second * 10), "per_second": rates,
            "per_gpu_day": dict.fromkeys(names, rate), "cached_share": 0.4, "occupancy": 0.9,
            "raw_tokens_per_gpu_day": {"mean": rate, "low": rate * (1 - spread), "high": rate * (1 + spread)},
        },
        "engines": [{"device": "Some CPU", "dtype": "float32", "gpus": 0.0, "occupancy": 0.9}],
        "ceilings": {}, "settings": settings,
    }  # fmt: skip
