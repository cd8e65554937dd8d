"""A whole synthesis run on a simulated cluster, and what it came to."""

from __future__ import annotations

import math
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ipt_stream import storage
from ipt_stream.ledger import ledger_parts, read_ledger
from ipt_stream.simulation.clock import Clock
from ipt_stream.simulation.cluster import Cluster
from ipt_stream.simulation.corpus import make_plan
from ipt_stream.simulation.driver import Driver, Load, log_to_nowhere, plan_run
from ipt_stream.simulation.pool import Pool
from ipt_stream.simulation.settings import DAY, SimulationSettings
from ipt_stream.simulation.store import PROTOCOL, Bucket, close_bucket, open_bucket
from ipt_stream.simulation.worker import SimulatedWorker, Spent, World
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.orders import orders_at_once
from ipt_stream.synthesis.tally import Tally, tally

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulated run came to. Shares are of the GPU time that nodes were there for.

    Attributes:
        hours: from the start to the last record.
        ideal_hours: the same work on as many engines that are always up and full, none of them slow.
        gpu_hours: that nodes were there for.
        useful: share of work on what was published.
        lost: share of work on what was not: the recomputed share.
        starting: share of engines on their way up.
        tail: share after an engine's last work.
        waiting: share of all the rest: engines that wait for orders, shards or the store.
        segments: that were made, each recorded once.
        documents: in them.
        raw_tokens: of what was converted.
        recorded_again: ledger lines beyond the first of their segment or shard, with the same content.
        adopted: segments published by one process and recorded by another.
        nodes_lost: how many.
        drivers: how many it took.
        order_count: of all drivers.
        at_once: orders of an engine; segments of an engine.
        load: CPU time of driver and coordinator.
        final_read: CPU seconds to read the whole ledger.
        ledger_parts: files of the ledger.
        ledger_mib: their size.
        requests: to the store, by kind and directory.
        sent_mib: put to the ledger, each part as often as it was written.
        simulated_in: real seconds that the simulation took.
    """

    hours: float
    ideal_hours: float
    gpu_hours: float
    useful: float
    lost: float
    starting: float
    tail: float
    waiting: float
    segments: int
    documents: int
    raw_tokens: int
    recorded_again: int
    adopted: int
    nodes_lost: int
    drivers: int
    order_count: int
    at_once: tuple[int, int]
    load: Load
    final_read: float
    ledger_parts: int
    ledger_mib: float
    requests: Counter[tuple[str, str]]
    sent_mib: float
    simulated_in: float

    @property
    def idle(self) -> float:
        """Share of GPU time without work: starting, waiting, and the tail."""
        return self.starting + self.waiting + self.tail

    def driver_core(self, settings: SimulationSettings) -> float:
        """Share of a core that the driver takes: its own code, as measured, and Ray's, as set."""
        costs = settings.driver
        ray = costs.order_seconds * self.order_count + costs.look_seconds * self.load.seen
        return (self.load.looks + ray) / (self.hours * HOUR)

    def coordinator_core(self, settings: SimulationSettings) -> float:
        """Share of a core that the coordinator takes, alike."""
        return (self.load.beats + settings.driver.beat_seconds * self.load.beats_taken) / (self.hours * HOUR)


def simulate(settings: SimulationSettings, tell: Callable[[float, Tally], None] | None = None) -> Outcome:
    """Run the corpus of `settings` through its cluster.

    Args:
        settings: all of it.
        tell: called now and then with the virtual time in seconds and what is recorded.

    Raises:
        LedgerError: a document was lost or doubled.
        RuntimeError: nothing is left to happen, and the run is not finished.
    """
    name = f"run-{uuid.uuid4().hex[:12]}"
    bucket = open_bucket(name)
    try:
        with log_to_nowhere():
            return _simulate(settings, f"{PROTOCOL}://{name}/run", bucket, tell)
    finally:
        close_bucket(name)


