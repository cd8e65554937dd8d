"""`status`: how far a run is, from storage alone, whether a driver is at work, has been, or was killed."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from light import end, segment

from ipt_stream import status as module
from ipt_stream import storage
from ipt_stream.claim import claim
from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.errors import InputError
from ipt_stream.ledger import RECORDS_A_PART, LedgerWriter, read_ledger
from ipt_stream.stage import open_stage
from ipt_stream.status import format_status, read_status
from ipt_stream.synthesis.board import Board
from ipt_stream.synthesis.plan import RunPlan, save_plan
from ipt_stream.synthesis.supervise import Metrics
from ipt_stream.synthesis.tally import tally

STREAM = [ShardSpec(f"/{n}", n, f"{n}.jsonl", Format.JSONL, "text", None, 1000 * (n + 1)) for n in range(3)]
TOKENS = {"raw_tokens": 700, "generated_tokens": 50, "prompt_tokens": 1000, "cached_tokens": 250, "pairs": 30}


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run of 3 shards of 1,000, 2,000 and 3,000 bytes, with a plan and nothing else."""
    directory = str(tmp_path / "run")
    open_stage(directory, "synthesize", {"seed": 0})
    save_plan(directory, RunPlan(tuple(STREAM), 10, 2, 1.0, 0))
    return directory


def board(*records: dict[str, Any]) -> Board:
    """What a driver knows that found `records` in the ledger."""
    made = Board()
    made.begin(tally(records), STREAM, 20.0)
    return made


def record(run: str, *records: dict[str, Any]) -> None:
    writer = LedgerWriter(run)
    for one in records:
        writer.append(one)


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="no synthesis run in"):
            read_status(str(directory))


def test_a_run_that_has_not_begun(run: str) -> None:
    found = read_status(run)
    assert (found["finished"], found["driver"], found["documents_done"], found["eta_seconds"]) == (False, None, 0, None)
    text = format_status(run, found)
    assert "not finished" in text
    assert "driver     none at work" in text
    assert "eta        unknown" in text


def test_a_run_in_progress_without_a_driver_is_told_from_the_ledger(run: str) -> None:
    """60 rows of 1,000 bytes in a shard that was read: 6 times as many in all."""
    record(run, *(segment(0, n, 10, augmented=8, rejected=1, **TOKENS) for n in range(6)), end(0, 60, 6))
    record(run, segment(2, 0, 10, **TOKENS))
    found = read_status(run)
    assert (found["documents_done"], found["documents_expected"]) == (70, 360)
    assert (found["shards_read"], found["shards"], found["segments_done"], found["broken_shards"]) == (1, 3, 7, 0)
    assert (found["augmented"], found["raw"], found["rejected"]) == (48, 6 + 10, {"empty": 6})
    assert found["cached_share"] == 0.25
    assert found["documents_per_second"] == 10.0, "70 documents in the 7 s between the first start and the last end"
    assert found["eta_seconds"] == 29
    text = format_status(run, found)
    assert "documents  70 of about 360 (augmented 48, raw 16, rejected 6)" in text
    assert "shards     1 of 3 read, 0 broken; 7 segments done" in text
    assert "eta        0:29 (m:ss)" in text


def test_before_any_shard_was_read_the_driver_knows_how_much_there_is(run: str) -> None:
    record(run, segment(0, 0, 10))
    assert read_status(run)["documents_expected"] == 10, "nothing to guess from"
    with claim(run, board(segment(0, 0, 10)).tell):
        found = read_status(run)
    assert found["documents_expected"] == 300, "6,000 bytes, by the driver's sample 20 a row"
    assert read_status(run)["documents_expected"] == 300, "and still known when it is gone"


def test_a_driver_at_work_gives_its_rates_and_is_gone_when_it_has_released(run: str) -> None:
    here = board()
    now = time.time()
    with claim(run, here.tell):
        who = {"host": socket.gethostname(), "pid": os.getpid()}
        assert read_status(run)["driver"] == who | {"engines": 0, "running": 0, "waiting": 0}
    here.add(segment(0, 0, 10, started=now, seconds=0.0, **TOKENS))
    here._first, here._last = now - 20, now
    here.engines, here.running, here.waiting = 2, 1024, 512
    record(run, segment(0, 0, 10, started=now - 1000, seconds=1000.0, **TOKENS))
    with claim(run, here.tell):
        found = read_status(run)
        assert found["documents_per_second"] == 0.5, "of this run, not since the ledger's first segment"
        assert found["eta_seconds"] == 580
        doing = f"process {os.getpid()} on {socket.gethostname()}: 2 engines, 1,024 requests running, 512 waiting"
        assert doing in format_status(run, found)
    found = read_status(run)
    assert found["driver"] is None, "though it spoke a moment ago"
    assert found["documents_per_second"] == 0.0


