"""Files, on local disks and object stores alike: list, read, and publish atomically.

A path is a plain one or an fsspec URL (`s3://bucket/prefix`, or `gs://...` where gcsfs is installed). Publishing is all
or nothing: a local file is written under a temporary name beside its place, synced and renamed; an object is put in one
piece. A reader never sees half a file, whatever is killed when.

Stores fail often and shortly: their drivers try again for a while (s3.py says how long), and what remains is a
`StorageError`, as is every failure of a disk. Listings never come from a cache: another process may have written since.
"""

from __future__ import annotations

import errno
import fcntl
import glob as local_glob
import io
import json
import os
import posixpath
import random
import re
import shutil
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ipt_stream.errors import InputError, IptError, StorageError

TEMPORARY = ".tmp-"

READ_THREADS = 16
"""Objects that `read_many` asks for at once: a small object is mostly waiting."""
_BLOCK_BYTES = 8 * 2**20  # one request, where an object is read through


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object below a listed place.

    Attributes:
        name: its name below that place, with slashes; as the store has it, so check it before making a file of it.
        size_bytes: its size.
        tag: the store's mark of its content (ETag); empty where the store has none.
    """

    name: str
    size_bytes: int
    tag: str


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
    """The fsspec file system of a URL, and the path in it. It may be used from many threads at once.

    Raises:
        StorageError: there is no driver for it, or fsspec's configuration for it makes no sense.
    """
    import fsspec

    is_s3 = path.startswith(("s3://", "s3a://"))
    try:
        if is_s3:
            from ipt_stream import s3
        fs, inner = fsspec.core.url_to_fs(path, use_listings_cache=False, **(s3.options() if is_s3 else {}))
        if is_s3:
            s3.set_patience(fs)
    except (ImportError, ValueError, TypeError, OSError) as error:
        raise StorageError(
            f"can't reach {path}",
            wanted="a driver of fsspec's for it, and settings that it takes",
            got=str(error),
            fix="install that store's driver (gs://: gcsfs), or correct FSSPEC_* in the environment",
        ) from error
    return fs, inner


def exists(path: str) -> bool:
    """Whether there is a file or a directory at `path`. Raises `StorageError` where that can't be found out."""
    if not is_remote(path):
        return os.path.exists(local(path))
    with _reported("look at", path):
        fs, inner = filesystem(path)
        return _unless_absent(None, fs.info, inner) is not None  # fs.exists takes a bucket's failures for absence


def size(path: str) -> int:
    """Size of the file at `path`, in bytes. Raises `StorageError` where there is none, or it can't be found out."""
    with _reported("look at", path):
        if not is_remote(path):
            return os.path.getsize(local(path))
        fs, inner = filesystem(path)
        return int(fs.size(inner))


def list_directory(path: str) -> list[str]:
    """Full paths of the files directly in `path`, sorted, without temporary ones; none where there is no such place.

    Raises:
        StorageError: it can't be listed, or its bucket is missing.
    """
    with _reported("list", path):
        if not is_remote(path):
            root = local(path)
            if not os.path.isdir(root):
                return []
            with os.scandir(root) as entries:
                names = [entry.name for entry in entries if entry.is_file()]
            return [join(root, name) for name in sorted(names) if not name.startswith(TEMPORARY)]
        fs, inner = filesystem(path)
        return sorted(
            fs.unstrip_protocol(entry["name"]) for entry in _below(inner, _unless_absent([], fs.ls, inner, detail=True))
        )


def list_objects(url: str) -> list[StoredObject]:
    """All objects below `url`, however deep, by name; none where there is no such place.

    Raises:
        StorageError: it can't be listed, or its bucket is missing.
    """
    with _reported("list", url):
        fs, inner = filesystem(url)
        return [
            StoredObject(entry["name"][len(inner) + 1 :], int(entry["size"]), str(entry.get("ETag") or ""))
            for entry in sorted(_find(fs, inner), key=lambda entry: str(entry["name"]))
        ]


def expand(patterns: Sequence[str]) -> list[str]:
    """All files that the globs, directories and names in `patterns` stand for, in order, none twice.

    Raises:
        InputError: a pattern matches nothing, or two patterns match the same file.
        StorageError: a place can't be listed; never an incomplete answer.
    """
    return list(expand_with_sizes(patterns))