def _simulate(
    settings: SimulationSettings, output: str, bucket: Bucket, tell: Callable[[float, Tally], None] | None
) -> Outcome:
    began = time.perf_counter()
    nodes, load, spent, clock = settings.nodes, Load(), Spent(), Clock()
    plan = make_plan(settings)
    config = EngineConfig(model="simulated", max_num_seqs=settings.engine.max_num_seqs, replicas=nodes.gpus)
    at_once, _ = orders_at_once(config, plan)
    segments_at_once = config.segments_at_once(plan.chains_a_segment())
    chosen = random.Random(settings.seed)
    segments = f"{output.removeprefix(PROTOCOL + '://')}/segments"
    world = World(settings, plan, output, bucket, segments, clock, chosen, spent, at_once, segments_at_once)
    slow = set(chosen.sample(range(nodes.gpus), round(nodes.slow_share * nodes.gpus)))
    speeds = [nodes.slow_factor if number in slow else 1.0 for number in range(nodes.gpus)]
    cluster = Cluster(world, [SimulatedWorker(world, number, speed) for number, speed in enumerate(speeds)])
    lost_hours = [*sorted(settings.driver_lost_hours), math.inf]
    drivers, told = 0, began
    for ends in lost_hours:
        if ends * HOUR <= clock.now:
            continue
        drivers += 1
        before, orders = plan_run(plan, config, output, load)
        pool = Pool(clock, orders, at_once, settings.driver, cluster.settle)
        cluster.set_pool(pool)
        driver = Driver(clock, plan, cluster, before, bucket, load)
        driver.begin()

        def over(pool: Pool = pool, driver: Driver = driver, ends: float = ends) -> bool:
            nonlocal told
            if tell is not None and time.perf_counter() - told > 5:
                told = time.perf_counter()
                tell(clock.now, driver.board.tally)
            return pool.finished or clock.now >= ends * HOUR

        if not clock.run(over):
            raise RuntimeError(f"after {clock.now:.0f} s nothing is left to happen, and the run is not finished")
        driver.end()
        if pool.finished:
            break
    return _outcome(settings, world, cluster, load, drivers, speeds, began)


def _outcome(
    settings: SimulationSettings,
    world: World,
    cluster: Cluster,
    load: Load,
    drivers: int,
    speeds: list[float],
    began: float,
) -> Outcome:
    """Prove that every document came out once, and add up."""
    clock, spent, output, bucket = world.clock, world.spent, world.output, world.bucket
    started = time.process_time()
    final = tally(read_ledger(output))
    read = time.process_time() - started
    final.check_conservation(len(world.plan.shards), output)
    ledger = bucket.objects[f"{storage.join(output, 'ledger').removeprefix(PROTOCOL + '://')}"]
    lines = sum(content.count(b"\n") for content in ledger.values())
    held = max(cluster.held_seconds(), 1e-9)
    raw_tokens = final.counts["raw_tokens"]
    rate = settings.engine.raw_tokens_a_day / DAY
    shares = {
        "useful": spent.useful / held,
        "lost": spent.lost / held,
        "starting": spent.starting / held,
        "tail": cluster.tail_seconds() / held,
    }
    return Outcome(
        hours=clock.now / HOUR,
        ideal_hours=raw_tokens / rate / len(speeds) / HOUR,
        gpu_hours=held / HOUR,
        **shares,
        waiting=1 - sum(shares.values()),
        segments=final.counts["segments"],
        documents=final.counts["rows"],
        raw_tokens=raw_tokens,
        recorded_again=lines - final.counts["segments"] - len(final.ends),
        adopted=spent.adopted,
        nodes_lost=len(cluster.lost),
        drivers=drivers,
        order_count=load.orders,
        at_once=(world.at_once, world.segments_at_once),
        load=load,
        final_read=read,
        ledger_parts=len(ledger_parts(output)),
        ledger_mib=sum(map(len, ledger.values())) / 2**20,
        requests=bucket.requests,
        sent_mib=bucket.sent_bytes["ledger"] / 2**20,
        simulated_in=time.perf_counter() - began,
    )