def test_a_killed_driver_is_not_at_work(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with claim(run, board().tell):
        told = Path(run, "driver.json").read_bytes()
    Path(run, "driver.json").write_bytes(told)
    assert read_status(run)["driver"] is not None, "that can't be known yet"
    monkeypatch.setattr(module, "ALIVE_SECONDS", -1)
    assert read_status(run)["driver"] is None


@pytest.mark.parametrize("content", ["", "{torn", "{}", '{"time": 1}'])
def test_a_torn_word_of_the_driver_is_no_word(run: str, content: str) -> None:
    Path(run, "driver.json").write_text(content)
    record(run, segment(0, 0, 10))
    found = read_status(run)
    assert (found["driver"], found["documents_done"]) == (None, 10)


class TestLongLedgers:
    """One that is too long is not read; the driver's word is taken."""

    @pytest.fixture(autouse=True)
    def reads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The runs whose ledger was read; every ledger is too long."""
        monkeypatch.setattr(module, "MOST_RECORDS", RECORDS_A_PART - 1)
        reads: list[str] = []
        monkeypatch.setattr(module, "read_ledger", lambda run: reads.append(run) or read_ledger(run))
        return reads

    def test_the_driver_is_asked(self, run: str, reads: list[str]) -> None:
        records = [segment(0, n, 10, augmented=7, rejected=1, **TOKENS) for n in range(4)]
        record(run, *records)
        with claim(run, board(*records).tell):
            found = read_status(run)
        last = read_status(run)
        for one in (found, last):
            assert (one["documents_done"], one["documents_expected"], one["segments_done"]) == (40, 300, 4)
            assert (one["augmented"], one["rejected"], one["shards_read"]) == (28, {"empty": 4}, None)
        assert found["driver"] is not None
        assert reads == []
        assert "shards     ? of 3 read, ? broken; 4 segments done" in format_status(run, found)

    def test_while_a_driver_starts_the_one_before_has_the_word(self, run: str, reads: list[str]) -> None:
        records = [segment(0, n, 10) for n in range(4)]
        record(run, *records)
        with claim(run, board(*records).tell):
            pass
        with claim(run, Board().tell):  # it has not read the ledger yet
            found = read_status(run)
        assert (found["documents_done"], found["documents_expected"], reads) == (40, 300, [])
        assert found["driver"] is not None

    def test_a_finished_run_has_its_figures(self, run: str, reads: list[str]) -> None:
        records = [segment(0, 0, 60, rejected=2, **TOKENS), *(end(n, 60 * (n == 0), n == 0) for n in range(3))]
        record(run, *records)
        with claim(run, board().tell):  # that heard of nothing
            figures = {"documents_in": 60, "augmented": 0, "raw": 58, "rejected": 2, "broken_shards": 0, "segments": 1}
            open_stage(run, "synthesize", {"seed": 0}).finish(figures | TOKENS)
        found = read_status(run)
        assert (found["finished"], found["documents_done"], found["documents_expected"]) == (True, 60, 60)
        assert (found["shards_read"], found["broken_shards"], found["segments_done"]) == (3, 0, 1)
        assert (found["raw"], found["pairs"], found["cached_share"]) == (58, 30, 0.25)
        assert f"{run}: finished" in format_status(run, found)
        assert reads == []

    def test_without_any_word_of_a_driver_it_is_read_all_the_same(self, run: str, reads: list[str]) -> None:
        record(run, segment(0, 0, 10))
        assert read_status(run)["documents_done"] == 10
        assert reads == [run]


def test_fifty_thousand_records_are_read_in_one_go(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the bound each part is read once, and a status is there in less than 2 s."""
    numbers = range(50_000)
    folder = Path(run, "ledger")
    folder.mkdir()
    lines = [json.dumps(segment(0, n, 2048, path="segments/x", sha256="0" * 64)) + "\n" for n in numbers]
    for part in range(0, len(lines), RECORDS_A_PART):
        (folder / f"part-a-{part:06d}.jsonl").write_text("".join(lines[part : part + RECORDS_A_PART]))
    reads: list[str] = []
    read = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda path: reads.append(path) or read(path))
    began = time.process_time()
    assert read_status(run)["segments_done"] == 50_000
    assert time.process_time() - began < 2
    assert len([path for path in reads if "/ledger/" in path]) == -(-50_000 // RECORDS_A_PART)


def test_a_finished_run(run: str) -> None:
    record(run, segment(0, 0, 60, rejected=1), end(0, 60, 6), end(1, 0, 0, "broken"), end(2, 0, 0))
    open_stage(run, "synthesize", {"seed": 0}).finish({"documents_in": 60})
    found = read_status(run)
    assert (found["finished"], found["documents_done"], found["documents_expected"]) == (True, 60, 60)
    assert (found["broken_shards"], found["shards_read"], found["driver"]) == (1, 3, None)
    assert found["eta_seconds"] == 0


class TestBoard:
    def test_it_tells_nothing_before_it_knows_anything(self) -> None:
        assert Board().tell() == {}

    def test_a_resumed_run_has_rates_of_its_own(self) -> None:
        """What was adopted was begun by the run before; the pause between them is not counted."""
        old = [segment(0, n, 10, started=1.0, **TOKENS) for n in range(4)]
        here = board(*old)
        assert here.tell()["documents_per_second"] == 0.0
        here.add(segment(0, 4, 10, started=2.0, **TOKENS))
        here.add(segment(0, 4, 10, started=2.0, **TOKENS))  # told by two workers
        told = here.tell()
        assert told["counts"]["rows"] == 50
        assert here.seconds() < 60
        assert told["documents_per_second"] > 1
        assert told["expected_rows"] == 300

    def test_more_than_was_expected_is_not_less_than_nothing_left(self) -> None:
        here = board()
        here.add(segment(0, 0, 1000, started=time.time()))
        told = here.tell()
        assert (told["expected_rows"], told["eta_seconds"]) == (1000, 0)

    def test_it_can_be_asked_while_it_counts(self) -> None:
        here, ended = board(), threading.Event()
        failures: list[Exception] = []

        def ask() -> None:
            while not ended.is_set():
                try:
                    json.dumps(here.tell())
                except RuntimeError as error:
                    failures.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        for number in range(3000):
            here.add(segment(0, number, 1, rejected=1) | {"rejected": {f"reason {number % 50}": [1]}})
        ended.set()
        thread.join()
        assert not failures


def test_metrics_that_can_not_be_written_do_not_end_the_run(tmp_path: Path) -> None:
    Metrics(str(tmp_path)).write({"a": 1})
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["a"] == 1
    Metrics(str(tmp_path / "none")).write({"a": 1})