def expand_with_sizes(patterns: Sequence[str]) -> dict[str, int]:
    """As `expand`, each with its size in bytes, which a store's listing tells along: no request a file."""
    found: list[tuple[str, int]] = []
    for pattern in patterns:
        with _reported("list", pattern):
            matched = _match_remote(pattern) if is_remote(pattern) else _match(local(pattern))
        if not matched:
            raise InputError(
                f"no input matches {pattern}", wanted="at least one file", got="none", fix="check the path or glob"
            )
        found += matched
    sizes = dict(found)
    if len(sizes) < len(found):
        times = Counter(path for path, _ in found)
        doubled = min(path for path, number in times.items() if number > 1)
        raise InputError(f"{doubled} is named twice by the input patterns", fix="make the patterns disjoint")
    return sizes


def _match(path: str) -> list[tuple[str, int]]:
    if os.path.isdir(path):
        found = list(_walk(path))
    else:
        found = [path] if os.path.lexists(path) else local_glob.glob(path, recursive=True)
    for place in found:
        if not os.path.exists(place) and os.path.islink(place):
            raise InputError(
                f"{place} is a link to nothing", wanted="a file", got=os.readlink(place), fix="mend or remove the link"
            )
    return sorted((place, os.path.getsize(place)) for place in found if os.path.isfile(place))


