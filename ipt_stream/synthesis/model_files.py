"""Where a synthesizer's files are on this machine, and which model they are.

A model is named by its folder, by an object-store URL (`s3://bucket/model/`), or by a hub id with a pinned commit.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ipt_stream import storage
from ipt_stream.errors import ConfigError, StorageError
from ipt_stream.progress import log

SMALL_FILE_BYTES = 64 * 2**20
SAMPLED_BYTES = 8 * 2**20
_COPY_THREADS = 8  # files copied from a store at once
_COPY_BYTES = 2**20

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def local_model(model: str, revision: str | None) -> str:
    """What an engine on this machine loads `model` from: its folder, or its hub id.

    A model on an object store is copied once a machine, into `$IPT_STREAM_CACHE/models/` (`~/.cache/ipt-stream` where
    that is not set), under its identity: another model at the same URL gets a folder of its own. Any number of
    processes may ask at once; one copies, and the others wait. A folder there is whole.

    Args:
        model: a model folder, an object-store URL or a hub id.
        revision: commit of a hub id, 40 hex digits; of no meaning for the others.

    Raises:
        ConfigError: there is no such folder, nothing at that URL, or a hub id without its commit.
        StorageError: the store can't be read, or holds a name that no file below a folder can have; or the cache
            can't be written.
    """
    if Path(model).is_dir():
        return model
    if not storage.is_remote(model):
        _check_hub_id(model, revision)
        return model
    objects = _list(model)
    cache = Path(os.environ.get("IPT_STREAM_CACHE") or "~/.cache/ipt-stream").expanduser() / "models"
    target = cache / _digest(objects)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with open(f"{target}.lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go of when it is closed, or its process ends
            if not target.is_dir():
                for left in cache.glob(f"{storage.TEMPORARY}{target.name}-*"):
                    shutil.rmtree(left)  # by a process that was killed: this one has the lock
                _copy(model, objects, str(target))
    except OSError as error:
        raise StorageError(
            f"can't keep {model} in {cache}",
            wanted=f"{sum(entry.size_bytes for entry in objects) / 2**30:.1f} GiB that can be written there",
            got=str(error),
            fix="free space there, or set IPT_STREAM_CACHE to another folder",
        ) from error
    return str(target)


def model_identity(model: str, revision: str | None) -> str:
    """A name for a model by its content: a hash over its folder's files, or the hub id and revision.

    Files up to 64 MiB count whole; of larger ones the size, the first and the last 8 MiB: seconds, not minutes, for a
    7B model. On an object store the names, sizes and entity tags count, which its listing gives.

    Raises:
        ConfigError: nothing is at that URL.
        StorageError: the store can't be listed, or holds a name that no file below a folder can have.
    """
    if storage.is_remote(model):
        return f"sha256:{_digest(_list(model))}"
    folder = Path(model)
    if not folder.is_dir():
        return f"{model}@{revision}"
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        length = file.stat().st_size
        digest.update(f"{file.relative_to(folder)}\0{length}\0".encode())
        with file.open("rb") as handle:
            if length <= SMALL_FILE_BYTES:
                digest.update(handle.read())
            else:
                digest.update(handle.read(SAMPLED_BYTES))
                handle.seek(-SAMPLED_BYTES, os.SEEK_END)
                digest.update(handle.read())
    return f"sha256:{digest.hexdigest()}"


def _check_hub_id(model: str, revision: str | None) -> None:
    if not _HUB_ID.fullmatch(model):
        raise ConfigError(
            f"there is no model {model}",
            wanted="a model folder, an object-store URL or a hub id",
            got="no such folder",
            fix="correct engine.model",
        )
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ConfigError(
            f"{model} is no folder here, and as a hub id it needs a pinned commit",
            wanted="engine.revision, a commit of 40 hex digits",
            got="none" if revision is None else f"'{revision}', which may name another model tomorrow",
            fix="set engine.revision to the commit that the model's page on the hub shows, or correct engine.model",
        )


def _list(url: str) -> list[storage.StoredObject]:
    """What there is below `url`, each under a name that stays below a folder."""
    objects = storage.list_objects(url)
    if not objects:
        raise ConfigError(
            f"there is no model at {url}",
            wanted="its files: config.json and others",
            got="nothing below that URL",
            fix="correct engine.model",
        )
    for entry in objects:
        if "\0" in entry.name or any(part in ("", ".", "..") for part in entry.name.split("/")):
            raise StorageError(
                f"{url} holds an object named {entry.name!r}",
                wanted="names that files below a folder can have",
                got="one that leads elsewhere",
                fix="remove that object, or copy the model to a place of its own",
            )
    return objects


def _digest(objects: Sequence[storage.StoredObject]) -> str:
    digest = hashlib.sha256()
    for entry in objects:
        digest.update(f"{entry.name}\0{entry.size_bytes}\0{entry.tag}\0".encode())
    return digest.hexdigest()


def _copy(url: str, objects: Sequence[storage.StoredObject], target: str) -> None:
    """Make `target` of what is below `url`, whole or not at all."""
    log.info("copying %s, %.1f GiB, to %s", url, sum(entry.size_bytes for entry in objects) / 2**30, target)
    made = storage.temporary_directory_beside(target)
    try:
        with ThreadPoolExecutor(_COPY_THREADS) as pool:
            list(pool.map(lambda entry: _copy_one(storage.join(url, entry.name), Path(made, entry.name)), objects))
        if _list(url) != objects:
            raise StorageError(f"{url} changed while it was copied", fix="run again when it is written")
        storage.publish_directory(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _copy_one(url: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with storage.open_read(url) as source, file.open("xb") as copy:
        shutil.copyfileobj(source, copy, _COPY_BYTES)
