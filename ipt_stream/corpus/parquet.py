"""Parquet shards, row group by row group, and of each only the columns that are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ipt_stream.corpus.bytestream import open_shard
from ipt_stream.corpus.columns import NULL, Column
from ipt_stream.corpus.formats import Rows, ShardBroken, ShardSpec, make_row
from ipt_stream.storage import is_remote

BATCH_ROWS = 256  # rows decoded at once, at most: with web pages of 5 KB, about 1 MB
BATCH_BYTES = 4 * 2**20  # in all columns of these rows: there are fewer, where texts are long
BUFFER_BYTES = 2**20  # read at once from a column; without it a whole column of a row group would be held
REMOTE_BUFFER_BYTES = 8 * 2**20  # the same from an object store, where each read is a request


def rows(shard: ShardSpec, start_row: int) -> Rows:
    """Rows `start_row` and on. Row groups before it are not read at all; those within its row group are not decoded
    into Python.

    Raises:
        ShardBroken: there is no footer, or a row group can't be decoded (later ones are not tried).
        StorageError: the file can't be opened or read.
    """
    import pyarrow as pa

    with _open(shard.path) as file:
        wanted = [shard.text_column] + ([shard.id_column] if shard.id_column else [])
        row = 0
        for group in range(file.metadata.num_row_groups):
            sizes = file.metadata.row_group(group)
            in_group = sizes.num_rows
            if row + in_group <= start_row:
                row += in_group
                continue
            end = row + in_group
            batch_rows = min(max(BATCH_BYTES * in_group // max(sizes.total_byte_size, 1), 1), BATCH_ROWS)
            try:
                for batch in file.iter_batches(batch_rows, row_groups=[group], columns=wanted, use_threads=False):
                    skip = min(max(start_row - row, 0), batch.num_rows)
                    row += skip
                    texts = values(batch, shard.text_column, skip)
                    ids = values(batch, shard.id_column, skip) if shard.id_column else [None] * len(texts)
                    for text, source_id in zip(texts, ids, strict=True):
                        yield make_row(shard, row, text, source_id)
                        row += 1
            except (pa.ArrowException, OSError, KeyError) as error:  # KeyError: the footer now names other columns
                raise ShardBroken(shard.path, row, f"row group {group}", first_line(error)) from error
            if row != end:
                raise ShardBroken(shard.path, row, f"row group {group}", f"it ends {end - row} rows too soon")


def columns(path: str) -> tuple[list[Column], int]:
    """The columns, fields of structs dotted, and the number of rows. Raises `ShardBroken` where there is no footer."""
    with _open(path) as file:
        return schema_columns(file.schema_arrow), int(file.metadata.num_rows)


@contextmanager
def _open(path: str) -> Iterator[Any]:
    """The `ParquetFile` at `path`."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    with open_shard(path, block_bytes=None) as raw:
        try:
            file = ParquetFile(
                pa.PythonFile(raw, mode="r"),
                buffer_size=REMOTE_BUFFER_BYTES if is_remote(path) else BUFFER_BYTES,
                pre_buffer=False,  # it would read all wanted columns of a row group at once
                page_checksum_verification=True,
            )
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: in the name of a column
            raise ShardBroken(path, 0, "the footer", first_line(error)) from error
        with file:
            yield file


def _columns(fields: Any, prefix: str = "") -> Iterator[Column]:
    """One `Column` for each field of a schema or struct, and for the fields within it."""
    from pyarrow import types

    for field in fields:
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        is_text = any(
            check(kind)
            for check in (
                types.is_string,
                types.is_large_string,
                types.is_string_view,
                types.is_binary,  # what writers without the UTF-8 mark leave; decoded row by row
                types.is_large_binary,
                types.is_binary_view,
                types.is_null,
            )
        )
        name = NULL if types.is_null(kind) else str(kind)
        # A point in time names no document, and Python can't hold all that Arrow can.
        yield Column(prefix + field.name, name, is_text, not types.is_nested(kind) and not types.is_temporal(kind))
        if types.is_struct(kind):
            yield from _columns([kind.field(i) for i in range(kind.num_fields)], f"{prefix}{field.name}.")


def schema_columns(schema: Any) -> list[Column]:
    """The columns of an Arrow schema, fields of structs dotted."""
    return list(_columns(schema))


def values(batch: Any, column: str, skip: int) -> list[object]:
    """Rows `skip` and on of `column` as Python values; raw bytes where some row's text is no UTF-8."""
    import pyarrow as pa
    from pyarrow import compute

    if column in batch.schema.names:
        array = batch.column(column)
    else:
        head, *steps = column.split(".")
        array = compute.struct_field(batch.column(head), steps)
    array = array.slice(skip)
    try:
        values: list[object] = array.to_pylist()
    except UnicodeDecodeError:
        plain = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
        values = plain.cast(pa.large_binary()).to_pylist()
    return values


def first_line(error: Exception) -> str:
    """What Arrow says, without where in its source it says so."""
    return (str(error) or type(error).__name__).splitlines()[0]
