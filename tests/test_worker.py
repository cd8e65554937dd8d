"""A worker: orders in, published and recorded segments out, each once; and how it ends when its engine does."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from light import LightEngine, jsonl_shard, light_tokenizer, row_of

from ipt_stream import storage
from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.errors import EngineError, InputError, StorageError
from ipt_stream.ledger import read_ledger
from ipt_stream.synthesis import segment as segment_files
from ipt_stream.synthesis import worker as module
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.orders import Order, plan_orders
from ipt_stream.synthesis.plan import RunPlan, segment_id, segment_path
from ipt_stream.synthesis.tally import Tally, tally
from ipt_stream.synthesis.worker import Beat, SegmentSynthesizer

SIZE = 5
PLAN = RunPlan((), segment_documents=SIZE, rounds=2, fraction=1.0, seed=0)
WAIT_S = 120
MakeWorker = Callable[..., SegmentSynthesizer]


class Switch:
    """Holds requests at the engine while it is off, but not for ever."""

    def __init__(self) -> None:
        self.on = threading.Event()
        self.reached = threading.Event()

    def __call__(self, request_id: str) -> Any:
        self.reached.set()
        return self._wait()

    async def _wait(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while not self.on.is_set() and time.monotonic() < deadline:
            await asyncio.sleep(0.005)


@pytest.fixture
def make_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWorker]:
    """Makes workers on `tmp_path/run`; ends them all. Only the tokenizer is a lighter one than a model's."""
    monkeypatch.setattr(module, "load_tokenizer", lambda *_: light_tokenizer())
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    for name in ("OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND"):  # set by workers; put back afterwards
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    (tmp_path / "model").mkdir()
    made: list[SegmentSynthesizer] = []

    def make(engine: LightEngine, report: Callable[[Beat], bool] | None = None, **changes: Any) -> SegmentSynthesizer:
        config = EngineConfig.model_validate(
            {
                "model": str(tmp_path / "model"),
                "max_model_len": 300,
                "max_new_tokens": 100,
                "max_num_seqs": 4,
                **changes,
            }
        )
        made.append(SegmentSynthesizer(config, PLAN, str(tmp_path / "run"), 0.0, engine, report))
        return made[-1]

    yield make
    for worker in made:
        worker.shutdown()
    assert not [thread.name for thread in threading.enumerate() if thread.name in ("engine", "watchdog")]


def records(run: Path) -> dict[str, dict[str, Any]]:
    return {record["id"]: dict(record) for record in read_ledger(str(run))}


def published(run: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (run / "segments").iterdir()}


