"""A worker as `synthesis.worker.SegmentSynthesizer` is one, in virtual time: orders in, segments and records out.

Each order at work is read by a thread of its own, one segment ahead; `room` segments may be read and not done, and one
less of them are at the engine's side, each in a thread: look whether it is published, tokenize, synthesize, publish,
record. Records of one worker are written one after another. What is published and not recorded is adopted.
"""

from __future__ import annotations

import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ipt_stream.ledger import LedgerWriter
from ipt_stream.simulation.clock import Clock
from ipt_stream.simulation.corpus import EPOCH, Segment, make_segment, segments_of, shard_record
from ipt_stream.simulation.engine import EngineModel, Service
from ipt_stream.simulation.pool import Pool
from ipt_stream.simulation.settings import SimulationSettings
from ipt_stream.simulation.store import Bucket
from ipt_stream.synthesis.engine import Pulse
from ipt_stream.synthesis.orders import Order
from ipt_stream.synthesis.plan import RunPlan
from ipt_stream.synthesis.worker import Beat


@dataclass(slots=True)
class Spent:
    """Where engines' time went, in seconds, and what was lost.

    Attributes:
        useful: work on segments that were published.
        lost: work on segments that were not.
        starting: engines on their way up.
        adopted: segments that were published, and recorded by another process than the one that made them.
    """

    useful: float = 0.0
    lost: float = 0.0
    starting: float = 0.0
    adopted: int = 0


@dataclass(slots=True)
class World:
    """What all workers of a run share."""

    settings: SimulationSettings
    plan: RunPlan
    output: str
    bucket: Bucket
    segments: str
    """The directory of segment files in the bucket; they are put there straight, without `storage`, for speed."""
    clock: Clock
    chosen: random.Random
    spent: Spent
    at_once: int
    """Orders that a worker has at work."""
    segments_at_once: int

    def latency(self) -> float:
        """Of one small request to the store."""
        store = self.settings.store
        return store.request_seconds * math.exp(self.chosen.gauss(0.0, store.request_spread))

    def transfer(self, documents: int) -> float:
        """Of so many documents, read or published."""
        store = self.settings.store
        return self.latency() + documents * store.bytes_a_document / store.bytes_a_second


@dataclass(slots=True, eq=False)
class _Reading:
    """An order at work: what is still to be read, and how many of its segments are not done."""

    order: Order
    numbers: Iterator[int]
    open: int = 0
    read: bool = False


@dataclass(slots=True)
class _Item:
    """A segment that is begun."""

    segment: Segment
    reading: _Reading
    started: float = 0.0
    service: Service | None = None


@dataclass(slots=True)
class _Process:
    """What is gone when a worker's process is."""

    name: str
    ledger: LedgerWriter
    engine: EngineModel
    room: int
    threads: int
    queued: deque[Order] = field(default_factory=deque)
    active: int = 0
    for_room: deque[tuple[_Reading, int]] = field(default_factory=deque)
    for_thread: deque[_Item] = field(default_factory=deque)
    begun: dict[str, _Item] = field(default_factory=dict)
    recorder_free: float = 0.0
    finished: list[dict[str, Any]] = field(default_factory=list)
    said: Beat | None = None


