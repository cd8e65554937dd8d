"""Nodes that come, are lost and are replaced, and the workers that find room on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ipt_stream.simulation.pool import Pool
from ipt_stream.simulation.worker import SimulatedWorker, World


@dataclass(slots=True)
class _Node:
    name: str
    gpus: int
    since: float
    workers: list[SimulatedWorker] = field(default_factory=list)


class Cluster:
    """All nodes of a run.

    A worker that was lost with its node starts again where there is room, as Ray does it: on a node that takes the
    lost one's place, or in the place of a worker that has nothing left to do.

    Args:
        world: of the run.
        workers: one for each GPU.

    Attributes:
        lost: ids of the nodes that are gone.
        held: GPU seconds up to now of nodes that are gone.
    """

    def __init__(self, world: World, workers: Sequence[SimulatedWorker]) -> None:
        self._world, self.workers = world, workers
        self.lost: set[str] = set()
        self.held = 0.0
        self.pool: Pool | None = None
        self._nodes: dict[str, _Node] = {}
        self._made = 0
        self._waiting: deque[SimulatedWorker] = deque(workers)
        self._done: list[SimulatedWorker] = []  # without a node: there was nothing left to do for them
        settings = world.settings.nodes
        sizes = [settings.gpus_a_node] * (len(workers) // settings.gpus_a_node)
        if rest := len(workers) % settings.gpus_a_node:
            sizes.append(rest)
        for index, gpus in enumerate(sizes):
            world.clock.after(settings.join_seconds * (index + 1) / len(sizes), self._joining(gpus))

    def set_pool(self, pool: Pool) -> None:
        """Have the workers work for a driver; those that worked for another are started anew where they are."""
        if self.pool is not None:
            self.pool.closed = True
        self.pool = pool
        for worker in self.workers:
            worker.pool = pool
            worker.hand.clear()
        for node in self._nodes.values():
            for worker in node.workers:
                worker.lose()
                worker.start(node.name)
        self._waiting.extend(self._done)
        self._done.clear()
        self.settle()

    def _joining(self, gpus: int) -> Callable[[], None]:
        return lambda: self._join(gpus)

    def _join(self, gpus: int) -> None:
        world, hours = self._world, self._world.settings.nodes.loss_hours
        node = _Node(f"node-{self._made:05d}", gpus, world.clock.now)
        self._made += 1
        self._nodes[node.name] = node
        if hours is not None:
            world.clock.after(world.chosen.expovariate(1 / (3600 * hours)), lambda: self._lose(node))
        self.settle()

    def _lose(self, node: _Node) -> None:
        world, settings = self._world, self._world.settings.nodes
        del self._nodes[node.name]
        self.lost.add(node.name)
        self.held += node.gpus * (world.clock.now - node.since)
        gone = node.workers
        for worker in gone:
            worker.lose()
            if self.pool is not None:
                self.pool.down(worker)

        def notice() -> None:
            self._waiting.extend(gone)
            self.settle()

        world.clock.after(settings.notice_seconds, notice)
        world.clock.after(settings.replace_seconds, self._joining(node.gpus))

    def settle(self) -> None:
        """Start workers that wait, wherever there is room."""
        if not self._waiting:
            return
        for node in self._nodes.values():
            idle = [worker for worker in node.workers if self._is_done(worker)]
            while self._waiting and (len(node.workers) < node.gpus or idle):
                if len(node.workers) >= node.gpus:
                    over = idle.pop()
                    over.lose()
                    node.workers.remove(over)
                    self._done.append(over)
                worker = self._waiting.popleft()
                if self._is_over(worker):
                    self._done.append(worker)
                    continue
                node.workers.append(worker)
                worker.start(node.name)
            if not self._waiting:
                return

    def _is_done(self, worker: SimulatedWorker) -> bool:
        return worker.up and self._is_over(worker)

    def _is_over(self, worker: SimulatedWorker) -> bool:
        """Whether there is nothing left for it to do."""
        return self.pool is not None and self.pool.empty and not worker.hand

    def held_seconds(self) -> float:
        """GPU seconds that nodes were there, up to now."""
        now = self._world.clock.now
        return self.held + sum(node.gpus * (now - node.since) for node in self._nodes.values())

    def tail_seconds(self) -> float:
        """Of those that are there, GPU seconds since their worker's last work, or start."""
        now = self._world.clock.now
        return sum(now - worker.idle_since for node in self._nodes.values() for worker in node.workers)
