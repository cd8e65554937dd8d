"""What a source will hold once it is packed, about: from a few of its units, so that a plan can be seen at once."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from ipt_stream.mixture.encode import Job, encode_part
from ipt_stream.mixture.shares import Stock
from ipt_stream.mixture.sources import (
    ROWS_A_PART,
    ExamplesUnit,
    Part,
    QuestionsUnit,
    RowsUnit,
    SegmentsUnit,
    Unit,
    texts,
)

UNITS = 4
COMPRESSION = 2.7
"""By how much gzip and zstd shrink English text, about."""


def estimate(name: str, units: Sequence[Unit], job: Job, sequence_length: int) -> Stock:
    """The stock of source `name`, from the first parts of `UNITS` of its `units`, evenly spread.

    Raises:
        InputError, MixtureError: as `encode` does for what is looked at.
    """
    streams = [unit for unit in units if isinstance(unit, RowsUnit) and unit.stop_row is None]
    others = [unit for unit in units if not (isinstance(unit, RowsUnit) and unit.stop_row is None)]
    documents = tokens = 0.0
    for alike in (streams, others):  # weights are bytes of the former, and rows of the latter
        found_documents, found_tokens = _sample(alike, job)
        documents, tokens = documents + found_documents, tokens + found_tokens
    return Stock(name, round(documents), round(tokens), -(-round(tokens) // sequence_length), "")


def _sample(units: Sequence[Unit], job: Job) -> tuple[float, float]:
    """Documents and tokens of `units`, from some of them."""
    documents = tokens = weight = 0.0
    for unit in units[:: -(-len(units) // UNITS)] if units else []:
        part = next(texts(unit, job.making), None)
        if part is None:
            continue
        parts = _parts(unit, part)
        documents += part.documents * parts
        tokens += len(encode_part(part, job).tokens) * parts
        weight += _weight(unit)
    scale = sum(map(_weight, units)) / weight if weight else 0.0
    return documents * scale, tokens * scale


def _weight(unit: Unit) -> float:
    """How much of a source a unit is, against the others of the source."""
    match unit:
        case SegmentsUnit(references, _):
            return sum(reference.rows for reference in references)
        case RowsUnit(shard, _, None):
            return shard.size_bytes
        case RowsUnit(_, start, stop):
            return (stop or start) - start
        case ExamplesUnit(examples):
            return len(examples)
        case QuestionsUnit(questions):
            return len(questions)


def _parts(unit: Unit, part: Part) -> float:
    """How many parts like `part`, the first, the unit has."""
    rows = part.documents + part.rejected
    match unit:
        case SegmentsUnit(references, _):
            return sum(reference.rows for reference in references) / max(references[0].rows, 1)
        case RowsUnit(_, _, None) if rows < ROWS_A_PART:
            return 1.0
        case RowsUnit(shard, _, None):
            is_compressed = posixpath.splitext(shard.path)[1] in (".zst", ".gz")
            read = sum(len(item.text.encode()) for item in part.texts) / (COMPRESSION if is_compressed else 1)
            return max(shard.size_bytes / read, 1.0) if read else 1.0
        case RowsUnit(_, start, stop):
            return max(((stop or start) - start) / max(rows, 1), 1.0)
    return 1.0
