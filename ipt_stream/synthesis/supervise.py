"""The driver's eyes and hands while engines work: progress, metrics, hung workers, and an early end. No Ray Data here.

The dataset is consumed in a thread of its own; this one looks every two seconds at what the workers say (where there
are more than a thousand, as often as they say it).
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import StorageError
from ipt_stream.process import handling
from ipt_stream.progress import Meter, log, meter
from ipt_stream.synthesis.board import Board
from ipt_stream.synthesis.coordinator import kill_process
from ipt_stream.synthesis.watch import Watch

LOOK_SECONDS = 2.0
METRICS_SECONDS = 10.0
REMOTE_METRICS_FACTOR = 12
"""An object is written anew as a whole: every two minutes, a day's costs 200 kB."""


class Stopped(Exception):
    """The run was told to stop, and what was in flight is finished or given back."""


class StopRequest:
    """Signals that tell a run to stop. Heard whatever the run is doing; a second one ends it at once."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, SIGINT and SIGTERM are heard here."""
        with handling((signal.SIGINT, signal.SIGTERM), self._hear):
            yield

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)
        if len(self.signals) > 1:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raises `Stopped` where one was heard."""
        if self.signals:
            raise Stopped(f"signal {self.signals[0]}")


def supervise(
    results: Iterator[None],
    coordinator: Any,
    board: Board,
    output: str,
    stall_seconds: float,
    grace_seconds: float,
    check: Callable[[], None],
    stop: StopRequest,
    beat_seconds: float = LOOK_SECONDS,
) -> None:
    """Consume `results` to their end, and look after the workers meanwhile.

    Args:
        results: one item a finished order; raises what ends the run.
        coordinator: handle of the run's `Coordinator`.
        board: is kept up to date; `begin` was called.
        output: run directory; metrics go there.
        stall_seconds: a worker that says nothing for so long is killed, and started again by Ray.
        grace_seconds: after a signal, time for segments in flight.
        check: called with every look; raises where the run is no longer this driver's.
        stop: says whether to stop.
        beat_seconds: how often a worker says something; it is looked at no more often.

    Raises:
        Stopped: a signal said so.
        EngineError: one segment was in flight at too many deaths of workers.
    """
    consumer = _Consumer(results)
    deadline: float | None = None
    watch = Watch(board, stall_seconds, _lost_nodes, beat_seconds, _gauges())
    in_flight, next_look = 0, 0.0
    metrics = Metrics(output)
    resumed = board.tally.counts["rows"]
    with meter("synthesize", board.expected_rows, "documents", resumed=resumed) as bar:
        consumer.start()
        while True:
            ended = consumer.join(LOOK_SECONDS)
            if ended or time.monotonic() >= next_look:
                next_look = time.monotonic() + max(beat_seconds - LOOK_SECONDS, 0.0)
                in_flight = _look(coordinator, watch, bar)
            metrics.write(board.tell(), last=ended)
            if ended:
                break
            check()
            if stop.signals and deadline is None:
                coordinator.stop.remote()
                deadline = time.monotonic() + grace_seconds
                log.info("stopping: up to %g s for what is in flight; once more, and it stops at once", grace_seconds)
            elif deadline is not None and (not in_flight or time.monotonic() > deadline):
                break
    consumer.raise_error()
    if deadline is not None:
        stop.check()


class _Consumer:
    """A thread that goes through an iterator."""

    def __init__(self, results: Iterator[None]) -> None:
        self._results = results
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            for _ in self._results:
                pass
        except BaseException as error:  # noqa: BLE001  (raised again by the driver's own thread)
            self._error = error

    def join(self, seconds: float) -> bool:
        """Wait so long at most; whether it is at its end."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def _look(coordinator: Any, watch: Watch, bar: Meter) -> int:
    """One look at the workers: hung ones are ended. Gives how many segments are in flight."""
    import ray

    finished, beats = ray.get(coordinator.look.remote())
    found = watch.take(finished, beats, bar)
    for beat, node in found.hung:
        kill_process(beat.host, beat.pid, node)
        ray.get(coordinator.forget.remote(beat.worker))
    return found.in_flight


def _lost_nodes() -> set[str]:
    """Ids of the nodes that were part of the cluster and are gone: pre-empted, say, which is no segment's fault."""
    import ray

    return {str(node["NodeID"]) for node in ray.nodes() if not node["Alive"]}  # type: ignore[no-untyped-call,unused-ignore]


class Metrics:
    """JSON lines about the run's state, every few seconds: `metrics.jsonl`, or on an object store one object a run."""

    def __init__(self, output: str) -> None:
        self._remote = storage.is_remote(output)
        name = f"metrics-{int(time.time())}.jsonl" if self._remote else "metrics.jsonl"
        self._path = storage.join(output, name)
        self._lines: list[str] = []
        self._next = 0.0

    def write(self, value: Mapping[str, Any], last: bool = False) -> None:
        """Add a line, if the last one is old enough or `last` says so. A line that can't be written is left out."""
        if time.monotonic() < self._next and not last:
            return
        self._next = time.monotonic() + METRICS_SECONDS * (REMOTE_METRICS_FACTOR if self._remote else 1)
        line = json.dumps({"time": round(time.time(), 3), **value}, ensure_ascii=False) + "\n"
        try:
            if self._remote:
                self._lines.append(line)
                storage.publish_bytes(self._path, "".join(self._lines).encode())
            else:
                with open(storage.local(self._path), "a", encoding="utf-8") as file:
                    file.write(line)
        except (StorageError, OSError) as error:
            log.warning("%s could not be written: %s", self._path, error)


def _gauges() -> dict[str, Any]:
    """Ray's metrics, for its dashboard and Prometheus, by what they show."""
    from ray.util.metrics import Gauge

    names = {
        "rows": "documents done",
        "pairs": "pairs synthesized",
        "raw_tokens": "raw tokens of documents done",
        "prompt_tokens": "prompt tokens sent",
        "cached_tokens": "prompt tokens found in the cache",
        "generated_tokens": "tokens generated",
        "engines": "engines that answer",
        "running": "requests that engines work on",
        "waiting": "requests that wait at engines",
    }
    found = {}
    for name, description in names.items():
        with suppress(ValueError):
            found[name] = Gauge(f"ipt_stream_{name}", description)
    return found
