"""What holds an engine: work orders in, published segment files and ledger records out.

A segment is read, tokenized and cut in a thread, its chains run in the engine's event loop, its file is published once
and then recorded. What was published and not recorded, because something was killed in between, is adopted.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import socket
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import EngineError, StorageError
from ipt_stream.ledger import LedgerWriter
from ipt_stream.progress import log
from ipt_stream.synthesis import segment
from ipt_stream.synthesis.engine import Engine, EngineConfig, EngineDied, Pulse, VllmEngine
from ipt_stream.synthesis.model_files import local_model
from ipt_stream.synthesis.orders import Order
from ipt_stream.synthesis.plan import RunPlan, segment_id, segment_path
from ipt_stream.synthesis.read_segments import SegmentInput, ShardEnd, read_segments
from ipt_stream.synthesis.results import is_selected_document
from ipt_stream.synthesis.rounds import LAST_TURN, Gate, SegmentResult, prepare, run_segment
from ipt_stream.synthesis.segment import SegmentRow, Status
from ipt_stream.synthesis.tokens import PromptTokenizer, load_tokenizer

EngineFactory = Callable[[EngineConfig, float, int], Engine]
ENGINE_DIED_EXIT_CODE = 70
BEAT_SECONDS = 2.0
BEATS_A_SECOND = 500
"""Of all workers together: one process takes them (benchmarks/driver.py). Beyond 1,000 engines each says less."""
READ_AGAIN_SECONDS = (5.0, 30.0, 120.0)
"""Pauses before a shard that can't be read is tried again: a store's bad minutes need not end the run."""


def beat_seconds(engines: int) -> float:
    """How often a worker of so many says what it does."""
    return max(BEAT_SECONDS, engines / BEATS_A_SECOND)


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker says of itself, every `beat_seconds`.

    Attributes:
        worker: names this process among all of the run.
        host: its machine.
        pid: its process id there.
        start_seconds: how long its engine took to start.
        pulse: what its engine is doing.
        in_flight: the segments it has begun and not finished.
        finished: the records of those that it finished since its last beat.
    """

    worker: str
    host: str
    pid: int
    start_seconds: float
    pulse: Pulse
    in_flight: tuple[str, ...]
    finished: tuple[dict[str, Any], ...]


@dataclass(slots=True)
class OrderDone:
    """What came of an order: segments made or adopted, and whether it was stopped before its end."""

    made: int = 0
    stopped: bool = False


