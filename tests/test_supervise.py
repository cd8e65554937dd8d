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
from ipt_stream.synthesis import supervise as module
from ipt_stream.synthesis.coordinator import start_coordinator
from ipt_stream.synthesis.ray_session import ensure_ray
from ipt_stream.synthesis.supervise import DEATHS_ALLOWED, Board, Stopped, StopRequest, supervise
from ipt_stream.synthesis.tally import Tally

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
def test_a_segment_is_blamed_for_lost_workers_but_not_for_lost_nodes(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch, node_is_lost: bool
) -> None:
    monkeypatch.setattr(module, "_lost_nodes", lambda: {"node"} if node_is_lost else set())
    watch = module._Watch(coordinator, board(), 300.0)

    def lose_workers(number: int) -> None:
        for worker in range(number):
            watch._blame({f"worker-{worker}": (("000000-000007",), "node")})

    lose_workers(DEATHS_ALLOWED)  # one more than are lost: the last is alive
    if node_is_lost:
        lose_workers(3 * DEATHS_ALLOWED)
    else:
        with pytest.raises(EngineError, match="segment 000000-000007 was in flight each time that 5 workers were lost"):
            watch._blame({})
