"""From examples to training batches: whole shots of one source, in the synthesizer's format, loss on the pairs only.

    example -> shot:     `<s> <CON> text </CON>\\n\\n` + pairs + `</s>` as tokens; loss on what follows the blank line
    shots   -> sequence: k whole shots of one source, different contexts, at most `max_seq_len` tokens (appendix B)
    sequences -> batch:  as many as fill `tokens_per_batch` when padded to the longest, those of like length together

Training runs through phases. Small models learn to answer about the text they see only from single shots; which of
several texts is meant they learn afterwards, from mixed ones: `[{shots: 1, share: 0.4}, {shots: [1, 3], share: 0.6}]`
spends 40% of the steps on single shots and the rest on one to three a sequence. The paper's own way, sequences filled
up to the length, is `[{shots: [1, null], share: 1}]`.

Everything here is a pure function of examples, settings and a seed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from ipt_stream.config import Settings
from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import TrainingError
from ipt_stream.synthesis.prompt import Shot, format_context, format_shot, neutralize
from ipt_stream.tuning.pairs import TuningExample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
POOL_BATCHES = 32


class Phase(Settings):
    """A part of training in which sequences hold so many shots."""

    shots: int | tuple[int, int | None] = 1
    """Shots a sequence: exactly so many, or uniformly from [least, most]; most null: as many as fit in the length."""
    share: float = Field(default=1.0, gt=0)
    """Share of the training steps, relative to the other phases' shares."""
    sources: tuple[str, ...] | None = None
    """Only the shots of these sources, such as those with short texts to begin with; null: all."""

    @field_validator("shots")
    @classmethod
    def _ordered(cls, shots: int | tuple[int, int | None]) -> int | tuple[int, int | None]:
        least, most = (shots, shots) if isinstance(shots, int) else shots
        if least < 1 or (most is not None and most < least):
            raise ValueError("1 or more shots, or [least, most] with least <= most")
        return shots

    @property
    def bounds(self) -> tuple[int, int | None]:
        """The least and the most shots of a sequence."""
        return (self.shots, self.shots) if isinstance(self.shots, int) else self.shots


@dataclass(frozen=True, slots=True)
class EncodedShot:
    """One shot as tokens.

    Attributes:
        source: the data set it is from.
        context: number of the example it is from; a sequence never holds two shots of one context.
        tokens: int32, shape (length,).
        pairs_from: the index of the first token that the loss counts; all from there on are pairs and the `</s>`.
    """

    source: str
    context: int
    tokens: NDArray[np.int32]
    pairs_from: int


FewShot = tuple[int, ...]
"""A training sequence: the indices of its shots, in order."""


def shot_of(example: TuningExample, pairs: Sequence[Pair]) -> Shot:
    """The shot that the tokenizer is given: markers that stand in the data are made plain text first."""
    clean = tuple(Pair(neutralize(pair.instruction), neutralize(pair.response)) for pair in pairs)
    return Shot(neutralize(example.context), clean)


