"""MDS directories, published like everything else: whole or not at all.

Streaming's MDSWriter writes an index even after an exception, and a killed one leaves a directory that a reader may
take for a whole one. Here (shard_writer.py) shards go into a temporary directory; what was written is read back and
compared with the index; and only then does the directory appear in its place, with `facts.json` (counts, some samples)
in it. In an object store each shard goes to its place as soon as it is full, and nothing of it stays on this machine;
the store's listing is compared with the index, and index and facts come last: before, nothing there looks whole, and a
later writer puts its own shards over what a killed one left.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ipt_stream import storage
from ipt_stream.errors import StorageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SOURCES, TEXTS = "sources", "text"
INDEX_FILE = "index.json"
FACTS_FILE = "facts.json"
COMPRESSION = "zstd:3"
HASHES = ("sha1", "xxh64")
VERIFY_THREADS = 4
TEXT_COLUMNS = {"text": "str", "source": "str", "document_id": "str", "pairs": "str"}
"""`pairs` is a JSON list of `{"instruction", "response"}`: those that were rendered into `text`."""


@dataclass(slots=True)
class Writer:
    """Writes samples into a directory that is not there yet. `facts` go into its `facts.json`."""

    _mds: Any
    facts: dict[str, Any] = field(default_factory=dict)
    samples: int = 0

    def write(self, sample: Mapping[str, Any]) -> None:
        """Add a sample with the columns that the directory was opened with."""
        self._mds.write(sample)
        self.samples += 1

    def write_rows(self, rows: Iterable[NDArray[np.unsignedinteger]]) -> None:
        """Add packed sequences: arrays of (sequences, length)."""
        for block in rows:
            for row in block:
                self.write({"tokens": row})


def token_columns(dtype: np.dtype[np.unsignedinteger], sequence_length: int) -> dict[str, str]:
    """The columns of a token MDS: one array of fixed type and length, no header a sample."""
    return {"tokens": f"ndarray:{dtype.name}:{sequence_length}"}


@contextmanager
def publish_mds(target: str, columns: Mapping[str, str], *, shard_bytes: int) -> Iterator[Writer]:
    """A writer whose directory appears at `target`, a local path or a URL, when the block ends without an exception.

    Args:
        target: the directory to make; replaced where there is one.
        columns: column names to MDS encodings.
        shard_bytes: size of a shard before compression.

    Raises:
        StorageError: a shard can't be put, or what was written doesn't read back as it was.
    """
    from ipt_stream.mixture.shard_writer import ShardWriter

    remote = storage.is_remote(target)
    if remote:
        for name in (FACTS_FILE, INDEX_FILE):  # of what was there: else it would look whole with other shards in it
            storage.remove(storage.join(target, name))
    place = target if remote else storage.temporary_directory_beside(storage.local(target))
    try:
        mds = ShardWriter(place, columns, shard_bytes=shard_bytes, compression=COMPRESSION, hashes=HASHES)
        writer = Writer(mds)
        try:
            yield writer
            index = mds.close()
        except BaseException:
            mds.abandon()
            raise
        shards = json.loads(index)["shards"]
        stored = [shard["zip_data"] or shard["raw_data"] for shard in shards]
        if remote:
            _verify_listing(place, stored)
        else:
            _verify(place, stored)
        # Samples of one size fill all shards but the last with as many.
        most = max((int(shard["samples"]) for shard in shards), default=0) or 1
        storage.publish_bytes(storage.join(place, INDEX_FILE), index)
        storage.publish_json(
            storage.join(place, FACTS_FILE),
            {**writer.facts, "samples_written": writer.samples, "shard_samples": most},
        )
        if not remote:
            storage.publish_directory(place, storage.local(target))
    finally:
        if not remote:
            shutil.rmtree(place, ignore_errors=True)  # renamed away where all went well


def read_facts(directory: str) -> dict[str, Any] | None:
    """The facts of the finished MDS directory at `directory`, or None where there is none."""
    path = storage.join(directory, FACTS_FILE)
    return dict(storage.read_json(path)) if storage.exists(path) else None


def list_mds(directory: str, *, begun: bool = False) -> list[str]:
    """The names of the MDS directories in `directory`.

    Args:
        directory: a local one, or an object-store URL.
        begun: name also what a killed writer left in a store: shards, and nothing that makes them look whole.
    """
    if storage.is_remote(directory):
        names = {item.name.split("/")[0] for item in storage.list_objects(directory)}
        if begun:
            return sorted(names)
    else:
        place = storage.local(directory)
        names = set(os.listdir(place)) if os.path.isdir(place) else set()
    return sorted(name for name in names if storage.exists(storage.join(directory, name, INDEX_FILE)))


def remove_mds(directory: str) -> None:
    """Remove the MDS directory `directory`: first what makes it look whole."""
    for name in (FACTS_FILE, INDEX_FILE):
        storage.remove(storage.join(directory, name))
    for path in storage.list_directory(directory):
        storage.remove(path)
    if not storage.is_remote(directory):
        shutil.rmtree(storage.local(directory))


def index_sha256(directory: str) -> str:
    """SHA-256 of an MDS directory's index, which holds the size and hashes of every shard."""
    return hashlib.sha256(storage.read_bytes(storage.join(directory, INDEX_FILE))).hexdigest()


def _verify(place: str, shards: Iterable[Mapping[str, Any]]) -> None:
    """Read back every shard of a local directory and compare it with its hashes, as the index has them."""
    from streaming.base.hashing import get_hash

    def verify(shard: Mapping[str, Any]) -> None:
        content = storage.read_bytes(os.path.join(place, shard["basename"]))
        for name, wanted in shard["hashes"].items():
            if get_hash(name, content) != wanted:
                raise StorageError(
                    f"{shard['basename']} in {place} doesn't read back as it was written",
                    wanted=f"{name} {wanted}",
                    got=f"{len(content):,} bytes with another",
                    fix="check the disk and its free space, then run again",
                )

    with ThreadPoolExecutor(VERIFY_THREADS) as pool:
        for _ in pool.map(verify, shards):
            pass


def _verify_listing(place: str, shards: Iterable[Mapping[str, Any]]) -> None:
    """Compare a store's listing with the index, and remove shards that it does not name: a killed writer's."""
    wanted = {shard["basename"]: shard["bytes"] for shard in shards}
    found = {item.name: item.size_bytes for item in storage.list_objects(place)}
    for name, size in wanted.items():
        if found.get(name) != size:
            raise StorageError(
                f"{name} is not in {place} as it was put there",
                wanted=f"{size:,} bytes",
                got=f"{found[name]:,}" if name in found else "no such object",
                fix="see that nothing else writes there, then run again",
            )
    for name in sorted(found.keys() - wanted.keys()):
        storage.remove(storage.join(place, name))
