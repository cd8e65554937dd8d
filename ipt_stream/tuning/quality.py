"""How good a synthesizer is, measured against texts whose pairs are known (paper, section 5.1, table 5).

    response accuracy   given a text and an instruction, how alike the generated and the gold response are
    pair quality        given a text alone (zero-shot), or after texts of the same source with their pairs (few-shot),
                        how alike the generated pairs are to the gold pairs

Alike is SQuAD's F1 over words: two texts are lower-cased, punctuation and the articles a, an, the are dropped, and with
`common` words in both, precision is common / generated, recall common / gold:

    generated "the cat sat down", gold "A cat sat."   ->   cat sat down | cat sat   ->   2/3, 2/2   ->   F1 = 0.8

Pairs are compared as instruction and response together, and matched one to one so that the sum of F1 is the highest
there is. The quality of a text's pairs is 2 * sum / (generated + gold): a pair too many counts as much as one too few.

Everything is pure; the model is behind `Generate`.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ipt_stream.corpus.pair import Pair
from ipt_stream.draw import seeded, shuffled
from ipt_stream.synthesis.parse import parse
from ipt_stream.synthesis.prompt import (
    EOS,
    INSTRUCTION_OPEN,
    PAIR_CLOSE,
    RESPONSE_OPEN,
    Shot,
    format_context,
    format_prompt,
    neutralize,
)
from ipt_stream.tuning.pairs import TuningExample

FEW = 3
"""Shots before the text, few-shot (table 5)."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Generate(Protocol):
    """A model: what it writes after each prompt, greedily."""

    def __call__(self, prompts: Sequence[str], stop: str) -> Sequence[str]:
        """The generated texts, in the order of the prompts, each up to the first `stop` in it, or to its limit."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """One measurement.

    Attributes:
        source: the data set of the text.
        score: F1, from 0 to 1.
        generated: pairs that were generated; 1 where a response was asked for.
        gold: pairs that are known.
    """

    source: str
    score: float
    generated: int
    gold: int


def normalize(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces: what SQuAD's evaluation compares."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def token_f1(generated: str, gold: str) -> float:
    """F1 over normalized words, each counted as often as it occurs; two texts without words are the same."""
    ours, theirs = normalize(generated).split(), normalize(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs))


def match_pairs(generated: Sequence[Pair], gold: Sequence[Pair]) -> list[tuple[int, int, float]]:
    """The one-to-one matching of the highest total F1: (index of a generated pair, of a gold pair, their F1)."""
    if not generated or not gold:
        return []
    from scipy.optimize import linear_sum_assignment

    scores = [[token_f1(_text(ours), _text(theirs)) for theirs in gold] for ours in generated]
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return [(int(row), int(column), scores[row][column]) for row, column in zip(rows, columns, strict=True)]


def pairs_f1(generated: Sequence[Pair], gold: Sequence[Pair]) -> float:
    """How alike two sets of pairs are: 2 * the sum over the matching / (generated + gold); 1 where both are empty."""
    if not generated and not gold:
        return 1.0
    return 2 * sum(score for _, _, score in match_pairs(generated, gold)) / (len(generated) + len(gold))


def response_prompt(text: str, instruction: str) -> str:
    """What makes a synthesizer answer `instruction` about `text`: the beginning of that pair."""
    return f"{format_context(neutralize(text))}{INSTRUCTION_OPEN} {neutralize(instruction)} {RESPONSE_OPEN}"


def response_accuracy(asked: Sequence[tuple[TuningExample, Pair]], generate: Generate) -> list[Scored]:
    """F1 of the generated against the gold response, for each pair of an example that is asked for."""
    prompts = [response_prompt(example.context, pair.instruction) for example, pair in asked]
    answers = generate(prompts, PAIR_CLOSE)
    return [
        Scored(example.source, token_f1(answer.split(PAIR_CLOSE)[0].removesuffix(EOS), pair.response), 1, 1)
        for (example, pair), answer in zip(asked, answers, strict=True)
    ]


def pair_quality(
    examples: Sequence[TuningExample], generate: Generate, shots: Sequence[Sequence[Shot]] | None = None
) -> list[Scored]:
    """F1 of the pairs generated for each text against its gold pairs; `shots` are those before each text, or none."""
    before = shots if shots is not None else [()] * len(examples)
    prompts = [
        format_prompt(given, neutralize(example.context)) for example, given in zip(examples, before, strict=True)
    ]
    scored = []
    for example, text in zip(examples, generate(prompts, EOS), strict=True):
        pairs = parse(text).pairs
        scored.append(Scored(example.source, pairs_f1(pairs, example.pairs), len(pairs), len(example.pairs)))
    return scored


def choose_examples(examples: Iterable[TuningExample], count: int, seed: int) -> list[TuningExample]:
    """At most `count` examples, drawn evenly over the sources, and of each text only one window."""
    by_source: dict[str, list[TuningExample]] = {}
    for example in examples:
        by_source.setdefault(example.source, []).append(example)
    queues = []
    for source, found in sorted(by_source.items()):
        drawn = {example.document: example for example in shuffled(seeded(seed, f"measured:{source}"), found)}
        queues.append(list(drawn.values()))
    chosen: list[TuningExample] = []
    for turn in range(max(map(len, queues), default=0)):
        chosen += [queue[turn] for queue in queues if turn < len(queue)]
    return chosen[:count]


def choose_pairs(examples: Sequence[TuningExample], count: int) -> list[tuple[TuningExample, Pair]]:
    """At most `count` pairs of `examples`: the first of each, then the second of each, and so on."""
    most = max((len(example.pairs) for example in examples), default=0)
    turns = [(example, example.pairs[i]) for i in range(most) for example in examples if i < len(example.pairs)]
    return turns[:count]


def choose_shots(
    examples: Sequence[TuningExample],
    pool: Mapping[str, Sequence[Shot]],
    most: int,
    room: int,
    length: Callable[[str], int],
) -> list[tuple[Shot, ...]]:
    """For each example up to `most` shots of its source, those that come first in `pool` and still fit.

    Args:
        examples: the texts that are asked about.
        pool: the shots of each source, in the order of preference; none of them of a text that is asked about.
        most: how many at most.
        room: tokens that the whole prompt may have.
        length: gives a text's number of tokens.
    """
    chosen: list[tuple[Shot, ...]] = []
    for example in examples:
        given: list[Shot] = []
        for shot in pool.get(example.source, ()):
            if len(given) == most:
                break
            if length(format_prompt([*given, shot], neutralize(example.context))) <= room:
                given.append(shot)
        chosen.append(tuple(given))
    return chosen


def mean(scored: Sequence[Scored]) -> float:
    """The mean score; not a number where nothing was measured."""
    return sum(item.score for item in scored) / len(scored) if scored else float("nan")


def _text(pair: Pair) -> str:
    return f"{pair.instruction} {pair.response}"
