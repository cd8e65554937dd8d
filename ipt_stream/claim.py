"""One driver a run directory: a claim that others respect while its owner lives, and take over when it is dead.

`driver.json` names the owner and is written anew every few seconds. Whoever finds another's claim looks whether it
changes: it does, so its owner lives, and the newcomer is refused; it does not for `LEASE_SECONDS` (or the owner's
process is known to be gone, on the same machine), so the newcomer takes it over. A claim that can't be read is one of
an unknown owner: where that one lives it changes too, for an owner writes its own anew whatever it finds. An owner
that finds its own claim in other hands, because it was suspended for longer than that, ends. Works on local disks and
object stores alike; clocks of two machines are never compared. Segment files and ledger parts are safe even while two
believe they own a run: the first are published once, the second have names of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import LedgerError, StorageError
from ipt_stream.progress import log

BEAT_SECONDS = 5.0
LEASE_SECONDS = 45.0
LOOK_SECONDS = 1.0
SETTLE_SECONDS = 1.0
"""After taking a claim over: time for another who did the same to be seen."""
UNKNOWN = "unknown"
WHO = frozenset({"owner", "host", "boot", "pid", "born", "beats", "time"})
"""What every claim says, whatever else it tells."""


class Claim:
    """An owner's hold on a run directory; use `claim`."""

    def __init__(self, root: str, tell: Callable[[], Mapping[str, Any]]) -> None:
        self.owner = uuid.uuid4().hex
        self._root, self._tell = root, tell
        self._path = storage.join(root, "driver.json")
        self._beats = 0
        self._lost: str | None = None
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="claim", daemon=True)

    def take(self) -> None:
        """Take the claim, from a dead owner too. Raises `LedgerError` where its owner lives."""
        while not storage.publish_once(self._path, self._content()):
            known = self._wait_for_its_end()
            if known is None:  # It was given back, and perhaps taken by another since.
                continue
            storage.publish_bytes(self._path, self._content())
            time.sleep(SETTLE_SECONDS)
            found = _read(self._path)
            if found is None:
                continue
            if found["owner"] != self.owner:
                raise self._refused(found)
            log.info("took over from a driver that is gone (process %s on %s)", known["pid"], known["host"])
            break
        self._beating.start()

    def check(self) -> None:
        """Raises `LedgerError` where the claim is in other hands by now."""
        if self._lost is not None:
            raise LedgerError(
                f"another driver took {self._root} over", got=self._lost, fix="let that one go on; nothing is lost"
            )

    def release(self) -> None:
        """Give it back; a last look stays for `status`."""
        self._ended.set()
        self._beating.join()  # A beat that is under way would put back what is removed here.
        try:
            if self._lost is not None or self._other(_read(self._path)) is not None:
                return
            last = self._value() | {"released": True}
            storage.publish_json(storage.join(self._root, "driver-last.json"), last)
            storage.remove(self._path)
        except StorageError as error:  # Perhaps the very reason why the run ends; the claim will be taken over.
            log.warning("the claim could not be given back: %s", error)

    def _wait_for_its_end(self) -> dict[str, Any] | None:
        """Whose claim it was, once its owner is known to be gone; None where it was given back.

        Raises:
            LedgerError: the owner lives.
        """
        first = _read(self._path)
        if first is None or _is_gone(first):
            return first
        deadline = time.monotonic() + LEASE_SECONDS
        log.info("%s is claimed by process %s on %s; is it alive?", self._root, first["pid"], first["host"])
        while time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            now = _read(self._path)
            if now is None:
                return None
            if (now["owner"], now["beats"]) != (first["owner"], first["beats"]):
                raise self._refused(now)
        return first

    def _refused(self, other: Mapping[str, Any]) -> LedgerError:
        return LedgerError(
            f"another driver is at work in {self._root}",
            wanted="one driver a run directory",
            got=f"process {other['pid']} on {other['host']}, alive",
            fix="wait for it, or end it first; a dead driver's run is taken over by itself",
        )

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                other = self._other(_read(self._path))
                if other is not None:
                    self._lost = f"process {other['pid']} on {other['host']}"
                    return
                self._beats += 1
                storage.publish_bytes(self._path, self._content())
            except StorageError as error:
                log.warning("the claim could not be renewed: %s", error)

    def _other(self, found: dict[str, Any] | None) -> dict[str, Any] | None:
        """`found`, where it is the claim of another."""
        return found if found is not None and found["owner"] not in (self.owner, UNKNOWN) else None

    def _value(self) -> dict[str, Any]:
        who = {"owner": self.owner, "host": socket.gethostname(), "boot": _boot(), "pid": os.getpid()}
        who |= {"born": _born(os.getpid()), "beats": self._beats, "time": time.time(), "released": False}
        return {**self._tell(), **who}

    def _content(self) -> bytes:
        return (json.dumps(self._value(), ensure_ascii=False) + "\n").encode()


@contextmanager
def claim(root: str, tell: Callable[[], Mapping[str, Any]] = dict) -> Iterator[Claim]:
    """Hold run directory `root` for as long as the context lasts.

    Args:
        root: run directory, local or on an object store.
        tell: called every few seconds; what it gives (JSON) stands in `driver.json`, for others to see.

    Raises:
        LedgerError: another driver is at work there.
    """
    held = Claim(root, tell)
    held.take()
    try:
        yield held
    finally:
        held.release()


def read_claim(root: str) -> dict[str, Any] | None:
    """What the driver of `root` last said: the one at work, else the last one; None where there was none.

    What a driver that is just starting doesn't tell yet, the one before it has told. `released` is whether it was
    given back, `time` when the driver spoke, by its own clock.
    """
    found = [_read(storage.join(root, name)) for name in ("driver-last.json", "driver.json")]
    known = [told for told in found if told is not None and told["owner"] != UNKNOWN]
    return {key: value for told in known for key, value in told.items()} or None


def _read(path: str) -> dict[str, Any] | None:
    """The claim at `path`, with all of `WHO`; None where there is none."""
    if not storage.exists(path):
        return None
    try:
        content = storage.read_bytes(path)
    except StorageError:
        if storage.exists(path):
            raise
        return None  # It was given back in between.
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if isinstance(value, dict) and value.keys() >= WHO:
        return value
    return dict.fromkeys(WHO, UNKNOWN) | {"beats": hashlib.sha256(content).hexdigest(), "time": 0.0}


def _is_gone(other: Mapping[str, Any]) -> bool:
    """Whether a claim's owner was a process of this machine that is no more."""
    boot = _boot()
    if boot == UNKNOWN or (other["host"], other["boot"]) != (socket.gethostname(), boot):
        return False
    return bool(_born(other["pid"]) != other["born"])


def _boot() -> str:
    """Names this start of this machine, and where process ids are its own, this container."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return UNKNOWN


def _born(pid: int) -> int | None:
    """When process `pid` started; None where there is none, or only its remains.

    In clock ticks since the machine started: seconds since the epoch change for a living process when the clock is set.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # from the third on: see proc(5)
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
