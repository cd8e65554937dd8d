"""The domains' part of the report: the paper's tables 11 and 12 beside what was found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipt_stream.analysis.intervals import Estimate, mean, share
from ipt_stream.analysis.judging.report import bill_table
from ipt_stream.analysis.judging.settings import JudgeSettings
from ipt_stream.analysis.part import Cell, Headline, Part, Plot, Series, Table
from ipt_stream.stage import Figure

if TYPE_CHECKING:
    from ipt_stream.analysis.domains import Labels, Sorted

PAPER_11 = {"coverage": 0.868, "coverage, multi-domain": 0.778, "overlap": 0.849}
PAPER_12 = {
    "encyclopedia": (0.222, 0.058, 0.058),
    "fiction": (0.111, 0.096, 0.118),
    "academic tests": (0.222, 0.035, 0.033),
    "trivia": (0.037, 0.0, 0.001),
    "news": (0.074, 0.203, 0.188),
    "expert materials": (0.296, 0.428, 0.460),
    "social media": (0.037, 0.147, 0.111),
    "code": (0.0, 0.033, 0.031),
}
"""Of the tuning data (source by source), the raw texts, and the pairs."""
PAPER_COLUMNS = ("paper: tuning data", "paper: texts", "paper: pairs")


@dataclass(frozen=True, slots=True)
class Coverage:
    """The measures of appendix F.

    Attributes:
        coverage: of the texts' domains, the share that their pairs have too.
        multi: the same, of texts with more than one domain.
        overlap: domains of both over domains of either.
    """

    coverage: Estimate
    multi: Estimate
    overlap: Estimate

    def named(self) -> dict[str, Estimate]:
        """The measures as table 11 calls them."""
        return {"coverage": self.coverage, "coverage, multi-domain": self.multi, "overlap": self.overlap}


def coverage_of(found: Iterable[Sorted]) -> Coverage:
    """The measures, averaged over the texts whose domains are known and of which those of a pair are."""
    covered: list[float] = []
    multi: list[float] = []
    overlap: list[float] = []
    for item in found:
        known = [domains for domains in item.pairs if domains is not None]
        if not item.text or not known:
            continue
        union = frozenset().union(*known)
        both = len(item.text & union)
        covered.append(both / len(item.text))
        overlap.append(both / len(item.text | union))
        if len(item.text) > 1:
            multi.append(both / len(item.text))
    return Coverage(mean(covered), mean(multi), mean(overlap))


def distribution(domains: Iterable[frozenset[str] | None]) -> Counter[str]:
    """How often each domain occurs; something of several domains counts once for each of them."""
    return Counter(domain for its in domains if its is not None for domain in its)


def domains_part(
    labels: Labels, tuning: Counter[str], scenarios: Sequence[tuple[str, str, str]], judge: JudgeSettings | None
) -> Part:
    """What is published."""
    tables = [_table_11(labels), _table_12(labels, tuning)]
    if scenarios:
        tables.append(_by_domain(scenarios))
    if labels.accuracy is not None:
        tables.append(_classifier(labels.accuracy, labels.by))
    if labels.bill is not None and judge is not None:
        tables.append(bill_table(judge, labels.bill))
    cover = coverage_of(labels.found)
    headlines = [
        Headline(f"domain {name}", f"{estimate.value:.1%}", f"{estimate.n:,} texts; by {labels.by}", how=_how(labels))
        for name, estimate in cover.named().items()
        if estimate.n
    ]
    return Part(
        name="domains",
        title="Domains",
        about=f"Which domains the texts and their pairs have, said by {labels.by}, and whether the pairs keep to "
        "those of their text.",
        headlines=tuple(headlines),
        tables=tuple(tables),
        plots=(_plot_12(labels),),
    )


def figures_of(labels: Labels) -> dict[str, Figure]:
    """The figures of the stage."""
    figures: dict[str, Figure] = {
        "texts": len(labels.found),
        "texts_sorted": sum(item.text is not None for item in labels.found),
        "pairs": sum(len(item.pairs) for item in labels.found),
        "pairs_sorted": sum(domains is not None for item in labels.found for domains in item.pairs),
    }
    for name, estimate in coverage_of(labels.found).named().items():
        if estimate.n:
            figures[name] = round(estimate.value, 4)
    if labels.accuracy is not None:
        figures["classifier_accuracy"] = round(labels.accuracy.value, 4)
    return figures


def report_lines(labels: Labels) -> tuple[str, ...]:
    """A line for people."""
    told = [f"{name} {found.value:.1%}" for name, found in coverage_of(labels.found).named().items() if found.n]
    return (f"domains of {len(labels.found):,} texts by {labels.by}: {', '.join(told)}",)


def _table_11(labels: Labels) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, found in coverage_of(labels.found).named().items():
        low, high = (_finite(min(1.0, max(0.0, end))) for end in (found.low, found.high))
        rows.append((name, found.n, _finite(found.value), low, high, PAPER_11[name]))
    return Table(
        title="Domain coverage and overlap of texts and pairs (table 11)",
        columns=("measure", "texts", "mean", "low", "high", "paper"),
        rows=tuple(rows),
        percent=("mean", "low", "high", "paper"),
        paper=("paper",),
        note="Coverage: the share of a text's domains that its pairs have too, together; multi-domain: of texts with "
        "more than one. Overlap: domains of both over domains of either. low and high: the 95% interval of the mean.",
        how=_how(labels),
    )


def _said_by(labels: Labels) -> str:
    return f"Domains said by {labels.by}, of each text and of each pair alone, without its text."


def _how(labels: Labels) -> str:
    return f"{_said_by(labels)} Each measure is taken of a text with the union of its pairs' domains, then averaged."


def _shares(counts: Counter[str], names: Sequence[str]) -> list[Estimate]:
    return [share(counts[name], counts.total()) for name in names]


def _table_12(labels: Labels, tuning: Counter[str]) -> Table:
    texts, pairs = _distributions(labels)
    names = [*labels.names, *sorted(set(tuning) - set(labels.names))]
    of_tuning = _shares(tuning, names) if tuning else [None] * len(names)
    rows: list[tuple[Cell, ...]] = []
    for name, sources, one, other in zip(names, of_tuning, _shares(texts, names), _shares(pairs, names), strict=True):
        tuned = None if sources is None else sources.value
        cells = [tuned, *(_finite(value) for found in (one, other) for value in (found.value, found.low, found.high))]
        rows.append((name, *cells, *PAPER_12.get(name, (None, None, None))))
    measured = ("tuning data", "texts", "texts, low", "texts, high", "pairs", "pairs, low", "pairs, high")
    return Table(
        title="Distribution of domains (table 12)",
        columns=("domain", *measured, *PAPER_COLUMNS),
        rows=tuple(rows),
        percent=(*measured, *PAPER_COLUMNS),
        paper=PAPER_COLUMNS,
        note="Shares of all domains said; a text of several counts once for each. Tuning data: shares of its sources, "
        "by what their source files state, without those of several domains. low and high: the 95% interval (Wilson).",
        how=f"{_said_by(labels)} Counted over all texts and over all pairs of the sample (domains.jsonl).",
    )


def _plot_12(labels: Labels) -> Plot:
    series = []
    for name, counts in zip(("texts", "pairs"), _distributions(labels), strict=True):
        if counts:
            found = _shares(counts, labels.names)
            low, high = tuple(estimate.low for estimate in found), tuple(estimate.high for estimate in found)
            series.append(Series(name, labels.names, tuple(estimate.value for estimate in found), low, high))
    return Plot(
        title="Distribution of domains (table 12)",
        kind="bar",
        x_label="domain",
        y_label="share of all domains said",
        series=tuple(series),
        percent=True,
        how=f"{_said_by(labels)} The shares of the table, with Wilson's 95% intervals.",
    )


def _distributions(labels: Labels) -> tuple[Counter[str], Counter[str]]:
    texts = distribution(item.text for item in labels.found)
    return texts, distribution(domains for item in labels.found for domains in item.pairs)


def _by_domain(scenarios: Sequence[tuple[str, str, str]]) -> Table:
    names = sorted({scenario for *_, scenario in scenarios})
    rows: list[tuple[Cell, ...]] = []
    for domain in sorted({domain for domain, *_ in scenarios}):
        inside = [(category, scenario) for its, category, scenario in scenarios if its == domain]
        counts = Counter(scenario for _, scenario in inside)
        shares = [counts[name] / len(inside) for name in names]
        rows.append((domain, len(inside), len({category for category, _ in inside}), *shares))
    everything = Counter(scenario for *_, scenario in scenarios)
    total = [everything[name] / len(scenarios) for name in names]
    rows.append(("all", len(scenarios), len({category for _, category, _ in scenarios}), *total))
    return Table(
        title="Task categories and scenarios by domain",
        columns=("domain", "pairs", "categories", *names),
        rows=tuple(rows),
        percent=tuple(names),
        note="Of the pairs that the quality analysis put into a category; a pair of several domains counts for each.",
        how="Domains as in the tables above; category and scenario by the quality analysis' first rater that gives one "
        "(its judgements.jsonl), of the pairs that are in both samples.",
    )


def _classifier(accuracy: Estimate, by: str) -> Table:
    return Table(
        title="The classifier",
        columns=("what", "lines", "accuracy", "low", "high"),
        rows=((by, accuracy.n, accuracy.value, accuracy.low, accuracy.high),),
        percent=("accuracy", "low", "high"),
        note="On lines held out, the likeliest domain alone. low and high: the 95% interval (Wilson). What it "
        "makes of pairs, which are shorter than what it was trained on, may be worse.",
        how="Logistic regression on hashed words and pairs of words. The lines held out are chosen by a hash of their "
        "text and not trained on (analysis/domain_labels.py).",
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
