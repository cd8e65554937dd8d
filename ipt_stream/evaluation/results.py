"""What an evaluation found: one result a model and task, kept as JSON, and shown side by side as a Markdown table."""

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
        chance: expected accuracy of a guess, mean over questions of 1/choices; None where nothing is chosen.
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
        """The metric that tables show, and its score: `acc_norm`, else `acc`, else the first one there is."""
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


def tables(results: Mapping[str, Mapping[str, Result]]) -> tuple[str, ...]:
    """Lines of Markdown for `results` by model and task: a row a task, a column a model, then notes.

    Below follows a table by category where questions have categories.
    """
    models = list(results)
    tasks = list(next(iter(results.values())))
    rows, notes = [], []
    for task in tasks:
        first = results[models[0]][task]
        metric = first.main()[0]
        cells = [str(results[model][task].main()[1]) for model in models]
        label = task if metric == MAIN_METRICS[0] else f"{task} ({metric})"
        rows.append([label, f"{first.n:,}", str(first.shots), _chance(first.chance), *cells])
        for model in models:
            if cut := results[model][task].truncated:
                notes.append(
                    f"{model}, {task}: {cut:,} of {first.n:,} questions were cut from the left to fit the window"
                )
    header = ["task", "n", "shots", "chance", *models]
    lines = [f"{MAIN_METRICS[0]} ± standard error", "", *_table(header, rows)]
    by_category = [
        [task, category, f"{next(iter(scores.values())).n:,}", *(_category(results[m][task], category) for m in models)]
        for task in tasks
        for category, scores in results[models[0]][task].categories.items()
    ]
    if by_category:
        lines += ["", "By category", "", *_table(["task", "category", "n", *models], by_category)]
    return tuple([*lines, "", *notes] if notes else lines)


def _category(result: Result, category: str) -> str:
    scores = result.categories[category]
    return str(next(scores[name] for name in MAIN_METRICS if name in scores))


def _chance(chance: float | None) -> str:
    return "" if chance is None else f"{chance:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, padded so that it is aligned as plain text too."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    return [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in [header, rule, *rows]
    ]
