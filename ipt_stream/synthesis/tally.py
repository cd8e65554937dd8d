"""What a run's ledger says in sum: which segments are made, how shards ended, and the counts. Pure.

A tally of a million segments fits in tens of megabytes: of each it keeps a number in a set, and adds its counts up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import add, itemgetter
from typing import Any

from ipt_stream.errors import LedgerError

COUNTS = (
    "rows", "augmented", "raw", "unselected", "pairs", "pieces", "raw_tokens", "prompt_tokens", "cached_tokens",
    "resent_tokens", "generated_tokens",
)  # fmt: skip
_counts_of = itemgetter(*COUNTS)
UNREADABLE = "unreadable"
"""The reason of rows that a broken part of a shard took along."""


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """How a shard ended.

    Attributes:
        rows: rows that could be read.
        segments: how many segments they make.
        broken: what is wrong with it, where it could not be read to its end; else None.
    """

    rows: int
    segments: int
    broken: str | None


@dataclass(slots=True)
class Tally:
    """The sum of a ledger's records; `add` them one by one.

    Attributes:
        made: the numbers of the finished segments, by shard index.
        ends: how each shard that was read to its end came out.
        counts: sums over segments of what `COUNTS` names, and `segments`.
        rejected: documents that are in no output, by reason.
        no_pairs: texts that yielded nothing, by reason.
        dropped: pieces of generations that became no pair, by reason.
        unreadable: shards with rows that could not be read.
        first_started: when the first segment began, seconds since the epoch; infinite without one.
        last_ended: when the last one was done; 0 without one.
    """

    made: dict[int, set[int]] = field(default_factory=dict)
    ends: dict[int, ShardRecord] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    no_pairs: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    unreadable: set[int] = field(default_factory=set)
    first_started: float = float("inf")
    last_ended: float = 0.0

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one ledger record, of a segment or of a shard's end. A segment counts once."""
        if self._is_new_segment(record):
            self._add_counts(1, _counts_of(record))

    def add_all(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Count many: ten times as fast as one by one, which resuming a run of a million segments needs."""
        segments, sums = 0, [0] * len(COUNTS)
        for record in records:
            if self._is_new_segment(record):
                segments, sums = segments + 1, list(map(add, sums, _counts_of(record)))
        self._add_counts(segments, sums)

    def _add_counts(self, segments: int, sums: Iterable[int]) -> None:
        self.counts.update(dict(zip(COUNTS, sums, strict=True)), segments=segments)

    def _is_new_segment(self, record: Mapping[str, Any]) -> bool:
        """Take in all but the counts; whether these are to be counted."""
        shard = record["shard"]
        if record["kind"] == "shard":
            self.ends[shard] = ShardRecord(record["rows"], record["segments"], record["broken"])
            return False
        made = self.made.setdefault(shard, set())
        if record["number"] in made:
            return False
        made.add(record["number"])
        for reason, rows in record["rejected"].items():
            self.rejected[reason] += len(rows)
            if reason == UNREADABLE:
                self.unreadable.add(shard)
        for total, found in ((self.no_pairs, record["no_pairs"]), (self.dropped, record["dropped"])):
            for reason, number in found.items():
                total[reason] += number
        self.first_started = min(self.first_started, record["started"])
        self.last_ended = max(self.last_ended, record["started"] + record["seconds"])
        return True

    def broken_shards(self) -> set[int]:
        """Shards that were not read whole."""
        return self.unreadable | {shard for shard, end in self.ends.items() if end.broken}

    def is_whole(self, shard: int) -> bool:
        """Whether everything of `shard` is recorded."""
        end = self.ends.get(shard)
        return end is not None and len(self.made.get(shard, ())) >= end.segments

    def check_conservation(self, shards: int, where: str) -> None:
        """Prove that every document came out exactly once: each shard has its end and just its segments, and the rows
        of shards, of segments and of what came of them are as many.

        Args:
            shards: how many there are.
            where: names the run in the error.

        Raises:
            LedgerError: documents in are not augmented + raw + rejected, or a shard or a segment is missing.
        """
        count = self.counts
        rows, planned = sum(end.rows for end in self.ends.values()), sum(end.segments for end in self.ends.values())
        out = count["augmented"] + count["raw"] + sum(self.rejected.values())
        known = self.ends.keys() == set(range(shards)) and self.made.keys() <= self.ends.keys()
        if not known or any(not self._is_exact(shard) for shard in self.ends) or not rows == count["rows"] == out:
            raise LedgerError(
                f"{where}: the counts don't add up",
                wanted=f"{rows} documents of {shards} shards in {planned} segments",
                got=f"{out} documents of {len(self.ends)} shards in {count['segments']} segments",
                fix="report this, with the ledger folder",
            )

    def _is_exact(self, shard: int) -> bool:
        """Whether the segments of `shard` that are made are all up to its end, and no others."""
        made, end = self.made.get(shard, set()), self.ends[shard]
        return len(made) == end.segments and max(made, default=-1) == end.segments - 1


def tally(records: Iterable[Mapping[str, Any]]) -> Tally:
    """The sum of `records`."""
    made = Tally()
    made.add_all(records)
    return made
