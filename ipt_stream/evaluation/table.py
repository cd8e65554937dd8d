"""Results side by side, as Markdown that is aligned as plain text too: a row a task, a column a model, then notes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ipt_stream.evaluation.results import MAIN_METRICS, Result, average
from ipt_stream.evaluation.suites import Suite

AVERAGE = "average"
"""What the row and the bars of a suite's mean are called, after its name."""


def tables(results: Mapping[str, Mapping[str, Result]], suites: Sequence[Suite] = ()) -> tuple[str, ...]:
    """Lines of Markdown for `results` by model and task, with a row for the mean of each whole suite.

    Below follow a table by category, where questions have categories, and notes.
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
    for suite in suites:
        if suite.averaged and not suite.without:
            means = [average([results[model][task] for task in suite.tasks]) for model in models]
            score, chance = means[0]
            cells = [str(mean) for mean, _ in means]
            rows.append([f"{suite.name} {AVERAGE}", f"{score.n:,}", "", _chance(chance), *cells])
        elif suite.averaged:
            notes.append(f"{suite.name}: not whole, so no average; without {', '.join(suite.without)}")
    header = ["task", "n", "shots", "chance", *models]
    other = any(results[models[0]][task].main()[0] != MAIN_METRICS[0] for task in tasks)
    shown = f"{MAIN_METRICS[0]}, or the metric in brackets," if other else MAIN_METRICS[0]
    lines = [f"{shown} ± standard error", "", *_table(header, rows)]
    by_category = [
        [task, category, f"{next(iter(scores.values())).n:,}", *(_category(results[m][task], category) for m in models)]
        for task in tasks
        for category, scores in results[models[0]][task].categories.items()
    ]
    if by_category:
        lines += ["", "By category", "", *_table(["task", "category", "n", *models], by_category)]
    return tuple([*lines, "", *notes] if notes else lines)


def sources(models: Mapping[str, str], mixtures: Mapping[str, str | None], code: Mapping[str, str]) -> tuple[str, ...]:
    """What the results come from, a line a model and one for the code, fingerprints cut to 8 digits."""
    lines = []
    for name, fingerprint in models.items():
        mixture = mixtures[name]
        trained = f"mixture {mixture[:8]}" if mixture is not None else "mixture not known"
        lines.append(f"{name}: model {fingerprint[:8]}, {trained}")
    package = f"ipt-stream {code['ipt_stream']}, evaluation {code['hash'][:8]}"
    return (*lines, f"code: {package}, lm-eval {code['lm_eval']}")


def _category(result: Result, category: str) -> str:
    scores = result.categories[category]
    return str(next(scores[name] for name in MAIN_METRICS if name in scores))


def _chance(chance: float | None) -> str:
    return "" if chance is None else f"{chance:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    safe = [[_neutral(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in safe) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    return [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in [safe[0], rule, *safe[1:]]
    ]


def _neutral(cell: str) -> str:
    """`cell` without what Markdown would take for its own: categories are any text that a question file holds."""
    return re.sub(r"([\\|`<\[])", r"\\\1", " ".join(cell.split()))
