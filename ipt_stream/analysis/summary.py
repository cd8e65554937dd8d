"""The summary: what a run made, on one page that a person wants to read.

Counts of documents and pairs, the share of pairs that are right where the input is the sample world (its truth is
recomputed, round by round), the speed of each stage, the evaluation table, and examples of what training sees.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from ipt_stream import storage
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import publish_part
from ipt_stream.analysis.summary_part import RoundCounts, share, summary_part
from ipt_stream.config import Settings
from ipt_stream.corpus.sample_world import read_world
from ipt_stream.corpus.truth import Verdict, judge
from ipt_stream.corpus.world.facts import World
from ipt_stream.errors import InputError
from ipt_stream.evaluation.results import Result, from_json
from ipt_stream.stage import Figure, Stage, StageReport, finished_figures, finished_report, run_once
from ipt_stream.synthesis.results import list_segments, load_rows
from ipt_stream.synthesis.segment import SegmentRow


class SummarySettings(Settings):
    """Settings of the summary."""

    examples: int = Field(2, ge=0)
    """Examples of augmented text to show on the terminal."""
    example_characters: int = Field(1500, ge=100)
    """Longer examples are cut there."""


def analyze_summary(inputs: Inputs, settings: SummarySettings, output: str) -> StageReport:
    """Look at finished stages and write `summary.md`, `summary.json` and the report's part to `output`.

    Raises:
        InputError: a stage that `inputs` names is not finished.
        LedgerError: the output belongs to a summary of other stages.
    """
    figures = {name: _figures(name, directory) for name, directory in inputs.stages.items()}
    known = {**inputs.model_dump(mode="json"), **settings.model_dump(mode="json"), "figures": figures}
    return run_once(
        output, "analyze-summary", known, lambda stage: _summarize(inputs, settings, figures, output, stage)
    )


def count_rounds(synthesis: str, world: World | None) -> list[RoundCounts]:
    """What came out of each round of the synthesis run in `synthesis`, judged where there is a world."""
    count: dict[int, Counter[str]] = defaultdict(Counter)
    for row in _rows(synthesis):
        counter = count[row.round]
        counter.update(texts=1, inherits=int(row.inherits), pairs=len(row.pairs))
        counter.update(prompt_tokens=row.prompt_tokens, cached_tokens=row.cached_tokens)
        if world is not None and row.source_id is not None:
            verdicts = [judge(world, row.source_id, row.text, pair) for pair in row.pairs]
            counter.update(right=verdicts.count(Verdict.RIGHT))
    fields = RoundCounts.__slots__
    return [RoundCounts(**{field: count[number][field] for field in fields}) for number in sorted(count)]


def _rows(synthesis: str) -> Iterator[SegmentRow]:
    for reference in list_segments(synthesis):
        yield from load_rows(reference)


def _figures(name: str, directory: str) -> Mapping[str, Figure]:
    report = finished_report(directory)
    if report is None:
        raise InputError(f"stage {name} is not finished", wanted=f"a finished stage in {directory}", fix="run it first")
    return report.figures


def _summarize(
    inputs: Inputs,
    settings: SummarySettings,
    figures: Mapping[str, Mapping[str, Figure]],
    output: str,
    stage: Stage,
) -> StageReport:
    lines: list[str] = []
    made: dict[str, Figure] = {}
    rounds: list[RoundCounts] = []
    judged = inputs.world is not None
    if inputs.synthesis is not None:
        world = None if inputs.world is None else read_world(inputs.world)
        rounds = count_rounds(inputs.synthesis, world)
        report = finished_report(inputs.synthesis)
        lines += ["", "Documents and pairs", "", *(f"  {line}" for line in (report.lines if report else ()))]
        lines += ["", *_round_table(rounds, judged)]
        made |= {"pairs": sum(r.pairs for r in rounds)}
        if judged:
            made |= {f"right_share_round_{n}": share(r.right, r.pairs) for n, r in enumerate(rounds, 1)}
            made["right_share"] = share(sum(r.right for r in rounds), sum(r.pairs for r in rounds))
    if figures:
        lines += ["", "Stages", "", *_stage_table(figures)]
    results: Mapping[str, Mapping[str, Result]] = {}
    if inputs.evaluation is not None:
        evaluation = finished_report(inputs.evaluation)
        if evaluation is None:
            raise InputError(
                "the evaluation is not finished",
                wanted=f"a finished stage in {inputs.evaluation}",
                fix="run ipt-stream evaluate first",
            )
        lines += ["", "Evaluation", "", *(f"  {line}" for line in evaluation.lines)]
        results = _results(inputs.evaluation)
    if inputs.mixture is not None:
        for number, text in enumerate(_examples(inputs.mixture, settings), 1):
            lines += ["", f"Augmented text, example {number}", "", *(f"  | {line}" for line in text.splitlines())]
    storage.publish_bytes(storage.join(output, "summary.md"), ("\n".join(lines).strip() + "\n").encode())
    storage.publish_json(storage.join(output, "summary.json"), {"figures": made, "stages": figures})
    counted = None if inputs.synthesis is None else finished_figures(inputs.synthesis)
    publish_part(output, summary_part(rounds, judged, counted, figures, results))
    return stage.finish(made, tuple(lines))


def _results(evaluation: str) -> dict[str, dict[str, Result]]:
    """Results by model and task."""
    record = storage.read_json(storage.join(evaluation, "results.json"))["results"]
    return {model: {task: from_json(result) for task, result in tasks.items()} for model, tasks in record.items()}


def _round_table(rounds: list[RoundCounts], judged: bool) -> list[str]:
    head = f"  {'round':<7}{'texts':>9}{'inherit':>9}{'pairs':>9}{'a text':>8}{'cached':>8}"
    lines = [head + (f"{'right':>8}" if judged else "")]
    for number, counts in enumerate(rounds, 1):
        line = f"  {number:<7}{counts.texts:>9,}{share(counts.inherits, counts.texts):>9.0%}{counts.pairs:>9,}"
        line += f"{counts.pairs / max(counts.texts, 1):>8.1f}{share(counts.cached_tokens, counts.prompt_tokens):>8.0%}"
        lines.append(line + (f"{share(counts.right, counts.pairs):>8.1%}" if judged else ""))
    return lines


def _stage_table(figures: Mapping[str, Mapping[str, Figure]]) -> list[str]:
    lines = []
    for name, found in figures.items():
        rates = [f"{value:,} {key.replace('_per_second', '/s').replace('_', ' ')}"
                 for key, value in found.items() if key.endswith("_per_second")]  # fmt: skip
        lines.append(f"  {name:<14}{float(found.get('stage_seconds', 0)):>7.0f} s   {', '.join(rates)}".rstrip())
    return lines


def _examples(mixture: str, settings: SummarySettings) -> Iterator[str]:
    """The first examples of augmented text that `mix` kept for people."""
    path = storage.join(mixture, "samples.jsonl")
    samples: list[dict[str, Any]] = [json.loads(line) for line in storage.read_bytes(path).decode().splitlines()]
    chosen = [sample["text"] for sample in samples if sample["source"] == "augmented"]
    for text in chosen[: settings.examples]:
        yield text if len(text) <= settings.example_characters else text[: settings.example_characters] + " [...]"
