"""What a synthesis run leaves to the stages after it: few-shot examples, and the documents that stay raw.

Every input document is in exactly one of the two, or was rejected: a document of which at least one piece yielded
pairs is augmented, and its other pieces go along as shots without pairs; all others are raw, whole again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from ipt_stream import storage
from ipt_stream.config import fingerprint
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import ShardSpec
from ipt_stream.corpus.selection import is_selected, selection_key
from ipt_stream.errors import InputError
from ipt_stream.ledger import read_ledger
from ipt_stream.synthesis import segment
from ipt_stream.synthesis.plan import RunPlan, load_plan
from ipt_stream.synthesis.prompt import Shot
from ipt_stream.synthesis.read_segments import read_rows_of_segments
from ipt_stream.synthesis.segment import SegmentRow, Status, outcomes


@dataclass(frozen=True, slots=True)
class Example:
    """An M-shot example: shots that inherit from each other, in round order.

    Attributes:
        example_id: `document_id#piece` of its first shot.
        source: the shard's name.
        document_ids: the document of each shot.
        shots: the raw texts with their pairs; all but the pieces of cut documents have some.
    """

    example_id: str
    source: str
    document_ids: tuple[str, ...]
    shots: tuple[Shot, ...]


@dataclass(frozen=True, slots=True)
class RawText:
    """A document that stays plain text: not selected, or nothing came of it."""

    document_id: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """All documents of one segment but the rejected ones, each in exactly one of the two."""

    examples: tuple[Example, ...]
    raw: tuple[RawText, ...]


@dataclass(frozen=True, slots=True)
class SegmentReference:
    """All that a worker needs to load one finished segment.

    Attributes:
        path: its Parquet file.
        sha256: the content hash in the ledger, checked on loading.
        shard: the shard it was made from.
        start_row: first row of the shard in it.
        rows: how many rows of the shard it covers.
        plan: what selected its documents.
    """

    path: str
    sha256: str
    shard: ShardSpec
    start_row: int
    rows: int
    plan: RunPlan


def list_segments(output: str) -> list[SegmentReference]:
    """The finished segments of the synthesis run in `output`, in the order of the input.

    Raises:
        StorageError: there is no synthesis run in `output`.
    """
    plan = load_plan(output)
    records = [record for record in read_ledger(output) if record["kind"] == "segment"]
    records.sort(key=lambda record: (record["shard"], record["number"]))
    return [
        SegmentReference(
            path=storage.join(output, record["path"]),
            sha256=record["sha256"],
            shard=plan.shards[record["shard"]],
            start_row=record["start_row"],
            rows=record["rows"],
            plan=plan.without_shards(),
        )
        for record in records
    ]


RowsOf = Callable[[SegmentReference], Sequence[SegmentRow]]
"""Gives the rows of a segment: `load_rows`, or what is left of them."""


def run_identity(references: Sequence[SegmentReference]) -> str:
    """Names the content of a synthesis run: a hash of the hashes of its segments, in order."""
    return fingerprint([reference.sha256 for reference in references])


def load_segment(reference: SegmentReference) -> SegmentContent:
    """The examples and the raw texts of one segment, each in a fixed order.

    Raises:
        InputError: the file's content is not what the ledger recorded.
    """
    rows = load_rows(reference)
    return SegmentContent(examples_of(rows), _texts_of(rows, reference, unselected_documents([reference]), _is_raw))


def load_examples(reference: SegmentReference) -> tuple[Example, ...]:
    """The examples of one segment, in a fixed order. Raises `InputError` as `load_segment` does."""
    return examples_of(load_rows(reference))


def load_raw(references: Sequence[SegmentReference], rows_of: RowsOf | None = None) -> Iterator[tuple[RawText, ...]]:
    """The raw texts of segments of one shard, in its order, segment by segment and each by row.

    Documents that were not selected are read again from the shard, once from the first segment to the last.

    Args:
        references: the segments.
        rows_of: gives the rows of each, just before its texts come; None: as they are in its file.

    Raises:
        InputError: a file's content is not what the ledger recorded.
    """
    unselected = unselected_documents(references)
    for reference in references:
        yield _texts_of((rows_of or load_rows)(reference), reference, unselected, _is_raw)


def load_documents(references: Sequence[SegmentReference]) -> Iterator[tuple[RawText, ...]]:
    """As `load_raw`, but all documents, those that were augmented too; without the rejected ones."""
    unselected = unselected_documents(references)
    for reference in references:
        yield _texts_of(load_rows(reference), reference, unselected, _is_no_reject)


def _is_raw(status: Status) -> bool:
    return status is Status.NO_PAIRS


def _is_no_reject(status: Status) -> bool:
    return status is not Status.FAILED


def _texts_of(
    rows: Sequence[SegmentRow],
    reference: SegmentReference,
    unselected: Iterator[list[Document]],
    wanted: Callable[[Status], bool],
) -> tuple[RawText, ...]:
    """The wanted documents of a segment, whole again, with the next ones of `unselected` where there are some."""
    outcome = outcomes(rows)
    chosen = groupby((row for row in rows if wanted(outcome[row.document_id])), lambda row: row.document_id)
    found = [_rejoin(list(pieces)) for _, pieces in chosen]
    if reference.plan.fraction < 1.0:
        found += [_raw(document) for document in next(unselected)]
        found.sort(key=lambda text: int(text.document_id.rsplit(":", 1)[1]))
    return tuple(found)


def load_rows(reference: SegmentReference) -> list[SegmentRow]:
    """The rows of a segment's file, by document and piece. Raises `InputError` where the file was altered."""
    return segment.decode(load_content(reference), reference.path)


