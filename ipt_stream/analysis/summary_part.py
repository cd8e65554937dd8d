"""The summary's part of the report: what came out, beside the paper's own figures; rounds, stages, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ipt_stream.analysis.part import Cell, Headline, Part, Plot, Series, Table
from ipt_stream.evaluation.results import MAIN_METRICS, Result
from ipt_stream.stage import Figure

STAGE_HOW = "The synthesize stage's own figures (stage.json in its directory)."
COUNTED_HOW = "Counted over all rows of all finished segments."
TRUTH_HOW = "Right: each pair against the truth of the sample world, recomputed from its seed."
INTERVAL = 1.96
"""Standard errors on each side of a 95% interval."""


@dataclass(frozen=True, slots=True)
class RoundCounts:
    """What came out of one round.

    Attributes:
        texts: raw texts that were asked about.
        inherits: those whose prompt held earlier shots.
        pairs: pairs made.
        right: pairs that are right by the world's truth; 0 where there is none.
        prompt_tokens: tokens of the prompts.
        cached_tokens: of them, those from the prefix cache.
    """

    texts: int
    inherits: int
    pairs: int
    right: int
    prompt_tokens: int
    cached_tokens: int


def share(part: int, whole: int) -> float:
    """`part` of `whole`, to four digits; 0 of nothing."""
    return round(part / whole, 4) if whole else 0.0


def summary_part(
    rounds: Sequence[RoundCounts],
    judged: bool,
    synthesis: Mapping[str, Figure] | None,
    stages: Mapping[str, Mapping[str, Figure]],
    results: Mapping[str, Mapping[str, Result]],
) -> Part:
    """The part.

    Args:
        rounds: what came out of each round; none without a synthesis run.
        judged: whether `right` was counted.
        synthesis: figures of the finished synthesize stage; None where there is none, or it is not finished.
        stages: figures of the run's stages by name.
        results: evaluation by model and task.
    """
    tables = [
        *([_beside_the_paper(rounds, synthesis)] if rounds and synthesis else ()),
        *([_rounds_table(rounds, judged)] if rounds else ()),
        *([_stages_table(stages)] if stages else ()),
        *([_scores_table(results)] if results else ()),
    ]
    plots = [
        *([_right_plot(rounds)] if judged and len(rounds) > 1 else ()),
        *([_scores_plot(results)] if results else ()),
    ]
    return Part(
        "summary",
        "Summary",
        "What the run made, counted over all of its segments and read from the records of its stages.",
        tuple(_headlines(rounds, judged, synthesis)),
        tuple(tables),
        tuple(plots),
    )


def _headlines(
    rounds: Sequence[RoundCounts], judged: bool, synthesis: Mapping[str, Figure] | None
) -> Sequence[Headline]:
    found = []
    if synthesis:
        documents, augmented = int(synthesis["documents_in"]), int(synthesis["augmented"])
        rejected = int(synthesis["rejected"])
        note = f"{augmented:,} augmented, {int(synthesis['raw']):,} raw" + (f", {rejected:,} rejected" * bool(rejected))
        found.append(Headline("Documents", f"{documents:,}", note, how=STAGE_HOW))
    if rounds:
        pairs, texts = sum(r.pairs for r in rounds), sum(r.texts for r in rounds)
        note = f"{pairs / max(texts, 1):.1f} a text, in {len(rounds)} round" + "s" * (len(rounds) != 1)
        found.append(Headline("Pairs", f"{pairs:,}", note, how=COUNTED_HOW))
        if judged:
            right = share(sum(r.right for r in rounds), pairs)
            how = f"{COUNTED_HOW} {TRUTH_HOW}"
            found.append(Headline("Right pairs", f"{right:.1%}", "all pairs, by the sample world's truth", how=how))
    if synthesis and "raw_tokens_per_second" in synthesis:
        rate = float(synthesis["raw_tokens_per_second"])
        how = f"{STAGE_HOW} Tokens of the raw texts asked about since its last start, over the seconds since."
        found.append(Headline("Raw tokens a second", f"{rate:,.0f}", "synthesis, all engines together", how=how))
    return found


def _beside_the_paper(rounds: Sequence[RoundCounts], synthesis: Mapping[str, Figure]) -> Table:
    pairs = sum(r.pairs for r in rounds)
    asked = sum(r.texts for r in rounds)
    rate = float(synthesis.get("raw_tokens_per_second", 0))
    rows: list[tuple[Cell, ...]] = [
        ("Rounds", len(rounds), "2 general, 3 domain"),
        ("Documents augmented", f"{share(int(synthesis['augmented']), int(synthesis['documents_in'])):.1%}",
         "20% general, 100% domain"),
        ("Pairs a text", round(pairs / max(asked, 1), 1), "about 5"),
        ("Tokens a pair", round(int(synthesis["generated_tokens"]) / max(pairs, 1), 1), "about 52"),
        ("Raw tokens a day", f"{rate * 86_400:,.0f}", "about 1 billion"),
    ]  # fmt: skip
    return Table(
        "The run beside the paper's",
        ("measure", "this run", "paper"),
        tuple(rows),
        paper=("paper",),
        note="Paper: sections 2.1, 3.1 and 3.2, appendix B. Tokens are those of each one's own tokenizer; the paper's "
        "speed is that of its 7B synthesizer on one A100-80GB.",
        how="Counts of the synthesize stage (stage.json, ledger); tokens a pair are generated tokens, markup included, "
        "over pairs kept.",
    )


def _rounds_table(rounds: Sequence[RoundCounts], judged: bool) -> Table:
    columns = ("round", "texts", "inherit", "pairs", "pairs a text", "tokens cached", *(("right",) if judged else ()))
    rows = tuple(
        (
            number,
            r.texts,
            share(r.inherits, r.texts),
            r.pairs,
            round(r.pairs / max(r.texts, 1), 2),
            share(r.cached_tokens, r.prompt_tokens),
            *((share(r.right, r.pairs),) if judged else ()),
        )
        for number, r in enumerate(rounds, 1)
    )
    return Table(
        "Rounds",
        columns,
        rows,
        percent=("inherit", "tokens cached", *(("right",) if judged else ())),
        note="Inherit: texts whose prompt held the shots of earlier rounds. Cached: prompt tokens that the engine took "
        "from its prefix cache.",
        how=f"{COUNTED_HOW} {TRUTH_HOW}" if judged else COUNTED_HOW,
    )


def _stages_table(stages: Mapping[str, Mapping[str, Figure]]) -> Table:
    rows = []
    for name, figures in stages.items():
        rates = [f"{value:,} {key.replace('_per_second', '/s').replace('_', ' ')}"
                 for key, value in figures.items() if key.endswith("_per_second")]  # fmt: skip
        memory = figures.get("peak_memory_mb")
        rows.append(
            (
                name,
                round(float(figures.get("stage_seconds", 0)), 1),
                memory if isinstance(memory, int) else None,
                ", ".join(rates) or None,
            )
        )
    return Table(
        "Stages",
        ("stage", "seconds", "peak memory, MB", "speed"),
        tuple(rows),
        how="stage.json of each stage's directory; memory is that of the stage's own process.",
    )


def _scores_table(results: Mapping[str, Mapping[str, Result]]) -> Table:
    models = list(results)
    columns: list[str] = ["task", "metric", "questions", "shots", "chance"]
    for model in models:
        columns += [model, f"{model} ±"]
    rows = []
    for task, first in results[models[0]].items():
        cells: list[Cell] = [task, first.main()[0], first.n, first.shots, first.chance]
        for model in models:
            score = results[model][task].main()[1]
            cells += [score.value, score.stderr]
        rows.append(tuple(cells))
    return Table(
        "Evaluation",
        tuple(columns),
        tuple(rows),
        percent=("chance", *columns[5:]),
        note=f"{MAIN_METRICS[0]} where a task has it; ± is one standard error.",
        how="The evaluate stage: lm-eval over all questions of each task (results.json in its directory).",
    )


def _right_plot(rounds: Sequence[RoundCounts]) -> Plot:
    numbers = tuple(float(number) for number in range(1, len(rounds) + 1))
    shares = tuple(share(r.right, r.pairs) for r in rounds)
    labels = tuple(f"round {n}: {r.right:,} of {r.pairs:,} right" for n, r in enumerate(rounds, 1))
    return Plot(
        "Right pairs by round",
        "line",
        "round",
        "share of pairs that are right",
        (Series("right", numbers, shares, labels=labels),),
        percent=True,
        note="Later rounds see the texts and pairs of earlier ones.",
        how="All pairs, each against the truth of the sample world.",
    )


def _scores_plot(results: Mapping[str, Mapping[str, Result]]) -> Plot:
    tasks = tuple(next(iter(results.values())))
    series = []
    for model, by_task in results.items():
        scores = [by_task[task].main()[1] for task in tasks]
        low = tuple(max(score.value - INTERVAL * (score.stderr or 0), 0.0) for score in scores)
        high = tuple(min(score.value + INTERVAL * (score.stderr or 0), 1.0) for score in scores)
        series.append(Series(model, tasks, tuple(score.value for score in scores), low, high))
    first = next(iter(results.values()))
    if all(first[task].chance is not None for task in tasks):
        series.append(Series("chance", tasks, tuple(float(first[task].chance or 0) for task in tasks)))
    return Plot(
        "Evaluation",
        "bar",
        "task",
        "score",
        tuple(series),
        percent=True,
        note="Bars end at the score; lines are 95% intervals.",
        how="As the table of the evaluation; intervals are 1.96 standard errors on each side.",
    )
