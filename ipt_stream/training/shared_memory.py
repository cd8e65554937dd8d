"""Streaming's shared memory, where several trainings share a machine and some of them are killed.

Streaming takes the first prefix of names that nobody uses, and leaves what it made behind when it is killed.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

from torch import distributed

from ipt_stream.progress import log

SHARED_MEMORY = Path("/dev/shm")
TURN_S = 60.0
"""How long a training waits for another one to open its data."""
_SHARED_NAME = re.compile(
    r"(\d{6,})_(locals|barrier|next_epoch|cache_usage|shard_states|shard_access_times|resume|epoch_shape|epoch_data)"
)


@contextmanager
def alone(is_local_leader: bool) -> Iterator[None]:
    """Within, no other training of this user opens its data on this machine.

    Streaming looks for names that are free and takes them later: trainings that start together could take the same
    ones, or remove as orphans what another has made and not yet mapped. One that hangs keeps others for a minute.
    """
    lock = os.open(Path(gettempdir()) / f"ipt_stream-{os.getuid()}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if is_local_leader:
            _take(lock)
        if distributed.is_initialized():
            distributed.barrier()
        yield
    finally:
        os.close(lock)


def _take(lock: int) -> None:
    until = time.monotonic() + TURN_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                log.warning("another training has been opening its data for %.0f s; going on beside it", TURN_S)
                return
            time.sleep(0.05)


def remove_orphans() -> None:
    """Remove Streaming's shared memory that killed processes left on this machine, and no other process's.

    Streaming steps over what a killed run left, so that it piles up, and refuses a cache directory that is named in
    it. Its own `clean_stale_shared_memory` would also pull away what another training on this machine is using; here
    only what no living process has mapped goes.
    """
    if not SHARED_MEMORY.is_dir():
        return
    found: dict[str, list[Path]] = {}
    for path in SHARED_MEMORY.iterdir():
        match = _SHARED_NAME.fullmatch(path.name)
        if match and path.stat().st_uid == os.getuid():
            found.setdefault(match[1], []).append(path)
    if not found:
        return
    mapped = _mapped_prefixes()
    for prefix, paths in found.items():
        if prefix not in mapped:
            log.info("removing shared memory %s_* of a run that was killed", prefix)
            locks = [Path(gettempdir()) / f"{prefix}_{name}" for name in ("barrier_filelock", "cache_filelock")]
            for path in (*paths, *locks):
                path.unlink(missing_ok=True)


def _mapped_prefixes() -> set[str]:
    """The prefixes of Streaming's shared memory that living processes of this user have mapped."""
    prefixes: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text()
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue  # another user's process, whose memory is not ours to remove, or one that has just ended
        prefixes |= set(re.findall(rf"{SHARED_MEMORY}/(\d{{6,}})_", text))
    return prefixes
