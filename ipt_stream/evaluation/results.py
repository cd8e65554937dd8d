"""What an evaluation found: one result a model and task, kept as JSON; the average of a suite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

MAIN_METRICS = ("acc_norm", "acc")  # the paper's metric, then what stands in for it


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's value, the standard error of it (None where it is not known), and how many questions it is over."""

    value: float
    stderr: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.stderr is None else f"{self.value:.3f} ± {self.stderr:.3f}"


@dataclass(frozen=True, slots=True)
class Result:
    """One model's scores in one task.

    Attributes:
        model: the model's name.
        task: the task's name.
        n: how many questions were asked.
        shots: solved questions before each one.
        chance: expected score of a guess, for accuracies the mean over questions of 1/choices; None where nothing is
            chosen.
        metrics: scores by metric.
        categories: scores by category, then by metric; empty where questions have none.
        truncated: how many questions didn't fit the model's window and lost their beginning.
        seconds: how long it took.
        identity: a hash of the model, the task and the settings that these scores follow from.
    """

    model: str
    task: str
    n: int
    shots: int
    chance: float | None
    metrics: Mapping[str, Score]
    categories: Mapping[str, Mapping[str, Score]]
    truncated: int
    seconds: float
    identity: str

    def main(self) -> tuple[str, Score]:
        """The metric that tables show, and its score: `acc_norm`, else `acc`, else the task's first one."""
        name = next((name for name in MAIN_METRICS if name in self.metrics), next(iter(self.metrics)))
        return name, self.metrics[name]


def mean_score(values: Sequence[float]) -> Score:
    """Mean of per-question values; its standard error is s/sqrt(n) with the sample deviation s, as in lm-eval."""
    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return Score(mean, None, n)
    return Score(mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n), n)


def to_json(result: Result) -> dict[str, Any]:
    """`result` as JSON can hold it."""
    return asdict(result)


def from_json(record: Mapping[str, Any]) -> Result:
    """The result that `to_json` wrote. Raises `KeyError` or `TypeError` where it is none."""
    categories = {name: _scores(scores) for name, scores in record["categories"].items()}
    return Result(**{**record, "metrics": _scores(record["metrics"]), "categories": categories})


def _scores(record: Mapping[str, Any]) -> dict[str, Score]:
    return {name: Score(**score) for name, score in record.items()}


def average(results: Sequence[Result]) -> tuple[Score, float | None]:
    """The plain mean of the main scores of several tasks, and of their chance levels where all have one.

    Tasks count alike, whatever their number of questions. The tasks' errors are independent, so the standard error of
    the mean of k is sqrt(sum of squares) / k; None where one isn't known. `n` is the number of all questions.
    """
    scores = [result.main()[1] for result in results]
    errors = [score.stderr for score in scores if score.stderr is not None]
    known = len(errors) == len(scores)
    stderr = math.sqrt(sum(error**2 for error in errors)) / len(scores) if known else None
    chances = [result.chance for result in results if result.chance is not None]
    chance = sum(chances) / len(chances) if len(chances) == len(results) else None
    return Score(sum(s.value for s in scores) / len(scores), stderr, sum(s.n for s in scores)), chance