@dataclass(slots=True)
class _Activity:
    """What the beats tell; its lock is held for moments only."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    in_flight: set[str] = field(default_factory=set)
    finished: deque[dict[str, Any]] = field(default_factory=deque)


class SegmentSynthesizer:
    """One engine and what it takes to turn orders into files. Several threads may call it at once.

    Args:
        config: the engine's settings.
        plan: what decides which document goes where.
        output: run directory.
        gpus: GPUs of this engine.
        make_engine: makes it, from settings, GPUs and the id of `</s>`.
        report: is given a `Beat` every `beat_seconds`, and answers whether to stop; None: nobody listens.
    """

    def __init__(
        self,
        config: EngineConfig,
        plan: RunPlan,
        output: str,
        gpus: float,
        make_engine: EngineFactory = VllmEngine,
        report: Callable[[Beat], bool] | None = None,
    ) -> None:
        if not gpus:
            # The CPU engine computes on all cores, whatever number of them Ray reserved for this actor.
            os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        folder = local_model(config.model, config.revision)
        lora = local_model(config.lora, config.revision) if config.lora is not None else None
        self._config = config.model_copy(update={"model": folder, "lora": lora})
        self._plan, self._output, self._report = plan, output, report
        self._ledger = LedgerWriter(output)
        self._tokenizer: PromptTokenizer = load_tokenizer(folder, config.revision)
        self._gate = Gate(config.chains_at_once())
        at_once = config.segments_at_once(plan.chains_a_segment())
        self._room = threading.Semaphore(at_once + 1)  # one more is read ahead
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="segment")
        self._turns = itertools.count(1)
        self._stopping = threading.Event()
        self._shut = threading.Event()
        self._activity = _Activity()
        self._name = uuid.uuid4().hex[:12]
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(target=self._run_loop, name="engine", daemon=True)
        self._loop_thread.start()
        started = time.monotonic()
        starting = asyncio.run_coroutine_threadsafe(self._start(make_engine, gpus), self._loop)
        try:
            self._engine = starting.result(config.start_seconds)
        except TimeoutError as error:
            if starting.done():
                raise  # the engine's own
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise EngineError(
                f"the engine on {socket.gethostname()} does not start",
                wanted=f"an engine that is up after {config.start_seconds:g} s",
                got="neither an engine nor an error",
                fix="see its log there; raise engine.start_seconds where it only needs longer",
            ) from error
        self.engine_start_seconds = time.monotonic() - started
        facts = self._engine.facts() | {"host": socket.gethostname(), "start_seconds": round(self.engine_start_seconds)}
        storage.publish_json(storage.join(output, "engines", f"{self._name}.json"), facts)
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._watchdog.start()

    def _run_loop(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _start(self, make_engine: EngineFactory, gpus: float) -> Engine:
        return make_engine(self._config, gpus, self._tokenizer.eos_token_id)

    def run_order(self, order: Order) -> OrderDone:
        """Make, publish and record what `order` asks for; returns when all of it is recorded, or what was begun when it
        was told to stop.

        Raises:
            IptError: what can't be mended by trying again, such as a full disk. What was recorded stays.
        """
        running: list[Future[bool]] = []
        done = OrderDone(stopped=self._stopping.is_set())
        if done.stopped:
            return done
        for item in self._read(order):
            if isinstance(item, ShardEnd):
                self._ledger.append(_shard_record(item))
                continue
            self._room.acquire()
            if self._stopping.is_set():
                self._room.release()
                done.stopped = True
                break
            turn = LAST_TURN if order.is_ending(item.number) else next(self._turns)
            future = self._threads.submit(self._segment, item, turn)
            future.add_done_callback(lambda _: self._room.release())
            running.append(future)
            if any(made.done() and made.exception() for made in running):
                break
        done.made = sum(made.result() for made in running)
        done.stopped = done.stopped or done.made < len(running) or self._stopping.is_set()
        self._beat()
        return done

    def _read(self, order: Order) -> Iterator[SegmentInput | ShardEnd]:
        """`read_segments`, tried again from where it was when a store fails for longer than storage is patient.

        It goes on in the segment that it gave last, for whoever reads a shard's last row tells of its end.
        """
        patience = READ_AGAIN_SECONDS if storage.is_remote(order.shard.path) else ()
        pauses = iter(patience)
        while True:
            try:
                for item in read_segments(order, self._plan.segment_documents):
                    if isinstance(item, SegmentInput):
                        order = replace(order, first=item.number, finished=order.finished | {item.number})
                    pauses = iter(patience)
                    yield item
                return
            except StorageError as error:
                pause = next(pauses, None)
                if pause is None:
                    raise
                log.warning("%s; tried again in %g s", error, pause)
                if self._stopping.wait(pause):
                    return

    def _segment(self, item: SegmentInput, turn: int) -> bool:
        """Make, publish and record one segment; False where it was not begun, for it is time to stop.

        Ends the process where the engine has died, to be restarted whole.
        """
        if self._stopping.is_set():
            return False
        name, path = segment_id(item.shard, item.number), segment_path(item.shard, item.number)
        place = storage.join(self._output, path)
        with self._activity.lock:
            self._activity.in_flight.add(name)
        try:
            if storage.exists(place):
                content = storage.read_bytes(place)
            else:
                content = self._make(item, turn, name)
                if not storage.publish_once(place, content):
                    content = storage.read_bytes(place)
            record = segment.read_record(content, place)
            record |= {"path": path, "sha256": hashlib.sha256(content).hexdigest()}
            self._ledger.append(record)
            with self._activity.lock:
                self._activity.finished.append(record)
        except EngineDied as error:
            self._end(f"{error}")
        finally:
            with self._activity.lock:
                self._activity.in_flight.discard(name)
        return True

    def _make(self, item: SegmentInput, turn: int, name: str) -> bytes:
        """The file of a segment, its record inside."""
        started = time.time()
        budget_tokens = self._config.max_model_len - self._config.max_new_tokens
        selected = [document for document in item.documents if is_selected_document(self._plan, document)]
        pieces = prepare(self._tokenizer, selected, budget_tokens)
        work = run_segment(
            self._engine,
            self._tokenizer,
            pieces,
            segment_id=name,
            rounds=self._plan.rounds,
            budget_tokens=budget_tokens,
            gate=self._gate,
            turn=turn,
        )
        result = asyncio.run_coroutine_threadsafe(work, self._loop).result()
        record = describe(item, result)
        record |= {"started": round(started, 3), "seconds": round(time.time() - started, 3)}
        return segment.encode(result.rows, record)

    def _watch(self) -> None:
        """Beat every `beat_seconds`; end the process where the engine has requests and stands still."""
        last, since = Pulse(), time.monotonic()
        self._beat()
        beats, next_beat = beat_seconds(self._config.most_replicas()), 0.0
        while not self._shut.wait(BEAT_SECONDS):
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + max(beats - BEAT_SECONDS, 0.0)
                self._beat()
            pulse = self._engine.pulse()
            if pulse.steps != last.steps or not self._gate.inside:
                last, since = pulse, time.monotonic()
            elif time.monotonic() - since > self._config.stall_seconds:
                self._end(f"the engine has done no step for {self._config.stall_seconds:g} s, with requests waiting")

    def _beat(self) -> None:
        """Report what is going on, if anybody listens."""
        if self._report is None:
            return
        with self._activity.lock:
            in_flight = tuple(sorted(self._activity.in_flight))
            finished = tuple(self._activity.finished)
            self._activity.finished.clear()
        who = (self._name, socket.gethostname(), os.getpid(), self.engine_start_seconds)
        if self._report(Beat(*who, self._engine.pulse(), in_flight, finished)):
            self._stopping.set()

    def _end(self, why: str) -> None:
        """Only a new process can go on: an actor with a dead engine would be given order after order."""
        log.error("%s; this worker ends and is started again", why)
        try:
            self._engine.kill()
        finally:
            os._exit(ENGINE_DIED_EXIT_CODE)

    def stop(self) -> None:
        """Begin no further segment; those in flight go on."""
        self._stopping.set()

    def shutdown(self) -> None:
        """End the engine and all threads, when what is in flight is done."""
        self._stopping.set()
        self._shut.set()
        self._watchdog.join()
        self._threads.shutdown()
        self._engine.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join()


def describe(item: SegmentInput, result: SegmentResult) -> dict[str, Any]:
    """The ledger record of a segment: its counts, and every document that is in no output, by reason."""
    outcome = segment.outcomes(result.rows)
    count = Counter(outcome.values())
    rejected = {reason: list(rows) for reason, rows in item.rejected.items()}
    for row in result.rows:
        if outcome[row.document_id] is Status.FAILED and row.piece == 0:
            rejected.setdefault("failed", []).append(row.row)
    return {
        "id": segment_id(item.shard, item.number),
        "kind": "segment",
        "shard": item.shard,
        "number": item.number,
        "start_row": item.start_row,
        "rows": item.rows,
        "augmented": count[Status.AUGMENTED],
        "raw": len(item.documents) - count[Status.AUGMENTED] - count[Status.FAILED],
        "unselected": len(item.documents) - len(outcome),
        "rejected": rejected,
        "pieces": len(result.rows),
        "no_pairs": _reasons(result.rows),
        "pairs": sum(len(row.pairs) for row in result.rows),
        "dropped": result.dropped,
        "raw_tokens": result.raw_tokens,
        "prompt_tokens": sum(row.prompt_tokens for row in result.rows),
        "cached_tokens": sum(row.cached_tokens for row in result.rows),
        "resent_tokens": result.resent_tokens,
        "generated_tokens": sum(row.generated_tokens for row in result.rows),
    }


def _reasons(rows: tuple[SegmentRow, ...]) -> dict[str, int]:
    return dict(Counter(row.reason for row in rows if row.status is Status.NO_PAIRS))


def _shard_record(end: ShardEnd) -> dict[str, Any]:
    return {
        "id": f"shard-{end.shard:06d}",
        "kind": "shard",
        "shard": end.shard,
        "rows": end.rows,
        "segments": end.segments,
        "broken": end.broken,
    }
