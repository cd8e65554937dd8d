"""What a mixture is made of: sources, each a stream of small units of work in a fixed order.

    augmented   the few-shot examples of a synthesis run, rendered
    raw         the documents of that run which stayed plain text; with `augmented`, every document exactly once
    pairs       instruction data: tuning examples (text, then pairs), or `{"question", "response"}` lines
    text        any Parquet, JSON-lines or MEDLINE files with a text column

A unit is what one task renders and tokenizes: a segment, or a run of rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.readers import InputConfig, list_shards, listing_fingerprint, read_rows, resolve_shards
from ipt_stream.errors import InputError
from ipt_stream.mixture.render import render
from ipt_stream.mixture.shares import DEFAULT_MAX_PASSES, Demand, Fill, Passes, Ratio
from ipt_stream.progress import log
from ipt_stream.synthesis.prompt import Shot
from ipt_stream.synthesis.results import Example, SegmentReference, list_segments, load_segment
from ipt_stream.tuning.pairs import SourceFormat, TuningSource, read_source

ROWS_A_UNIT = 512
T = TypeVar("T")


class Kind(StrEnum):
    """What a source's path holds."""

    AUGMENTED = "augmented"
    RAW = "raw"
    PAIRS = "pairs"
    TEXT = "text"


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
    """A synthesis run's directory (augmented, raw), or files, globs and directories (pairs, text)."""
    format: SourceFormat | None = None
    """Of pairs: how they are laid out; null: found out, the project's own or `{"question", "response"}` lines."""
    text_column: str | None = None
    """Of text: the column that holds it; null: found out."""
    passes: float | None = Field(default=None, ge=0)
    """How often training sees the whole source; fractions are fine."""
    ratio: RatioConfig | None = None
    """As many tokens as another source times a number."""
    fill: bool = False
    """As much as the other sources leave of the total."""
    max_passes: float = Field(default=DEFAULT_MAX_PASSES, gt=0)
    """With ratio or fill: more passes than this are an error."""

    @model_validator(mode="after")
    def _one_demand(self) -> SourceConfig:
        given = [name for name in ("passes", "ratio") if getattr(self, name) is not None] + ["fill"] * self.fill
        if len(given) != 1:
            raise ValueError(f"exactly one of passes, ratio and fill (got {', '.join(given) or 'none'})")
        if self.kind in (Kind.AUGMENTED, Kind.RAW) and not isinstance(self.path, str):
            raise ValueError(f"{self.kind} takes one path, a synthesis run's directory")
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
    """

    text_id: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class SegmentUnit:
    """A finished segment, of which the examples or the raw texts are taken."""

    reference: SegmentReference
    kind: Kind


@dataclass(frozen=True, slots=True)
class ExamplesUnit:
    """A run of examples to render."""

    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class TextsUnit:
    """A run of texts to take as they are."""

    texts: tuple[Text, ...]


Unit = SegmentUnit | ExamplesUnit | TextsUnit


def listing(config: SourceConfig) -> tuple[Any, int]:
    """What names a source's content (JSON), and its size in bytes.

    Raises:
        InputError: a path matches nothing.
        StorageError: there is no synthesis run in the path.
    """
    if config.kind in (Kind.AUGMENTED, Kind.RAW):
        references = list_segments(config.paths[0])
        if not references:
            raise InputError(
                f"no finished segments in {config.paths[0]}", wanted="a synthesis run", fix="run ipt-stream synthesize"
            )
        plan = asdict(references[0].plan)
        size = sum(storage.size(reference.path) for reference in references)
        return {"plan": plan, "segments": [reference.sha256 for reference in references]}, size
    shards = list_shards(InputConfig(shards=config.paths))
    return listing_fingerprint(shards), sum(shard.size_bytes for shard in shards)


def units(name: str, config: SourceConfig) -> Iterator[Unit]:
    """The units of source `name`, in the order of the data; read as they are asked for.

    Raises:
        InputError: a file is not what its kind says.
    """
    match config.kind:
        case Kind.AUGMENTED | Kind.RAW:
            for reference in list_segments(config.paths[0]):
                yield SegmentUnit(reference, config.kind)
        case Kind.PAIRS:
            yield from _pairs(name, config)
        case Kind.TEXT:
            yield from map(TextsUnit, _runs(_documents(config)))


def texts(unit: Unit, seed: int) -> tuple[list[Text], int]:
    """The texts of a unit, in order, and how many input documents they hold. Pure but for reading a segment."""
    match unit:
        case SegmentUnit(reference, Kind.AUGMENTED):
            examples = load_segment(reference).examples
            documents = {document_id for example in examples for document_id in example.document_ids}
            return [_rendered(example, seed) for example in examples], len(documents)
        case SegmentUnit(reference, _):
            raw = load_segment(reference).raw
            return [Text(item.document_id, item.source, item.text) for item in raw], len(raw)
        case ExamplesUnit(examples):
            return [_rendered(example, seed) for example in examples], len(examples)
        case TextsUnit(plain):
            return list(plain), len(plain)


def _rendered(example: Example, seed: int) -> Text:
    return Text(example.example_id, example.source, render(example, seed))


def _pairs(name: str, config: SourceConfig) -> Iterator[Unit]:
    """Instruction data, file by file; ids count through the whole source."""
    number = 0
    if config.format is None:
        for path in storage.expand(config.paths):
            rows = list(_question_lines(path))  # instruction data is small: a fraction of a billion tokens
            if rows:
                numbered = (Text(f"{name}:{number + i}", os.path.basename(path), text) for i, text in enumerate(rows))
                yield from map(TextsUnit, _runs(numbered))
                number += len(rows)
                continue
            for unit in _tuning_units(name, number, TuningSource(path=path)):
                number += len(unit.examples)
                yield unit
        return
    for path in config.paths:
        for unit in _tuning_units(name, number, TuningSource(path=path, format=config.format)):
            number += len(unit.examples)
            yield unit


def _tuning_units(name: str, first: int, source: TuningSource) -> Iterator[ExamplesUnit]:
    found, left_out = read_source(source, max_context_characters=None)
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
        except (ValueError, KeyError, TypeError) as error:
            if not any_yet:
                return
            wanted = '{"question", "response"}'
            raise InputError(f"{path}, line {number} is no question", wanted=wanted, got=f"{error!r}") from error
        any_yet = True
        yield f"{question} " + str(response)


def _documents(config: SourceConfig) -> Iterator[Text]:
    rejected = 0
    for shard in resolve_shards(InputConfig(shards=config.paths, text_column=config.text_column)):
        for row in read_rows(shard):
            if isinstance(row, Document):
                yield Text(row.document_id, row.source, row.text)
            else:
                rejected += 1
    if rejected:
        log.info("%d rows of %s are no documents and are left out", rejected, ", ".join(config.paths))


def _runs(items: Iterable[T]) -> Iterator[tuple[T, ...]]:
    """`items` in tuples of `ROWS_A_UNIT`, the last shorter."""
    running = iter(items)
    while run := tuple(islice(running, ROWS_A_UNIT)):
        yield run
