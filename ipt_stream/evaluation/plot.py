"""Results side by side as a bar plot: a group a task, a bar a model, error bars, and a line at each chance level."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipt_stream.evaluation.results import Result, Score, average
from ipt_stream.evaluation.suites import Suite
from ipt_stream.evaluation.table import AVERAGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUP_WIDTH = 0.8  # of the distance between two groups
DOTS_PER_INCH = 150
PALETTE = 10  # colours of matplotlib's default cycle; bars beyond are hatched
HATCHES = ("", "//", "..", "xx", "++")


@dataclass(frozen=True, slots=True)
class Group:
    """The bars of one task.

    Attributes:
        label: the task and its metric, or a suite's average.
        scores: a score a model, in the models' order.
        chance: expected score of a guess, or None.
    """

    label: str
    scores: tuple[Score, ...]
    chance: float | None


def groups(results: Mapping[str, Mapping[str, Result]], suites: Sequence[Suite] = ()) -> list[Group]:
    """What is drawn: a group a task in the results' order, then one for the mean of each whole suite."""
    models = list(results)
    found = []
    for task, first in results[models[0]].items():
        scores = tuple(results[model][task].main()[1] for model in models)
        found.append(Group(f"{task}\n{first.main()[0]}", scores, first.chance))
    for suite in suites:
        if suite.averaged and not suite.without:
            means = [average([results[model][task] for task in suite.tasks]) for model in models]
            found.append(Group(f"{suite.name}\n{AVERAGE}", tuple(mean for mean, _ in means), means[0][1]))
    return found


def draw(bars: Sequence[Group], models: Sequence[str]) -> Figure:
    """The plot of `bars`, whose scores are those of `models`. Names are drawn as they are, never as mathematics."""
    from matplotlib.figure import Figure

    width = GROUP_WIDTH / len(models)
    figure = Figure(figsize=(max(6.0, 1.5 + len(bars) * (0.6 + 0.18 * len(models))), 4.5), layout="constrained")
    axes = figure.add_subplot()
    for place, model in enumerate(models):
        scores = [group.scores[place] for group in bars]
        axes.bar(
            [number - GROUP_WIDTH / 2 + width * (place + 0.5) for number in range(len(bars))],
            [score.value for score in scores],
            width,
            yerr=[score.stderr or 0.0 for score in scores],
            capsize=min(4.0, 20 * width),
            color=f"C{place % PALETTE}",
            hatch=HATCHES[place // PALETTE % len(HATCHES)],
            label=model,
        )
    marked = [(number, group.chance) for number, group in enumerate(bars) if group.chance is not None]
    if marked:
        starts = [number - 0.48 for number, _ in marked]
        ends = [number + 0.48 for number, _ in marked]
        levels = [level for _, level in marked]
        axes.hlines(levels, starts, ends, colors="black", linestyles="dashed", linewidth=1.2, label="chance")
    labels = axes.set_xticks(range(len(bars)), [group.label for group in bars], rotation=45, ha="right")
    for tick in labels:
        tick.label1.set_parse_math(False)
    axes.set_ylabel("score ± standard error")
    axes.set_xlim(-0.6, len(bars) - 0.4)
    axes.set_ylim(0, 1.05)
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def png(results: Mapping[str, Mapping[str, Result]], suites: Sequence[Suite] = ()) -> bytes:
    """The bar plot of `results` as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = draw(groups(results, suites), list(results))
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()