def in_thread(work: Callable[[], Any]) -> Any:
    """The result of `work`; fails where it hangs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(WAIT_S)


def wait_for(found: Callable[[], object], why: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, why
        time.sleep(0.01)


def test_several_orders_at_once_make_and_record_each_segment_once(make_worker: MakeWorker, tmp_path: Path) -> None:
    shards = [jsonl_shard(tmp_path / f"{n}.jsonl", rows, n) for n, rows in enumerate((23, 0, 40, 5))]
    orders = list(plan_orders(shards, Tally(), SIZE, 3, 20.0))
    assert len(orders) > 8
    beats: list[Beat] = []
    engine = LightEngine()
    worker = make_worker(engine, lambda beat: bool(beats.append(beat)))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(worker.run_order, orders))
    assert not any(one.stopped for one in done)
    assert sum(one.made for one in done) == 5 + 0 + 8 + 1
    final = tally(records(tmp_path / "run").values())
    final.check_conservation(4, "here")
    assert final.counts["augmented"] == 68
    assert sorted(published(tmp_path / "run")) == sorted(segment_id(n, k) for n in final.made for k in final.made[n])
    assert len(engine.asked) == 68, "each document was asked about once"
    assert engine.most <= 6, "open chains: 1.5 x max_num_seqs"
    told = [record["id"] for beat in beats for record in beat.finished]
    assert sorted(told) == sorted(published(tmp_path / "run")), "each is told of once"
    assert beats[-1].in_flight == ()
    assert (tmp_path / "run" / "engines").is_dir()


@pytest.mark.parametrize("ending", [None, 1])
def test_chains_of_the_runs_last_segments_go_by_length_alone(
    make_worker: MakeWorker, tmp_path: Path, ending: int | None
) -> None:
    """Three segments of three chains each are at work, the second and the third perhaps marked; one chain is let in."""
    lengths = [30, 20, 110, 1, 1, 60, 10, 120, 1, 1, 80, 20, 140, 1, 1]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * length}) + "\n" for length in lengths))
    shard = ShardSpec(str(path), 0, path.name, Format.JSONL, "text", None, path.stat().st_size)
    switch = Switch()
    engine = LightEngine(switch)
    worker = make_worker(engine, open_chains=1, segments_in_flight=3)
    orders = [Order(shard, 0, 1, frozenset()), Order(shard, 1, None, frozenset(), ending=ending)]
    with ThreadPoolExecutor(2) as pool:
        try:
            done = [pool.submit(worker.run_order, orders[0])]
            wait_for(lambda: len(worker._gate._waiting) == 2, "the first segment's other chains wait")
            done.append(pool.submit(worker.run_order, orders[1]))
            wait_for(lambda: len(worker._gate._waiting) == 8, "all others wait")
        finally:
            switch.on.set()
        assert [one.result(WAIT_S).made for one in done] == [1, 2]

    def length(row: int) -> int:
        members = [row, row + 3] if row % SIZE < 2 else [row]
        return sum(lengths[member] + light_tokenizer().context_overhead_tokens for member in members)

    begun = [row for row in engine.rows() if row % SIZE < 3]  # the first row of each chain
    groups = [[0, 1, 2], [5, 6, 7], [10, 11, 12]] if ending is None else [[0, 1, 2], [5, 6, 7, 10, 11, 12]]
    assert begun == [row for group in groups for row in sorted(group, key=length, reverse=True)]


def test_what_was_published_and_not_recorded_is_adopted(make_worker: MakeWorker, tmp_path: Path) -> None:
    order = Order(jsonl_shard(tmp_path / "a.jsonl", 12), 0, None, frozenset())
    make_worker(LightEngine()).run_order(order)
    before, files = records(tmp_path / "run"), published(tmp_path / "run")
    for part in (tmp_path / "run" / "ledger").iterdir():
        part.unlink()
    engine = LightEngine()
    assert make_worker(engine).run_order(order).made == 3
    assert engine.asked == [], "nothing is asked for it"
    assert (records(tmp_path / "run"), published(tmp_path / "run")) == (before, files)


def test_what_another_published_in_between_is_adopted(make_worker: MakeWorker, tmp_path: Path) -> None:
    """Its bytes are what is recorded, not those of the one that came later."""
    order = Order(jsonl_shard(tmp_path / "a.jsonl", 3), 0, None, frozenset())
    run, place = tmp_path / "run", segment_path(0, 0)
    make_worker(LightEngine()).run_order(order)
    content = (run / place).read_bytes()
    record = segment_files.read_record(content, place) | {"seconds": 12345.0}
    others = segment_files.encode(segment_files.decode(content, place), record)
    assert others != content
    for path in (run / place, *(run / "ledger").iterdir()):
        path.unlink()

    engine = LightEngine(lambda _: (run / place).write_bytes(others) and None)
    make_worker(engine).run_order(order)
    assert len(engine.asked) == 3
    assert (run / place).read_bytes() == others
    found = records(run)[segment_id(0, 0)]
    assert found["seconds"] == 12345.0
    assert found["sha256"] == hashlib.sha256(others).hexdigest()


def test_two_workers_with_the_same_orders_make_one_ledger(make_worker: MakeWorker, tmp_path: Path) -> None:
    """As when a driver is replaced while its workers still live."""
    order = Order(jsonl_shard(tmp_path / "a.jsonl", 31), 0, None, frozenset())
    workers = [make_worker(LightEngine()), make_worker(LightEngine())]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda worker: worker.run_order(order), workers))
    final = tally(read_ledger(str(tmp_path / "run")))
    final.check_conservation(1, "here")
    assert final.counts["segments"] == 7


def test_told_to_stop_it_finishes_what_is_in_flight_and_begins_nothing(make_worker: MakeWorker, tmp_path: Path) -> None:
    order = Order(jsonl_shard(tmp_path / "a.jsonl", 60), 0, None, frozenset())
    switch, beats = Switch(), []
    worker = make_worker(LightEngine(switch), beats.append, segments_in_flight=2)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(worker.run_order, order)
        wait_for(lambda: beats and len(beats[-1].in_flight) == 2, "two segments are in flight")
        began = time.monotonic()
        worker.stop()
        assert time.monotonic() - began < 20
        switch.on.set()
        done = under_way.result(WAIT_S)
    assert (done.made, done.stopped) == (2, True), "one was read ahead, and is not begun"
    assert (
        sorted(published(tmp_path / "run")) == sorted(records(tmp_path / "run")) == [segment_id(0, n) for n in (0, 1)]
    )
    again = worker.run_order(order)
    assert (again.made, again.stopped) == (0, True)
    fresh = make_worker(LightEngine())
    assert fresh.run_order(Order(order.shard, 0, None, frozenset({0, 1}))).made == 10
    tally(read_ledger(str(tmp_path / "run"))).check_conservation(1, "here")


def test_the_answer_to_a_beat_stops_it(make_worker: MakeWorker, tmp_path: Path) -> None:
    switch = Switch()
    worker = make_worker(LightEngine(switch), lambda _: switch.reached.is_set(), segments_in_flight=1)
    threading.Timer(0.5, switch.on.set).start()
    done = in_thread(lambda: worker.run_order(Order(jsonl_shard(tmp_path / "a.jsonl", 60), 0, None, frozenset())))
    assert done.stopped
    assert 1 <= done.made < 12


def test_an_output_that_can_not_be_written_is_an_error_of_the_order(make_worker: MakeWorker, tmp_path: Path) -> None:
    shard = jsonl_shard(tmp_path / "a.jsonl", 60)
    worker = make_worker(LightEngine())
    (tmp_path / "run" / "segments").write_text("in the way")
    for _ in range(2):
        with pytest.raises(StorageError, match="can't"):
            in_thread(lambda: worker.run_order(Order(shard, 0, None, frozenset())))
    assert [name for name in records(tmp_path / "run") if "-" in name and not name.startswith("shard")] == []
    (tmp_path / "run" / "segments").unlink()
    assert in_thread(lambda: worker.run_order(Order(shard, 0, None, frozenset()))).made == 12
    tally(read_ledger(str(tmp_path / "run"))).check_conservation(1, "here")


def test_a_disk_that_is_full_for_one_segment_costs_that_one(
    make_worker: MakeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = storage.publish_once

    def full(path: str, content: bytes) -> bool:
        if path.endswith(segment_path(0, 1)):
            raise StorageError("no space left")
        return publish(path, content)

    monkeypatch.setattr(storage, "publish_once", full)
    worker = make_worker(LightEngine())
    with pytest.raises(StorageError, match="no space left"):
        in_thread(lambda: worker.run_order(Order(jsonl_shard(tmp_path / "a.jsonl", 60), 0, None, frozenset())))
    found = records(tmp_path / "run")
    assert segment_id(0, 0) in found
    assert segment_id(0, 1) not in found
    in_time = [name for name in found if not name.startswith("shard")]
    wait_for(lambda: not worker._activity.in_flight, "a thread hangs")
    assert len(in_time) < 12


@pytest.mark.parametrize("break_at", [0, 7, 29, 30])
def test_a_shard_whose_store_fails_for_a_while_is_read_on(
    make_worker: MakeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_at: int
) -> None:
    """Wherever it fails, behind the last row too: each segment is made once, and the shard's end is told."""
    shard = jsonl_shard(tmp_path / "a.jsonl", 30)
    whole = module.read_segments
    failures = iter([True, True])

    def failing(order: Order, size: int) -> Iterator[Any]:
        for item in whole(order, size):
            start = getattr(item, "start_row", 30)
            if start + size > break_at and next(failures, False):
                raise StorageError("the store says nothing")
            yield item

    monkeypatch.setattr(module, "read_segments", failing)
    monkeypatch.setattr(module, "READ_AGAIN_SECONDS", (0.01, 0.01))
    worker = make_worker(LightEngine())
    with pytest.raises(StorageError, match="says nothing"):
        in_thread(lambda: worker.run_order(Order(shard, 0, None, frozenset())))  # of a local file: at once
    failures = iter([True, True])
    monkeypatch.setattr(module.storage, "is_remote", lambda path: path == shard.path)
    assert not in_thread(lambda: worker.run_order(Order(shard, 0, None, frozenset()))).stopped
    found = tally(read_ledger(str(tmp_path / "run")))
    found.check_conservation(1, "here")
    assert found.counts["rows"] == 30


