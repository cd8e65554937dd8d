"""MDS shards that threads close while the next one fills: hashed, compressed, and put where they belong.

    main thread    fill 0 | fill 1      | fill 2      | fill 3
    threads                 close 0 ----- put 0
                                          close 1 ----- put 1

Hashing, zstd and a store all let other threads run, so what packs goes on packing; and no shard is kept after it was
put, on a disk or in memory. Names and bytes are as MDSWriter makes them. Importing this module imports Streaming.
"""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from streaming import MDSWriter
from streaming.base.compression import compress

from ipt_stream import storage

THREADS = 4
"""Shards that are closed at a time; each is held in memory twice, once compressed, until it is put."""


class ShardWriter(MDSWriter):  # type: ignore[misc,unused-ignore]
    """MDSWriter with another end to each shard.

    Args:
        place: where shards go: a local directory, or an object-store URL.
        columns: column names to MDS encodings.
        shard_bytes: size of a shard before compression.
        compression: as MDSWriter takes it.
        hashes: as MDSWriter takes them.
    """

    def __init__(
        self, place: str, columns: Mapping[str, str], *, shard_bytes: int, compression: str, hashes: tuple[str, ...]
    ) -> None:
        self._place = place
        self._closing: deque[Future[None]] = deque()
        with tempfile.TemporaryDirectory() as unused:  # MDSWriter wants one
            super().__init__(
                columns=dict(columns), out=unused, compression=compression, hashes=list(hashes), size_limit=shard_bytes,
                max_workers=THREADS,
            )  # fmt: skip

    def flush_shard(self) -> None:
        """Hand the samples so far to a thread, waiting for one where all are at work.

        Raises:
            StorageError: an earlier shard could not be put.
        """
        raw_name, zip_name = self._name_next_shard()
        shard = {"samples": len(self.new_samples), **self.get_config()}
        self.shards.append(shard)
        if len(self._closing) == THREADS:
            self._closing.popleft().result()
        self._closing.append(self.executor.submit(self._close, shard, self.encode_joint_shard(), raw_name, zip_name))

    def _close(self, shard: dict[str, Any], content: bytes, raw_name: str, zip_name: str | None) -> None:
        shard["raw_data"], shard["zip_data"] = self._hash(content, raw_name), None
        if zip_name is not None:
            content = compress(self.compression, content)
            shard["zip_data"] = self._hash(content, zip_name)
        storage.publish_bytes(storage.join(self._place, zip_name or raw_name), content)

    def close(self) -> bytes:
        """Put what is left, and give the index, once every shard is in its place. Raises `StorageError`."""
        if self.new_samples:
            self.flush_shard()
            self._reset_cache()
        while self._closing:
            self._closing.popleft().result()
        self.executor.shutdown()
        return json.dumps({"version": 2, "shards": self.shards}, sort_keys=True).encode()

    def abandon(self) -> None:
        """Stop; when this is over, no thread writes any more."""
        self.executor.shutdown(cancel_futures=True)
