"""`ipt-stream compare`: several ways of training, each with several seeds, side by side; and what that shows.

For each task: the mean and the standard deviation over seeds, the difference to a baseline with its interval (Welch's
t: the ways may differ in spread), a bar plot, and the outcome in words. Where the interval holds zero, it says that
nothing can be told: a few seeds tell large differences only.
"""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.errors import ConfigError, InputError
from ipt_stream.evaluation.results import Result, from_json
from ipt_stream.stage import Figure, Stage, StageReport, run_once

RESULTS = "results.json"


class CompareConfig(Settings):
    """Settings of the comparison."""

    output: str
    """Directory of `comparison.json`, `.md` and `.png`."""
    evaluations: str
    """Directories of evaluations of one model each, with `{arm}` and `{seed}` in their place."""
    arms: tuple[str, ...] = Field(min_length=2)
    """The ways of training, in the order that tables show."""
    seeds: tuple[int, ...] = Field(min_length=2)
    """The seeds that each was trained with."""
    baseline: str
    """The arm that the others are compared with."""
    titles: dict[str, str] = Field(default_factory=dict)
    """What a task is, in words; null: its name."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the intervals of the differences."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        missing = [part for part in ("{arm}", "{seed}") if part not in self.evaluations]
        if missing:
            raise ValueError(f"evaluations has no {' and no '.join(missing)}")
        if self.baseline not in self.arms:
            raise ValueError(f"baseline {self.baseline} is none of the arms {', '.join(self.arms)}")
        return self


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better an arm is than the baseline.

    Attributes:
        mean: difference of the means.
        low: lower end of its interval.
        high: upper end.
    """

    mean: float
    low: float
    high: float

    def is_clear(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm in one task.

    Attributes:
        values: its score by seed.
        mean: their mean.
        deviation: their standard deviation (of a sample, n - 1).
        difference: to the baseline; None for the baseline itself.
    """

    values: tuple[float, ...]
    mean: float
    deviation: float
    difference: Difference | None


def compare(config: CompareConfig) -> StageReport:
    """Compare the evaluations that `config` names; the report's lines are the table and the words.

    Raises:
        InputError: an evaluation is missing, is of several models, or has other tasks than the first one.
        LedgerError: the output belongs to other results.
    """
    found = {arm: [_read(config, arm, seed) for seed in config.seeds] for arm in config.arms}
    tasks = list(next(iter(found.values()))[0])
    for arm, results in found.items():
        for seed, result in zip(config.seeds, results, strict=True):
            if list(result) != tasks:
                raise InputError(
                    f"{_place(config, arm, seed)} has other tasks than the first evaluation",
                    wanted=", ".join(tasks),
                    got=", ".join(result),
                )
    identities = {arm: [[result[task].identity for task in tasks] for result in found[arm]] for arm in found}
    settings = {**config.model_dump(mode="json", exclude={"output", "evaluations"}), "results": identities}
    return run_once(config.output, "compare", settings, lambda stage: _compare(config, found, tasks, stage))


def _place(config: CompareConfig, arm: str, seed: int) -> str:
    return config.evaluations.replace("{arm}", arm).replace("{seed}", str(seed))


def _read(config: CompareConfig, arm: str, seed: int) -> dict[str, Result]:
    path = storage.join(_place(config, arm, seed), RESULTS)
    if not storage.exists(path):
        raise InputError(
            f"no evaluation of {arm}, seed {seed}", wanted=path, got="nothing there", fix="evaluate it first"
        )
    models = storage.read_json(path)["results"]
    if len(models) != 1:
        raise InputError(f"{path} is of several models", wanted="one", got=", ".join(models))
    return {task: from_json(record) for task, record in next(iter(models.values())).items()}


def _compare(
    config: CompareConfig, found: Mapping[str, Sequence[Mapping[str, Result]]], tasks: Sequence[str], stage: Stage
) -> StageReport:
    table = {
        task: cells({arm: [result[task].main()[1].value for result in results] for arm, results in found.items()},
                    config.baseline, config.confidence)
        for task in tasks
    }  # fmt: skip
    first = {task: next(iter(found.values()))[0][task] for task in tasks}
    lines = (*_table(config, table, first), "", *words(config, table))
    record = {
        "baseline": config.baseline,
        "seeds": config.seeds,
        "confidence": config.confidence,
        "tasks": {
            task: {"chance": first[task].chance, "n": first[task].n, "arms": {a: asdict(c) for a, c in row.items()}}
            for task, row in table.items()
        },
    }
    storage.publish_json(storage.join(config.output, "comparison.json"), record)
    storage.publish_bytes(storage.join(config.output, "comparison.md"), ("\n".join(lines) + "\n").encode())
    storage.publish_bytes(storage.join(config.output, "comparison.png"), _plot(config, table, first))
    figures: dict[str, Figure] = {
        f"{task}/{arm}": round(cell.mean, 4) for task, row in table.items() for arm, cell in row.items()
    }
    return stage.finish(figures, lines)


def cells(scores: Mapping[str, Sequence[float]], baseline: str, confidence: float) -> dict[str, Cell]:
    """What the scores by arm and seed come to. At least two seeds an arm.

    Raises:
        ConfigError: an arm has fewer.
    """
    found = {}
    for arm, values in scores.items():
        if len(values) < 2:
            raise ConfigError(f"arm {arm} has too few seeds", wanted="at least 2", got=str(len(values)))
        between = None if arm == baseline else difference(values, scores[baseline], confidence)
        found[arm] = Cell(tuple(values), statistics.fmean(values), statistics.stdev(values), between)
    return found


def difference(ours: Sequence[float], theirs: Sequence[float], confidence: float) -> Difference:
    """Mean of `ours` less that of `theirs`, with the interval of Welch's t (degrees of freedom by Satterthwaite).

    Where neither varies, the interval is the difference alone.
    """
    from scipy.stats import t

    mean = statistics.fmean(ours) - statistics.fmean(theirs)
    first, second = statistics.variance(ours) / len(ours), statistics.variance(theirs) / len(theirs)
    if first + second == 0:
        return Difference(mean, mean, mean)
    freedom = (first + second) ** 2 / (first**2 / (len(ours) - 1) + second**2 / (len(theirs) - 1))
    half = float(t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(first + second)
    return Difference(mean, mean - half, mean + half)


def words(config: CompareConfig, table: Mapping[str, Mapping[str, Cell]]) -> list[str]:
    """What the table shows, task by task, and where it shows nothing."""
    lines = []
    for task, row in table.items():
        clear = {arm: cell.difference for arm, cell in row.items() if cell.difference and cell.difference.is_clear()}
        unclear = [arm for arm, cell in row.items() if cell.difference and arm not in clear]
        lines.append(f"{config.titles.get(task, task)}:")
        for arm, found in sorted(clear.items(), key=lambda item: -item[1].mean):
            which = "better" if found.mean > 0 else "worse"
            lines.append(
                f"  {arm} is {which} than {config.baseline} by {100 * abs(found.mean):.1f} points"
                f" ({config.confidence:.0%} interval {100 * found.low:+.1f} to {100 * found.high:+.1f})"
            )
        if unclear:
            lines.append(
                f"  no difference to {config.baseline} can be told for {', '.join(unclear)}"
                f" ({len(config.seeds)} seeds; the {config.confidence:.0%} intervals hold zero)"
            )
    made = sum(1 for row in table.values() for cell in row.values() if cell.difference)
    lines.append(
        f"These are {made} differences, each with an interval of its own: where nothing differs, about"
        f" {made * (1 - config.confidence):.1f} of them would still look clear."
    )
    return lines


def _table(config: CompareConfig, table: Mapping[str, Mapping[str, Cell]], first: Mapping[str, Result]) -> list[str]:
    header = ["task", "n", "chance", *config.arms]
    rows = []
    for task, row in table.items():
        result = first[task]
        chance = "" if result.chance is None else f"{result.chance:.3f}"
        values = [f"{row[arm].mean:.3f} ± {row[arm].deviation:.3f}" for arm in config.arms]
        rows.append([task, f"{result.n:,}", chance, *values])
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    shown = [header, ["-" * width for width in widths], *rows]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in shown]
    metric = next(iter(first.values())).main()[0]
    return [f"{metric}, mean ± standard deviation over {len(config.seeds)} seeds", "", *lines]


def _plot(config: CompareConfig, table: Mapping[str, Mapping[str, Cell]], first: Mapping[str, Result]) -> bytes:
    """A PNG: a group of bars a task, a bar an arm, its deviation, and the task's chance level as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure as Drawing

    tasks, arms = list(table), config.arms
    width = 0.8 / len(arms)
    drawing = Drawing(figsize=(2 + 2.2 * len(tasks), 4.5), layout="constrained")
    axes: Any = drawing.subplots()
    for number, arm in enumerate(arms):
        places = [place - 0.4 + width * (number + 0.5) for place in range(len(tasks))]
        means, spreads = ([getattr(table[task][arm], key) for task in tasks] for key in ("mean", "deviation"))
        axes.bar(places, means, width, yerr=spreads, capsize=2, label=_plain(arm))
    for place, task in enumerate(tasks):
        if (chance := first[task].chance) is not None:
            axes.hlines(chance, place - 0.45, place + 0.45, colors="black", linestyles="dotted", linewidth=1)
    axes.set_xticks(range(len(tasks)), [_plain(config.titles.get(task, task)) for task in tasks])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel("accuracy (dotted: chance)")
    axes.set_ylim(0, 1)
    axes.legend(ncols=3, fontsize=8)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _plain(text: str) -> str:
    """`text` without what the plot would take for mathematics, in lines of about twenty characters."""
    import textwrap

    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), 20)) or " "