def _walk(directory: str) -> Iterator[str]:
    """All that lies below `directory`, but for names with a dot in front; behind links to directories too."""
    seen: dict[str, str] = {}
    for folder, _, names in os.walk(directory, followlinks=True, onerror=_raise):
        before = seen.setdefault(os.path.realpath(folder), folder)
        if before != folder:
            raise InputError(
                f"{folder} is {before} again", wanted="each directory once", got="a link", fix="remove the link"
            )
        yield from (os.path.join(folder, name) for name in names if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error


def _match_remote(pattern: str) -> list[tuple[str, int]]:
    """As `_match`. fs.glob would take a directory that could not be listed for an empty one, and leave shards out."""
    from fsspec.utils import glob_translate

    fs, inner = filesystem(pattern)
    wild = re.search(r"[*?[]", inner)
    if wild:
        root, _, stem = inner[: wild.start()].rpartition("/")
        matches = re.compile(glob_translate(inner)).match
        files = [entry for entry in _find(fs, root, prefix=stem) if matches(entry["name"])]
    else:
        info = _unless_absent(None, fs.info, inner)
        if info is None or info["type"] == "file":
            files = [] if info is None else [{**info, "name": inner}]
        else:
            files = [entry for entry in _find(fs, inner) if not posixpath.basename(entry["name"]).startswith(".")]
    return sorted((fs.unstrip_protocol(entry["name"]), int(entry["size"])) for entry in files)


def _find(fs: Any, root: str, **narrowed: str) -> list[dict[str, Any]]:
    """The files below `root`, however deep."""
    return _below(root, _unless_absent({}, fs.find, root, detail=True, **narrowed).values())


def _below(root: str, entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The files among `entries` that lie below `root`, without the empty objects `.../` that stand for directories."""
    files = [entry for entry in entries if entry["type"] == "file" and not entry["name"].endswith("/")]
    return [entry for entry in files if entry["name"].startswith(root.rstrip("/") + "/")]


def _unless_absent(absent: Any, ask: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """What `ask` gives, or `absent` where there is no such place. A missing bucket is an error, not an empty place."""
    try:
        return ask(*args, **named)
    except FileNotFoundError as error:
        if _code(error) == "NoSuchBucket":
            raise
        return absent


@contextmanager
def open_read(path: str) -> Iterator[IO[bytes]]:
    """The file at `path`, open for reading bytes; an object is fetched as it is read, 8 MiB at a time.

    Raises:
        StorageError: it can't be opened; on an object store also later, where it can't be read on.
    """
    with _reported("open", path):
        if is_remote(path):
            fs, inner = filesystem(path)
            remote = fs.open(inner, "rb", block_size=_BLOCK_BYTES)
            file: IO[bytes] = io.BufferedReader(_ObjectReader(remote, path))
        else:
            file = open(local(path), "rb")
    with file:
        yield file


class _ObjectReader(io.RawIOBase):
    """An open object whose failures are all `StorageError`."""

    def __init__(self, file: Any, path: str) -> None:
        self._file, self._path = file, path

    def readinto(self, buffer: Any) -> int:
        with _reported("read", self._path):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def read_bytes(path: str) -> bytes:
    """The whole content of the file at `path`, of one moment. Raises `StorageError` where it can't be read."""
    if not is_remote(path):
        with _reported("read", path), open(local(path), "rb") as file:
            return file.read()
    with _reported("read", path):
        fs, inner = filesystem(path)
        content: bytes = fs.cat_file(inner, max_concurrency=1)  # one request: several could meet two contents
        return content


def read_range(path: str, start: int, stop: int) -> bytes:
    """Bytes `start` to `stop` of the file at `path`, fewer at its end. Raises `StorageError` where it can't be read."""
    if stop <= start:
        return b""
    with _reported("read", path):
        if is_remote(path):
            fs, inner = filesystem(path)
            content: bytes = fs.cat_file(inner, start=start, end=stop)
            return content
        with open(local(path), "rb") as file:
            file.seek(start)
            return file.read(stop - start)


def read_many(paths: Sequence[str]) -> Iterator[bytes]:
    """The whole contents of the files at `paths`, in order; objects by 16 threads, at most 32 of them held.

    Raises:
        StorageError: one can't be read; those before it have been given.
    """
    if not any(is_remote(path) for path in paths):
        yield from map(read_bytes, paths)
        return
    rest = iter(paths)
    pool = ThreadPoolExecutor(READ_THREADS)
    under_way = deque(pool.submit(read_bytes, path) for path in islice(rest, 2 * READ_THREADS))
    try:
        while under_way:
            content = under_way.popleft().result()
            under_way.extend(pool.submit(read_bytes, path) for path in islice(rest, 1))
            yield content
    finally:
        pool.shutdown(cancel_futures=True)


def read_json(path: str) -> Any:
    """The JSON value in the file at `path`. Raises `StorageError` where it is not JSON."""
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise StorageError(f"{path} is not JSON", got=str(error), fix="remove it and run again") from error


def publish_bytes(path: str, content: bytes) -> None:
    """Put `content` at `path`, whole or not at all. Raises `StorageError`, leaving nothing half-written."""
    with _reported("publish", path):
        if is_remote(path):
            fs, inner = filesystem(path)
            fs.pipe_file(inner, content)
            return
        with _written_beside(local(path), content) as temporary:
            os.replace(temporary, local(path))


def publish_once(path: str, content: bytes) -> bool:
    """Put `content` at `path`, whole, only if nothing is there. Of several callers at once exactly one makes it.

    On a store this is one conditional request (S3: `If-None-Match: *`, which Amazon's, MinIO's and other newer stores
    take; Google's: `ifGenerationMatch=0`); stores that fsspec can't ask that of are looked at first, and two callers at
    once may then both be told True. A request whose answer got lost is sent again and meets its own object: so an
    object that holds just `content` counts as made here. Put something of the caller's own into it where only one may
    go on.

    Returns:
        True where it was made; False where there was something already, which is left as it is.

    Raises:
        StorageError: it can't be published.
    """
    with _reported("publish", path):
        return _put_once(path, content) if is_remote(path) else _link_once(local(path), content)


def _put_once(path: str, content: bytes) -> bool:
    fs, inner = filesystem(path)
    longest_waits_s = iter((0.1, 0.2, 0.4, 0.8, 1.6, 3.2))
    while True:
        try:
            fs.pipe_file(inner, content, mode="create")
            return True
        except OSError as error:
            if isinstance(error, FileExistsError) or _code(error) in ("PreconditionFailed", "412"):
                return bool(fs.cat_file(inner, max_concurrency=1) == content)
            longest_wait_s = next(longest_waits_s, None)
            if _code(error) != "ConditionalRequestConflict" or longest_wait_s is None:
                raise
            time.sleep(random.uniform(0, longest_wait_s))  # another such request is under way


def _link_once(target: str, content: bytes) -> bool:
    """A link made to a finished file: whole when it appears, and refused where there is something.

    File systems without links get a lock on the directory, a look and a rename: whole too, and exclusive among callers
    on this machine. Opening the target itself with O_EXCL would let others see it half-written, and a killed writer
    leave it so for good.
    """
    with _written_beside(target, content) as temporary:
        try:
            os.link(temporary, target)
            return True
        except FileExistsError:
            return os.stat(temporary).st_nlink > 1  # NFS: the link was made, its answer lost, and it was tried again
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        directory = os.open(os.path.dirname(temporary), os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            if os.path.lexists(target):
                return False
            os.rename(temporary, target)
            return True
        finally:
            os.close(directory)


@contextmanager
def _written_beside(target: str, content: bytes) -> Iterator[str]:
    """A temporary file beside `target` with `content`, synced; gone at the end. The directory is synced then."""
    temporary = _temporary_beside(target)
    os.makedirs(os.path.dirname(temporary), exist_ok=True)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        _sync_directory(target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def publish_json(path: str, value: Any) -> None:
    """Put `value` at `path` as indented JSON with sorted keys, whole or not at all."""
    publish_bytes(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def publish_file(path: str, source: str) -> None:
    """Put a copy of the local file `source` at `path`, whole or not at all; to a store a large one goes in parts.

    Raises:
        StorageError: it can't be published.
    """
    if is_remote(path):
        with _reported("publish", path):
            fs, inner = filesystem(path)
            fs.put_file(source, inner)
    else:
        fetch_file(source, local(path))


def fetch_file(path: str, target: str) -> None:
    """Copy the file at `path` to local path `target`, whole or not at all. Raises `StorageError` where it can't."""
    with open_read(path) as source, _reported("write", target), _written_beside(target, b"") as temporary:
        with open(temporary, "wb") as file:
            shutil.copyfileobj(source, file, _BLOCK_BYTES)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)


def publish_directory(source: str, target: str) -> None:
    """Make the finished local directory `source` appear at local path `target`, replacing what was there.

    The rename is atomic; files in it are synced before. Both must lie on one file system.

    Raises:
        StorageError: it can't be published.
    """
    with _reported("publish", target):
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
    """Delete what killed writers left in the local `directory` (files and directories with temporary names).

    Raises:
        StorageError: it can't be deleted.
    """
    if is_remote(directory) or not os.path.isdir(local(directory)):
        return
    with _reported("clean up", directory):
        for entry in os.scandir(local(directory)):
            if entry.name.startswith(TEMPORARY):
                shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)


def remove(path: str) -> None:
    """Delete the file at `path`, where there is one. Raises `StorageError` where it stays."""
    with _reported("remove", path):
        if is_remote(path):
            fs, inner = filesystem(path)
            _unless_absent(None, fs.rm_file, inner)
        else:
            Path(local(path)).unlink(missing_ok=True)


def temporary_directory_beside(target: str) -> str:
    """A new empty directory on the file system of local path `target`, with a temporary name. Raises `StorageError`."""
    path = _temporary_beside(target)
    with _reported("make", path):
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


@contextmanager
def _reported(what: str, path: str) -> Iterator[None]:
    """Make one `StorageError` of whatever a disk, or a store's driver and its transport, raise within."""
    try:
        yield
    except IptError:
        raise
    except Exception as error:
        wanted, fix = _advice(error, path)
        raise StorageError(
            f"can't {what} {path}", wanted=wanted, got=f"{type(error).__name__}: {error}", fix=fix
        ) from error


def _advice(error: Exception, path: str) -> tuple[str, str]:
    """What would have been right, and what to do."""
    if _code(error) == "NoSuchBucket":
        return "a bucket that is there", "create the bucket, or correct its name"
    if isinstance(error, FileNotFoundError):
        return "something at that path", "check the path"
    if not is_remote(path):
        return "a disk that takes and gives it", "check the rights and the free space there, then run again"
    from ipt_stream.s3 import CREDENTIAL_ERRORS, PATH_ERRORS

    if isinstance(error, CREDENTIAL_ERRORS):
        fix = "check them (S3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), and the bucket's policy"
        return "credentials that may list, read and write there", fix
    if isinstance(error, PATH_ERRORS):
        return "a bucket and a name in it", "check the path"
    return "a store that answers", "run again later; where it never answered, check its address (S3: AWS_ENDPOINT_URL)"


def _code(error: Exception) -> str:
    """The store's own name for an error that it answered with; empty where there is none."""
    answer = getattr(error.__cause__ or error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""