def encode_shots(
    examples: Sequence[TuningExample], tokenizer: PreTrainedTokenizerBase, max_seq_len: int
) -> tuple[list[EncodedShot], Counter[str]]:
    """Every example as one shot of at most `max_seq_len` tokens, and how many were cut or left out, by reason.

    An example that is too long is cut between its pairs into shots that repeat the context (`examples_split`); a
    context too long even for one of its pairs is left out with that pair (`pairs_too_long`).

    Raises:
        TrainingError: the tokenizer merges characters across a shot's end or the blank line before its pairs, so that
            sequences, or prompts, would not be the tokens of their text.
    """
    import numpy as np

    counts: Counter[str] = Counter()
    encoded: dict[tuple[int, int], EncodedShot] = {}
    pending = [(number, 0, len(example.pairs)) for number, example in enumerate(examples)]
    while pending:
        batch, pending = pending[:512], pending[512:]
        shots = [shot_of(examples[number], examples[number].pairs[first:last]) for number, first, last in batch]
        output = tokenizer([format_shot(shot) for shot in shots], add_special_tokens=False, return_offsets_mapping=True)
        rows = zip(batch, shots, output["input_ids"], output["offset_mapping"], strict=True)
        for (number, first, last), shot, ids, offsets in rows:
            if len(ids) > max_seq_len and last - first > 1:
                counts["examples_split"] += first == 0 and last == len(examples[number].pairs)
                middle = (first + last) // 2
                pending += [(number, first, middle), (number, middle, last)]
            elif len(ids) > max_seq_len:
                counts["pairs_too_long"] += 1
            else:
                boundary = len(format_context(shot.text))
                pairs_from = next(i for i, (_, end) in enumerate(offsets) if end > boundary)
                if offsets[pairs_from][0] < boundary:
                    raise _merges("the blank line before the pairs")
                tokens = np.asarray(ids, dtype=np.int32)
                encoded[number, first] = EncodedShot(examples[number].source, number, tokens, pairs_from)
    kept = [encoded[key] for key in sorted(encoded)]
    if not kept:
        raise TrainingError("no example fits in a sequence", wanted="a larger max_seq_len", got=str(max_seq_len))
    _check_borders(examples[0], tokenizer)
    return kept, +counts


def _check_borders(example: TuningExample, tokenizer: PreTrainedTokenizerBase) -> None:
    """Two shots in a row must be the tokens of their joined text; one look is enough, the borders are all alike."""
    text = format_shot(shot_of(example, example.pairs[:1]))
    once, twice = tokenizer([text, text * 2], add_special_tokens=False)["input_ids"]
    if twice != once * 2:
        raise _merges("</s><s>")


def _merges(place: str) -> TrainingError:
    fix = "use a tokenizer for which <s> and </s> are special tokens, and that keeps line breaks apart from words"
    return TrainingError("the tokenizer can't hold the synthesizer's format", got=f"tokens across {place}", fix=fix)


def form_sequences(
    shots: Sequence[EncodedShot], least: int, most: int | None, max_seq_len: int, seed: int
) -> list[FewShot]:
    """One pass: every shot in exactly one sequence, the shots of a source in a fresh order, the sequences shuffled.

    How many shots a sequence takes is drawn from [least, most]; it closes early where the next shot does not fit, is
    of a context that it holds already, or there is none left.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    by_source: dict[str, list[int]] = {}
    for index, shot in enumerate(shots):
        by_source.setdefault(shot.source, []).append(index)
    sequences: list[FewShot] = []
    for source in sorted(by_source):
        order = rng.permutation(by_source[source]).tolist()
        current: list[int] = []
        length, wanted = 0, 0
        for index in order:
            shot = shots[index]
            held = any(shots[other].context == shot.context for other in current)
            if current and (len(current) == wanted or length + len(shot.tokens) > max_seq_len or held):
                sequences.append(tuple(current))
                current, length = [], 0
            if not current:
                wanted = len(order) if most is None else int(rng.integers(least, most + 1))
            current.append(index)
            length += len(shot.tokens)
        sequences.append(tuple(current))
    return [sequences[i] for i in rng.permutation(len(sequences))]


def form_batches(
    sequences: Sequence[FewShot], lengths: Sequence[int], tokens_per_batch: int, seed: int
) -> list[list[FewShot]]:
    """Sequences in batches of at most `tokens_per_batch` tokens, padding counted; each sequence in exactly one.

    `lengths` are the sequences' lengths in tokens. Sequences are sorted by length within pools of about 32 batches and
    the batches of a pool are shuffled, so that little is padded and short sequences don't come first.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    mean = sum(lengths) / len(lengths)
    pool = max(1, int(POOL_BATCHES * tokens_per_batch / mean))
    batches: list[list[FewShot]] = []
    for start in range(0, len(sequences), pool):
        order = sorted(range(start, min(start + pool, len(sequences))), key=lambda i: lengths[i])
        pooled: list[list[FewShot]] = []
        for i in order:
            if not pooled or (len(pooled[-1]) + 1) * lengths[i] > tokens_per_batch:
                pooled.append([])
            pooled[-1].append(sequences[i])
        batches += [pooled[i] for i in rng.permutation(len(pooled))]
    return batches


