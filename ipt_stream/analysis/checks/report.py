"""What the report shows of the checks: how many pairs each flags, its values, and what a threshold costs and wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from ipt_stream.analysis.checks.listing import CHECKS, Check, Scale, condition
from ipt_stream.analysis.checks.measure import Spread, Sums, average_precision, curve, roc_area, thin
from ipt_stream.analysis.checks.repeats import BUCKETS, Repeats
from ipt_stream.analysis.part import Cell, Headline, Part, Plot, Series, Table

POINTS = 60
"""Of a line in a plot."""
STEPS = 7
"""Thresholds of a check in the table of what they cost and win."""
HOW = "ipt-stream analyze, checks: each pair against its own text, no judge (analysis/checks)"
TRUTH_HOW = (
    "Right by the sample world's truth, which is recomputed from its seed; flagged by the checks' own thresholds \
or those in the settings"
)
CURVE_HOW = "Every threshold on each check's grid over all pairs; a pair without a value is kept at each \
(analysis/checks/measure.py; all points are in measured.json)"
ACCURACY_HOW = f"{CURVE_HOW}; right by the sample world's truth, which is recomputed from its seed"
REPEATS_HOW = "64-bit hashes of all pairs, sorted in passes of bounded memory (analysis/checks/repeats.py)"


def make_part(sums: Sums, repeats: Repeats, thresholds: Mapping[str, float]) -> Part:
    """The report's part on `sums`; `thresholds` are used in place of the checks' own."""
    judged = sums.judged > 0
    plots = [_spread_plot(check, sums.checks[check.name], judged) for check in CHECKS if sums.checks[check.name].known]
    lines = [*_accuracy_plots(sums)] if judged else []
    tables = [_checks_table(sums, thresholds, judged), _thresholds_table(sums, judged), _repeats_table(repeats)]
    return Part(
        name="checks",
        title="Every pair, checked without a judge",
        about="Does a response follow from its text, and is the pair well made? Each check is a column of its own, by "
        "which mix can filter; the paper names such verification as future work.",
        headlines=tuple(_headlines(sums, repeats, judged)),
        tables=tuple(table for table in tables if table.rows),
        plots=(*lines, *_yield_plots(sums), *plots),
    )


def measured(sums: Sums, repeats: Repeats, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """The same for machines: all sums, every point of every curve, and the repeats."""
    checks = {}
    for check in CHECKS:
        spread = sums.checks[check.name]
        checks[check.name] = {
            "threshold": thresholds.get(check.name, check.threshold),
            "curve": [asdict(point) for point in curve(check, spread)],
            "average_precision": average_precision(check, spread) if sums.judged else None,
            "roc_auc": roc_area(check, spread) if sums.judged else None,
        }
    return {"sums": sums.to_json(), "checks": checks, "repeats": asdict(repeats)}


def _headlines(sums: Sums, repeats: Repeats, judged: bool) -> Iterator[Headline]:
    whole, kept = sums.whole, sums.kept
    if not whole.pairs:
        yield Headline("pairs checked", "0", how=HOW)
        return
    if judged and kept.pairs:
        said = f"{whole.right / whole.pairs:.1%} to {kept.right / kept.pairs:.1%}"
        yield Headline(
            "right pairs, before and after all checks",
            said,
            f"{kept.pairs / whole.pairs:.1%} of pairs kept",
            how=f"{TRUTH_HOW}: the share of right ones of all pairs, and of those that no check flags.",
        )
    yield Headline("pairs that no check flags", f"{kept.pairs / whole.pairs:.1%}", f"of {whole.pairs:,} pairs",
                   how="Pairs beyond the threshold of none of the checks, over all pairs of the run.")  # fmt: skip
    yield Headline("pairs that came before in the run", f"{repeats.again / whole.pairs:.2%}", "to the character",
                   how=REPEATS_HOW)  # fmt: skip


def _checks_table(sums: Sums, thresholds: Mapping[str, float], judged: bool) -> Table:
    columns = ["check", "kept where", "known", "flagged", "mean", "25%", "median", "75%"]
    columns += ["right, if not flagged", "right, if flagged", "average precision", "ROC AUC"] if judged else []
    rows = []
    for check in CHECKS:
        spread = sums.checks[check.name]
        known = spread.known
        row: list[Cell] = [check.name, condition(check, thresholds.get(check.name, check.threshold)), known]
        row += [_share(spread.flagged.pairs, known), _rounded(spread.mean)]
        row += [_rounded(spread.quantile(share)) for share in (0.25, 0.5, 0.75)]
        if judged:
            flagged = spread.flagged
            rest = (sums.whole.right - flagged.right, sums.whole.pairs - flagged.pairs)
            row += [_share(*rest), _share(flagged.right, flagged.pairs)]
            row += [_rounded(average_precision(check, spread)), _rounded(roc_area(check, spread))]
        rows.append(tuple(row))
    if judged:
        none = [None] * 4
        kept, whole = sums.kept, sums.whole
        out = (whole.right - kept.right, whole.pairs - kept.pairs)
        last: list[Cell] = ["all together", "", whole.pairs, _share(out[1], whole.pairs), *none]
        rows.append((*last, _share(kept.right, kept.pairs), _share(*out), None, None))
    note = "; ".join(f"{check.name}: {check.about}" for check in CHECKS)
    note += (
        ". A pair for which a check can't be computed is not flagged by it. Quartiles are on a grid: hundredths, or "
    )
    note += "two digits of a log-probability. Average precision and AUC are over pairs that have a value."
    percent = ("flagged", "right, if not flagged", "right, if flagged") if judged else ("flagged",)
    return Table("What each check says", tuple(columns), tuple(rows), percent=percent, note=note, how=HOW)


def _thresholds_table(sums: Sums, judged: bool) -> Table:
    """A few thresholds a check: what is kept, and how much of it is right."""
    columns = ("check", "kept where", "pairs kept") + (("precision", "recall") if judged else ())
    rows: list[tuple[Cell, ...]] = []
    for check in CHECKS:
        points = curve(check, sums.checks[check.name])
        if len(points) < 2:
            continue
        for point in thin(points, STEPS):
            row: tuple[Cell, ...] = (check.name, condition(check, point.threshold), round(point.kept, 4))
            row += (_rounded(point.precision), _rounded(point.recall)) if judged else ()
            rows.append(row if check.scale is not Scale.TRUTH or point is points[0] else (check.name, "any", *row[2:]))
    note = "Kept is the share of all pairs. " + (
        "Precision is the share of right pairs among them, recall the share of all right pairs that are among them."
        if judged
        else "Without the sample world nothing is known of which are right."
    )
    percent = ("pairs kept", "precision", "recall") if judged else ("pairs kept",)
    return Table("What a threshold costs and wins", columns, tuple(rows), percent=percent, note=note, how=CURVE_HOW)


def _repeats_table(repeats: Repeats) -> Table:
    rows = tuple(
        (name, different, pairs, _share(pairs, repeats.pairs))
        for (_, name), (different, pairs) in zip(BUCKETS, repeats.buckets, strict=True)
        if pairs
    )
    return Table(
        "How often the same pair occurs in the run",
        ("occurs", "different pairs", "pairs", "share of pairs"),
        rows,
        percent=("share of pairs",),
        note="Instruction and response alike to the character, in any document. A frequent question with a frequent "
        "answer may well be right each time. All but the first, in the order of the run, have the check repeated.",
        how=REPEATS_HOW,
    )


def _accuracy_plots(sums: Sums) -> Iterator[Plot]:
    """Precision by recall, and precision by what is kept, of the checks that have more than two values."""
    recalls, yields = [], []
    for check in CHECKS:
        points = thin(curve(check, sums.checks[check.name]), POINTS)
        points = [point for point in points if point.precision is not None and point.recall is not None]
        if len(points) < 2:
            continue
        labels = tuple(f"{check.name} {condition(check, point.threshold)}" for point in points)
        precision = tuple(round(point.precision or 0.0, 4) for point in points)
        recall = tuple(round(point.recall or 0.0, 4) for point in points)
        kept = tuple(round(point.kept, 4) for point in points)
        recalls.append(Series(check.name, recall, precision, labels=labels))
        yields.append(Series(check.name, kept, precision, labels=labels))
    if recalls:
        note = (
            "By the truth of the sample world. A check that knows nothing is a flat line at the share of right pairs."
        )
        yield Plot(
            "Precision and recall of each check", "line", "recall: share of the right pairs that are kept",
            "precision: share of right pairs among the kept", tuple(recalls), percent=True, note=note, how=ACCURACY_HOW,
        )  # fmt: skip
        yield Plot(
            "What accuracy costs in yield", "line", "share of all pairs that are kept",
            "precision: share of right pairs among the kept", tuple(yields), percent=True, note=note, how=ACCURACY_HOW,
        )  # fmt: skip


def _yield_plots(sums: Sums) -> Iterator[Plot]:
    """What each threshold keeps, a plot a scale."""
    titles = {
        Scale.SHARE: ("Pairs kept by a threshold on a share", "threshold"),
        Scale.LOGPROB: ("Pairs kept by a threshold on the log-probability", "threshold, natural logarithm a token"),
        Scale.COUNT: ("Pairs kept by a threshold on a count", "threshold"),
    }
    for scale, (title, label) in titles.items():
        series = []
        for check in CHECKS:
            points = thin(curve(check, sums.checks[check.name]), POINTS) if check.scale is scale else []
            points = sorted(points, key=lambda point: point.threshold)
            if len(points) > 1:
                labels = tuple(condition(check, point.threshold) for point in points)
                xs, ys = tuple(point.threshold for point in points), tuple(round(point.kept, 4) for point in points)
                series.append(Series(check.name, xs, ys, labels=labels))
        if series:
            yield Plot(
                title, "line", label, "share of all pairs that are kept", tuple(series), percent=True, how=CURVE_HOW
            )


def _spread_plot(check: Check, spread: Spread, judged: bool) -> Plot:
    """The values of one check as bars, right pairs beside the others where the truth is known."""
    places = bins(check, spread)
    names = tuple(name for name, _ in places)
    if judged:
        right = tuple(float(sum(spread.counts[value].right for value in values)) for _, values in places)
        rest = tuple(
            float(sum(spread.counts[value].pairs - spread.counts[value].right for value in values))
            for _, values in places
        )
        series: tuple[Series, ...] = (Series("right", names, right), Series("not right", names, rest))
    else:
        series = (Series("pairs", names, tuple(float(sum(spread.counts[v].pairs for v in vs)) for _, vs in places)),)
    note = f"{check.about}; {spread.unknown.pairs:,} pairs have no value" if spread.unknown.pairs else check.about
    return Plot(f"Values of {check.name}", "bar", check.name, "pairs", series, note=note, how=HOW)


def bins(check: Check, spread: Spread) -> list[tuple[str, list[float]]]:
    """The values on the grid in bars, with their names: tenths of a share, counts as they are, powers of two of a
    log-probability, yes and no."""
    values = sorted(spread.counts)
    match check.scale:
        case Scale.TRUTH:
            return [("yes" if value else "no", [value]) for value in values]
        case Scale.COUNT:
            most = max(values, default=0.0)
            return [
                (f"{count:g}", [float(count)] if float(count) in spread.counts else [])
                for count in range(int(most) + 1)
            ]
        case Scale.SHARE:
            return [
                (f"{low / 10:g}" if low == 10 else f"{low / 10:g} to {(low + 1) / 10:g}",
                 [value for value in values if low <= value * 10 + 1e-9 < low + 1])
                for low in range(11)
            ]  # fmt: skip
        case Scale.LOGPROB:
            edges = [0.0, *(-(2.0**power) for power in range(-10, 5)), float("-inf")]
            return [
                (f"{low:g} to {high:g}" if low > float("-inf") else f"below {high:g}",
                 [value for value in values if low <= value < high or (high == value == 0.0)])
                for high, low in pairwise(edges)
            ][::-1]  # fmt: skip


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
