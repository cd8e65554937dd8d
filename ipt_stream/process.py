"""A stage in a process of its own: started, watched and ended. `python -m ipt_stream.process VERB SETTINGS.yaml`.

The process leads a session, so that Ctrl-C reaches it once, through the parent, which waits for it. It dies with its
parent, whatever ends that one, so that no stage goes on unseen.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from ipt_stream.config import load_config
from ipt_stream.errors import IptError, LedgerError
from ipt_stream.progress import log, set_up_logging
from ipt_stream.stage import peak_memory_bytes
from ipt_stream.verbs import VERBS, Verb

SAMPLE_EVERY_S = 0.5
WAKE_EVERY_S = 0.1
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended.

    Attributes:
        exit_code: as `subprocess` has it: negative where a signal killed it.
        wall_s: seconds from its start to its end.
        peak_memory_mb: the most that it and its descendants held together, seen at most twice a second, or that it held
            alone at any moment; what processes share is counted once (PSS) where the system tells.
        interrupted_by: the signal that was passed on to it, or None.
    """

    exit_code: int
    wall_s: float
    peak_memory_mb: int
    interrupted_by: int | None


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    started: float
    peak: int = 0
    next_look: float = 0.0

    def look(self) -> None:
        """See what it held, and, unless that was seen just now, what all hold, in a hundredth of the time at most."""
        self.peak = max(self.peak, peak_memory_bytes(self.process.pid))
        began = time.monotonic()
        if began >= self.next_look:
            self.peak = max(self.peak, _memory_of_tree(self.process.pid))
            ended = time.monotonic()
            self.next_look = ended + max(SAMPLE_EVERY_S, 100 * (ended - began))


def run_children(
    commands: Sequence[tuple[Sequence[str], Mapping[str, str]]], at_once: int = 1
) -> Iterator[tuple[int, Outcome]]:
    """Run `commands`, each with what it adds to the environment, to their ends; gives each one's number and outcome.

    So many run `at_once`. SIGINT and SIGTERM are passed on to all; after that, and once one has failed, no more are
    started, and those at work are waited for.
    """
    waiting, running = deque(enumerate(commands)), dict[int, _Child]()
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for child in list(running.values()):
            child.process.send_signal(number)

    with handling((signal.SIGINT, signal.SIGTERM), pass_on):
        while waiting or running:
            while waiting and len(running) < at_once and not received:
                number, (command, more) = waiting.popleft()
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, **more}
                )
                running[number] = _Child(process, time.monotonic())
                if received:  # before there was anyone to pass it on to
                    process.send_signal(received[-1])
            for number, child in list(running.items()):
                child.look()
                with suppress(subprocess.TimeoutExpired):
                    child.process.wait(WAKE_EVERY_S / len(running))
                code = child.process.poll()
                if code is None:
                    continue
                del running[number]
                if code:
                    waiting.clear()
                interrupted_by = received[-1] if received else None
                yield number, Outcome(code, time.monotonic() - child.started, child.peak >> 20, interrupted_by)
            if received:
                waiting.clear()


@contextmanager
def handling(numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `handler` have the signals, where that is possible: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


def _memory_of_tree(pid: int) -> int:
    """Bytes held by a process and its descendants; 0 where it is gone."""
    import psutil

    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in processes:
        try:
            info = process.memory_full_info()
            total += getattr(info, "pss", 0) or info.rss
        except psutil.AccessDenied:
            with suppress(psutil.Error):
                total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


@contextmanager
def one_at_a_time(path: str) -> Iterator[None]:
    """Hold the lock file at local `path`. Raises `LedgerError` where another process holds it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LedgerError(
                f"another run is at work: {path} is locked", wanted="one run at a time", fix="wait for it, or end it"
            ) from error
        yield


def main(arguments: Sequence[str], verbs: Mapping[str, Verb] = VERBS) -> int:
    """Run the stage that `arguments` (a verb and a settings file) name; gives the exit code, as the command line's."""
    verb, settings = arguments
    die_with_parent()
    signal.signal(signal.SIGTERM, _interrupt)
    set_up_logging()
    try:
        found = verbs[verb]
        found.load_function()(load_config(found.load_config_class(), settings))
    except IptError as error:
        log.error("error: %s", error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("error: interrupted")
        return 1
    return 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does, so that engines and workers are shut down on the way out."""
    raise KeyboardInterrupt


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have this process sent a signal when its parent ends, however that is. Linux only; elsewhere nothing is done."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