class SimulatedWorker:
    """One engine of the run, on whatever node it is.

    Args:
        world: what it shares with others.
        number: its own.
        speed: of its engine over others.
    """

    def __init__(self, world: World, number: int, speed: float) -> None:
        self._world, self.number, self._speed = world, number, speed
        self.actor = f"actor-{number:05d}"
        self.node = ""
        self.pool: Pool | None = None
        self.start_seconds = 0.0
        self.idle_since = 0.0
        self.hand: list[Order] = []
        self._starts = 0
        self._process: _Process | None = None

    def has(self) -> int:
        """How many orders it was given and has not done."""
        return len(self.hand)

    @property
    def up(self) -> bool:
        """Whether its engine is."""
        return self._process is not None

    def start(self, node: str) -> None:
        """Begin to start on `node`."""
        world, nodes = self._world, self._world.settings.nodes
        self.node, self._starts = node, self._starts + 1
        self.start_seconds = nodes.start_seconds * math.exp(world.chosen.gauss(0.0, nodes.start_spread))
        begun, start = world.clock.now, self._starts
        self.idle_since = begun

        def ready() -> None:
            if start == self._starts:
                world.spent.starting += world.clock.now - begun
                self.idle_since = world.clock.now
                self._ready()

        world.clock.after(self.start_seconds, ready)

    def _ready(self) -> None:
        world = self._world
        corpus = world.settings.corpus
        self._process = _Process(
            name=f"{self.number:06d}{self._starts:06d}",
            ledger=LedgerWriter(world.output, owner=f"{self.number:06d}{self._starts:06d}"),
            engine=EngineModel(world.settings.engine, world.plan.rounds, corpus.tokens_a_document, self._speed),
            room=world.segments_at_once + 1,
            threads=world.segments_at_once,
        )
        for order in self.hand:  # Ray gives the orders of an actor that was lost to it again.
            self._take(self._process, order)
        assert self.pool is not None
        self.pool.up(self)

    def lose(self) -> None:
        """Its process and its node are gone."""
        now, process = self._world.clock.now, self._process
        self._starts += 1
        self._process = None
        if process is None:
            return
        for item in process.begun.values():
            if item.service is not None:
                self._world.spent.lost += max(min(now, item.service.end) - item.service.begin, 0.0)

    def give(self, order: Order) -> None:
        """Begin `order`, or keep it until there is room."""
        self.hand.append(order)
        if self._process is not None:
            self._take(self._process, order)

    def _after(self, seconds: float, do: Callable[[], None]) -> None:
        """`do` then, if the process still lives."""
        process = self._process
        self._world.clock.after(seconds, lambda: do() if self._process is process else None)

    def _take(self, process: _Process, order: Order) -> None:
        if process.active >= self._world.at_once:
            process.queued.append(order)
            return
        process.active += 1
        stop = segments_of(self._world.plan, order.shard.index) if order.stop is None else order.stop
        numbers = (number for number in range(order.first, stop) if number not in order.finished)
        self._read_on(process, _Reading(order, numbers))

    def _read_on(self, process: _Process, reading: _Reading) -> None:
        number = next(reading.numbers, None)
        if number is not None:
            seconds = self._world.transfer(self._world.plan.segment_documents)
            self._after(seconds, lambda: self._was_read(process, reading, number))
        elif reading.order.stop is None and not reading.order.end_is_known:
            end = shard_record(self._world.plan, reading.order.shard.index)
            self._record(process, end, lambda: self._read_all(process, reading))
        else:
            self._read_all(process, reading)

    def _was_read(self, process: _Process, reading: _Reading, number: int) -> None:
        if not process.room:
            process.for_room.append((reading, number))
            return
        process.room -= 1
        reading.open += 1
        shard = reading.order.shard.index
        item = _Item(make_segment(self._world.settings, self._world.plan, shard, number), reading)
        if process.threads:
            self._begin(process, item)
        else:
            process.for_thread.append(item)
        self._read_on(process, reading)

    def _read_all(self, process: _Process, reading: _Reading) -> None:
        reading.read = True
        self._perhaps_done(process, reading)

    def _begin(self, process: _Process, item: _Item) -> None:
        process.threads -= 1
        process.begun[item.segment.name] = item
        process.said = None
        self._after(self._world.latency(), lambda: self._looked(process, item))

    def _looked(self, process: _Process, item: _Item) -> None:
        world, segment = self._world, item.segment
        if world.bucket.head(world.segments, segment.name) is not None:
            world.spent.adopted += 1
            self._after(world.transfer(segment.rows), lambda: self._publish(process, item))
            return
        item.started = world.clock.now
        tokenized = world.clock.now + segment.tokens / world.settings.engine.tokenize_tokens_a_second
        item.service = process.engine.submit(tokenized, segment.tokens, segment.chains)
        seconds = item.service.done - world.clock.now + world.transfer(segment.rows)
        self._after(seconds, lambda: self._publish(process, item))

    def _publish(self, process: _Process, item: _Item) -> None:
        """Publish what was made, if it was, and record what is published: the content of the file, as real ones do."""
        world, name = self._world, item.segment.name
        self.idle_since = world.clock.now
        if item.service is None:
            content = world.bucket.get(world.segments, name)
        else:
            worked = item.service.end - item.service.begin
            content = json.dumps([round(item.started, 3), round(world.clock.now - item.started, 3)]).encode()
            if world.bucket.put(world.segments, name, content, once=True):
                world.spent.useful += worked
            else:
                world.spent.lost += worked
                content = world.bucket.get(world.segments, name)
            item.service = None
        started, seconds = json.loads(content)
        record = item.segment.record(EPOCH + started, seconds)
        self._record(process, record, lambda: self._recorded(process, item, record))

    def _record(self, process: _Process, record: dict[str, Any], then: Callable[[], None]) -> None:
        now = self._world.clock.now
        process.recorder_free = max(process.recorder_free, now) + self._world.latency()

        def write() -> None:
            process.ledger.append(record)
            then()

        self._after(process.recorder_free - now, write)

    def _recorded(self, process: _Process, item: _Item, record: dict[str, Any]) -> None:
        process.finished.append(record)
        del process.begun[item.segment.name]
        process.said = None
        process.threads += 1
        process.room += 1
        item.reading.open -= 1
        if process.for_thread:
            self._begin(process, process.for_thread.popleft())
        if process.for_room:
            self._was_read(process, *process.for_room.popleft())
        self._perhaps_done(process, item.reading)

    def _perhaps_done(self, process: _Process, reading: _Reading) -> None:
        if reading.open or not reading.read or self.pool is None:
            return
        reading.read = False
        process.active -= 1
        self.hand.remove(reading.order)
        if process.queued:
            self._take(process, process.queued.popleft())
        self.pool.done(self)

    def beat(self) -> Beat | None:
        """What it says of itself; nothing where it is not up."""
        process = self._process
        if process is None:
            return None
        said = process.said
        if said is None or process.finished or said.finished:
            in_flight, finished = tuple(sorted(process.begun)), tuple(process.finished)
            process.finished.clear()
            pulse = Pulse(1, min(len(in_flight), 1) * self._world.settings.engine.max_num_seqs, 0)
            said = Beat(process.name, self.node, self.number, self.start_seconds, pulse, in_flight, finished)
            process.said = said
        return said
