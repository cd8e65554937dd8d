"""What a shard is, and what reading a row of one gives: a document, or a rejected row with its reason.

Every physical row of a shard comes out exactly once, numbered from 0, so that a row number names a document for good
and `rows = documents + rejected rows` can be checked. A shard whose bytes can't be read to the end gives its readable
rows, and then `ShardBroken`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ipt_stream.corpus.document import Document
from ipt_stream.errors import InputError

MAX_ROW_BYTES = 64 * 2**20
"""A line longer than this is rejected unread, so that a file without line ends can't fill the memory; so is a text."""


class Format(StrEnum):
    """How the rows of a shard are written. Compression (gzip, zstd, none) is seen in the bytes when they are read."""

    PARQUET = "parquet"
    ARROW = "arrow"
    JSONL = "jsonl"
    MEDLINE = "medline"


class Reason(StrEnum):
    """Why a row is no document."""

    EMPTY = "empty"
    """The text is empty, or only whitespace."""
    NULL_TEXT = "null_text"
    """The text is null, or the row has no such key."""
    WRONG_TYPE = "wrong_type"
    """The text is no string, or the line is JSON but no object."""
    BAD_JSON = "bad_json"
    """The line is not JSON."""
    NOT_UTF8 = "not_utf8"
    """The bytes are no UTF-8, or a JSON escape such as `\\ud800` names half a character. No tokenizer, Parquet file or
    UTF-8 file can hold such a text, and putting another character there would alter a document without saying so."""
    NO_ABSTRACT = "no_abstract"
    """A MEDLINE article with a title alone."""
    TOO_LONG = "too_long"
    """The line, or the text, is longer than `MAX_ROW_BYTES`: no document, but a file in a wrong place."""


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """All that a worker anywhere needs to read one shard; small, and picklable.

    Attributes:
        path: absolute local path, or URL.
        index: place in the run's listing, from 0.
        name: unique in the run, and the same wherever the data lies: the base name, or, where base names collide, the
            path below the directory that all shards share.
        format: how its rows are written.
        text_column: the column with the text; dots step into JSON objects and structs. Fixed for MEDLINE.
        id_column: the column with the input's own id, or None.
        size_bytes: size of the file.
        rows: number of rows where the shard says so without being read (Parquet), else None.
    """

    path: str
    index: int
    name: str
    format: Format
    text_column: str
    id_column: str | None
    size_bytes: int
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is no document.

    Attributes:
        row: which row of the shard it is, from 0.
        reason: a `Reason`.
        source_id: the input's own id, where it could be read.
    """

    row: int
    reason: str
    source_id: str | None


Row = Document | RejectedRow
Rows = Iterator[Row]


class ShardBroken(InputError):
    """A shard that is truncated or corrupt; all rows before `row` could be read, and were.

    Attributes:
        path: the shard.
        row: the first row that can't be read, from 0.
        where: the byte or row group where it broke.
        cause: what the decoder said.
    """

    def __init__(self, path: str, row: int, where: str, cause: str) -> None:
        self.path, self.row, self.where, self.cause = path, row, where, cause
        super().__init__(
            f"shard {path} is broken at row {row}, {where}", got=cause, fix="fetch it again, or leave it out"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (ShardBroken, (self.path, self.row, self.where, self.cause))


def make_row(shard: ShardSpec, row: int, text: object, source_id: object) -> Row:
    """Row `row` of `shard`: a `Document` with `text` as it is, or a `RejectedRow` where it can't be one.

    An empty `source_id` is none: documents are selected by their ids, and all those would be selected as one.
    """
    known = (source_id if isinstance(source_id, str) else _id_text(source_id)) or None
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            return RejectedRow(row, Reason.NOT_UTF8, known)
    if not isinstance(text, str):
        return RejectedRow(row, Reason.NULL_TEXT if text is None else Reason.WRONG_TYPE, known)
    if not text or text.isspace():
        return RejectedRow(row, Reason.EMPTY, known)
    if len(text) > MAX_ROW_BYTES:
        return RejectedRow(row, Reason.TOO_LONG, known)
    return Document(f"{shard.name}:{row}", known, shard.name, row, text)


def _id_text(source_id: object) -> str:
    if source_id is None:
        return ""
    return source_id.decode("utf-8", "backslashreplace") if isinstance(source_id, bytes) else str(source_id)
