"""Virtual time: what happens next."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Clock:
    """Does things at their time, in order; of two at one time, first what was asked for first."""

    def __init__(self) -> None:
        self.now = 0.0
        self._asked = 0
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, do: Callable[[], None]) -> None:
        """`do` at `time`, in seconds since the start; what is past is done now."""
        self._asked += 1
        heapq.heappush(self._waiting, (max(time, self.now), self._asked, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """`do` in so many seconds."""
        self.at(self.now + seconds, do)

    def run(self, until: Callable[[], bool]) -> bool:
        """Do what is asked for until `until` says so, and be true; false where nothing is left to do before."""
        while self._waiting:
            if until():
                return True
            self.now, _, do = heapq.heappop(self._waiting)
            do()
        return until()