def load_content(reference: SegmentReference) -> bytes:
    """A segment's file. Raises `InputError` where it was altered."""
    import hashlib

    content = storage.read_bytes(reference.path)
    found = hashlib.sha256(content).hexdigest()
    if found != reference.sha256:
        raise InputError(
            f"{reference.path} was altered", wanted=f"sha256 {reference.sha256}", got=found, fix="restore it"
        )
    return content


def unselected_documents(references: Sequence[SegmentReference]) -> Iterator[list[Document]]:
    """The documents of segments of one shard that were not selected for conversion, a list a segment."""
    first = references[0]
    rows = read_rows_of_segments(first.shard, first.start_row, first.plan.segment_documents)
    for reference in references:
        found = []
        stop = reference.start_row + reference.rows
        row = reference.start_row
        while row < stop:  # no row further: there the shard may be broken
            item = next(rows, None)
            if item is None:
                raise InputError(
                    f"shard {first.shard.path} has fewer rows than when it was synthesized",
                    wanted=f"{stop:,} rows or more", got=f"{row:,}", fix="bring back the shard as it was",
                )  # fmt: skip
            row = item.row + 1
            is_inside = item.row >= reference.start_row
            if is_inside and isinstance(item, Document) and not is_selected_document(reference.plan, item):
                found.append(item)
        yield found


def is_selected_document(plan: RunPlan, document: Document) -> bool:
    """Whether `document` is to be converted: by a hash of the seed and its id."""
    return is_selected(plan.seed, selection_key(document), plan.fraction)


def example_rows(rows: Sequence[SegmentRow]) -> Iterator[list[SegmentRow]]:
    """The rows of each example of a segment, in a fixed order: a row that does not inherit starts one."""
    outcome = outcomes(rows)
    augmented = [row for row in rows if outcome[row.document_id] is Status.AUGMENTED]
    running: list[SegmentRow] = []
    for row in sorted(augmented, key=lambda row: (row.chain, row.round, row.piece)):
        follows = running and row.inherits and row.chain == running[-1].chain
        if running and not follows:
            yield running
            running = []
        running.append(row)
    if running:
        yield running


def example_of(rows: Sequence[SegmentRow]) -> Example:
    """The example that `rows` make, in order."""
    return Example(
        example_id=f"{rows[0].document_id}#{rows[0].piece}",
        source=rows[0].source,
        document_ids=tuple(row.document_id for row in rows),
        shots=tuple(Shot(row.text, row.pairs) for row in rows),
    )


def examples_of(rows: Sequence[SegmentRow]) -> tuple[Example, ...]:
    """The examples that the rows of a segment make, in a fixed order."""
    return tuple(example_of(found) for found in example_rows(rows))


def _rejoin(pieces: list[SegmentRow]) -> RawText:
    return RawText(pieces[0].document_id, pieces[0].source, "".join(piece.text for piece in pieces))


def _raw(document: Document) -> RawText:
    return RawText(document.document_id, document.source, document.text)
