"""What a mixture is made of: sources, each a stream of small units of work in a fixed order.

    augmented   the few-shot examples of a synthesis run, rendered
    raw         the documents of that run which stayed plain text; with `augmented`, every document exactly once
    documents   all documents of that run as plain text
    rule-based  all of them, each with the pairs that rules find in it (baselines/reading_comprehension)
    pairs       instruction data: tuning examples (text, then pairs), or `{"question", "response"}` lines
    text        files with a text column: Parquet, JSON lines, MEDLINE, or a folder of a Hugging Face data set

A unit is what one task reads, renders and tokenizes: some segments, or a run of rows. How a source is cut into units
changes nothing about what comes out of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import groupby, islice, takewhile
from typing import Any, TypeVar

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.baselines.reading_comprehension.keywords import Keywords
from ipt_stream.baselines.reading_comprehension.mining import mine
from ipt_stream.config import Settings, fingerprint
from ipt_stream.corpus.data_folder import data_files
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import ShardSpec
from ipt_stream.corpus.readers import InputConfig, list_shards, listing_fingerprint, read_rows, resolve_shards
from ipt_stream.errors import InputError
from ipt_stream.ledger import read_ledger
from ipt_stream.mixture.curves import check_curve
from ipt_stream.mixture.keep import ChecksConfig, Keep, keep_rows
from ipt_stream.mixture.render import render
from ipt_stream.mixture.shares import DEFAULT_MAX_PASSES, Demand, Fill, Passes, Ratio
from ipt_stream.progress import log
from ipt_stream.synthesis.plan import load_plan
from ipt_stream.synthesis.prompt import Shot
from ipt_stream.synthesis.results import (
    Example,
    RawText,
    SegmentReference,
    examples_of,
    list_segments,
    load_documents,
    load_raw,
    load_rows,
)
from ipt_stream.synthesis.segment import SegmentRow
from ipt_stream.synthesis.tally import tally
from ipt_stream.tuning.pairs import TuningSource, read_source
from ipt_stream.tuning.source_file import load_source_file

ROWS_A_UNIT = 2048
ROWS_A_PART = 512
SEGMENTS_A_RUN = 16
"""Segments that share one reading of a compressed shard."""
ABOUT_BYTES_A_ROW = 2_000
KEYWORD_DOCUMENTS = 10_000
KEYWORD_SEGMENTS = 50
T = TypeVar("T")


class Kind(StrEnum):
    """What a source's path holds."""

    AUGMENTED = "augmented"
    RAW = "raw"
    DOCUMENTS = "documents"
    RULE_BASED = "rule-based"
    PAIRS = "pairs"
    TEXT = "text"


OF_A_RUN = (Kind.AUGMENTED, Kind.RAW, Kind.DOCUMENTS, Kind.RULE_BASED)


class RatioConfig(Settings):
    """So many tokens of this source for each of another's."""

    to: str
    """The other source's name."""
    tokens: float = Field(default=1.0, gt=0)
    """Tokens of this source for each token of the other."""


