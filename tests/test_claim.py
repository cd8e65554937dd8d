"""One driver a run directory: refused while another lives, let in when it is dead, told when it has been replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ipt_stream import claim as module
from ipt_stream import storage
from ipt_stream.claim import Claim, claim, read_claim
from ipt_stream.errors import LedgerError

LONG = 600.0


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Beats are quick, and nobody is taken to be dead for a silence: a test that wants that says so."""
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(module, "LEASE_SECONDS", LONG)
    return monkeypatch


def driver(root: str) -> str:
    return storage.join(root, "driver.json")


def left_by(root: str, **changes: Any) -> None:
    """A claim whose owner is silent."""
    who = {"owner": "x", "host": "elsewhere", "boot": "b", "pid": 7, "born": 1, "beats": 3, "time": 0.0}
    storage.publish_bytes(driver(root), json.dumps({**who, **changes}).encode())


def wait_for(found: Callable[[], object], why: str) -> None:
    deadline = time.monotonic() + 120
    while not found():
        assert time.monotonic() < deadline, why
        time.sleep(0.01)


def state(pid: int) -> str:
    """R, S: it lives; T: it is suspended; Z: it is dead, and its parent has not looked."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def lost(held: Claim) -> bool:
    try:
        held.check()
    except LedgerError:
        return True
    return False


def test_a_second_driver_is_refused_while_the_first_lives_and_let_in_afterwards(root: str) -> None:
    with claim(root, lambda: {"counts": {"rows": 3}}) as held:
        with pytest.raises(LedgerError, match=f"another driver is at work in .*process {os.getpid()} on .*, alive"):
            Claim(root, dict).take()
        held.check()
        told = read_claim(root)
        assert told is not None
        assert (told["owner"], told["released"], told["counts"]) == (held.owner, False, {"rows": 3})
    assert not storage.exists(driver(root))
    with claim(root) as second:
        second.check()


def test_released_it_leaves_what_status_needs(root: str) -> None:
    assert read_claim(root) is None
    with claim(root, lambda: {"counts": {"rows": 5}}) as held:
        pass
    told = read_claim(root)
    assert told is not None
    assert (told["owner"], told["pid"], told["counts"], told["released"]) == (
        held.owner,
        os.getpid(),
        {"rows": 5},
        True,
    )
    with claim(root):  # one that has nothing to tell yet
        told = read_claim(root)
        assert told is not None
        assert told["counts"] == {"rows": 5}, "what the one before told"
        assert not told["released"]
        assert told["owner"] != held.owner


def test_it_is_given_back_though_the_work_fails(root: str) -> None:
    with pytest.raises(ZeroDivisionError), claim(root):
        raise ZeroDivisionError
    with claim(root):
        pass


def test_nothing_comes_back_after_the_release(root: str, quick: pytest.MonkeyPatch) -> None:
    """A beat that is under way at the release must not put the claim back."""
    publish = storage.publish_bytes
    slow = threading.Event()

    def late(path: str, content: bytes) -> None:
        if threading.current_thread().name == "claim":
            slow.set()
            time.sleep(0.1)
        publish(path, content)

    quick.setattr(storage, "publish_bytes", late)
    with claim(root):
        assert slow.wait(120)
    assert not storage.exists(driver(root))
    time.sleep(0.15)
    assert not storage.exists(driver(root))


def test_the_claim_of_another_machine_is_taken_over_only_after_the_lease(root: str, quick: pytest.MonkeyPatch) -> None:
    quick.setattr(module, "LEASE_SECONDS", 0.3)
    left_by(root)
    began = time.monotonic()
    with claim(root) as held:
        assert time.monotonic() - began >= 0.3
        told = read_claim(root)
        assert told is not None
        assert told["owner"] == held.owner


def test_one_of_another_machine_that_changes_is_alive_whatever_its_clock_says(root: str) -> None:
    left_by(root, time=0.0)
    threading.Timer(0.2, left_by, (root,), {"beats": 4, "time": 0.0}).start()
    with pytest.raises(LedgerError, match="process 7 on elsewhere, alive"):
        Claim(root, dict).take()


def test_a_claim_that_is_given_back_while_a_newcomer_looks_is_free(root: str) -> None:
    left_by(root)
    threading.Timer(0.2, storage.remove, (driver(root),)).start()
    with claim(root) as held:
        held.check()


@pytest.mark.parametrize("content", [b"", b'{"owner": "x", "ho', b"[1]", b'{"owner": "x"}', b"\xff\xfe"])
def test_a_claim_that_can_not_be_read_is_taken_over_after_the_lease(
    tmp_path: Path, content: bytes, quick: pytest.MonkeyPatch
) -> None:
    root = str(tmp_path)
    quick.setattr(module, "LEASE_SECONDS", 0.1)
    storage.publish_bytes(driver(root), content)
    assert read_claim(root) is None
    with claim(root) as held:
        told = read_claim(root)
        assert told is not None
        assert told["owner"] == held.owner


def test_an_owner_mends_its_claim_where_it_can_not_be_read_or_is_gone(root: str) -> None:
    with claim(root) as held:
        for harm in (lambda: storage.publish_bytes(driver(root), b"{torn"), lambda: storage.remove(driver(root))):
            harm()
            wait_for(lambda: (read_claim(root) or {}).get("owner") == held.owner, "it is not mended")
        with pytest.raises(LedgerError, match="alive"):
            Claim(root, dict).take()
        held.check()


def test_a_torn_claim_whose_owner_lives_is_respected(root: str) -> None:
    with claim(root) as held:
        storage.publish_bytes(driver(root), b"{torn")
        with pytest.raises(LedgerError, match="alive"):
            Claim(root, dict).take()
        held.check()


def test_an_owner_that_lost_its_claim_notices_and_leaves_it_to_the_other(root: str) -> None:
    with claim(root) as held:
        left_by(root)
        wait_for(lambda: lost(held), "the loss goes unnoticed")
        with pytest.raises(LedgerError, match=r"another driver took .* over; got: process 7 on elsewhere"):
            held.check()
    told = read_claim(root)
    assert told is not None
    assert told["owner"] == "x", "the other's claim stays"


def test_one_that_was_replaced_since_its_last_beat_leaves_the_other_alone(root: str, quick: pytest.MonkeyPatch) -> None:
    quick.setattr(module, "BEAT_SECONDS", LONG)
    with claim(root):
        left_by(root)
    told = read_claim(root)
    assert told is not None
    assert told["owner"] == "x"


def test_of_two_who_take_over_at_the_same_moment_one_remains(root: str, quick: pytest.MonkeyPatch) -> None:
    """Without time to settle both may go on at first; the loser hears of it with its next beat."""
    for settle in (0.2, 0.0):
        quick.setattr(module, "SETTLE_SECONDS", settle)
        quick.setattr(module, "LEASE_SECONDS", 0.1)
        left_by(root)
        claims = [Claim(root, dict) for _ in range(4)]
        start, refused = threading.Barrier(4), []

        def take(one: Claim, start: threading.Barrier = start, refused: list[Claim] = refused) -> None:
            start.wait()
            try:
                one.take()
            except LedgerError:
                refused.append(one)

        threads = [threading.Thread(target=take, args=(one,)) for one in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        inside = [one for one in claims if one not in refused]
        wait_for(lambda inside=inside: sum(not lost(one) for one in inside) <= 1, "two go on")
        (winner,) = [one for one in inside if not lost(one)]
        time.sleep(0.15)
        winner.check()
        for one in inside:
            one.release()
        assert not storage.exists(driver(root))


def test_a_store_that_fails_for_a_while_is_survived(root: str, quick: pytest.MonkeyPatch) -> None:
    publish, broken = storage.publish_bytes, threading.Event()

    def unreliable(path: str, content: bytes) -> None:
        if broken.is_set():
            raise storage.StorageError("the store says no")
        publish(path, content)

    quick.setattr(storage, "publish_bytes", unreliable)
    with claim(root) as held:
        broken.set()
        time.sleep(0.3)
        broken.clear()
        beats = (read_claim(root) or {})["beats"]
        wait_for(lambda: (read_claim(root) or {})["beats"] > beats, "it beats no more")
        held.check()


OWNER = """
import sys, time
from ipt_stream import claim
claim.BEAT_SECONDS = 0.05
with claim.claim(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def other_process(root: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, root], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_another_process_is_respected_while_it_lives_and_replaced_at_once_when_it_is_killed(tmp_path: Path) -> None:
    root = str(tmp_path / "run")
    with other_process(root) as process:
        with pytest.raises(LedgerError, match=f"process {process.pid} on .*, alive"):
            Claim(root, dict).take()
        os.kill(process.pid, signal.SIGSTOP)  # Silent, but alive: only the lease tells.
        time.sleep(0.2)
        assert not module._is_gone(read_claim(root) or {})
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: state(process.pid) == "Z", "it lives on")
        with claim(root) as held:  # Its parent has not fetched it yet; the lease would take ten minutes.
            held.check()


SUSPENDED = """
import os, signal, sys, time
from ipt_stream import claim
claim.BEAT_SECONDS = 1.0
with claim.claim(sys.argv[1]) as held:
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        held.check()
        time.sleep(0.05)
"""


def test_a_suspended_owner_finds_its_claim_in_other_hands(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    quick.setattr(module, "LEASE_SECONDS", 0.3)
    root = str(tmp_path / "run")
    process = subprocess.Popen([sys.executable, "-c", SUSPENDED, root], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: state(process.pid) == "T", "it is not suspended")
        with claim(root) as held:
            os.kill(process.pid, signal.SIGCONT)
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 1
            assert "another driver took" in errors
            held.check()
            assert (read_claim(root) or {})["owner"] == held.owner
    finally:
        process.kill()
        process.communicate()


def test_a_process_id_that_was_given_to_another_process_is_no_sign_of_life(tmp_path: Path) -> None:
    root = str(tmp_path)
    with claim(root):
        mine = read_claim(root) or {}
    left_by(root, **{**mine, "owner": "x", "born": mine["born"] - 1})
    with claim(root) as held:
        held.check()