def plan_batches(
    shots: Sequence[EncodedShot],
    phases: Sequence[Phase],
    *,
    max_seq_len: int,
    tokens_per_batch: int,
    steps: int | None,
    epochs: float,
    seed: int,
) -> list[list[FewShot]]:
    """All batches of training, in order: each phase its share of `steps`, or, with `steps` null, of `epochs` passes.

    A phase makes as many passes over the shots as it needs, each formed anew; the last one may be cut short.
    """
    total = sum(phase.share for phase in phases)
    planned: list[list[FewShot]] = []
    done = 0.0
    for number, phase in enumerate(phases):
        done += phase.share / total
        passes = _passes(shots, phase, max_seq_len, tokens_per_batch, (seed, number))
        if steps is not None:
            wanted = round(steps * done) - len(planned)
            batches: list[list[FewShot]] = []
            while len(batches) < wanted:
                batches += next(passes)
            planned += batches[:wanted]
        else:
            left = epochs * phase.share / total
            while left > 1e-9:
                batches = next(passes)
                planned += batches[: math.ceil(len(batches) * min(left, 1.0) - 1e-9)]
                left -= 1
    return planned


def _passes(
    shots: Sequence[EncodedShot], phase: Phase, max_seq_len: int, tokens_per_batch: int, seed: tuple[int, int]
) -> Iterator[list[list[FewShot]]]:
    """Endless passes over the phase's shots, each as batches; each pass has seeds of its own.

    Raises:
        TrainingError: no shot is of the phase's sources.
    """
    import numpy as np

    least, most = phase.bounds
    chosen = [index for index, shot in enumerate(shots) if phase.sources is None or shot.source in phase.sources]
    if not chosen:
        known = ", ".join(sorted({shot.source for shot in shots}))
        raise TrainingError("a phase has no data", wanted=f"sources among {known}", got=", ".join(phase.sources or ()))
    subset = [shots[index] for index in chosen]
    number = 0
    while True:
        first, second = np.random.SeedSequence((*seed, number)).generate_state(2).tolist()
        formed = form_sequences(subset, least, most, max_seq_len, first)
        sequences = [tuple(chosen[index] for index in sequence) for sequence in formed]
        lengths = [sum(len(shots[i].tokens) for i in sequence) for sequence in sequences]
        yield form_batches(sequences, lengths, tokens_per_batch, second)
        number += 1


def batch_arrays(
    batch: Sequence[FewShot], shots: Sequence[EncodedShot], padding: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """A batch as (tokens, labels, mask), each int64 of shape (sequences, longest).

    Labels are the tokens where the loss counts and -100 elsewhere, unshifted as Hugging Face wants them; the mask is 1
    on tokens and 0 on the padding, which stands on the right.
    """
    import numpy as np

    longest = max(sum(len(shots[i].tokens) for i in sequence) for sequence in batch)
    tokens = np.full((len(batch), longest), padding, dtype=np.int64)
    labels = np.full((len(batch), longest), IGNORED, dtype=np.int64)
    mask = np.zeros((len(batch), longest), dtype=np.int64)
    for row, sequence in enumerate(batch):
        at = 0
        for index in sequence:
            shot = shots[index]
            end = at + len(shot.tokens)
            tokens[row, at:end] = shot.tokens
            labels[row, at + shot.pairs_from : end] = shot.tokens[shot.pairs_from :]
            mask[row, at:end] = 1
            at = end
    return tokens, labels, mask
