"""Segment files: what a finished segment is published as, one Parquet file a segment (DESIGN: segments and the ledger).

Joining the texts of a document's rows in `piece` order gives the document back.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ipt_stream import storage
from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


RECORD_KEY = b"ipt_stream.record"
"""The key of the ledger record in a segment file's metadata."""
LOGPROBS = "response_logprobs"
"""The one column that a segment file may lack."""


class Status(StrEnum):
    """How a raw text came out of synthesis."""

    AUGMENTED = "augmented"
    NO_PAIRS = "no_pairs"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One raw text (a document, or a piece of one that was cut) and what was made of it.

    Attributes:
        document_id: `shard:row`, unique by construction.
        source_id: the input's own id, or None.
        source: the shard's name.
        row: row of the shard, from 0.
        piece: which part of the document this is, from 0.
        chain: the chain within the segment, from 0.
        round: the round, from 0.
        text: the raw text of this piece, as read.
        pairs: what was synthesized from it, in order.
        inherits: whether the prompt held the shots before it in its chain.
        status: how it came out.
        reason: why it failed or yielded nothing; empty where it is augmented.
        prompt_tokens: tokens of the whole prompt.
        cached_tokens: how many of them the engine took from its prefix cache.
        generated_tokens: tokens that the engine generated.
        generation: the generated text, before parsing.
        response_logprobs: of each of `pairs`, the mean log-probability of its response's tokens by the synthesizer
            itself (natural logarithm); None where they were not recorded, as in files of before there was this column.
    """

    document_id: str
    source_id: str | None
    source: str
    row: int
    piece: int
    chain: int
    round: int
    text: str
    pairs: tuple[Pair, ...]
    inherits: bool
    status: Status
    reason: str
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    generation: str
    response_logprobs: tuple[float | None, ...] | None = None


def schema() -> pa.Schema:
    """The Arrow schema of a segment file: the fields of `SegmentRow`, in order."""
    import pyarrow as pa

    pair = pa.struct([pa.field("instruction", pa.string()), pa.field("response", pa.string())])
    special: dict[str, pa.DataType] = {
        "row": pa.int64(), "piece": pa.int32(), "chain": pa.int32(), "round": pa.int32(), "pairs": pa.list_(pair),
        "inherits": pa.bool_(), "prompt_tokens": pa.int32(), "cached_tokens": pa.int32(),
        "generated_tokens": pa.int32(), LOGPROBS: pa.list_(pa.float64()),
    }  # fmt: skip
    return pa.schema([pa.field(field.name, special.get(field.name, pa.string())) for field in fields(SegmentRow)])


def encode(rows: Sequence[SegmentRow], record: Mapping[str, Any] | None = None) -> bytes:
    """The Parquet bytes of a segment file. The same rows and record give the same bytes.

    Args:
        rows: by document and piece.
        record: the segment's ledger record but for its path and hash; it lies in the file's metadata, so that a
            segment that was published and not recorded is adopted, not made again.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {
        field.name: [getattr(row, field.name) for row in rows] for field in fields(SegmentRow)
    }
    columns["pairs"] = [[{"instruction": p.instruction, "response": p.response} for p in row.pairs] for row in rows]
    columns["status"] = [row.status.value for row in rows]
    buffer = io.BytesIO()
    metadata = {RECORD_KEY: json.dumps(record, ensure_ascii=False).encode()} if record is not None else None
    pq.write_table(pa.table(columns, schema=schema().with_metadata(metadata)), buffer, compression="zstd")
    return buffer.getvalue()


def read_record(content: bytes, where: str) -> dict[str, Any]:
    """The ledger record in a segment file's bytes. Raises `InputError` where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        record: dict[str, Any] = json.loads(pq.read_schema(io.BytesIO(content)).metadata[RECORD_KEY])
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{where} is not a segment file", got=str(error), fix="remove it and run again") from error
    return record


def decode(content: bytes, where: str) -> list[SegmentRow]:
    """The rows of a segment file's bytes; `where` names it in errors.

    Raises:
        InputError: the bytes are not a segment file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
        if LOGPROBS not in table.column_names:
            table = table.append_column(LOGPROBS, pa.nulls(len(table), schema().field(LOGPROBS).type))
        table = table.select(schema().names)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(f"{where} is not a segment file", got=str(error), fix="remove it and run again") from error
    return [_row(record) for record in table.to_pylist()]


def _row(record: dict[str, Any]) -> SegmentRow:
    pairs = tuple(Pair(pair["instruction"], pair["response"]) for pair in record.pop("pairs"))
    logprobs = record.pop(LOGPROBS)
    return SegmentRow(
        **{**record, "status": Status(record["status"])},
        pairs=pairs,
        response_logprobs=None if logprobs is None else tuple(logprobs),
    )


_RANK = (Status.NO_PAIRS, Status.FAILED, Status.AUGMENTED)


def outcome_of(pieces: Iterable[Status]) -> Status:
    """How a document came out as a whole, of how its pieces did, one or more.

    One augmented piece makes a document augmented: its other pieces go along as text. Without one, a failed piece
    makes it failed, which is a rejection; otherwise it stays plain text.
    """
    return max(pieces, key=_RANK.index)


def outcomes(rows: Iterable[SegmentRow]) -> dict[str, Status]:
    """How each document of `rows` came out as a whole (`outcome_of`), by its id."""
    found: dict[str, Status] = {}
    for row in rows:
        found[row.document_id] = outcome_of((found.get(row.document_id, row.status), row.status))
    return found


def read(path: str) -> list[SegmentRow]:
    """The rows of the segment file at `path`. Raises `InputError` where it is not one."""
    return decode(storage.read_bytes(path), path)
