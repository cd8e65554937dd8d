"""The synthesizers' part of the report: the paper's table 5 and figure 5 beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from ipt_stream.analysis.helpfulness import RANDOM, WITHOUT, Helped
from ipt_stream.analysis.intervals import Estimate, mean, share
from ipt_stream.analysis.part import Cell, Headline, Part, Plot, Series, Table
from ipt_stream.analysis.synthesizer_data import GROUPS, GroupData
from ipt_stream.stage import Figure
from ipt_stream.tuning.quality import Scored

if TYPE_CHECKING:
    from ipt_stream.analysis.synthesizer import Measured, SynthesizerSettings

ACCURACY, ZERO, FEW_SHOT = "response accuracy", "pair quality, zero-shot", "pair quality, few-shot"
PAPER = {
    (ACCURACY, "seen"): (0.306, 0.700),
    (ACCURACY, "unseen"): (0.292, 0.552),
    (ZERO, "seen"): (0.165, 0.494),
    (FEW_SHOT, "seen"): (0.218, 0.499),
    (ZERO, "unseen"): (0.121, 0.253),
    (FEW_SHOT, "unseen"): (0.196, 0.308),
}
"""Table 5: Mistral-7B as it is, and tuned."""
PAPER_COLUMNS = ("paper: base", "paper: tuned")

HOW = (
    "Generated greedily by synthesis' own vLLM engine, from the same prompts for all models; F1 over words as SQuAD's \
evaluation normalizes them."
)
QUALITY_HOW = (
    "Pairs, instruction and response together, are matched one to one so that the sum of F1 is the highest; the \
quality of a text is 2 * sum / (generated + gold)."
)
HELP_HOW = "A language model is asked the same questions with every kind of pairs in its prompt, and answers greedily; \
random pairs are the gold ones of another text (analysis/helpfulness.py)."

Found = Mapping[str, Mapping[str, "Measured"]]


def rows_of(measured: Measured) -> dict[str, list[Scored]]:
    """The scores of one model in one group, by measure; those that were taken."""
    found = {ACCURACY: measured.responses, ZERO: measured.zero, FEW_SHOT: measured.few}
    return {measure: scores for measure, scores in found.items() if scores}


def synthesizer_part(
    settings: SynthesizerSettings,
    groups: Mapping[str, GroupData],
    measured: Found,
    helped: Sequence[Helped],
    left_out: Mapping[str, int],
) -> Part:
    """What is published: table 5, leads over the base model, scores by source, and figure 5."""
    tables = [_table_5(groups, measured, left_out)]
    if settings.baseline is not None and len(measured) > 1:
        tables.append(_leads(settings.baseline, groups, measured))
    tables.append(_by_source(groups, measured))
    plots = [_plot_5(groups, measured)]
    if helped:
        tables.append(_help_table(helped))
        plots.append(_figure_5(helped))
    return Part(
        name="synthesizer",
        title="The synthesizer",
        about="How right the responses of the synthesizer are, how alike its pairs are to known ones, and whether they "
        "help a language model with a task on the same text; on sources that it was tuned on and on others.",
        headlines=_headlines(settings, measured, helped),
        tables=tuple(tables),
        plots=tuple(plots),
    )


def figures_of(settings: SynthesizerSettings, measured: Found, helped: Sequence[Helped]) -> dict[str, Figure]:
    """The figures of the stage: means by model, group and measure."""
    figures: dict[str, Figure] = {}
    for name, by_group in measured.items():
        for group, found in by_group.items():
            for measure, scores in rows_of(found).items():
                figures[f"{name}/{group}/{measure}"] = round(fmean(item.score for item in scores), 4)
            figures[f"{name}/{group}/pairs a text"] = round(fmean(item.generated for item in found.zero), 2)
    for (group, kind), answers in _by_kind(helped).items():
        figures[f"help/{group}/{kind}"] = round(fmean(answer.f1 for answer in answers), 4)
    return figures


def report_lines(part: Part) -> tuple[str, ...]:
    """The first table of the part, for people on a terminal."""
    table = part.tables[0]
    shown = [table.columns, *[tuple(_text(cell) for cell in row) for row in table.rows]]
    widths = [max(len(row[i]) for row in shown) for i in range(len(table.columns))]
    return tuple(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )


def _text(cell: Cell) -> str:
    return f"{cell:.3f}" if isinstance(cell, float) else "" if cell is None else str(cell)


def _table_5(groups: Mapping[str, GroupData], measured: Found, left_out: Mapping[str, int]) -> Table:
    models = list(measured)
    rows: list[tuple[Cell, ...]] = []
    for group in groups:
        for measure in (ACCURACY, ZERO, FEW_SHOT):
            scores = {name: rows_of(measured[name][group]).get(measure) for name in models}
            if not all(scores.values()):
                continue
            found = {name: mean([item.score for item in given or ()]) for name, given in scores.items()}
            n = next(iter(found.values())).n
            cells = [part for estimate in found.values() for part in (estimate.value, _width(estimate))]
            rows.append((measure, group, n, *cells, *PAPER[measure, group]))
    columns = [column for name in models for column in (name, f"{name} ±")]
    given = [len(shots) for data in groups.values() for shots in data.shots]
    lost = f" Left out: {', '.join(f'{count:,} {reason}' for reason, count in left_out.items())}." if left_out else ""
    return Table(
        title="Response accuracy and pair quality (table 5)",
        columns=("measure", "sources", "n", *columns, *PAPER_COLUMNS),
        rows=tuple(rows),
        percent=(*columns, *PAPER_COLUMNS),
        paper=PAPER_COLUMNS,
        note="F1 over words, normalized as SQuAD's evaluation does. n: gold instructions for accuracy, texts for "
        f"quality. Few-shot: {fmean(given):.1f} texts of the same source before the text in the mean. ±: half of the "
        "95% interval of the mean. The paper's numbers are of Mistral-7B and of other texts: comparable in kind, not "
        f"in level.{lost}",
        how=f"{HOW} {QUALITY_HOW}",
    )


def _leads(baseline: str, groups: Mapping[str, GroupData], measured: Found) -> Table:
    """How far each model leads the base model, text by text."""
    rows: list[tuple[Cell, ...]] = []
    for name in measured:
        for group in groups:
            ours, theirs = rows_of(measured[name][group]), rows_of(measured[baseline][group])
            for measure in ours if name != baseline else ():
                if measure in theirs:
                    pairs = zip(ours[measure], theirs[measure], strict=True)
                    lead = mean([one.score - other.score for one, other in pairs])
                    low, high = (_finite(end) for end in (lead.low, lead.high))
                    before, after = PAPER[measure, group]
                    rows.append((name, measure, group, lead.n, lead.value, low, high, after - before))
    return Table(
        title=f"Lead over {baseline}",
        columns=("model", "measure", "sources", "n", "lead", "low", "high", "paper: lead"),
        rows=tuple(rows),
        percent=("lead", "low", "high", "paper: lead"),
        paper=("paper: lead",),
        note="Difference of F1, paired text by text (instruction by instruction), with its 95% interval.",
        how=f"{HOW} The mean of the differences and its normal interval, 1.96 standard errors on each side.",
    )


def _by_source(groups: Mapping[str, GroupData], measured: Found) -> Table:
    measures = [
        m for m in (ACCURACY, ZERO, FEW_SHOT) if any(rows_of(d[g]).get(m) for d in measured.values() for g in d)
    ]
    columns = [f"{name}: {measure}" for name in measured for measure in measures]
    rows: list[tuple[Cell, ...]] = []
    for group, data in groups.items():
        for source in sorted({example.source for example in data.examples}):
            gold = [len(example.pairs) for example in data.examples if example.source == source]
            cells: list[Cell] = []
            for by_group in measured.values():
                for measure in measures:
                    scores = [i.score for i in rows_of(by_group[group]).get(measure, ()) if i.source == source]
                    cells.append(fmean(scores) if scores else None)
            made = [fmean(i.generated for i in by_group[group].zero if i.source == source)
                    for by_group in measured.values()]  # fmt: skip
            rows.append((source, group, len(gold), round(fmean(gold), 1), *[round(m, 1) for m in made], *cells))
    pairs = [f"{name}: pairs a text" for name in measured]
    return Table(
        title="By source",
        columns=("source", "sources", "texts", "gold pairs a text", *pairs, *columns),
        rows=tuple(rows),
        percent=tuple(columns),
        note="Pairs a text: those made zero-shot.",
        how=f"{HOW} The scores of the first table, averaged source by source.",
    )


def _plot_5(groups: Mapping[str, GroupData], measured: Found) -> Plot:
    places = [(group, m) for group in groups for m in (ACCURACY, ZERO, FEW_SHOT)
              if all(m in rows_of(found[group]) for found in measured.values())]  # fmt: skip
    names = tuple(f"{measure}, {group}" for group, measure in places)
    series = []
    for name, found in measured.items():
        estimates = [mean([item.score for item in rows_of(found[group])[measure]]) for group, measure in places]
        series.append(_bars(name, names, estimates))
    paper = [PAPER[measure, group] for group, measure in places]
    series += [Series(column, names, tuple(both[i] for both in paper)) for i, column in enumerate(PAPER_COLUMNS)]
    return Plot(
        title="Response accuracy and pair quality (table 5)",
        kind="bar",
        x_label="measure and sources",
        y_label="F1",
        series=tuple(series),
        percent=True,
        note="Bars of what was measured with the 95% interval of the mean.",
        how=f"{HOW} {QUALITY_HOW}",
    )


def _bars(name: str, places: tuple[str, ...], estimates: Sequence[Estimate]) -> Series:
    low = tuple(max(0.0, estimate.low) for estimate in estimates)
    high = tuple(min(1.0, estimate.high) for estimate in estimates)
    return Series(name, places, tuple(estimate.value for estimate in estimates), low, high)


def _by_kind(helped: Sequence[Helped]) -> dict[tuple[str, str], list[Helped]]:
    found: dict[tuple[str, str], list[Helped]] = {}
    for answer in helped:
        found.setdefault((answer.group, answer.pairs), []).append(answer)
    return found


def _help_table(helped: Sequence[Helped]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (group, kind), answers in _by_kind(helped).items():
        f1 = mean([answer.f1 for answer in answers])
        rights = [answer.right for answer in answers if answer.right is not None]
        chosen = share(sum(rights), len(rights))
        likely = mean([answer.log_probability for answer in answers])
        rows.append(
            (
                kind, group, f1.n, round(fmean(answer.given for answer in answers), 1), f1.value, _width(f1),
                round(likely.value, 3), _rounded(_width(likely)), _finite(chosen.value), chosen.n,
            )
        )  # fmt: skip
    return Table(
        title="Helpfulness for a language model (figure 5)",
        columns=(
            "pairs in the prompt", "sources", "questions", "pairs", "answer F1", "answer F1 ±",
            "log probability", "log probability ±", "right option", "with options",
        ),
        rows=tuple(rows),
        percent=("answer F1", "answer F1 ±", "right option"),
        note="Answer F1: of what the language model generates against the gold answer, the paper's way. Log "
        "probability: of the gold answer, natural logarithm, mean a token. Right option: the gold one is the likeliest "
        "a token, of the questions with options. The paper shows its own numbers in a figure alone.",
        how=HELP_HOW,
    )  # fmt: skip


def _figure_5(helped: Sequence[Helped]) -> Plot:
    by_kind = _by_kind(helped)
    groups = tuple(group for group in GROUPS if any(found == group for found, _ in by_kind))
    kinds = list(dict.fromkeys(kind for _, kind in by_kind))
    series = [
        _bars(kind, groups, [mean([answer.f1 for answer in by_kind[group, kind]]) for group in groups])
        for kind in kinds
    ]
    return Plot(
        title="Helpfulness for a language model (figure 5)",
        kind="bar",
        x_label="sources",
        y_label="F1 of its answers",
        series=tuple(series),
        percent=True,
        note="What pairs of the same text in the prompt do for the answer to a gold instruction about it.",
        how=HELP_HOW,
    )


def _headlines(settings: SynthesizerSettings, measured: Found, helped: Sequence[Helped]) -> tuple[Headline, ...]:
    name = next(iter(measured))
    found = []
    for group, done in measured[name].items():
        n = len(done.zero)
        scores = rows_of(done)
        if ACCURACY in scores:
            value = fmean(item.score for item in scores[ACCURACY])
            note, how = f"F1; {name}, {n:,} texts", f"{HOW} The mean F1 of responses to gold instructions."
            found.append(Headline(f"response accuracy, {group} sources", f"{value:.1%}", note, how=how))
        best = scores.get(FEW_SHOT) or scores[ZERO]
        value = fmean(item.score for item in best)
        shots = "Few-shot" if scores.get(FEW_SHOT) else "Zero-shot"
        note, how = f"F1; {name}, {n:,} texts", f"{shots}, the mean over texts. {HOW} {QUALITY_HOW}"
        found.append(Headline(f"pair quality, {group} sources", f"{value:.1%}", note, how=how))
    by_kind = _by_kind(helped)
    for group in measured[name]:
        if (group, name) in by_kind:
            ours, without, random = (
                fmean(answer.f1 for answer in by_kind[group, kind]) for kind in (name, WITHOUT, RANDOM)
            )
            note = f"F1 of a language model's answers; {without:.1%} without pairs, {random:.1%} with random ones"
            found.append(Headline(f"answers helped by its pairs, {group} sources", f"{ours:.1%}", note, how=HELP_HOW))
    return tuple(found)


def _width(estimate: Estimate) -> float | None:
    return _finite(estimate.half_width())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
