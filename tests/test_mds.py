"""An MDS directory is there whole or not at all, and what is read is what was written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ipt_stream import storage
from ipt_stream.errors import StorageError
from ipt_stream.mixture import mds

COLUMNS = mds.token_columns(np.dtype(np.uint16), 8)
ROWS = np.arange(800, dtype=np.uint16).reshape(100, 8)


def write(target: str, rows: np.ndarray = ROWS) -> None:
    with mds.publish_mds(target, COLUMNS, shard_bytes=1000) as writer:
        writer.write_rows([rows[:30], rows[30:]])
        writer.facts["documents"] = 5


def read(directory: Path) -> list[list[int]]:
    from streaming.base.format import reader_from_json

    found: list[list[int]] = []
    for shard in json.loads((directory / "index.json").read_text())["shards"]:
        from streaming.base.compression import decompress

        raw, packed = shard["raw_data"]["basename"], shard["zip_data"]["basename"]
        (directory / raw).write_bytes(decompress("zstd", (directory / packed).read_bytes()))
        found += [sample["tokens"].tolist() for sample in reader_from_json(str(directory), "", shard)]
    return found


def files(directory: Path) -> dict[str, bytes]:
    return {str(f.relative_to(directory)): f.read_bytes() for f in sorted(directory.rglob("*")) if f.is_file()}


def wait_for(there: Callable[[], bool]) -> None:
    """Shards are closed by threads."""
    deadline = time.monotonic() + 300
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_samples_come_back_in_order_from_several_compressed_hashed_shards(tmp_path: Path) -> None:
    write(str(tmp_path / "a"))
    shards = json.loads((tmp_path / "a" / "index.json").read_text())["shards"]
    assert len(shards) > 1
    assert all(
        shard["compression"] == "zstd:3" and set(shard["zip_data"]["hashes"]) == set(mds.HASHES) for shard in shards
    )
    assert read(tmp_path / "a") == ROWS.tolist()
    assert mds.read_facts(str(tmp_path / "a")) == {"documents": 5, "samples_written": 100, "shard_samples": 39}


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    write(str(tmp_path / "a"))
    write(str(tmp_path / "b"))
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), mds.publish_mds(str(tmp_path / "a"), COLUMNS, shard_bytes=1000) as writer:
        writer.write_rows([ROWS])
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_shard_is_not_published(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="doesn't read back"),
        mds.publish_mds(str(tmp_path / "a"), COLUMNS, shard_bytes=1000) as writer,
    ):
        writer.write_rows([ROWS])
        wait_for(lambda: any(tmp_path.glob(f"{storage.TEMPORARY}*/shard.00000*")))
        first = min(tmp_path.glob(f"{storage.TEMPORARY}*/shard.00000*"))
        first.write_bytes(first.read_bytes()[:-1])
    assert not (tmp_path / "a").exists()


def test_an_old_directory_is_replaced_whole(tmp_path: Path) -> None:
    write(str(tmp_path / "a"))
    write(str(tmp_path / "a"), ROWS[:3])
    assert read(tmp_path / "a") == ROWS[:3].tolist()
    assert len(list(tmp_path.iterdir())) == 1


def test_an_empty_source_is_a_directory_without_samples(tmp_path: Path) -> None:
    write(str(tmp_path / "a"), ROWS[:0])
    assert read(tmp_path / "a") == []
    assert mds.read_facts(str(tmp_path / "a")) == {"documents": 5, "samples_written": 0, "shard_samples": 1}


def test_an_object_store_gets_the_same_files_facts_last(tmp_path: Path) -> None:
    write(str(tmp_path / "a"))
    remote = f"memory://{uuid.uuid4().hex}/a"
    write(remote)
    names = [path.rsplit("/", 1)[1] for path in storage.list_directory(remote)]
    assert sorted(names) == sorted(files(tmp_path / "a"))
    assert storage.read_bytes(remote + "/index.json") == (tmp_path / "a" / "index.json").read_bytes()
    assert mds.index_sha256(remote) == mds.index_sha256(str(tmp_path / "a"))


def test_bytes_are_those_of_streamings_own_writer(tmp_path: Path) -> None:
    from streaming import MDSWriter

    write(str(tmp_path / "a"))
    with MDSWriter(
        columns=COLUMNS, out=str(tmp_path / "b"), compression=mds.COMPRESSION, hashes=list(mds.HASHES), size_limit=1000
    ) as theirs:
        for row in ROWS:
            theirs.write({"tokens": row})
    ours = files(tmp_path / "a")
    del ours["facts.json"]
    assert len(ours) > 3 and ours == files(tmp_path / "b")


def test_a_store_gets_shards_as_they_are_full_and_loses_a_killed_writers(tmp_path: Path) -> None:
    write(str(tmp_path / "a"))
    remote = f"memory://{uuid.uuid4().hex}/a"
    write(remote, ROWS[:50])
    for name in ("shard.00000.mds.zstd", "shard.00007.mds.zstd"):  # half written by another
        storage.publish_bytes(f"{remote}/{name}", b"half")
    with mds.publish_mds(remote, COLUMNS, shard_bytes=1000) as writer:
        assert mds.read_facts(remote) is None
        assert mds.list_mds(remote.removesuffix("/a")) == [] and mds.list_mds(remote.removesuffix("/a"), begun=True)
        writer.write_rows([ROWS])
        wait_for(lambda: storage.size(f"{remote}/shard.00000.mds.zstd") > 4)
        assert not storage.exists(f"{remote}/index.json")
        writer.facts["documents"] = 5
    found = {item.name: storage.read_bytes(f"{remote}/{item.name}") for item in storage.list_objects(remote)}
    assert found == files(tmp_path / "a")


@pytest.mark.parametrize("remote", [False, True])
def test_a_shard_that_can_not_be_put_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: bool) -> None:
    target = f"memory://{uuid.uuid4().hex}/a" if remote else str(tmp_path / "a")
    publish = storage.publish_bytes

    def full(path: str, content: bytes) -> None:
        if "shard.00001" in path:
            raise StorageError("the disk is full")
        publish(path, content)

    monkeypatch.setattr(storage, "publish_bytes", full)
    with pytest.raises(StorageError, match="the disk is full"):
        write(target)
    assert mds.read_facts(target) is None and not storage.exists(storage.join(target, "index.json"))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write(target)
    assert mds.read_facts(target) == {"documents": 5, "samples_written": 100, "shard_samples": 39}


def test_a_store_that_lost_a_shard_gets_no_index() -> None:
    remote = f"memory://{uuid.uuid4().hex}/a"
    with (
        pytest.raises(StorageError, match=r"shard.00000.mds.zstd is not in .* got: no such object"),
        mds.publish_mds(remote, COLUMNS, shard_bytes=1000) as writer,
    ):
        writer.write_rows([ROWS])
        wait_for(lambda: storage.exists(f"{remote}/shard.00000.mds.zstd"))
        storage.remove(f"{remote}/shard.00000.mds.zstd")
    assert not storage.exists(f"{remote}/index.json")


def test_a_killed_writer_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    script = f"""
import numpy as np, os, signal
from ipt_stream.mixture import mds
with mds.publish_mds({str(tmp_path / "a")!r}, {COLUMNS!r}, shard_bytes=1000) as writer:
    writer.write_rows([np.zeros((100, 8), np.uint16)])
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parent.parent)
    assert done.returncode == -signal.SIGKILL
    assert mds.read_facts(str(tmp_path / "a")) is None
    left = os.listdir(tmp_path)
    assert left and all(name.startswith(storage.TEMPORARY) for name in left)
    assert not list(tmp_path.rglob("index.json"))
    storage.remove_temporaries(str(tmp_path))
    assert os.listdir(tmp_path) == []
