"""What the engines' timelines hold: counts between two moments, when work ran out. Pure, but for `load_timelines`."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ipt_stream import storage
from ipt_stream.benchmark.recorder import COUNTERS, TIMELINES

BUSY_SHARE = 0.9
"""An engine that has fewer open requests than this share of what it usually has, and never more again, runs out of
work."""
DIP_SECONDS = 2.0
"""One that had less for a shorter time than this when it was told to stop didn't run out: the driver was late."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """One engine's.

    Attributes:
        name: the engine's.
        host: its machine.
        gpus: GPUs that it has; 0: it computes on the machine's cores.
        max_num_seqs: sequences that it runs at most.
        begun: when its start began, seconds since the epoch.
        ready: when it was up.
        facts: what it is.
        times: of the samples, rising.
        rows: the samples, values by the names in `recorder.COUNTERS` and `recorder.GAUGES`.
    """

    name: str
    host: str
    gpus: float
    max_num_seqs: int
    begun: float
    ready: float
    facts: Mapping[str, Any]
    times: tuple[float, ...]
    rows: tuple[Mapping[str, float], ...]

    def at(self, time: float, counter: str) -> float:
        """A counter's value at any time: between two samples, on the line from one to the other."""
        after = bisect.bisect_right(self.times, time)
        if not after:
            return 0.0
        if after == len(self.times):
            return float(self.rows[-1][counter])
        before, next_ = float(self.rows[after - 1][counter]), float(self.rows[after][counter])
        share = (time - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        return before + share * (next_ - before)

    def between(self, start: float, end: float) -> dict[str, float]:
        """What all counters rose by."""
        return {name: self.at(end, name) - self.at(start, name) for name in COUNTERS}

    def mean(self, gauge: str, start: float, end: float) -> float:
        """The mean of a gauge's samples."""
        values = [row[gauge] for time, row in zip(self.times, self.rows, strict=True) if start <= time <= end]
        return sum(values) / len(values) if values else 0.0

    def runs_out(self) -> float:
        """When its work ran out: from then on fewer requests were open than it usually has; its last sample, where that
        never was."""
        usual = median(row["open"] for row in self.rows) if self.rows else 0
        busy = [time for time, row in zip(self.times, self.rows, strict=True) if row["open"] >= BUSY_SHARE * usual]
        return busy[-1] if busy else self.ready

    def first_answer(self) -> float | None:
        """When it had answered something, as far as its samples tell."""
        return next((t for t, row in zip(self.times, self.rows, strict=True) if row["requests"]), None)

    def answered_after(self, time: float) -> bool:
        """Whether it answered anything since."""
        return bool(self.rows) and self.rows[-1]["requests"] > self.at(time, "requests")

    def ended(self) -> float:
        """When its last request was answered, as far as its samples tell."""
        last = self.rows[-1]["requests"] if self.rows else 0
        return next((t for t, row in zip(self.times, self.rows, strict=True) if row["requests"] == last), self.ready)


def read_timeline(record: Mapping[str, Any]) -> Timeline:
    """A timeline as the recorder wrote it."""
    names = record["columns"][1:]
    return Timeline(
        name=record["name"],
        host=record["host"],
        gpus=float(record["gpus"]),
        max_num_seqs=int(record["max_num_seqs"]),
        begun=float(record["begun"]),
        ready=float(record["ready"]),
        facts=record["facts"],
        times=tuple(row[0] for row in record["rows"]),
        rows=tuple(dict(zip(names, row[1:], strict=True)) for row in record["rows"]),
    )


def load_timelines(output: str) -> list[Timeline]:
    """All that there are in the run directory of a benchmark, in the order in which their engines came up."""
    found = [read_timeline(storage.read_json(path)) for path in storage.list_directory(storage.join(output, TIMELINES))]
    return sorted(found, key=lambda line: line.ready)


def steady_from(lines: Sequence[Timeline], warm_up: float) -> float | None:
    """From when these engines are all at work and warm: `warm_up` seconds after the last of them was up, and not before
    each has answered something, for the first answers take what a machine does once. None: not yet."""
    answers = [line.first_answer() for line in lines]
    if not lines or None in answers:
        return None
    return max(max(line.ready for line in lines) + warm_up, *(at for at in answers if at is not None))


def steady_state(lines: Sequence[Timeline], warm_up: float, stopped: float | None) -> tuple[float, float]:
    """From when to when all these engines are at work and warm; nothing, where one never answered.

    Args:
        lines: the engines that were waited for.
        warm_up: seconds, at least, from the moment that the last of them was up.
        stopped: when the run was told to stop, or None where it came to its end.
    """
    end = min(line.runs_out() for line in lines)
    if stopped is not None and end > stopped - DIP_SECONDS:
        end = stopped
    start = steady_from(lines, warm_up)
    return (end if start is None else start), end
