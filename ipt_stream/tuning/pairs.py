"""What the synthesizer is tuned on: contexts, each with all of its instruction-response pairs (paper, section 2.1).

A source is one data set. Reading it goes in four steps, and what each leaves out is counted by reason:

    a reader gives (context, pair, where the answer stands) -> pairs are gathered by context
        -> contexts longer than the limit are cut into windows, each keeping the pairs whose answers it holds
        -> the contexts with the most pairs are kept, at most 10,000 a source (appendix B)

How a data set is read, its source file says (source_file.py). The project's own format needs none: JSON lines of
`{"source", "context", "pairs": [{"instruction", "response"}]}`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.config import Settings, fingerprint
from ipt_stream.corpus.pair import COT_REQUEST, OPTIONS_HEADER, Pair
from ipt_stream.corpus.selection import is_selected
from ipt_stream.errors import InputError
from ipt_stream.tuning.render import Found, row_pairs
from ipt_stream.tuning.rows import data_files, json_lines, reported, source_rows
from ipt_stream.tuning.source_file import SourceFile, is_path, load_source_file, source_name
from ipt_stream.tuning.windows import windows

MAX_CONTEXTS = 10_000


class PairFormat(StrEnum):
    """The four formats of a pair (paper, table 7)."""

    FREE_FORM = "free_form"
    MULTIPLE_CHOICE = "multiple_choice"
    FREE_FORM_COT = "free_form_cot"
    MULTIPLE_CHOICE_COT = "multiple_choice_cot"

    @classmethod
    def of(cls, pair: Pair) -> PairFormat:
        """The format that a pair's instruction is in."""
        thinks = pair.instruction.endswith(COT_REQUEST)
        if OPTIONS_HEADER in pair.instruction:
            return cls.MULTIPLE_CHOICE_COT if thinks else cls.MULTIPLE_CHOICE
        return cls.FREE_FORM_COT if thinks else cls.FREE_FORM


@dataclass(frozen=True, slots=True)
class TuningExample:
    """A raw text and all the pairs that belong to it.

    Attributes:
        source: the data set it is from; examples of one source share sequences.
        context: the raw text.
        pairs: at least one pair.
        origin: names the whole context that this one is a window of; empty where it is whole.
    """

    source: str
    context: str
    pairs: tuple[Pair, ...]
    origin: str = ""

    @property
    def document(self) -> str:
        """Names the whole context by its words: the same for all its windows, and for the same text elsewhere."""
        return self.origin or _named(self.context)


class TuningSource(Settings):
    """One data set to tune on. A text alone stands for `{source: ...}`."""

    source: str | None = None
    """A packaged source (`squad`; tuning/sources/) or the path of a source file of your own (`mine.yaml`); null: `path`
    holds examples in the project's own format."""
    path: str | None = None
    """A file, a glob or a directory; local, or an object-store URL: where the data is, in place of what the source file
    says. Null: as it says; a file of your own means files beside it."""
    name: str | None = None
    """What its examples are called; null: the source file's name, or, in the project's own format, each row's own."""
    thought_share: float | None = Field(default=None, ge=0, le=1)
    """In this share of the pairs that have a rationale it is the thought; null: as the source file says."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"source": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.source is None and self.path is None:
            raise ValueError("a source, a path or both")
        if self.source is None and self.thought_share is not None:
            raise ValueError("thought_share is for a source with rationales; examples are as they are")
        _ = self.file
        return self

    @cached_property
    def file(self) -> SourceFile | None:
        """Its source file; None for the project's own format. Raises `ConfigError` as `load_source_file` does."""
        return None if self.source is None else load_source_file(self.source)

    @property
    def label(self) -> str:
        """What it is called where its rows have no names of their own, and in messages."""
        if self.name is not None:
            return self.name
        return source_name(self.source) if self.source is not None else os.path.basename(str(self.path))

    @property
    def root(self) -> str | None:
        """Where its files are; None: where its source file says."""
        if self.path is not None or self.source is None or self.file is None:
            return self.path
        return os.path.dirname(self.source) or "." if is_path(self.source) and self.file.data.hub is None else None


def listing(source: TuningSource) -> list[Any]:
    """What names a source's content, as JSON: its source file, and local files with their sizes.

    Data on the hub is named by id and revision alone: without a commit as revision, it may change unnoticed.

    Raises:
        InputError: nothing is at its path.
    """
    file = source.file
    if file is None:
        return [[path, storage.size(path)] for path in storage.expand([str(source.path)])]
    found: list[Any] = [fingerprint(file)]
    if file.data.hub is None or source.root is not None:
        for place in (file.data, *(join.data for join in file.joins)):
            found += [[path, storage.size(path)] for path, _ in data_files(place, source.label, source.root)]
    return found


