"""Random access to the samples of an MDS directory, on a disk or an object store, without importing Streaming.

Streaming's own reader wants shards unpacked on a local disk, and importing it takes 14 s on two cores, where the rest
of a view takes one. Here a shard is fetched, compared with the hash in the index, unpacked in memory, and let go when
its samples are taken: at most one is held. How it is laid out (Streaming's `base/format/mds`; tests compare what both
read):

    shard     u32 samples | u32 offset of each sample, and of the end | settings, as JSON | samples
    sample    u32 size of each column that has no fixed one | columns
"""

from __future__ import annotations

import hashlib
import json
import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import InputError
from ipt_stream.mixture.mds import INDEX_FILE
from ipt_stream.view.show import escape

Sample = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MdsDirectory:
    """An MDS directory, by its index.

    Attributes:
        path: where it is.
        index_sha256: hash of its index, which holds the hashes of its shards.
        shards: what the index says of each shard.
    """

    path: str
    index_sha256: str
    shards: tuple[Mapping[str, Any], ...]

    @property
    def samples(self) -> int:
        """How many samples it has."""
        return sum(shard["samples"] for shard in self.shards)

    @property
    def columns(self) -> dict[str, str]:
        """Names and encodings of its columns; none where it has no samples."""
        first = self.shards[0] if self.shards else {"column_names": (), "column_encodings": ()}
        return dict(zip(first["column_names"], first["column_encodings"], strict=True))

    def read(self, numbers: Iterable[int]) -> dict[int, Sample]:
        """The samples of these numbers, from 0; each shard that holds some is read once.

        Raises:
            InputError: a shard is not what the index says, or holds what this project doesn't write.
            StorageError: a shard can't be read.
        """
        ends = list(accumulate(shard["samples"] for shard in self.shards))
        wanted = defaultdict(list)
        for number in numbers:
            wanted[bisect_right(ends, number)].append(number)
        found: dict[int, Sample] = {}
        for index, inside in sorted(wanted.items()):
            shard = self.shards[index]
            content = _unpacked(self.path, shard)
            first = ends[index] - shard["samples"]
            try:
                found |= {number: _sample(shard, content, number - first) for number in inside}
            except (struct.error, ValueError, TypeError) as error:
                raise _not_mds(self.path, error) from error
        return found


def open_mds(directory: str) -> MdsDirectory:
    """The MDS directory at `directory`. Raises `InputError` where its index is not one."""
    content = storage.read_bytes(storage.join(directory, INDEX_FILE))
    try:
        shards = json.loads(content)["shards"]
        for shard in shards:
            if (shard["format"], shard["version"]) != ("mds", 2) or int(shard["samples"]) < 0:
                raise ValueError(f"a shard of format {shard['format']!r}, version {shard['version']!r}")
            shard["raw_data"]["basename"], shard["column_names"], shard["column_encodings"], shard["column_sizes"]
    except (ValueError, KeyError, TypeError) as error:
        raise _not_mds(directory, error) from error
    return MdsDirectory(directory, hashlib.sha256(content).hexdigest(), tuple(shards))


def _not_mds(directory: str, error: Exception) -> InputError:
    got = escape(f"{type(error).__name__}: {error}")
    return InputError(f"{directory} can't be read", wanted="MDS, as mix writes it", got=got, fix="mix again")


def _unpacked(directory: str, shard: Mapping[str, Any]) -> bytes:
    """The content of a shard, compared with its hashes in the index."""
    stored = shard.get("zip_data") or shard["raw_data"]
    path = storage.join(directory, stored["basename"])
    content = storage.read_bytes(path)
    for name, wanted in stored.get("hashes", {}).items():
        if name in hashlib.algorithms_guaranteed and name.startswith("sha"):  # others need a library each
            found = hashlib.new(name, content, usedforsecurity=False).hexdigest()
            if found != wanted:
                raise InputError(f"{path} was altered", wanted=f"{name} {wanted}", got=found, fix="restore it")
    if not shard.get("zip_data"):
        return content
    if str(shard["compression"]).partition(":")[0] != "zstd":
        got = escape(str(shard["compression"]))
        raise InputError(f"{path} can't be unpacked", wanted="zstd, as mix writes it", got=got)
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    except zstandard.ZstdError as error:
        raise InputError(f"{path} can't be unpacked", wanted="zstd", got=str(error), fix="restore it") from error


def _sample(shard: Mapping[str, Any], content: bytes, number: int) -> Sample:
    begin, end = struct.unpack_from("<2I", content, 4 * (1 + number))
    fixed = shard["column_sizes"]
    lengths = iter(struct.unpack_from(f"<{sum(not size for size in fixed)}I", content, begin))
    place = begin + 4 * sum(not size for size in fixed)
    sample = {}
    for name, encoding, size in zip(shard["column_names"], shard["column_encodings"], fixed, strict=True):
        length = size or next(lengths)
        sample[name] = _value(encoding, content[place : place + length])
        place += length
    if place != end:
        raise ValueError(f"a sample of {place - begin} bytes in {end - begin}")
    return sample


def _value(encoding: str, data: bytes) -> Any:
    kind, *details = encoding.split(":")
    if kind == "str":
        return data.decode()
    if kind == "json":
        return json.loads(data)
    if kind == "ndarray" and len(details) == 2:
        import numpy as np

        return np.frombuffer(data, details[0]).tolist()
    raise ValueError(f"a column of encoding {encoding!r}")