class SourceConfig(Settings):
    """One source of a mixture, and how much of it: exactly one of passes, ratio and fill."""

    kind: Kind
    """What `path` holds."""
    path: str | tuple[str, ...]
    """A synthesis run's directory (the first four kinds), or files, globs and directories (pairs, text)."""
    format: str | None = None
    """Of pairs: the source that reads them (`published/squad`, `mine.yaml`: tuning/source_file.py); null: found out,
    the project's own format or `{"question", "response"}` lines."""
    text_column: str | None = None
    """Of text: the column that holds it; null: found out."""
    split: str | None = None
    """Of text: the split to take of a data set's folder; null: the only one, or `train`."""
    shots: int | None = Field(default=None, ge=1)
    """Of augmented: cut examples to at most so many texts with their pairs (the paper's 1-shot); null: whole."""
    with_text: bool = True
    """Of augmented: false leaves the raw texts out, and only pairs are seen (the paper's "w/o Corpora")."""
    checks: ChecksConfig | None = None
    """Of augmented: which of its pairs are kept, by what `ipt-stream analyze` found (keep.py); a document that has none
    left is among the raw texts of the same run. null: all pairs."""
    converted_alone: bool = False
    """Of rule-based: only the documents that the run converted are given pairs, the others stay plain text; so it can
    be compared with the run's own pairs. false: all documents are."""
    passes: float | None = Field(default=None, ge=0)
    """How often training sees the whole source; fractions are fine."""
    ratio: RatioConfig | None = None
    """As many tokens as another source times a number."""
    fill: bool = False
    """As much as the other sources leave of the total."""
    max_passes: float = Field(default=DEFAULT_MAX_PASSES, gt=0)
    """With ratio or fill: more passes than this are an error."""
    curve: tuple[tuple[float, float], ...] = ()
    """When in training it comes: points [progress, weight], straight between; empty: evenly."""

    @model_validator(mode="after")
    def _one_demand(self) -> SourceConfig:
        given = [name for name in ("passes", "ratio") if getattr(self, name) is not None] + ["fill"] * self.fill
        if len(given) != 1:
            raise ValueError(f"exactly one of passes, ratio and fill (got {', '.join(given) or 'none'})")
        if self.kind in OF_A_RUN and not isinstance(self.path, str):
            raise ValueError(f"{self.kind} takes one path, a synthesis run's directory")
        for name, kind in (("format", Kind.PAIRS), ("text_column", Kind.TEXT), ("split", Kind.TEXT),
                           ("shots", Kind.AUGMENTED), ("checks", Kind.AUGMENTED),
                           ("converted_alone", Kind.RULE_BASED)):  # fmt: skip
            if getattr(self, name) not in (None, False) and self.kind is not kind:
                raise ValueError(f"{name} is for sources of kind {kind} (this is {self.kind})")
        if not self.with_text and self.kind is not Kind.AUGMENTED:
            raise ValueError(f"with_text=false is for sources of kind {Kind.AUGMENTED} (this is {self.kind})")
        if self.curve:
            check_curve(self.curve)
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """`path` as a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def demand(self) -> Demand:
        """How much of it, as the plan takes it."""
        if self.passes is not None:
            return Passes(self.passes)
        if self.ratio is not None:
            return Ratio(self.ratio.to, self.ratio.tokens, self.max_passes)
        return Fill(self.max_passes)


@dataclass(frozen=True, slots=True)
class Text:
    """What stands between two EOS tokens: a rendered example, or a document.

    Attributes:
        text_id: the id of the example or document.
        source: the shard or data set it is from.
        text: what is tokenized.
        pairs: the (instruction, response) pairs that were rendered into it.
    """

    text_id: str
    source: str
    text: str
    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Text:
        """From `asdict` as JSON gives it back."""
        pairs = tuple((instruction, response) for instruction, response in record["pairs"])
        return cls(record["text_id"], record["source"], record["text"], pairs)


@dataclass(frozen=True, slots=True)
class Part:
    """Some texts of a unit.

    Attributes:
        texts: the texts.
        documents: input documents in them.
        rejected: rows there that are no documents.
        kept: what was kept and left out of a synthesis run, as `keep.Kept` counts it; of raw texts, `left_out`
            documents that were raw, and `emptied` ones that are among the texts.
    """

    texts: list[Text]
    documents: int
    rejected: int = 0
    kept: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Making:
    """What the texts of a source are made with, the same for all of its units.

    Attributes:
        seed: of the templates' choices.
        shots: at most so many texts an example; None: all.
        with_text: whether examples hold their raw texts.
        keywords: what rules take for the words of this corpus; None where no rules are used.
        keep: which pairs and documents of a synthesis run are kept; None: all.
        converted_alone: whether rules look only at documents that the run converted.
    """

    seed: int
    shots: int | None = None
    with_text: bool = True
    keywords: Keywords | None = None
    keep: Keep | None = None
    converted_alone: bool = False


@dataclass(frozen=True, slots=True)
class SegmentsUnit:
    """Finished segments that follow each other in one shard, of which texts of one kind are taken."""

    references: tuple[SegmentReference, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class ExamplesUnit:
    """A run of examples to render."""

    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class QuestionsUnit:
    """A run of questions with their responses, to take as they are."""

    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class RowsUnit:
    """Rows of a shard, from `start_row` to before `stop_row` (None: to its end), whose documents are taken."""

    shard: ShardSpec
    start_row: int
    stop_row: int | None


Unit = SegmentsUnit | ExamplesUnit | QuestionsUnit | RowsUnit


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A synthesis run that has come to its end.

    Attributes:
        output: its directory.
        references: its segments, in the order of the input.
        augmented: documents that were augmented.
        raw: documents that stayed raw.
    """

    output: str
    references: tuple[SegmentReference, ...]
    augmented: int
    raw: int


