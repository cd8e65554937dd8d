"""Files, on local disks and object stores alike: list, read, and publish atomically.

A path is a plain one or an fsspec URL (`s3://bucket/prefix`, `gs://...`). Publishing is all or nothing: a local file
is written under a temporary name beside its place, synced and renamed; an object is put in one piece. A reader never
sees half a file, whatever is killed when.
"""

from __future__ import annotations

import glob as local_glob
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ipt_stream.errors import InputError, StorageError

TEMPORARY = ".tmp-"


def is_remote(path: str) -> bool:
    """Whether `path` is an object-store URL rather than a local path."""
    return "://" in path and not path.startswith("file://")


def local(path: str) -> str:
    """A local path without its `file://`."""
    return path.removeprefix("file://")


def join(root: str, *parts: str) -> str:
    """`root` and `parts` joined by slashes."""
    return posixpath.join(root, *parts)


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it. Raises `StorageError` where there is no driver for it."""
    import fsspec

    try:
        fs, inner = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError, OSError) as error:
        raise StorageError(f"can't reach {path}", got=str(error), fix="install that store's fsspec driver") from error
    return fs, inner


def exists(path: str) -> bool:
    """Whether there is a file or a directory at `path`."""
    if not is_remote(path):
        return os.path.exists(local(path))
    fs, inner = filesystem(path)
    return bool(fs.exists(inner))


def size(path: str) -> int:
    """Size of the file at `path`, in bytes."""
    if not is_remote(path):
        return os.path.getsize(local(path))
    fs, inner = filesystem(path)
    return int(fs.size(inner))


def list_directory(path: str) -> list[str]:
    """Full paths of the files directly in `path`, sorted, without temporary ones; none where there is no such place."""
    if not is_remote(path):
        root = local(path)
        if not os.path.isdir(root):
            return []
        with os.scandir(root) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
        return [join(root, name) for name in sorted(names) if not name.startswith(TEMPORARY)]
    fs, inner = filesystem(path)
    fs.invalidate_cache()
    if not fs.exists(inner):
        return []
    found = [entry["name"] for entry in fs.ls(inner, detail=True) if entry["type"] == "file"]
    return sorted(fs.unstrip_protocol(name) for name in found)


def expand(patterns: Sequence[str]) -> list[str]:
    """All files that the globs, directories and names in `patterns` stand for, in order, none twice.

    Raises:
        InputError: a pattern matches nothing, or two patterns match the same file.
    """
    found: list[str] = []
    for pattern in patterns:
        matched = _match(pattern)
        if not matched:
            raise InputError(
                f"no input matches {pattern}", wanted="at least one file", got="none", fix="check the path or glob"
            )
        found += matched
    doubled = sorted({path for path in found if found.count(path) > 1}) if len(set(found)) < len(found) else []
    if doubled:
        raise InputError(f"{doubled[0]} is named twice by the input patterns", fix="make the patterns disjoint")
    return found


def _match(pattern: str) -> list[str]:
    if is_remote(pattern):
        fs, inner = filesystem(pattern)
        if any(c in inner for c in "*?["):
            names = fs.glob(inner)
        else:
            names = fs.find(inner) if fs.isdir(inner) else [inner] if fs.exists(inner) else []
        return sorted(fs.unstrip_protocol(name) for name in names)
    path = local(pattern)
    if os.path.isdir(path):
        return sorted(str(p) for p in Path(path).rglob("*") if p.is_file() and not p.name.startswith("."))
    if os.path.isfile(path):
        return [path]
    return sorted(p for p in local_glob.glob(path, recursive=True) if os.path.isfile(p))


@contextmanager
def open_read(path: str) -> Iterator[IO[bytes]]:
    """The file at `path`, open for reading bytes. Raises `StorageError` where it can't be opened."""
    try:
        if is_remote(path):
            fs, inner = filesystem(path)
            file = fs.open(inner, "rb")
        else:
            file = open(local(path), "rb")
    except OSError as error:
        raise StorageError(f"can't open {path}", got=str(error)) from error
    with file:
        yield file


def read_bytes(path: str) -> bytes:
    """The whole content of the file at `path`."""
    with open_read(path) as file:
        return file.read()


def read_json(path: str) -> Any:
    """The JSON value in the file at `path`. Raises `StorageError` where it is not JSON."""
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise StorageError(f"{path} is not JSON", got=str(error), fix="remove it and run again") from error


def publish_bytes(path: str, content: bytes) -> None:
    """Put `content` at `path`, whole or not at all. Raises `StorageError`, leaving nothing half-written."""
    if is_remote(path):
        fs, inner = filesystem(path)
        try:
            fs.pipe_file(inner, content)
        except OSError as error:
            raise StorageError(f"can't publish {path}", got=str(error)) from error
        return
    target = local(path)
    temporary = _temporary_beside(target)
    try:
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_directory(target)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise StorageError(f"can't publish {path}", got=str(error), fix="free space there, then run again") from error


def publish_json(path: str, value: Any) -> None:
    """Put `value` at `path` as indented JSON with sorted keys, whole or not at all."""
    publish_bytes(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def publish_directory(source: str, target: str) -> None:
    """Make the finished local directory `source` appear at local path `target`, replacing what was there.

    The rename is atomic; files in it are synced before. Both must lie on one file system.
    """
    for file in Path(source).rglob("*"):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    if os.path.isdir(target):
        old = _temporary_beside(target)
        os.rename(target, old)
        os.rename(source, target)
        shutil.rmtree(old)
    else:
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        os.rename(source, target)
    _sync_directory(target)


def remove_temporaries(directory: str) -> None:
    """Delete what killed writers left in the local `directory` (files and directories with temporary names)."""
    if is_remote(directory) or not os.path.isdir(local(directory)):
        return
    for entry in os.scandir(local(directory)):
        if entry.name.startswith(TEMPORARY):
            shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)


def temporary_directory_beside(target: str) -> str:
    """A new empty directory on the file system of local path `target`, with a temporary name."""
    path = _temporary_beside(target)
    os.makedirs(path)
    return path


def _temporary_beside(target: str) -> str:
    directory, name = os.path.split(os.path.abspath(target))
    return os.path.join(directory, f"{TEMPORARY}{name}-{uuid.uuid4().hex[:8]}")


def _sync_directory(target: str) -> None:
    descriptor = os.open(os.path.dirname(os.path.abspath(target)), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
