"""`ipt-stream analyze`: what a run made, on one page that a person wants to read.

Counts of documents and pairs, the share of pairs that are right where the input is the sample world (its truth is
recomputed, round by round), the speed of each stage, the evaluation table, and examples of what training sees.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.corpus.sample_world import read_world
from ipt_stream.corpus.truth import Verdict, judge
from ipt_stream.corpus.world.facts import World
from ipt_stream.errors import InputError
from ipt_stream.progress import log
from ipt_stream.stage import Figure, Stage, StageReport, finished_report, run_once
from ipt_stream.synthesis.results import list_segments, load_rows
from ipt_stream.synthesis.segment import SegmentRow


class SummaryConfig(Settings):
    """Settings of the summary."""

    output: str
    """Directory of `summary.md` and `summary.json`."""
    stages: dict[str, str]
    """The run's finished stages in order, name to directory; a recipe's own names."""
    synthesis: str | None = None
    """The synthesize stage's directory, to look into its pairs."""
    world: str | None = None
    """The sample world that the input is, to judge pairs by its truth; null for real input."""
    mixture: str | None = None
    """The mix stage's directory, for examples of what training sees."""
    evaluation: str | None = None
    """The evaluate stage's directory, for its table."""
    examples: int = Field(2, ge=0)
    """Examples of augmented text to show."""
    example_characters: int = Field(1500, ge=100)
    """Longer examples are cut there."""


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


def summarize(config: SummaryConfig) -> StageReport:
    """Look at finished stages and write their summary to `config.output`.

    Raises:
        InputError: a stage that the config names is not finished.
        LedgerError: the output belongs to a summary of other stages.
    """
    figures = {name: _figures(name, directory) for name, directory in config.stages.items()}
    settings = {**config.model_dump(exclude={"output"}), "figures": figures}
    return run_once(config.output, "analyze", settings, lambda stage: _summarize(config, figures, stage))


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


def _summarize(config: SummaryConfig, figures: Mapping[str, Mapping[str, Figure]], stage: Stage) -> StageReport:
    lines: list[str] = []
    made: dict[str, Figure] = {}
    if config.synthesis is not None:
        world = None if config.world is None else read_world(config.world)
        rounds = count_rounds(config.synthesis, world)
        report = finished_report(config.synthesis)
        lines += ["", "Documents and pairs", "", *(f"  {line}" for line in (report.lines if report else ()))]
        lines += ["", *_round_table(rounds, judged=world is not None)]
        made |= {"pairs": sum(r.pairs for r in rounds)}
        if world is not None:
            made |= {f"right_share_round_{n}": _share(r.right, r.pairs) for n, r in enumerate(rounds, 1)}
            made["right_share"] = _share(sum(r.right for r in rounds), sum(r.pairs for r in rounds))
    lines += ["", "Stages", "", *_stage_table(figures)]
    if config.evaluation is not None:
        evaluation = finished_report(config.evaluation)
        lines += ["", "Evaluation", "", *(f"  {line}" for line in (evaluation.lines if evaluation else ()))]
    if config.mixture is not None:
        for number, text in enumerate(_examples(config), 1):
            lines += ["", f"Augmented text, example {number}", "", *(f"  | {line}" for line in text.splitlines())]
    lines += ["", "Where it lies", ""]
    lines += [f"  {name:<14}{directory}" for name, directory in {**config.stages, "summary": config.output}.items()]
    storage.publish_bytes(storage.join(config.output, "summary.md"), ("\n".join(lines).strip() + "\n").encode())
    storage.publish_json(storage.join(config.output, "summary.json"), {"figures": made, "stages": figures})
    log.info("summary: %s", storage.join(config.output, "summary.md"))
    return stage.finish(made, tuple(lines))


def _round_table(rounds: list[RoundCounts], judged: bool) -> list[str]:
    head = f"  {'round':<7}{'texts':>9}{'inherit':>9}{'pairs':>9}{'a text':>8}{'cached':>8}"
    lines = [head + (f"{'right':>8}" if judged else "")]
    for number, counts in enumerate(rounds, 1):
        line = f"  {number:<7}{counts.texts:>9,}{_share(counts.inherits, counts.texts):>9.0%}{counts.pairs:>9,}"
        line += f"{counts.pairs / max(counts.texts, 1):>8.1f}{_share(counts.cached_tokens, counts.prompt_tokens):>8.0%}"
        lines.append(line + (f"{_share(counts.right, counts.pairs):>8.1%}" if judged else ""))
    return lines


def _stage_table(figures: Mapping[str, Mapping[str, Figure]]) -> list[str]:
    lines = []
    for name, found in figures.items():
        rates = [f"{value:,} {key.replace('_per_second', '/s').replace('_', ' ')}"
                 for key, value in found.items() if key.endswith("_per_second")]  # fmt: skip
        lines.append(f"  {name:<14}{float(found.get('stage_seconds', 0)):>7.0f} s   {', '.join(rates)}".rstrip())
    return lines


def _examples(config: SummaryConfig) -> Iterator[str]:
    """The first examples of augmented text that `mix` kept for people."""
    path = storage.join(str(config.mixture), "samples.jsonl")
    samples: list[dict[str, Any]] = [json.loads(line) for line in storage.read_bytes(path).decode().splitlines()]
    chosen = [sample["text"] for sample in samples if sample["source"] == "augmented"]
    for text in chosen[: config.examples]:
        yield text if len(text) <= config.example_characters else text[: config.example_characters] + " [...]"


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
