"""The quality analysis' part of the report: the paper's tables 6 and 10 and its figure 6 beside what was rated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from ipt_stream.analysis.intervals import Estimate, agreement, share
from ipt_stream.analysis.judging.asking import Bill
from ipt_stream.analysis.judging.report import bill_table, cost_text
from ipt_stream.analysis.judging.settings import JudgeSettings
from ipt_stream.analysis.part import Cell, Headline, Part, Plot, Series, Table
from ipt_stream.analysis.quality.prompts import Judgement
from ipt_stream.analysis.quality.sample import SampledPair, SampledText
from ipt_stream.analysis.quality.tasks import CATEGORIES, SCENARIO_OF, Scenario
from ipt_stream.stage import Figure

if TYPE_CHECKING:
    from ipt_stream.analysis.quality.analyze import QualitySettings

PAPER_CORPORA = ("paper: general", "paper: biomedicine", "paper: finance")
PAPER: dict[tuple[str, bool], tuple[float, float, float]] = {
    ("accurate", False): (0.775, 0.862, 0.698),
    ("relevant", False): (0.929, 0.994, 0.858),
    ("accurate", True): (0.755, 0.810, 0.735),
    ("relevant", True): (0.875, 0.970, 0.880),
}
"""By measure and whether people judged: table 6 (GPT-4) and table 10 (people)."""
PAPER_CATEGORIES = {False: (49, 26, 41), True: (51, 21, 39)}
NAMES = {"accurate": "response accuracy", "relevant": "context relevance"}
MOST_SOURCES = 30
"""With more of them, sources (shards) are not shown one by one."""


@dataclass(frozen=True, slots=True)
class Rating:
    """What one rater says.

    Attributes:
        name: who.
        kind: `judge`, `truth` or `person`.
        said: its judgements by the pairs' ids; pairs that it did not rate are not in it.
    """

    name: str
    kind: str
    said: Mapping[str, Judgement]

    def values(self, measure: str) -> dict[str, bool]:
        """What it says of `accurate` or `relevant`, by pair."""
        found = {name: getattr(judgement, measure) for name, judgement in self.said.items()}
        return {name: value for name, value in found.items() if value is not None}

    def share(self, measure: str) -> Estimate:
        """The share of pairs of which it says so, among those that it rated."""
        values = self.values(measure).values()
        return share(sum(values), len(values))

    def categories(self) -> Counter[str]:
        """How many pairs it puts into each category."""
        return Counter(judgement.category for judgement in self.said.values() if judgement.category is not None)


def quality_part(
    settings: QualitySettings,
    texts: Sequence[SampledText],
    pairs: Sequence[SampledPair],
    ratings: Sequence[Rating],
    bill: Bill | None,
) -> Part:
    """What is published. The first rating is the one that details are shown of."""
    tables: list[Table] = []
    plots: list[Plot] = []
    if ratings:
        first = ratings[0]
        tables += [_shares(ratings), _category_counts(ratings), _strata(texts, pairs, first)]
        if len(ratings) > 1:
            tables.append(_agreements(ratings))
        if first.categories():
            tables.append(_categories(first))
            plots.append(_scenarios([rating for rating in ratings if rating.categories()]))
    if bill is not None and settings.judge is not None:
        tables.append(bill_table(settings.judge, bill))
    return Part(
        name="quality",
        title="Quality of the corpus",
        about=f"{len(pairs):,} pairs of {len(texts):,} augmented texts, drawn evenly over sources and rounds: whether "
        "the instruction has to do with the text, whether the response is right, and what kind of task it is.",
        headlines=_headlines(pairs, ratings),
        tables=tuple(tables),
        plots=tuple(plots),
    )


def figures_of(
    texts: Sequence[SampledText],
    pairs: Sequence[SampledPair],
    ratings: Sequence[Rating],
    judge: JudgeSettings | None,
    bill: Bill | None,
) -> dict[str, Figure]:
    """The figures of the stage."""
    figures: dict[str, Figure] = {"texts": len(texts), "pairs": len(pairs)}
    for rating in ratings:
        for measure in NAMES:
            if (found := rating.share(measure)).n:
                figures[f"{rating.name}/{measure}"] = round(found.value, 4)
        figures[f"{rating.name}/categories"] = len(rating.categories())
        figures[f"{rating.name}/rated"] = len(rating.said)
    if bill is not None and judge is not None:
        figures |= {
            "judge_tokens_in": bill.tokens_in,
            "judge_tokens_out": bill.tokens_out,
            "judge_cost": round(bill.cost(judge), 4),
            "judge_unreadable": bill.unreadable,
            "judge_unanswered": sum(bill.problems.values()),
        }
    return figures


def report_lines(
    pairs: Sequence[SampledPair], ratings: Sequence[Rating], judge: JudgeSettings | None, bill: Bill | None
) -> tuple[str, ...]:
    """A line a rater, and what the judge cost."""
    lines = []
    for rating in ratings:
        told = [f"{NAMES[measure]} {_percent(rating.share(measure))}" for measure in NAMES if rating.share(measure).n]
        lines.append(
            f"{rating.name}: {', '.join(told)}, {len(rating.categories())} task categories"
            f" ({len(rating.said):,} of {len(pairs):,} pairs rated)"
        )
    if bill is not None and judge is not None:
        lines.append(
            f"judge: {bill.asked:,} answers now, {bill.cached:,} from before, {bill.tokens_in:,} tokens in,"
            f" {bill.tokens_out:,} out, {cost_text(judge, bill)}; {bill.unreadable:,} can't be read,"
            f" {sum(bill.problems.values()):,} without an answer"
        )
    return tuple(lines)


def _shares(ratings: Sequence[Rating]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for rating in ratings:
        for measure, name in NAMES.items():
            found = rating.share(measure)
            if found.n:
                paper = PAPER[measure, rating.kind == "person"]
                rows.append((name, rating.name, found.n, found.value, found.low, found.high, *paper))
    return Table(
        title="Response accuracy and context relevance (tables 6 and 10)",
        columns=("measure", "rated by", "pairs", "share", "low", "high", *PAPER_CORPORA),
        rows=tuple(rows),
        percent=("share", "low", "high", *PAPER_CORPORA),
        paper=PAPER_CORPORA,
        note="low and high: the 95% interval (Wilson), as if pairs were independent of each other; those of one text "
        "are not quite. The paper's numbers beside a judge are GPT-4's (table 6), beside a person those of its human "
        "evaluation (table 10); other texts, another synthesizer.",
        how=f"{_raters(ratings)} Pairs that a rater left out, or of which a judge's answer can't be read, are in no "
        "share.",
    )


def _category_counts(ratings: Sequence[Rating]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for rating in ratings:
        found = rating.categories()
        if found:
            paper = PAPER_CATEGORIES[rating.kind == "person"]
            rows.append((rating.name, found.total(), len(found), len({SCENARIO_OF[name] for name in found}), *paper))
    return Table(
        title="Task categories that occur (tables 6 and 10)",
        columns=("rated by", "pairs", "categories", "scenarios", *PAPER_CORPORA),
        rows=tuple(rows),
        paper=PAPER_CORPORA,
        note=f"Of the {len(CATEGORIES)} categories of Super-NaturalInstructions and the {len(Scenario)} scenarios that "
        "they are grouped into. The more pairs, the more categories occur.",
        how=f"{_raters(ratings)} Each pair is put into one category; those with a pair or more are counted.",
    )


def _strata(texts: Sequence[SampledText], pairs: Sequence[SampledPair], rating: Rating) -> Table:
    """The first rating by round and by source."""
    parts: list[tuple[str, str, str | int]] = []
    for number in sorted({text.round for text in texts}):
        parts.append((f"round {number + 1}", "round", number))
    sources = sorted({text.source for text in texts})
    if 1 < len(sources) <= MOST_SOURCES:
        parts += [(source, "source", source) for source in sources]
    rows: list[tuple[Cell, ...]] = []
    for name, of, value in parts:
        inside = [pair for pair in pairs if getattr(pair.text, of) == value]
        cells: list[Cell] = [name, sum(getattr(text, of) == value for text in texts), len(inside)]
        for measure in NAMES:
            values = rating.values(measure)
            said = [values[pair.id] for pair in inside if pair.id in values]
            found = share(sum(said), len(said))
            cells += [_finite(found.value), _finite(found.low), _finite(found.high)]
        rows.append(tuple(cells))
    columns = [column for name in NAMES.values() for column in (name, f"{name}, low", f"{name}, high")]
    return Table(
        title="By round and source",
        columns=("part", "texts", "pairs", *columns),
        rows=tuple(rows),
        percent=tuple(columns),
        note=f"Rated by {rating.name}. low and high: the 95% interval (Wilson).",
        how=f"{_raters([rating])} The same judgements as in the first table, by the text's round and source.",
    )


def _agreements(ratings: Sequence[Rating]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for one, other in combinations(ratings, 2):
        for measure in (*NAMES, "category", "scenario"):
            both = [
                (getattr(one.said[name], measure), getattr(other.said[name], measure))
                for name in one.said.keys() & other.said.keys()
            ]
            found = agreement([(a, b) for a, b in both if a is not None and b is not None])
            if found.n:
                kappa = None if found.kappa is None else round(found.kappa, 3)
                rows.append((one.name, other.name, NAMES.get(measure, measure), found.n, found.observed, kappa))
    return Table(
        title="Agreement",
        columns=("rater", "other rater", "of", "pairs", "agree", "kappa"),
        rows=tuple(rows),
        percent=("agree",),
        note="kappa: Cohen's, 1 is full agreement and 0 that of chance; empty where both say one thing only.",
        how="Over the pairs that both have rated: agree is the share p of those of which they say the same, kappa is "
        "(p - c) / (1 - c), c the agreement by chance that follows from how often each says what.",
    )


def _categories(rating: Rating) -> Table:
    counts = rating.categories()
    rows: list[tuple[Cell, ...]] = []
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        found = share(count, counts.total())
        rows.append((name, SCENARIO_OF[name].value, count, found.value, found.low, found.high))
    return Table(
        title="Task categories",
        columns=("category", "scenario", "pairs", "share", "low", "high"),
        rows=tuple(rows),
        percent=("share", "low", "high"),
        note=f"Rated by {rating.name}. low and high: the 95% interval (Wilson).",
        how=f"{_raters([rating])} Shares are of the pairs that have a category.",
    )


def _scenarios(ratings: Sequence[Rating]) -> Plot:
    places = tuple(scenario.value for scenario in Scenario)
    series = []
    for rating in ratings:
        counts: Counter[Scenario] = Counter()
        for name, count in rating.categories().items():
            counts[SCENARIO_OF[name]] += count
        found = [share(counts[scenario], counts.total()) for scenario in Scenario]
        ends = (tuple(estimate.low for estimate in found), tuple(estimate.high for estimate in found))
        series.append(Series(rating.name, places, tuple(estimate.value for estimate in found), *ends))
    return Plot(
        title="Task scenarios (figure 6)",
        kind="bar",
        x_label="scenario",
        y_label="share of pairs",
        series=tuple(series),
        percent=True,
        note="Each category belongs to one scenario. The grouping is this project's: the paper names its nine "
        "scenarios in a picture alone.",
        how=f"{_raters(ratings)} Categories summed up by scenario, with Wilson's 95% intervals.",
    )


def _headlines(pairs: Sequence[SampledPair], ratings: Sequence[Rating]) -> tuple[Headline, ...]:
    if not ratings:
        how = "The pairs of a sample of texts, evenly over sources and rounds; sheet.csv of this analysis holds them."
        return (Headline("sheet for people", f"{len(pairs):,} pairs", "nobody has rated them yet", how=how),)
    first = ratings[0]
    found = []
    for measure, name in NAMES.items():
        estimate = first.share(measure)
        if estimate.n:
            how = f"{_raters([first])} The share of the pairs that were rated, with Wilson's 95% interval."
            found.append(Headline(name, _percent(estimate), f"{estimate.n:,} pairs; {first.name}", how=how))
    if first.categories():
        note, how = f"of {len(CATEGORIES)}; {first.name}", f"{_raters([first])} Categories with a pair or more."
        found.append(Headline("task categories", str(len(first.categories())), note, how=how))
    return tuple(found)


def _raters(ratings: Sequence[Rating]) -> str:
    """How these raters came to what they say, a sentence each kind."""
    made = {
        "judge": "which is asked about each pair, with its text, for JSON of a fixed schema (quality/prompts.py)",
        "truth": "which recomputes from the seed what is right (quality/analyze.py, true_judgement)",
        "person": "who has filled in sheet.csv",
    }
    return " ".join(f"Rated by {rating.name}, {made[rating.kind]}." for rating in ratings)


def _percent(found: Estimate) -> str:
    return f"{found.value:.1%} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
