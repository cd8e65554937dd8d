"""Object stores: the same rows as from a disk, and failures that are not the shard's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from shards import NAMES, PLAIN, resolve, write

from ipt_stream.corpus import bytestream
from ipt_stream.corpus.readers import listing_fingerprint, read_rows
from ipt_stream.errors import StorageError


@pytest.fixture
def bucket() -> Iterator[str]:
    root = f"memory://bucket-{uuid.uuid4().hex}"
    yield root
    fsspec.filesystem("memory").rm(root, recursive=True)


@pytest.mark.parametrize("name", NAMES)
def test_object_stores_give_the_same_rows(tmp_path: Path, bucket: str, name: str) -> None:
    path = write(tmp_path / name, PLAIN)
    with fsspec.open(f"{bucket}/{name}", "wb") as file:
        file.write(path.read_bytes())
    local, remote = resolve(path), resolve(f"{bucket}/*")
    assert listing_fingerprint(local) == listing_fingerprint(remote)
    assert list(read_rows(remote[0], 3)) == list(read_rows(local[0], 3))


class Failing(MemoryFileSystem):
    """A store that lists its files, and whose connection drops in the middle of one."""

    protocol = "failing"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    reads_that_work = 0

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        if mode == "rb":
            whole, left = file.read, iter([True] * self.reads_that_work)

            def read(size: int = -1) -> bytes:
                if not next(left, False):
                    raise ConnectionResetError("the connection was reset")
                return bytes(whole(size))

            file.read = read
        return file


@pytest.mark.parametrize("name", NAMES)
def test_a_store_that_fails_is_no_broken_shard(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("failing", Failing, clobber=True)
    monkeypatch.setattr(bytestream, "READ_BYTES", 256)
    content = write(tmp_path / name, PLAIN).read_bytes()
    with fsspec.open(f"failing://bucket/{name}", "wb") as file:
        file.write(content)
    monkeypatch.setattr(Failing, "reads_that_work", 1000)
    (shard,) = resolve(f"failing://bucket/{name}")
    for working in (0, 1, 2):
        monkeypatch.setattr(Failing, "reads_that_work", working)
        with pytest.raises(StorageError, match="connection was reset"):
            list(read_rows(shard))
