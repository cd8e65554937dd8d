"""The driver's watch over its workers: what ends a run, and who is to blame for lost workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipt_stream.errors import EngineError, StorageError
from ipt_stream.progress import Meter
from ipt_stream.synthesis.board import Board
from ipt_stream.synthesis.coordinator import start_coordinator
from ipt_stream.synthesis.engine import Pulse
from ipt_stream.synthesis.ray_session import ensure_ray
from ipt_stream.synthesis.supervise import Stopped, StopRequest, supervise
from ipt_stream.synthesis.tally import Tally
from ipt_stream.synthesis.watch import DEATHS_ALLOWED, DEATHS_AT_MOST, Watch
from ipt_stream.synthesis.worker import Beat, beat_seconds

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")


@pytest.fixture(scope="module")
def coordinator() -> Any:
    ensure_ray(2)
    return start_coordinator()


def board() -> Board:
    made = Board()
    made.begin(Tally(), [], 1.0)
    return made


def watched(results: Iterator[None], coordinator: Any, output: Path) -> None:
    stop = StopRequest()
    with stop.listening():
        supervise(results, coordinator, board(), str(output), 300.0, 30.0, lambda: None, stop)


def test_told_to_stop_it_says_so(coordinator: Any, tmp_path: Path) -> None:
    def results() -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        yield

    with pytest.raises(Stopped, match=f"signal {signal.SIGTERM}"):
        watched(results(), coordinator, tmp_path)


def test_an_error_while_it_stops_is_not_hidden(coordinator: Any, tmp_path: Path) -> None:
    def results() -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        raise StorageError("no space left")

    with pytest.raises(StorageError, match="no space left"):
        watched(results(), coordinator, tmp_path)


@pytest.mark.parametrize("node_is_lost", [False, True])
def test_a_segment_is_blamed_for_lost_workers_but_not_for_lost_nodes(node_is_lost: bool) -> None:
    watch = Watch(board(), 300.0, lambda: {"node"} if node_is_lost else set(), 2.0, {})

    def lose_workers(number: int) -> None:
        for worker in range(number):
            watch.blame({f"worker-{worker}": (("000000-000007",), "node")})

    lose_workers(DEATHS_ALLOWED)  # one more than are lost: the last is alive
    if node_is_lost:
        lose_workers(3 * DEATHS_ALLOWED)
    else:
        with pytest.raises(EngineError, match="segment 000000-000007 was in flight each time that 5 workers were lost"):
            watch.blame({})


def test_a_segment_is_blamed_late_for_workers_that_finished_others() -> None:
    watch = Watch(board(), 300.0, set, 2.0, {})
    for worker in range(DEATHS_AT_MOST):  # each finishes another, and dies before this one is done
        watch.blame({f"worker-{worker}": (("000000-000001", "000000-000007"), "node")})
        watch.blame({f"worker-{worker}": (("000000-000007",), "node")})
    with pytest.raises(EngineError, match="segment 000000-000007 was in flight each time that 20 workers were lost"):
        watch.blame({})


def test_workers_that_say_nothing_are_hung_and_rare_beats_are_no_silence() -> None:
    def beat(worker: str) -> Beat:
        return Beat(worker, "host", 1, 60.0, Pulse(3, 5, 7), ("000000-000001",), ())

    beats = [(beat("new"), 10.0, "a"), (beat("old"), 50.0, "b"), (beat("silent"), 70.0, "b")]
    made = board()
    found = Watch(made, 60.0, set, 2.0, {}).take([], beats, Meter("it", 1, "documents"))
    assert [(beat.worker, node) for beat, node in found.hung] == [("silent", "b")]
    assert (found.in_flight, made.engines, made.running, made.waiting) == (1, 1, 5, 7)
    seldom = Watch(made, 60.0, set, 30.0, {}).take([], beats, Meter("it", 1, "documents"))
    assert (seldom.hung, seldom.in_flight, made.engines) == ((), 3, 3)


def test_workers_beat_less_often_where_they_are_many() -> None:
    assert [beat_seconds(engines) for engines in (1, 1000, 10_000)] == [2.0, 2.0, 20.0]
