"""What a tuning is made from: the examples of all sources, some of them held out, and what was left out of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipt_stream.tuning.pairs import PairFormat, TuningExample, TuningSource, read_source, split_held_out

if TYPE_CHECKING:
    from ipt_stream.training.tune import TuneConfig


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """One source, counted.

    Attributes:
        label: what it is called.
        contexts: how many it has, windows of long ones each, those held out too.
        pairs: how many these have, by format.
        held_out: how many of the contexts are held out.
        left_out: what was cut or left out, by reason.
    """

    label: str
    contexts: int
    pairs: Mapping[PairFormat, int]
    held_out: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TuneData:
    """The examples to tune on, those to measure on, and what they are from."""

    train: list[TuningExample]
    held_out: list[TuningExample]
    sources: tuple[SourceCounts, ...]

    def left_out(self) -> Counter[str]:
        """What was cut or left out of all sources, by reason."""
        return sum((Counter(source.left_out) for source in self.sources), Counter())


def read_data(config: TuneConfig) -> TuneData:
    """Read all sources of `config`. Raises `InputError` where one can't be read."""
    train: list[TuningExample] = []
    held: list[TuningExample] = []
    counted: list[SourceCounts] = []
    for source in config.sources:
        examples, left = read_source(source, config.max_context_characters, config.max_contexts)
        kept, out = split_held_out(examples, config.held_out, config.seed)
        train += kept
        held += out
        counted.append(_counts(source, examples, len(out), left))
    for source in config.validation:
        examples, left = read_source(source, config.max_context_characters, config.max_contexts)
        held += examples
        counted.append(_counts(source, examples, len(examples), left))
    return TuneData(train, held, tuple(counted))


def _counts(
    source: TuningSource, examples: Sequence[TuningExample], held_out: int, left: Mapping[str, int]
) -> SourceCounts:
    formats = Counter(PairFormat.of(pair) for example in examples for pair in example.pairs)
    return SourceCounts(source.label, len(examples), formats, held_out, left)
