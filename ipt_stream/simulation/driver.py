"""The driver's own code on a simulated cluster: it plans, looks at its workers' beats, and its CPU time is measured."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ipt_stream.ledger import read_ledger
from ipt_stream.progress import Meter, log
from ipt_stream.simulation.clock import Clock
from ipt_stream.simulation.cluster import Cluster
from ipt_stream.simulation.corpus import EPOCH
from ipt_stream.simulation.store import Bucket
from ipt_stream.synthesis.board import Board
from ipt_stream.synthesis.coordinator import Coordinator
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.orders import Order, order_to_json, orders_at_once, plan_orders
from ipt_stream.synthesis.plan import RunPlan
from ipt_stream.synthesis.tally import Tally, tally
from ipt_stream.synthesis.watch import Watch
from ipt_stream.synthesis.worker import beat_seconds

STALL_SECONDS = 300.0
RATE_SECONDS = 10.0
"""Requests are counted in spans of at least so long, to find the most in a second."""
BEATS_A_MEASUREMENT = 200
"""Looks at few workers cost less than to ask for the time that they took: only some of them are measured."""


@dataclass(slots=True)
class Load:
    """CPU seconds of real code, and how much of it there was to do.

    Attributes:
        read: of reading the ledger, the last time.
        plan: of making orders, the last time.
        beats: of the coordinator, taking beats.
        looks: of the driver, at what the coordinator was told.
        beats_taken: how many.
        looks_taken: how many.
        seen: workers that looks told of, all together.
        orders: that were made, by all drivers.
        orders_mib: as JSON, those of one driver at most.
        most_requests: of the store in a second, in the busiest span.
    """

    read: float = 0.0
    plan: float = 0.0
    beats: float = 0.0
    looks: float = 0.0
    beats_taken: int = 0
    looks_taken: int = 0
    seen: int = 0
    orders: int = 0
    orders_mib: float = 0.0
    most_requests: float = 0.0


def plan_run(plan: RunPlan, engine: EngineConfig, output: str, load: Load) -> tuple[Tally, list[Order]]:
    """What a driver does before any engine starts: what is recorded, and orders for the rest."""
    began = time.process_time()
    before = tally(read_ledger(output))
    read = time.process_time()
    at_once, smallest = orders_at_once(engine, plan)
    at_once *= engine.most_replicas()
    orders = list(plan_orders(plan.shards, before, plan.segment_documents, at_once, 1.0, smallest))
    size = sum(len(order_to_json(order)) for order in orders)
    load.read, load.plan = read - began, time.process_time() - read
    load.orders += len(orders)
    load.orders_mib = max(load.orders_mib, size / 2**20)
    return before, orders


class Driver:
    """Hears the workers' beats, and looks at them, as often as real ones do.

    Args:
        clock: virtual time.
        plan: of the run.
        cluster: whose workers beat.
        before: what was recorded when the driver started.
        bucket: the store, whose requests are counted.
        load: is added to.
    """

    def __init__(
        self, clock: Clock, plan: RunPlan, cluster: Cluster, before: Tally, bucket: Bucket, load: Load
    ) -> None:
        self._clock, self._cluster, self._bucket, self._load = clock, cluster, bucket, load
        self._every = beat_seconds(len(cluster.workers))
        self._coordinator = Coordinator(lambda: clock.now)
        self.board = Board(lambda: EPOCH + clock.now)
        self.board.begin(before, plan.shards, 1.0)
        self._watch = Watch(self.board, STALL_SECONDS, lambda: cluster.lost, self._every, {})
        self._meter = Meter("synthesize", self.board.expected_rows, "documents", resumed=before.counts["rows"])
        self._weight = max(1, BEATS_A_MEASUREMENT // len(cluster.workers))
        self._counted = (clock.now, bucket.requests.total())
        self._ended = False

    def begin(self) -> None:
        """Look from now on."""
        self._clock.after(self._every, self._tick)

    def end(self) -> None:
        """A last look."""
        self._look()
        self._ended = True

    def _tick(self) -> None:
        if self._ended:
            return
        self._look()
        at, requests = self._counted
        if self._clock.now - at >= RATE_SECONDS:
            now = self._bucket.requests.total()
            self._load.most_requests = max(self._load.most_requests, (now - requests) / (self._clock.now - at))
            self._counted = (self._clock.now, now)
        self._clock.after(self._every, self._tick)

    def _look(self) -> None:
        load, coordinator = self._load, self._coordinator
        told = [(beat, worker.actor, worker.node) for worker in self._cluster.workers if (beat := worker.beat())]
        weight = 0 if load.looks_taken % self._weight else self._weight
        began = time.process_time() if weight else 0.0
        for beat, actor, node in told:
            coordinator.beat(beat, actor, node)
        heard = time.process_time() if weight else 0.0
        finished, beats = coordinator.look()
        found = self._watch.take(finished, beats, self._meter)
        for beat, _ in found.hung:
            coordinator.forget(beat.worker)
        json.dumps(self.board.tell())  # for the metrics and the claim
        if weight:
            load.beats += weight * (heard - began)
            load.looks += weight * (time.process_time() - heard)
        load.beats_taken += len(told)
        load.looks_taken += 1
        load.seen += len(beats)


@contextmanager
def log_to_nowhere() -> Iterator[None]:
    """Within, log lines are made as in a run, and thrown away."""
    before: tuple[Sequence[logging.Handler], int, bool] = (log.handlers, log.level, log.propagate)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        log.handlers, log.propagate = [handler], False
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.handlers, log.propagate = list(before[0]), before[2]
            log.setLevel(before[1])
