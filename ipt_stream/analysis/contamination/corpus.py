"""What is searched: the documents of a synthesis run with their pairs, and raw shards; in parts that cores take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from ipt_stream.config import fingerprint
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import ShardBroken, ShardSpec
from ipt_stream.corpus.pair import Pair
from ipt_stream.corpus.readers import InputConfig, listing_fingerprint, read_rows, resolve_shards
from ipt_stream.errors import ConfigError
from ipt_stream.mixture.sources import ABOUT_BYTES_A_ROW, SEGMENTS_A_RUN, open_run
from ipt_stream.progress import log
from ipt_stream.synthesis.results import SegmentReference, load_content, unselected_documents
from ipt_stream.synthesis.segment import Status, outcome_of

ROWS_A_PART = 16_384
RUN, SHARDS = "run", "shards"


@dataclass(frozen=True, slots=True)
class SearchedDocument:
    """A document as a model may see it.

    Attributes:
        document_id: `shard:row`.
        text: the raw text, whole.
        pairs: what was made from it, in order; empty where it stays raw.
    """

    document_id: str
    text: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class SegmentsPart:
    """Finished segments of a synthesis run that follow each other in one shard."""

    references: tuple[SegmentReference, ...]
    corpus = RUN

    @property
    def name(self) -> str:
        """By the shard, and the first row of it."""
        first = self.references[0]
        return f"{RUN}-{first.shard.index:06d}-{first.start_row:010d}"


@dataclass(frozen=True, slots=True)
class RowsPart:
    """Rows of a raw shard, from `start_row` to before `stop_row`; None: to its end."""

    shard: ShardSpec
    start_row: int
    stop_row: int | None
    corpus = SHARDS

    @property
    def name(self) -> str:
        """By the shard, and the first row of it."""
        return f"{SHARDS}-{self.shard.index:06d}-{self.start_row:010d}"


CorpusPart = SegmentsPart | RowsPart


@dataclass(frozen=True, slots=True)
class Corpus:
    """All that is searched.

    Attributes:
        parts: in the order of the input; where they are cut changes nothing about what is found.
        listing: names its content, as JSON.
        size_bytes: about how much it is.
    """

    parts: tuple[CorpusPart, ...]
    listing: Any
    size_bytes: int


def open_corpus(synthesis: str | None, shards: InputConfig | None) -> Corpus:
    """The documents of a finished synthesis run, of raw shards, or of both.

    Raises:
        ConfigError: neither is given.
        InputError: the run is not finished, or a shard is not what it should be.
    """
    if synthesis is None and shards is None:
        raise ConfigError(
            "there is nothing to search",
            wanted="a synthesis run or raw shards",
            got="neither synthesis nor contamination.shards",
            fix="set one of them",
        )
    parts: list[CorpusPart] = []
    listing: dict[str, Any] = {}
    size = 0
    if synthesis is not None:
        run = open_run(synthesis)
        parts += _segment_parts(run.references)
        plan = asdict(run.references[0].plan)
        listing[RUN] = {"plan": plan, "segments": fingerprint([one.sha256 for one in run.references])}
        size += sum(one.rows for one in run.references) * ABOUT_BYTES_A_ROW
    if shards is not None:
        resolved = resolve_shards(shards)
        for shard in resolved:
            parts += _row_parts(shard)
        columns = sorted({shard.text_column for shard in resolved})
        listing[SHARDS] = {"listing": listing_fingerprint(resolved), "columns": columns}
        size += sum(shard.size_bytes for shard in resolved)
    return Corpus(tuple(parts), listing, size)


def documents(part: CorpusPart, broken: list[str]) -> Iterator[SearchedDocument]:
    """The documents of a part, but for those that were rejected, in order; a shard's break is added to `broken`.

    Raises:
        InputError: a segment was altered, or its shard was.
    """
    if isinstance(part, SegmentsPart):
        yield from _of_segments(part.references)
        return
    try:
        for row in read_rows(part.shard, part.start_row):
            if part.stop_row is not None and row.row >= part.stop_row:
                return
            if isinstance(row, Document):
                yield SearchedDocument(row.document_id, row.text, ())
    except ShardBroken as error:
        log.warning("%s", error)
        broken.append(str(error))


def _of_segments(references: Sequence[SegmentReference]) -> Iterator[SearchedDocument]:
    reads_again = references[0].plan.fraction < 1.0
    unselected = unselected_documents(references) if reads_again else None
    for reference in references:
        for document_id, found in groupby(_rows(reference), attrgetter("document_id")):
            pieces = list(found)
            if outcome_of(piece.status for piece in pieces) is not Status.FAILED:
                pairs = tuple(pair for piece in pieces for pair in piece.pairs)
                yield SearchedDocument(document_id, "".join(piece.text for piece in pieces), pairs)
        if unselected is not None:
            for document in next(unselected):
                yield SearchedDocument(document.document_id, document.text, ())


class _Row(NamedTuple):
    """What is looked at of a segment's row."""

    document_id: str
    text: str
    pairs: tuple[Pair, ...]
    status: Status


def _rows(reference: SegmentReference) -> Iterator[_Row]:
    """The rows of a segment, by document and piece: their four columns alone, which is three times as fast as all."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    # Not `read_table`, which imports pandas: half a second a process. Nor threads: a part has one core.
    file = ParquetFile(pa.BufferReader(load_content(reference)))
    table = file.read(columns=list(_Row._fields), use_threads=False).combine_chunks()
    for batch in table.to_batches():
        document_ids, texts, statuses = (batch.column(name).to_pylist() for name in ("document_id", "text", "status"))
        lists = batch.column("pairs")
        values = lists.flatten()
        instructions, responses = (values.field(name).to_pylist() for name in ("instruction", "response"))
        pairs = list(map(Pair, instructions, responses))
        counts = lists.value_lengths().to_pylist()
        at = 0
        for document_id, text, status, count in zip(document_ids, texts, statuses, counts, strict=True):
            yield _Row(document_id, text, tuple(pairs[at : at + count]), Status(status))
            at += count


def _segment_parts(references: Sequence[SegmentReference]) -> Iterator[SegmentsPart]:
    """Segments one by one, or runs of them where documents are read again from shards that are only read whole."""
    again = references[0].plan.fraction < 1.0
    for _, of_shard in groupby(references, key=lambda reference: reference.shard.index):
        found = list(of_shard)
        size = SEGMENTS_A_RUN if again and found[0].shard.rows is None else 1
        for start in range(0, len(found), size):
            yield SegmentsPart(tuple(found[start : start + size]))


def _row_parts(shard: ShardSpec) -> Iterator[RowsPart]:
    """Runs of rows of a shard that says how many it has; another whole, read by one core."""
    if shard.rows is None:
        yield RowsPart(shard, 0, None)
        return
    for start in range(0, shard.rows, ROWS_A_PART):
        yield RowsPart(shard, start, min(start + ROWS_A_PART, shard.rows))