def read_examples(path: str) -> list[TuningExample]:
    """The examples of JSON-lines files. Raises `InputError`, naming file and line, on a row of another shape."""
    return read_source(TuningSource(path=path), max_context_characters=None)[0]


def read_source(
    source: TuningSource, max_context_characters: int | None, max_contexts: int = MAX_CONTEXTS
) -> tuple[list[TuningExample], Counter[str]]:
    """The examples of `source`, in the order of the data, and how much was cut or left out, by reason.

    The reasons: those of `Left` (render.py), `contexts_cut` (cut into windows), `windows_without_pairs` (of those),
    `duplicate_pairs` (the same instruction again, ignoring case), `contexts_over_the_limit`.

    Raises:
        InputError: nothing matches the path, a file is not what the format says, or its rows don't fit its source file.
    """
    counts: Counter[str] = Counter()
    gathered: dict[tuple[str, str], dict[str, Found]] = {}
    for name, context, found in _read(source, counts):
        instruction, response = found.pair.instruction.strip(), found.pair.response.strip()
        if not instruction or not response or not context.strip():
            counts["empty_pairs"] += 1
            continue
        pairs = gathered.setdefault((name, context), {})
        if instruction.casefold() in pairs:
            counts["duplicate_pairs"] += 1
            continue
        pairs[instruction.casefold()] = found._replace(pair=Pair(instruction, response))
    examples: list[TuningExample] = []
    for (name, context), pairs in gathered.items():
        if max_context_characters is None or len(context) <= max_context_characters:
            examples.append(TuningExample(name, context, tuple(found.pair for found in pairs.values())))
            continue
        counts["contexts_cut"] += 1
        origin = _named(context)
        for text, held in windows(context, list(pairs.values()), max_context_characters):
            if held:
                examples.append(TuningExample(name, text, held, origin))
            else:
                counts["windows_without_pairs"] += 1
    if not examples:
        left = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        fix = "check the path and the source file"
        raise InputError(f"source {source.label} has no pairs", wanted="at least one", got=left or "no rows", fix=fix)
    best = sorted(range(len(examples)), key=lambda i: -len(examples[i].pairs))[:max_contexts]
    counts["contexts_over_the_limit"] = len(examples) - len(best)
    return [examples[i] for i in sorted(best)], +counts


def split_held_out(
    examples: Iterable[TuningExample], share: float, seed: int
) -> tuple[list[TuningExample], list[TuningExample]]:
    """The examples to tune on, and about `share` of them held out, by a hash of (seed, the words of the whole context).

    No context is in both, whole or as a window, in whatever source it is; and raising the share keeps all held out so
    far.
    """
    kept: list[TuningExample] = []
    held: list[TuningExample] = []
    for example in examples:
        (held if is_selected(seed, f"held out:{example.document}", share) else kept).append(example)
    return kept, held


def examples_text(examples: Sequence[TuningExample]) -> bytes:
    """The examples as JSON lines in the project's own format."""
    lines = (
        {
            "source": example.source,
            "context": example.context,
            "pairs": [{"instruction": pair.instruction, "response": pair.response} for pair in example.pairs],
        }
        for example in examples
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _named(context: str) -> str:
    return hashlib.sha256(" ".join(context.split()).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _read(source: TuningSource, counts: Counter[str]) -> Iterator[tuple[str, str, Found]]:
    """Every pair with the name of its source and its context; what rows don't give is counted."""
    file = source.file
    if file is None:
        yield from _own_format(source)
        return
    name = source.label
    share = file.thought_share if source.thought_share is None else source.thought_share
    for place, row in source_rows(file, name, source.root):
        with reported(name, place, row):
            context, pairs = row_pairs(file, row, share, counts)
        for found in pairs:
            yield name, context, found


def _own_format(source: TuningSource) -> Iterator[tuple[str, str, Found]]:
    for path in storage.expand([str(source.path)]):
        for number, row in json_lines(path):
            try:
                context, name, pairs = row["context"], row["source"], row["pairs"]
                fields = [context, name, *(pair[key] for pair in pairs for key in ("instruction", "response"))]
            except (KeyError, TypeError) as error:
                raise _malformed(path, number + 1, f"missing or wrong: {error}") from error
            if not pairs or not all(isinstance(field, str) for field in fields):
                raise _malformed(path, number + 1, "no pairs" if not pairs else "a field that is not text")
            for pair in pairs:
                found = Found(Pair(pair["instruction"], pair["response"]), pair["response"])
                yield source.name or name, context, found


def _malformed(path: str, line: int, got: str) -> InputError:
    wanted = '{"source", "context", "pairs": [{"instruction", "response"}, ...]}'
    return InputError(f"{path}, line {line} is not a tuning example", wanted=wanted, got=got, fix="mend or remove it")
