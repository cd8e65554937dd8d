"""Ray Data's actor pool, as `pipeline.hand_out` sets it up: who gets the next order.

Read in Ray 2.60.0, `actor_pool_map_operator.py`: an order goes to the living actor that has the fewest, if that is
below `max_tasks_in_flight_per_actor`; an actor that is lost keeps its orders, and does them again from their start when
it has been restarted (`max_restarts` and `max_task_retries` are -1); the driver's thread gives out one after another.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ipt_stream.simulation.clock import Clock
from ipt_stream.simulation.settings import DriverSettings
from ipt_stream.synthesis.orders import Order


class Actor(Protocol):
    """What does orders."""

    def give(self, order: Order) -> None:
        """Begin `order`, or keep it until there is room."""
        ...

    def has(self) -> int:
        """How many orders it was given and has not done."""
        ...


class Pool:
    """Gives orders to actors.

    Args:
        clock: virtual time.
        orders: in turn.
        most: orders that an actor may have.
        costs: the driver's time for each.
        idle: called when an actor has nothing left to do, ever.
    """

    def __init__(
        self, clock: Clock, orders: Sequence[Order], most: int, costs: DriverSettings, idle: Callable[[], None]
    ) -> None:
        self._clock, self._most, self._costs, self._idle = clock, most, costs, idle
        self._orders = deque(orders)
        self._left = len(orders)
        self._alive: dict[int, Actor] = {}
        self._least: list[tuple[int, int, int]] = []  # orders that it has, turn, id of the actor; old ones too
        self._turn = 0
        self._free = clock.now + costs.queue_seconds * len(orders)
        self._giving = False
        self.closed = False

    @property
    def empty(self) -> bool:
        """Whether all orders are given out."""
        return not self._orders

    @property
    def finished(self) -> bool:
        """Whether all orders are done."""
        return not self._left

    def up(self, actor: Actor) -> None:
        """An actor is ready for orders."""
        self._alive[id(actor)] = actor
        self._rank(actor)
        self._pump()

    def down(self, actor: Actor) -> None:
        """An actor is lost."""
        self._alive.pop(id(actor), None)

    def done(self, actor: Actor) -> None:
        """An actor has done one of its orders, and has one less."""
        self._left -= 1
        self._rank(actor)
        self._pump()
        if self.empty and not actor.has():
            self._idle()

    def _rank(self, actor: Actor) -> None:
        self._turn += 1
        heapq.heappush(self._least, (actor.has(), self._turn, id(actor)))

    def _next(self) -> Actor | None:
        """The living actor with the fewest orders, if it may have another."""
        while self._least:
            has, _, name = self._least[0]
            actor = self._alive.get(name)
            if actor is not None and actor.has() == has and has < self._most:
                return actor
            heapq.heappop(self._least)
        return None

    def _pump(self) -> None:
        if not self._giving and self._orders and self._next() is not None:
            self._giving = True
            self._clock.at(self._free, self._give)

    def _give(self) -> None:
        self._giving = False
        if self.closed:
            return
        actor = self._next()
        if actor is not None and self._orders:
            self._free = self._clock.now + self._costs.order_seconds
            actor.give(self._orders.popleft())
            self._rank(actor)
        self._pump()