def test_an_engine_that_never_starts_is_an_error(make_worker: MakeWorker) -> None:
    class Slow(LightEngine):
        def __call__(self, config: EngineConfig, gpus: float, eos_token_id: int) -> LightEngine:
            time.sleep(0.5)
            return self

    with pytest.raises(EngineError, match=r"does not start; wanted: an engine that is up after 0\.1 s"):
        make_worker(Slow(), start_seconds=0.1)
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "engine"], "a thread hangs")


def test_a_bug_in_one_segment_does_not_block_the_others(make_worker: MakeWorker, tmp_path: Path) -> None:
    def before(request_id: str) -> None:
        if row_of(request_id) == 7:
            raise ValueError("a bug")

    worker = make_worker(LightEngine(before), segments_in_flight=1)
    shard = jsonl_shard(tmp_path / "a.jsonl", 30)
    for _ in range(3):
        with pytest.raises(ValueError, match="a bug"):
            in_thread(lambda: worker.run_order(Order(shard, 1, 2, frozenset())))
    assert in_thread(lambda: worker.run_order(Order(shard, 2, None, frozenset()))).made == 4


def test_a_file_in_a_segments_place_that_is_none_is_named(make_worker: MakeWorker, tmp_path: Path) -> None:
    storage.publish_bytes(str(tmp_path / "run" / segment_path(0, 0)), b"something else")
    worker = make_worker(LightEngine())
    with pytest.raises(InputError, match=r"000000-000000\.parquet is not a segment file"):
        in_thread(lambda: worker.run_order(Order(jsonl_shard(tmp_path / "a.jsonl", 3), 0, None, frozenset())))


