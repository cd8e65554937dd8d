"""From a shard to its segments, in one pass: the part of synthesis that runs as plain Ray tasks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import RejectedRow, ShardBroken, ShardSpec
from ipt_stream.corpus.readers import read_rows


@dataclass(frozen=True, slots=True)
class SegmentInput:
    """One segment's rows as read.

    Attributes:
        shard: index of the shard.
        number: the segment's number in it.
        start_row: first row.
        rows: how many rows it covers, rejected ones too.
        documents: its documents, in row order.
        rejected: rows that are no document, by reason.
    """

    shard: int
    number: int
    start_row: int
    rows: int
    documents: tuple[Document, ...]
    rejected: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """What is known of a shard once it has been read to its end, or to where it broke.

    Attributes:
        shard: index of the shard.
        rows: rows that could be read.
        segments: how many segments they make.
        broken: what is wrong with it, where it could not be read to its end; else None.
    """

    shard: int
    rows: int
    segments: int
    broken: str | None


def read_segments(
    shard: ShardSpec, segment_documents: int, finished: frozenset[int]
) -> Iterator[SegmentInput | ShardEnd]:
    """The segments of `shard` that are not in `finished`, in order, and then its end.

    Memory: one segment. Whole row groups before the first missing segment are not read where the format allows it.
    """
    number = 0
    while number in finished:
        number += 1
    row = number * segment_documents
    documents: list[Document] = []
    rejected: dict[str, list[int]] = {}
    start = row
    broken = None
    rows = read_rows(shard, row)
    while True:
        try:
            item = next(rows, None)
        except ShardBroken as error:
            broken, item = str(error), None
        if item is not None:
            row = item.row + 1
            if isinstance(item, RejectedRow):
                rejected.setdefault(item.reason, []).append(item.row)
            else:
                documents.append(item)
        if (item is None and row > start) or row - start == segment_documents:
            if number not in finished:
                yield SegmentInput(shard.index, number, start, row - start, tuple(documents), rejected)
            number, start, documents, rejected = number + 1, row, [], {}
        if item is None:
            yield ShardEnd(shard.index, row, number, broken)
            return


def encode_documents(documents: tuple[Document, ...]) -> bytes:
    """Documents as Arrow IPC bytes, to cross a process border without pickle."""
    import pyarrow as pa

    columns = {
        "document_id": pa.array([document.document_id for document in documents], pa.string()),
        "source_id": pa.array([document.source_id for document in documents], pa.string()),
        "source": pa.array([document.source for document in documents], pa.string()),
        "row": pa.array([document.row for document in documents], pa.int64()),
        "text": pa.array([document.text for document in documents], pa.large_string()),
    }
    table = pa.table(columns)
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def decode_documents(content: bytes) -> tuple[Document, ...]:
    """The documents in `encode_documents`' bytes."""
    import pyarrow as pa

    with pa.ipc.open_stream(content) as reader:
        return tuple(Document(**record) for record in reader.read_all().to_pylist())
