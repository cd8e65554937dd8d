"""What the driver makes of its workers' beats: counts, who hangs, and which segment workers die of. No Ray here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipt_stream.errors import EngineError
from ipt_stream.progress import Meter, log
from ipt_stream.synthesis.board import Board
from ipt_stream.synthesis.worker import Beat

FRESH_SECONDS = 15.0
"""Older beats say nothing of what a worker does now."""
BEATS_MISSED = 3
"""As many that did not come tell as much, where beats are rare."""
DEATHS_ALLOWED = 5
"""A segment that is in flight when so many workers are lost, none of which finished any, is taken to be the reason."""
DEATHS_AT_MOST = 20
"""So many may be lost with it that did finish others: they are killed from outside, or it takes its time to kill."""


@dataclass(frozen=True, slots=True)
class _Worker:
    """What a worker's last beat said: what it has in flight, its node, and whether it ever finished anything."""

    in_flight: frozenset[str]
    node: str
    finished: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the workers found.

    Attributes:
        in_flight: how many segments are begun and not finished.
        hung: last beat and node of the workers that said nothing for too long.
    """

    in_flight: int
    hung: tuple[tuple[Beat, str], ...]


class Watch:
    """Counts what workers finished, logs it, tells which of them hang, and whom they die of.

    Args:
        board: is kept up to date.
        stall_seconds: a worker that says nothing for so long is hung.
        lost_nodes: ids of the nodes that are gone: what was on them died of that.
        beat_seconds: how often a worker says something.
        gauges: by the name of what they show; anything with `set(value)`.
    """

    def __init__(
        self,
        board: Board,
        stall_seconds: float,
        lost_nodes: Callable[[], set[str]],
        beat_seconds: float,
        gauges: Mapping[str, Any],
    ) -> None:
        self._board, self._lost_nodes, self._gauges = board, lost_nodes, gauges
        self._stall_seconds = max(stall_seconds, BEATS_MISSED * beat_seconds)
        self._fresh_seconds = max(FRESH_SECONDS, BEATS_MISSED * beat_seconds)
        self._known: dict[str, _Worker] = {}
        self._deaths: Counter[str] = Counter()
        self._blamed: Counter[str] = Counter()

    def take(self, finished: Sequence[Mapping[str, Any]], beats: Sequence[tuple[Beat, float, str]], bar: Meter) -> Look:
        """Take in what a `Coordinator` was told.

        Args:
            finished: records that came in since the last time.
            beats: every worker's last beat, its age in seconds, and its node.
            bar: shows how far the run is.

        Raises:
            EngineError: one segment was in flight at too many deaths of workers.
        """
        for record in finished:
            self._board.add(record)
            log.debug("%s", record["id"])
            bar.line(_line(record))
        fresh = [beat for beat, age, _ in beats if age < self._fresh_seconds]
        for beat, _, _ in beats:
            if beat.worker not in self._known:
                bar.line(f"engine ready after {beat.start_seconds:.0f} s: process {beat.pid} on {beat.host}")
        self._board.engines = len(fresh)
        self._board.running = sum(beat.pulse.running for beat in fresh)
        self._board.waiting = sum(beat.pulse.waiting for beat in fresh)
        self._show(bar)
        hung = [(beat, age, node) for beat, age, node in beats if age > self._stall_seconds]
        for beat, age, _ in hung:
            log.warning("worker %s on %s says nothing for %.0f s: it is ended", beat.pid, beat.host, age)
        self.blame({beat.worker: (beat.in_flight, node) for beat, _, node in beats})
        return Look(sum(len(beat.in_flight) for beat in fresh), tuple((beat, node) for beat, _, node in hung))

    def _show(self, bar: Meter) -> None:
        told = self._board.tell()
        for name, gauge in self._gauges.items():
            gauge.set(told["counts"].get(name, told.get(name, 0)) or 0)
        bar.total = self._board.expected_rows
        bar.update(
            self._board.tally.counts["rows"] - bar.done,  # a segment that two tell of counts once
            {
                "documents/s": float(told["documents_per_second"]),
                "raw tokens/s": float(told["raw_tokens_per_second"]),
                "generated tokens/s": float(told["generated_tokens_per_second"]),
                "cached": f"{told['cached_share']:.0%}",
                "running": self._board.running,
            },
        )

    def blame(self, now: dict[str, tuple[tuple[str, ...], str]]) -> None:
        """Count, for each segment, the workers that were lost while it was in flight; not those of lost nodes.

        Args:
            now: by worker, what it has in flight and its node.
        """
        lost = [self._known[worker] for worker in self._known.keys() - now.keys()]
        gone = self._lost_nodes() if lost else set()
        for worker in lost:
            why = "with its node, and" if worker.node in gone else "with"
            log.warning("a worker was lost %s %d segments in flight; they are made again", why, len(worker.in_flight))
            if worker.node not in gone:
                self._deaths.update(worker.in_flight)
                self._blamed.update(worker.in_flight if not worker.finished else ())
        self._known = {name: self._heard(name, frozenset(in_flight), node) for name, (in_flight, node) in now.items()}
        for deaths, allowed in ((self._blamed, DEATHS_ALLOWED), (self._deaths, DEATHS_AT_MOST)):
            worst, number = next(iter(deaths.most_common(1)), ("", 0))
            if number >= allowed:
                raise EngineError(
                    f"segment {worst} was in flight each time that {number} workers were lost",
                    wanted="engines that live",
                    got="one that dies again and again",
                    fix="see the workers' logs for the reason: memory, or steps longer than engine.stall_seconds; what "
                    "is recorded stays",
                )

    def _heard(self, name: str, in_flight: frozenset[str], node: str) -> _Worker:
        before = self._known.get(name)
        finished = before is not None and (before.finished or bool(before.in_flight - in_flight))
        return _Worker(in_flight, node, finished)


def _line(record: Mapping[str, Any]) -> str:
    cached = record["cached_tokens"] / max(record["prompt_tokens"], 1)
    return (
        f"segment {record['id']}  {record['rows']:>7,} documents  {record['pairs']:>8,} pairs  "
        f"{record['raw_tokens']:>10,} raw tokens  cached {cached:>4.0%}  {record['seconds']:>7.1f} s"
    )
