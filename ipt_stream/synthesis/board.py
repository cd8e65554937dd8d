"""What is known of a synthesis run while it runs: counts, rates, and what is left. No Ray, no storage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ipt_stream.corpus.formats import ShardSpec
from ipt_stream.synthesis.orders import expected_rows
from ipt_stream.synthesis.tally import Tally


class Board:
    """What is known of a run while it runs; `tell` shows it, from any thread.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.tally = Tally()
        self.expected_rows = 0
        self.running = self.waiting = self.engines = 0
        self._before: Counter[str] = Counter()
        self._began: float | None = None
        self._first: float | None = None
        self._last = 0.0

    def begin(self, tally: Tally, shards: Sequence[ShardSpec], bytes_a_row: float) -> None:
        """Start from what is recorded already."""
        self.tally = tally_copy = Tally()
        tally_copy.counts.update(tally.counts)
        tally_copy.rejected.update(tally.rejected)
        self._before = Counter(tally.counts)
        self.expected_rows = sum(
            tally.ends[shard.index].rows if shard.index in tally.ends else expected_rows(shard, bytes_a_row)
            for shard in shards
        )
        self._began = self._clock()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a segment that a worker finished, or adopted: that one was begun before this run."""
        self.tally.add(record)
        started = max(record["started"], self._began or 0.0)
        self._first = min(self._first or started, started)
        self._last = self._clock()

    def seconds(self) -> float:
        """From the start of this run's first segment to the end of its last one."""
        return max(self._last - self._first, 1e-3) if self._first is not None else 0.0

    def rates(self) -> dict[str, float]:
        """Documents, raw tokens and generated tokens a second, of this run alone."""
        elapsed = self.seconds()
        names = {"documents": "rows", "raw_tokens": "raw_tokens", "generated_tokens": "generated_tokens"}
        count = self.tally.counts
        return {
            f"{name}_per_second": round((count[key] - self._before[key]) / elapsed, 1) if elapsed else 0.0
            for name, key in names.items()
        }

    def cached_share(self) -> float:
        """Of the prompt tokens, how many came from the engines' caches."""
        return self.tally.counts["cached_tokens"] / max(self.tally.counts["prompt_tokens"], 1)

    def tell(self) -> dict[str, Any]:
        """All of it, for `driver.json` and the metrics; nothing before `begin`."""
        if self._began is None:
            return {}
        rates = self.rates()
        self.expected_rows = max(self.expected_rows, self.tally.counts["rows"])
        left = self.expected_rows - self.tally.counts["rows"]
        rate = rates["documents_per_second"]
        return {
            "counts": dict(self.tally.counts),
            "rejected": dict(self.tally.rejected),
            "expected_rows": self.expected_rows,
            "engines": self.engines,
            "running": self.running,
            "waiting": self.waiting,
            "cached_share": round(self.cached_share(), 3),
            **rates,
            "eta_seconds": round(left / rate) if rate else None,
        }