def open_run(output: str) -> FinishedRun:
    """The synthesis run in `output`; its ledger is read here, and by no source.

    Raises:
        InputError: it is not finished: what is missing would be in no source.
        StorageError: there is none.
    """
    references, plan, found = list_segments(output), load_plan(output), tally(read_ledger(output))
    if not references:
        raise InputError(f"no finished segments in {output}", wanted="a synthesis run", fix="run ipt-stream synthesize")
    missing = sum(not found.is_whole(shard.index) for shard in plan.shards)
    if missing:
        raise InputError(
            f"the synthesis run in {output} is not finished",
            wanted=f"all {len(plan.shards):,} shards",
            got=f"{missing:,} that are not whole",
            fix="run ipt-stream synthesize to its end",
        )
    return FinishedRun(output, tuple(references), found.counts["augmented"], found.counts["raw"])


def listing(config: SourceConfig, run: FinishedRun | None) -> tuple[Any, int]:
    """What names a source's content (JSON), and its size in bytes, about.

    Args:
        config: the source.
        run: the synthesis run that it is made from; None for the kinds that are made from files.

    Raises:
        InputError: a path matches nothing.
    """
    if run is not None:
        plan = asdict(run.references[0].plan)
        size = sum(reference.rows for reference in run.references) * ABOUT_BYTES_A_ROW
        return {"plan": plan, "segments": [reference.sha256 for reference in run.references]}, size
    shards = list_shards(InputConfig(shards=_files(config)))
    found: Any = listing_fingerprint(shards)
    if config.format is not None:
        found = [found, fingerprint(load_source_file(config.format))]
    return found, sum(shard.size_bytes for shard in shards)


def units(name: str, config: SourceConfig, run: FinishedRun | None) -> Iterator[Unit]:
    """The units of source `name`, in the order of the data; arguments as for `listing`.

    Raises:
        InputError: a file is not what its kind says.
    """
    if run is not None:
        yield from _segment_units(config.kind, run.references)
    elif config.kind is Kind.PAIRS:
        yield from _pairs(name, config)
    else:
        yield from _row_units(config)


def texts(unit: Unit, making: Making) -> Iterator[Part]:
    """The texts of a unit, in order and in parts.

    Raises:
        InputError: a segment was altered, or a shard is broken.
    """
    match unit:
        case SegmentsUnit(references, Kind.AUGMENTED):
            for reference in references:
                kept = keep_rows(load_rows(reference), reference, making.keep)
                examples = examples_of(kept.rows)
                documents = {document_id for example in examples for document_id in example.document_ids}
                rendered = [text for example in examples for text in rendered_texts(example, making)]
                yield Part(rendered, len(documents), kept=kept.counts)
        case SegmentsUnit(references, kind):
            parts = _kept_texts(references, kind, making.keep)
            for reference, (found, counts) in zip(references, parts, strict=True):
                is_mined = _is_mined(reference, kind, making)
                made = [_with_rules(item, making) if is_mined(item) else _plain(item) for item in found]
                yield Part(made, len(found), kept=counts)
        case ExamplesUnit(examples):
            yield Part([_rendered(example, making.seed) for example in examples], len(examples))
        case QuestionsUnit(questions):
            yield Part(list(questions), len(questions))
        case RowsUnit():
            yield from _row_parts(unit)


