"""How the domain tasks are scored, as AdaptLLM scores them (arXiv 2309.09530), and how far a score may be off.

lm-eval calls a `score_...` function with each question and what the model answered, and an aggregation with what those
gave for all questions; the YAML of a task names both. Pure functions of numbers and texts.

    rows                    columns                      aggregation
    (gold, predicted)       indices of options           micro_f1, weighted_f1
    (gold, predicted, id)   the same, and the class      mean_class_f1
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipt_stream.errors import EvaluationError

BOOTSTRAP_DRAWS = 1000
GUESS_DRAWS = 200
TOLERANCE = 0.01
"""Two numbers no further apart are the same answer (ConvFinQA)."""

Aggregation = Callable[[ArrayLike], float]

_NUMBER = re.compile(r"[-+]?(?:\d+(?:,\d{3})*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?%*")
_ENTITY = re.compile(r"(\S+)\s+\((\S+)\)")


class Likelihood(tuple[float, bool]):
    """What lm-eval takes as the answer to a choice, (log likelihood, whether it is the greedy continuation), with its
    length.

    Attributes:
        tokens: how many tokens the log likelihood is the sum of.
    """

    tokens: int

    def __new__(cls, value: float, greedy: bool, tokens: int) -> Self:
        """The pair, and of how many tokens it is."""
        made = super().__new__(cls, (value, greedy))
        made.tokens = tokens
        return made


def choose(results: Sequence[Any]) -> int:
    """The option whose log likelihood a token is highest; the first of equals.

    Raises:
        EvaluationError: the answers don't know their number of tokens, as those of lm-eval's own models.
    """
    if not all(isinstance(result, Likelihood) for result in results):
        raise EvaluationError(
            "options can't be scored a token",
            wanted="likelihoods with their number of tokens",
            got=", ".join(sorted({type(result).__name__ for result in results})) or "none",
            fix="evaluate with ipt-stream",
        )
    by_token = [result[0] / result.tokens for result in results]
    return max(range(len(by_token)), key=by_token.__getitem__)


def score_accuracy(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """Whether the chosen option is the gold one (PubMedQA, MQP, USMLE)."""
    return {"accuracy": float(choose(results) == doc["gold_index"])}


def score_micro_f1(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """A row for `micro_f1` (ChemProt, RCT)."""
    return {"micro_f1": (doc["gold_index"], choose(results))}


def score_weighted_f1(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """A row for `weighted_f1` (FPB, FiQA SA)."""
    return {"weighted_f1": (doc["gold_index"], choose(results))}


def score_class_f1(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """A row for `mean_class_f1` (Headline)."""
    return {"mean_class_f1": (doc["gold_index"], choose(results), doc["class_id"])}


def score_entities(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """The text's `entity_f1`, and its `exact_f1`, which lets no entity count in part (NER)."""
    gold, predicted = entities(_first(doc["label"])), entities(results[0])
    return {"entity_f1": entity_f1(gold, predicted), "exact_f1": exact_f1(gold, predicted)}