def test_no_room_for_a_prompt_is_refused_in_the_settings() -> None:
    with pytest.raises(ValueError, match="max_new_tokens below max_model_len"):
        EngineConfig(model="m", max_model_len=400, max_new_tokens=400)


WORKER = """
import asyncio, subprocess, sys
from light import LightEngine, jsonl_shard, light_tokenizer
from pathlib import Path
from ipt_stream.synthesis import worker as module
from ipt_stream.synthesis.engine import EngineConfig, EngineDied, VllmEngine
from ipt_stream.synthesis.orders import Order
from ipt_stream.synthesis.plan import RunPlan

folder, how = Path(sys.argv[1]), sys.argv[2]
module.load_tokenizer = lambda *_: light_tokenizer()

def before(request_id):
    if how == "hangs":
        return asyncio.sleep(600)
    raise EngineDied("it is gone")

class Engine(LightEngine):
    def kill(self):
        VllmEngine.kill(self)
        if how == "hangs":
            raise RuntimeError("a process that can't be killed")

child = subprocess.Popen(["sleep", "600"])
config = EngineConfig(model=str(folder), max_model_len=300, max_new_tokens=100, stall_seconds=1.5)
worker = module.SegmentSynthesizer(config, RunPlan((), 5, 2, 1.0, 0), str(folder / "run"), 0.0, Engine(before))
print(child.pid, flush=True)
worker.run_order(Order(jsonl_shard(folder / "a.jsonl", 20), 0, 3, frozenset()))
"""


def test_a_worker_whose_engine_died_or_hangs_ends_with_all_its_processes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    processes = {}
    for how in ("dies", "hangs"):
        (tmp_path / how).mkdir()
        command = [sys.executable, "-c", WORKER, str(tmp_path / how), how]
        processes[how] = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    for how, process in processes.items():
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.wait(WAIT_S) == module.ENGINE_DIED_EXIT_CODE, how
        process.stdout.close()
        stat = Path(f"/proc/{child}/stat")
        wait_for(lambda stat=stat: not stat.exists() or ") Z" in stat.read_text(), "its child lives on")
        assert not (tmp_path / how / "run" / "segments").exists(), "nothing half made is left"
        assert records(tmp_path / how / "run") == {}
