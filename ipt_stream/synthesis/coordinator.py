"""Where workers and driver of a run meet: what workers do now, and whether they are to stop. A small Ray actor.

Nothing that a run's result depends on passes through here: finished segments are in storage and in the ledger before
anyone hears of them. If it dies, the driver does, and the next run goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ipt_stream.progress import log
from ipt_stream.synthesis.worker import Beat


class Coordinator:
    """Keeps the last beat of each worker. Wrapped in a Ray actor by `start_coordinator`.

    Args:
        clock: seconds, from any point in time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: dict[str, tuple[Beat, float, str]] = {}  # by actor
        self._finished: list[dict[str, Any]] = []
        self._stopping = False

    def beat(self, beat: Beat, actor: str, node: str) -> bool:
        """Take a worker's beat; answers whether to stop.

        Args:
            beat: what it says.
            actor: id of its Ray actor, which stays when the actor is started again in another process.
            node: id of the Ray node that it is on.
        """
        self._beats[actor] = (beat, self._clock(), node)
        self._finished.extend(beat.finished)
        return self._stopping

    def look(self) -> tuple[list[dict[str, Any]], list[tuple[Beat, float, str]]]:
        """Records that came in since the last look, and every worker's last beat, its age in seconds, its node."""
        finished, self._finished = self._finished, []
        now = self._clock()
        return finished, [(beat, now - at, node) for beat, at, node in self._beats.values()]

    def forget(self, worker: str) -> None:
        """Drop a worker that is gone."""
        self._beats = {actor: known for actor, known in self._beats.items() if known[0].worker != worker}

    def stop(self) -> None:
        """From now on tell every worker to stop."""
        self._stopping = True


def start_coordinator() -> Any:
    """A `Coordinator` actor on the driver's own node; takes no CPU of the cluster's count."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Coordinator).options(num_cpus=0, scheduling_strategy=here).remote()


def reporter(coordinator: Any) -> Callable[[Beat], bool]:
    """A worker's way to report: sends a beat and gives the answer, or while that is on its way the one before.

    A beat that is lost on its way is not missed: the next one is a second away, and results don't depend on any.
    """
    import ray

    context = ray.get_runtime_context()
    actor, node = context.get_actor_id(), context.get_node_id()
    pending: list[Any] = []
    lock = threading.Lock()

    def report(beat: Beat) -> bool:
        with lock:
            pending.append(coordinator.beat.remote(beat, actor, node))
            ready, pending[:] = ray.wait(pending, num_returns=len(pending), timeout=0.2)
            try:
                return any(ray.get(ready))
            except ray.exceptions.RayError as error:
                log.warning("the driver could not be told what this worker does: %s", error)
                return False

    return report


def kill_process(host: str, pid: int, node: str) -> bool:
    """End process `pid` on `node`, hung or not; False where the node is gone."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(_kill).options(num_cpus=0, scheduling_strategy=there, max_retries=0)
    try:
        return bool(ray.get(task.remote(host, pid), timeout=30))
    except ray.exceptions.RayError:
        return False


def _kill(host: str, pid: int) -> bool:
    import os
    import signal
    import socket

    import psutil

    if socket.gethostname() != host or not psutil.pid_exists(pid):
        return False
    if "ray::" not in " ".join(psutil.Process(pid).cmdline()):
        return False  # The number belongs to another by now.
    os.kill(pid, signal.SIGKILL)
    return True
