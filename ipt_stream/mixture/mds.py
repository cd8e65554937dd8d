"""MDS directories, published like everything else: whole or not at all.

Streaming's MDSWriter writes an index even after an exception, and a killed one leaves a directory that a reader may
take for a whole one. Here it writes into a temporary directory; what it wrote is read back and compared with the
index; and only then does the directory appear in its place, with `facts.json` (counts, some samples) in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
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
        StorageError: what was written doesn't read back as it was, or can't be published.
    """
    from streaming import MDSWriter

    remote = storage.is_remote(target)
    place = tempfile.mkdtemp() if remote else storage.temporary_directory_beside(storage.local(target))
    try:
        mds = MDSWriter(
            columns=dict(columns), out=place, compression=COMPRESSION, hashes=list(HASHES), size_limit=shard_bytes
        )
        writer = Writer(mds)
        try:
            yield writer
        except BaseException:
            mds.cancel_future_jobs()
            raise
        mds.finish()
        facts = {"samples_written": writer.samples, "shard_samples": _verify(place)}
        storage.publish_json(os.path.join(place, FACTS_FILE), {**writer.facts, **facts})
        if remote:
            _upload(place, target)
        else:
            storage.publish_directory(place, storage.local(target))
    finally:
        shutil.rmtree(place, ignore_errors=True)  # renamed away where all went well


def read_facts(directory: str) -> dict[str, Any] | None:
    """The facts of the finished MDS directory at `directory`, or None where there is none."""
    path = storage.join(directory, FACTS_FILE)
    return dict(storage.read_json(path)) if storage.exists(path) else None


def list_mds(directory: str) -> list[str]:
    """The names of the MDS directories in `directory`."""
    if storage.is_remote(directory):
        names = {item.name.split("/")[0] for item in storage.list_objects(directory)}
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


def _verify(place: str) -> int:
    """Read back every shard that the index names and compare it with its hash there; gives the samples of a full one.

    Samples of one size fill all shards but the last with as many.
    """
    from streaming.base.hashing import get_hash

    with open(os.path.join(place, INDEX_FILE), encoding="utf-8") as file:
        shards = json.load(file)["shards"]
    for shard in shards:
        stored = shard["zip_data"] or shard["raw_data"]
        content = storage.read_bytes(os.path.join(place, stored["basename"]))
        for name, wanted in stored["hashes"].items():
            if get_hash(name, content) != wanted:
                raise StorageError(
                    f"{stored['basename']} in {place} doesn't read back as it was written",
                    wanted=f"{name} {wanted}",
                    got=f"{len(content):,} bytes with another",
                    fix="check the disk and its free space, then run again",
                )
    return max((int(shard["samples"]) for shard in shards), default=0) or 1


def _upload(place: str, target: str) -> None:
    """Put the directory's files at the URL `target`, index and facts last, so that only a whole one has them."""
    for name in (FACTS_FILE, INDEX_FILE):  # of what was there: else it would look whole with other shards in it
        storage.remove(storage.join(target, name))
    last = {INDEX_FILE: 1, FACTS_FILE: 2}
    for name in sorted(os.listdir(place), key=lambda name: (last.get(name, 0), name)):
        storage.publish_bytes(storage.join(target, name), storage.read_bytes(os.path.join(place, name)))