def score_number(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Whether a number of the answer's first line is the label's (ConvFinQA)."""
    return {"numeric_match": float(numbers_match(_first(doc["label"]), results[0]))}


def micro_f1(rows: ArrayLike) -> float:
    """F1 over the counts of all classes together: the share of right ones, where each question has one answer."""
    counts = _counts(np.asarray(rows))
    return float(2 * counts.trace() / (counts.sum(1) + counts.sum(0)).sum())


def weighted_f1(rows: ArrayLike) -> float:
    """Mean of the classes' F1, weighted by how often each is gold; the F1 of a class without hits is 0."""
    counts = _counts(np.asarray(rows))
    gold = counts.sum(1)
    f1 = 2 * counts.diagonal() / np.maximum(gold + counts.sum(0), 1)
    return float((f1 * gold).sum() / gold.sum())


def mean_class_f1(rows: ArrayLike) -> float:
    """Plain mean of `weighted_f1` over the questions of each class id; Headline has nine."""
    table = np.asarray(rows)
    return float(np.mean([weighted_f1(table[table[:, 2] == number]) for number in np.unique(table[:, 2])]))


def _counts(rows: NDArray[Any]) -> NDArray[np.int64]:
    """How often class i was taken for class j: (classes, classes)."""
    gold, predicted = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    classes = int(max(gold.max(), predicted.max())) + 1
    return np.bincount(gold * classes + predicted, minlength=classes**2).reshape(classes, classes)


def entities(text: str) -> tuple[tuple[str, str], ...]:
    """The entities of an answer such as `Silicium (ORG), Smith (PER)`, each once: (word before the bracket, type).

    Of a name of several words the last one stands for it, as in AdaptLLM's evaluation.
    """
    return tuple(dict.fromkeys((match[1], match[2]) for match in _ENTITY.finditer(text)))


def entity_f1(gold: Sequence[tuple[str, str]], predicted: Sequence[tuple[str, str]]) -> float:
    """F1 over names and types, each of which counts half of an entity; 0 where there are no entities at all.

    As in AdaptLLM, entities have no place in the text: a gold one is compared with the first predicted one that has its
    name or its type, and gets a point for each that it has. Precision is points / 2 predicted, recall points / 2 gold.
    So the right type alone is worth something; `exact_f1` is the strict measure.

        gold (Bank, ORG) (Smith, PER)   predicted (Bank, ORG) (Jones, PER)   points 2 + 1   F1 = 2 * 3 / (4 + 4)
    """
    points = 0
    for name, kind in gold:
        hits = [(name == other) + (kind == its) for other, its in predicted]
        points += next((hit for hit in hits if hit), 0)
    return points / (len(gold) + len(predicted)) if points else 0.0


def exact_f1(gold: Sequence[tuple[str, str]], predicted: Sequence[tuple[str, str]]) -> float:
    """F1 over entities whose name and type are both right; 0 where there are no entities at all."""
    right = len(set(gold) & set(predicted))
    return 2 * right / (len(gold) + len(predicted)) if right else 0.0


def numbers(text: str) -> list[float]:
    """The numbers in the first line of `text`, in order: `1,200`, `-.5`, `3e2`; `12%` is 0.12."""
    found = []
    for match in _NUMBER.findall(text.split("\n")[0]):
        digits = match.rstrip("%")
        value = float(digits.replace(",", "")) * 0.01 ** (len(match) - len(digits))
        if math.isfinite(value):
            found.append(value)
    return found


def numbers_match(label: str, answer: str) -> bool:
    """Whether any number of the answer's first line is within 0.01 of the label's first number."""
    wanted = numbers(label)[:1]
    return any(math.isclose(number, gold, abs_tol=TOLERANCE) for gold in wanted for number in numbers(answer))


def bootstrap_stderr(aggregate: Aggregation, rows: ArrayLike, seed: int, draws: int = BOOTSTRAP_DRAWS) -> float | None:
    """Standard error of `aggregate(rows)`: its deviation over `draws` resamples of as many rows, with replacement.

    None for fewer than two rows.
    """
    table = np.asarray(rows)
    if len(table) < 2:
        return None
    generator = np.random.default_rng(seed)
    values = [aggregate(table[generator.integers(0, len(table), len(table))]) for _ in range(draws)]
    return float(np.std(values, ddof=1))


def guess_score(
    aggregate: Aggregation, rows: ArrayLike, options: Sequence[int], seed: int, draws: int = GUESS_DRAWS
) -> float:
    """What guessing scores in the mean: each question's prediction drawn evenly from its number of `options`."""
    table = np.array(rows)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        table[:, 1] = (generator.random(len(table)) * np.asarray(options)).astype(np.int64)
        values.append(aggregate(table))
    return float(np.mean(values))


def _first(label: str | Sequence[str]) -> str:
    """A label that may be a list of texts, of which the first counts."""
    return label if isinstance(label, str) else label[0]
