"""An engine as a server that works through segments in turn."""

from __future__ import annotations

from dataclasses import dataclass

from ipt_stream.simulation.settings import DAY, EngineSettings


@dataclass(frozen=True, slots=True)
class Service:
    """When the engine works on a segment, in seconds of virtual time.

    Attributes:
        begin: it has done all segments before.
        end: it has done this one's share of work; what comes next has begun, for chains overlap.
        done: the segment's last chain is finished.
    """

    begin: float
    end: float
    done: float


class EngineModel:
    """A full engine has a constant rate, whatever segments its sequences belong to; chains that were begun first go
    first (`rounds.Gate`), and so segments are done in turn. A segment with too few chains to fill the engine takes at
    least its chains' own time: `rounds` requests one after another, each of as many steps as in a full engine, of
    `step_floor + (1 - step_floor) * chains / max_num_seqs` of a full step's time.

    By Little's law a request takes max_num_seqs * tokens_a_document / rate seconds in a full engine: 8.8 s with 512
    sequences of 500 tokens at 2.5 billion tokens a day.

    Args:
        settings: the engine's.
        rounds: M.
        tokens_a_document: in the mean.
        speed: of this engine over others.
    """

    def __init__(self, settings: EngineSettings, rounds: int, tokens_a_document: float, speed: float = 1.0) -> None:
        self._rate = settings.raw_tokens_a_day / DAY * speed
        self._settings = settings
        self._chain_seconds = rounds * settings.max_num_seqs * tokens_a_document / self._rate
        self._free = 0.0

    def submit(self, now: float, tokens: int, chains: int) -> Service:
        """Give it a segment at `now`, or later than that; what was given before goes first."""
        begin = max(self._free, now)
        self._free = end = begin + tokens / self._rate
        floor = self._settings.step_floor
        filled = min(chains / self._settings.max_num_seqs, 1.0)
        least = self._chain_seconds * (floor + (1 - floor) * filled) if tokens else 0.0
        return Service(begin, end, max(end, now + least))
