"""Arrow streams and files, as `datasets` saves them (`save_to_disk`): record batch by record batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ipt_stream.corpus.bytestream import open_shard
from ipt_stream.corpus.columns import Column
from ipt_stream.corpus.formats import Rows, ShardBroken, ShardSpec, make_row
from ipt_stream.corpus.parquet import first_line, schema_columns, values

FILE_MAGIC = b"ARROW1"
STREAM_MAGIC = b"\xff\xff\xff\xff"
_END_OF_STREAM = STREAM_MAGIC + b"\0\0\0\0"


def rows(shard: ShardSpec, start_row: int) -> Rows:
    """Rows `start_row` and on. Batches before it are read, and not decoded into Python.

    Raises:
        ShardBroken: a batch can't be read or decoded.
        StorageError: the file can't be opened or read.
    """
    import pyarrow as pa

    row, number = 0, 0
    with _open(shard.path) as (stream, whole):
        while True:
            try:
                batch = stream.read_next_batch()
                batch.validate(full=True)
                skip = min(max(start_row - row, 0), batch.num_rows)
                texts = values(batch, shard.text_column, skip)
                ids = values(batch, shard.id_column, skip) if shard.id_column else [None] * len(texts)
            except StopIteration:
                if not whole:
                    raise ShardBroken(shard.path, row, f"record batch {number}", "no end-of-stream mark") from None
                return
            except (pa.ArrowException, OSError, KeyError) as error:
                raise ShardBroken(shard.path, row, f"record batch {number}", first_line(error)) from error
            row += skip
            number += 1
            for text, source_id in zip(texts, ids, strict=True):
                yield make_row(shard, row, text, source_id)
                row += 1


def columns(path: str) -> list[Column]:
    """The columns, fields of structs dotted. Raises `ShardBroken` where there is no schema."""
    with _open(path) as (stream, _):
        return schema_columns(stream.schema)


@contextmanager
def _open(path: str) -> Iterator[tuple[Any, bool]]:
    """The reader of record batches at `path`, and whether the file ends as it should: Arrow reads a cut one quietly."""
    import pyarrow as pa

    with open_shard(path, block_bytes=None) as raw:
        file = pa.PythonFile(raw, mode="r")
        try:
            is_file = file.read(len(FILE_MAGIC)) == FILE_MAGIC
            whole = is_file or _ends_with_mark(raw)
            file.seek(0)
            stream = _Batches(pa.ipc.open_file(file)) if is_file else pa.ipc.open_stream(file)
        except (pa.ArrowException, OSError) as error:
            raise ShardBroken(path, 0, "the schema", first_line(error)) from error
        yield stream, whole


def _ends_with_mark(file: Any) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - len(_END_OF_STREAM), 0))
    return bool(file.read() == _END_OF_STREAM)


class _Batches:
    """An Arrow file, read as a stream."""

    def __init__(self, file: Any) -> None:
        self.schema = file.schema
        self._batches = (file.get_batch(number) for number in range(file.num_record_batches))

    def read_next_batch(self) -> Any:
        return next(self._batches)
