"""The driver's eyes and hands while engines work: progress, metrics, hung workers, and an early end. No Ray Data here.

The dataset is consumed in a thread of its own; this one looks every two seconds at what the workers say.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ipt_stream import storage
from ipt_stream.corpus.formats import ShardSpec
from ipt_stream.errors import EngineError, StorageError
from ipt_stream.process import handling
from ipt_stream.progress import Meter, log, meter
from ipt_stream.synthesis.coordinator import kill_process
from ipt_stream.synthesis.orders import expected_rows
from ipt_stream.synthesis.tally import Tally

LOOK_SECONDS = 2.0
METRICS_SECONDS = 10.0
REMOTE_METRICS_FACTOR = 12
"""An object is written anew as a whole: every two minutes, a day's costs 200 kB."""
FRESH_SECONDS = 15.0
"""Older beats say nothing of what a worker does now."""
DEATHS_ALLOWED = 5
"""A segment that is in flight when so many workers are lost is taken to be the reason."""


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

    def ask(self) -> None:
        """Ask for it as a signal would; from any thread."""
        self.signals.append(signal.SIGTERM)

    def check(self) -> None:
        """Raises `Stopped` where one was heard."""
        if self.signals:
            raise Stopped(f"signal {self.signals[0]}")


class Board:
    """What is known of a run while it runs; `tell` shows it, from any thread."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.expected_rows = 0
        self.running = self.waiting = self.engines = 0
        self._before: Counter[str] = Counter()
        self._began: float | None = None
        self._first: float | None = None
        self._last = 0.0

    def begin(self, tally: Tally, shards: Sequence[ShardSpec], bytes_a_row: float) -> None:
        """Start from what is recorded already."""
        self.tally = tally_copy = Tally()
        tally_copy.counts.update(tally.counts)
        tally_copy.rejected.update(tally.rejected)
        self._before = Counter(tally.counts)
        self.expected_rows = sum(
            tally.ends[shard.index].rows if shard.index in tally.ends else expected_rows(shard, bytes_a_row)
            for shard in shards
        )
        self._began = time.time()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a segment that a worker finished, or adopted: that one was begun before this run."""
        self.tally.add(record)
        started = max(record["started"], self._began or 0.0)
        self._first = min(self._first or started, started)
        self._last = time.time()

    def seconds(self) -> float:
        """From the start of this run's first segment to the end of its last one."""
        return max(self._last - self._first, 1e-3) if self._first is not None else 0.0

    def rates(self) -> dict[str, float]:
        """Documents, raw tokens and generated tokens a second, of this run alone."""
        elapsed = self.seconds()
        names = {"documents": "rows", "raw_tokens": "raw_tokens", "generated_tokens": "generated_tokens"}
        count = self.tally.counts
        return {
            f"{name}_per_second": round((count[key] - self._before[key]) / elapsed, 1) if elapsed else 0.0
            for name, key in names.items()
        }

    def cached_share(self) -> float:
        """Of the prompt tokens, how many came from the engines' caches."""
        return self.tally.counts["cached_tokens"] / max(self.tally.counts["prompt_tokens"], 1)

    def tell(self) -> dict[str, Any]:
        """All of it, for `driver.json` and the metrics; nothing before `begin`."""
        if self._began is None:
            return {}
        rates = self.rates()
        self.expected_rows = max(self.expected_rows, self.tally.counts["rows"])
        left = self.expected_rows - self.tally.counts["rows"]
        rate = rates["documents_per_second"]
        return {
            "counts": dict(self.tally.counts),
            "rejected": dict(self.tally.rejected),
            "expected_rows": self.expected_rows,
            "engines": self.engines,
            "running": self.running,
            "waiting": self.waiting,
            "cached_share": round(self.cached_share(), 3),
            **rates,
            "eta_seconds": round(left / rate) if rate else None,
        }


def supervise(
    results: Iterator[None],
    coordinator: Any,
    board: Board,
    output: str,
    stall_seconds: float,
    grace_seconds: float,
    check: Callable[[], None],
    stop: StopRequest,
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

    Raises:
        Stopped: a signal said so.
        EngineError: one segment was in flight at too many deaths of workers.
    """
    consumer = _Consumer(results)
    deadline: float | None = None
    watch = _Watch(coordinator, board, stall_seconds)
    metrics = Metrics(output)
    resumed = board.tally.counts["rows"]
    with meter("synthesize", board.expected_rows, "documents", resumed=resumed) as bar:
        consumer.start()
        while True:
            ended = consumer.join(LOOK_SECONDS)
            in_flight = watch.look(bar)
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


class _Watch:
    """Looks at the workers: counts what they finished, logs it, ends those that hang."""

    def __init__(self, coordinator: Any, board: Board, stall_seconds: float) -> None:
        self._coordinator, self._board, self._stall_seconds = coordinator, board, stall_seconds
        self._known: dict[str, tuple[tuple[str, ...], str]] = {}
        self._blamed: Counter[str] = Counter()
        self._gauges = _gauges()

    def look(self, bar: Meter) -> int:
        """One look; gives how many segments are in flight."""
        import ray

        finished, beats = ray.get(self._coordinator.look.remote())
        for record in finished:
            self._board.add(record)
            log.debug("%s", record["id"])
            bar.line(_line(record))
        fresh = [beat for beat, age, _ in beats if age < FRESH_SECONDS]
        for beat, _, _ in beats:
            if beat.worker not in self._known:
                bar.line(f"engine ready after {beat.start_seconds:.0f} s: process {beat.pid} on {beat.host}")
        self._board.engines = len(fresh)
        self._board.running = sum(beat.pulse.running for beat in fresh)
        self._board.waiting = sum(beat.pulse.waiting for beat in fresh)
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
        for beat, age, node in beats:
            if age > self._stall_seconds:
                log.warning("worker %s on %s says nothing for %.0f s: it is ended", beat.pid, beat.host, age)
                kill_process(beat.host, beat.pid, node)
                ray.get(self._coordinator.forget.remote(beat.worker))
        self._blame({beat.worker: (beat.in_flight, node) for beat, _, node in beats})
        return sum(len(beat.in_flight) for beat in fresh)

    def _blame(self, now: dict[str, tuple[tuple[str, ...], str]]) -> None:
        """Count, for each segment, the workers that were lost while it was in flight; not those of lost nodes."""
        lost = [self._known[worker] for worker in self._known.keys() - now.keys()]
        gone = _lost_nodes() if lost else set()
        for in_flight, node in lost:
            why = "with its node, and" if node in gone else "with"
            log.warning("a worker was lost %s %d segments in flight; they are made again", why, len(in_flight))
            if node not in gone:
                self._blamed.update(in_flight)
        self._known = now
        worst, deaths = next(iter(self._blamed.most_common(1)), ("", 0))
        if deaths >= DEATHS_ALLOWED:
            raise EngineError(
                f"segment {worst} was in flight each time that {deaths} workers were lost",
                wanted="engines that live",
                got="one that dies again and again",
                fix="see the workers' logs for the reason (memory?); what is recorded stays",
            )


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


def _line(record: Mapping[str, Any]) -> str:
    cached = record["cached_tokens"] / max(record["prompt_tokens"], 1)
    return (
        f"segment {record['id']}  {record['rows']:>7,} documents  {record['pairs']:>8,} pairs  "
        f"{record['raw_tokens']:>10,} raw tokens  cached {cached:>4.0%}  {record['seconds']:>7.1f} s"
    )