def _kept_texts(
    references: Sequence[SegmentReference], kind: Kind, keep: Keep | None
) -> Iterator[tuple[list[RawText], Counter[str]]]:
    """The plain texts of segments that are kept, segment by segment, and how many are left out."""
    emptied: list[int] = []

    def rows_of(reference: SegmentReference) -> list[SegmentRow]:
        kept = keep_rows(load_rows(reference), reference, keep)
        emptied.append(kept.counts["emptied"])
        return kept.rows

    for found in load_raw(references, rows_of) if kind is Kind.RAW else load_documents(references):
        left = [text for text in found if keep is None or text.document_id not in keep.left_out]
        counts = Counter(left_out=len(found) - len(left), emptied=emptied.pop() if emptied else 0)
        yield left, Counter() if keep is None else counts


def keywords(run: FinishedRun, sample: int = KEYWORD_DOCUMENTS) -> Keywords:
    """What the rules take for the words of the corpus: counted over some of its documents, evenly spread."""
    step = max(len(run.references) // KEYWORD_SEGMENTS, 1)
    chosen = run.references[::step]
    each = -(-sample // len(chosen))
    return Keywords.of(
        item.text for reference in chosen for found in load_documents([reference]) for item in found[:each]
    )  # fmt: skip


def rendered_texts(example: Example, making: Making) -> list[Text]:
    """What training sees of `example`: one text, or one a part where `making` cuts it."""
    return [_rendered(part, making.seed) for part in _cut(example, making)]


def _cut(example: Example, making: Making) -> Iterator[Example]:
    """`example` as it is, or in parts of so many shots, or without its texts."""
    shots = tuple(shot if making.with_text else Shot("", shot.pairs) for shot in example.shots)
    if not making.with_text:
        kept = [index for index, shot in enumerate(shots) if shot.pairs]
        shots = tuple(shots[index] for index in kept)
        ids = tuple(example.document_ids[index] for index in kept)
    else:
        ids = example.document_ids
    size = making.shots or max(len(shots), 1)
    for start in range(0, len(shots), size):
        name = example.example_id if start == 0 else f"{example.example_id}+{start}"
        yield Example(name, example.source, ids[start : start + size], shots[start : start + size])


def _is_mined(reference: SegmentReference, kind: Kind, making: Making) -> Callable[[RawText], bool]:
    """Which documents of a segment rules look at."""
    if not making.converted_alone:
        return lambda document: kind is Kind.RULE_BASED
    converted = {row.document_id for row in load_rows(reference)}
    return lambda document: document.document_id in converted


def _plain(document: RawText) -> Text:
    return Text(document.document_id, document.source, document.text)


def _with_rules(document: RawText, making: Making) -> Text:
    pairs = mine(document.text, making.keywords, making.seed, document.document_id)
    shot = Shot(document.text, pairs)
    return _rendered(Example(document.document_id, document.source, (document.document_id,), (shot,)), making.seed)


def _rendered(example: Example, seed: int) -> Text:
    pairs = tuple((pair.instruction, pair.response) for shot in example.shots for pair in shot.pairs)
    return Text(example.example_id, example.source, render(example, seed), pairs)


def _segment_units(kind: Kind, references: Sequence[SegmentReference]) -> Iterator[Unit]:
    """Segments one by one, or runs of them where documents are read again from shards that are only read whole."""
    again = kind is not Kind.AUGMENTED and references[0].plan.fraction < 1.0
    for _, of_shard in groupby(references, key=lambda reference: reference.shard.index):
        found = list(of_shard)
        size = SEGMENTS_A_RUN if again and found[0].shard.rows is None else 1
        for start in range(0, len(found), size):
            yield SegmentsUnit(tuple(found[start : start + size]), kind)


def _row_units(config: SourceConfig) -> Iterator[Unit]:
    """Runs of rows of the shards that say how many they have; the others whole, each read by one core."""
    for shard in resolve_shards(InputConfig(shards=_files(config), text_column=config.text_column)):
        if shard.rows is None:
            yield RowsUnit(shard, 0, None)
        else:
            for start in range(0, shard.rows, ROWS_A_UNIT):
                yield RowsUnit(shard, start, min(start + ROWS_A_UNIT, shard.rows))


def _files(config: SourceConfig) -> tuple[str, ...]:
    return data_files(config.paths, config.split) if config.kind is Kind.TEXT else config.paths


def _pairs(name: str, config: SourceConfig) -> Iterator[Unit]:
    """Instruction data, file by file; ids count through the whole source."""
    number = 0
    if config.format is None:
        for path in (shard.path for shard in list_shards(InputConfig(shards=config.paths))):
            rows = list(_question_lines(path))  # instruction data is small: a fraction of a billion tokens
            if rows:
                numbered = (Text(f"{name}:{number + i}", os.path.basename(path), text) for i, text in enumerate(rows))
                yield from map(QuestionsUnit, _runs(numbered))
                number += len(rows)
                continue
            for unit in _tuning_units(name, number, TuningSource(path=path)):
                number += len(unit.examples)
                yield unit
        return
    for path in config.paths:
        for unit in _tuning_units(name, number, TuningSource(path=path, source=config.format)):
            number += len(unit.examples)
            yield unit


def _tuning_units(name: str, first: int, source: TuningSource) -> Iterator[ExamplesUnit]:
    found, left_out = read_source(source, max_context_characters=None, max_contexts=sys.maxsize)
    if left_out:
        log.info("%s: left out of %s: %s", name, source.path, ", ".join(f"{n} {why}" for why, n in left_out.items()))
    examples = []
    for number, item in enumerate(found, first):
        row_id = f"{name}:{number}"
        examples.append(Example(f"{row_id}#0", item.source, (row_id,), (Shot(item.context, item.pairs),)))
    yield from map(ExamplesUnit, _runs(examples))


def _question_lines(path: str) -> Iterator[str]:
    """`{question} {response}` of each line (paper, appendix C); nothing where the first line is of another shape.

    Raises:
        InputError: a later line has no question or no response.
    """
    any_yet = False
    for number, line in enumerate(storage.read_bytes(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            question, response = row["question"], row["response"]
            if not isinstance(question, str) or not isinstance(response, str):
                raise TypeError("a question or response that is no string")
            f"{question}{response}".encode()
        except (ValueError, KeyError, TypeError) as error:
            if not any_yet:
                return
            wanted = '{"question", "response"}'
            raise InputError(f"{path}, line {number} is no question", wanted=wanted, got=f"{error!r}") from error
        any_yet = True
        yield f"{question} " + response


def _row_parts(unit: RowsUnit) -> Iterator[Part]:
    rows, stop = read_rows(unit.shard, unit.start_row), unit.stop_row
    if stop is not None:
        rows = takewhile(lambda row: row.row < stop, rows)
    for run in _runs(rows):
        found = [Text(row.document_id, row.source, row.text) for row in run if isinstance(row, Document)]
        yield Part(found, len(found), len(run) - len(found))


def _runs(items: Iterable[T]) -> Iterator[tuple[T, ...]]:
    """`items` in tuples of `ROWS_A_PART`, the last shorter."""
    running = iter(items)
    while run := tuple(islice(running, ROWS_A_PART)):
        yield run
