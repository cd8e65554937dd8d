"""From a shard to its segments, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import RejectedRow, Rows, ShardBroken, ShardSpec
from ipt_stream.corpus.readers import read_rows
from ipt_stream.progress import log
from ipt_stream.synthesis.orders import Order
from ipt_stream.synthesis.tally import UNREADABLE


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


def read_segments(order: Order, segment_documents: int) -> Iterator[SegmentInput | ShardEnd]:
    """The segments of `order` that are not finished, in order, and the shard's end if it lies in there, unless known.

    A shard's end belongs to just one order: to the one that has the last row. (An order looks one row further than its
    last segment; one that begins where the shard ends, or behind it, finds nothing and says nothing.)

    Memory: one segment. Whole row groups before the first segment are not read where the format allows it.
    """
    shard, number = order.shard, order.first
    row = start = number * segment_documents
    documents: list[Document] = []
    rejected: dict[str, list[int]] = {}
    broken = None
    rows = read_rows_of_segments(shard, row, segment_documents)
    while True:
        try:
            item = next(rows, None)
        except ShardBroken as error:
            broken, item = str(error), None
        if row - start == segment_documents or (item is None and row > start):
            if number not in order.finished:
                yield SegmentInput(shard.index, number, start, row - start, tuple(documents), rejected)
            number, start, documents, rejected = number + 1, row, [], {}
        if item is None:
            if not order.end_is_known and (row == 0 or row > order.first * segment_documents):
                yield ShardEnd(shard.index, row, number, broken)
            return
        if number == order.stop:
            return
        row = item.row + 1
        if isinstance(item, RejectedRow):
            rejected.setdefault(item.reason, []).append(item.row)
        else:
            documents.append(item)


def read_rows_of_segments(shard: ShardSpec, start_row: int, segment_documents: int) -> Rows:
    """Rows `start_row` and on of `shard`; what a broken part took along is rejected as unreadable, where that can be.

    A shard that says how many rows it has (Parquet) can be read on behind a broken part: at the next segment. The rest
    of the broken one is unreadable, even if the break ends within it: so what is in a segment does not depend on where
    reading began, and orders of one shard agree on where it ends.

    Raises:
        ShardBroken: after the last readable row of a shard that can only be read from its start.
        StorageError: the shard can't be opened or read now.
    """
    row = start_row
    while True:
        try:
            for item in read_rows(shard, row):
                yield item
                row = item.row + 1
            return
        except ShardBroken as error:
            if shard.rows is None:
                raise
            log.warning("%s", error)
            stop = min((row // segment_documents + 1) * segment_documents, shard.rows)
            for unread in range(row, stop):
                yield RejectedRow(unread, UNREADABLE, None)
            row = stop
            if row >= shard.rows:
                return
