"""The quality analysis: draws the sample, has it rated, publishes what came out (paper, section 5.2, appendix E)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.judging.asking import Asked, Bill, OpenJudge, ask_all, cache_of, open_judge
from ipt_stream.analysis.judging.settings import JudgeSettings
from ipt_stream.analysis.part import publish_part
from ipt_stream.analysis.quality.prompts import Judgement, quality_question, read_judgement
from ipt_stream.analysis.quality.report import Rating, figures_of, quality_part, report_lines
from ipt_stream.analysis.quality.sample import SampledPair, draw_sample, pairs_of
from ipt_stream.analysis.quality.sheet import read_labels, sheet
from ipt_stream.analysis.reopen import reopen
from ipt_stream.config import Settings, fingerprint
from ipt_stream.corpus.sample_world import read_world
from ipt_stream.corpus.truth import Verdict, asked_about, judge, person_index
from ipt_stream.corpus.world.facts import World
from ipt_stream.errors import ConfigError, InputError
from ipt_stream.evaluation.settings import Name
from ipt_stream.stage import Stage, StageReport, finished_report, run_once
from ipt_stream.synthesis.results import list_segments

VERB = "analyze-quality"
JUDGEMENTS, SHEET = "judgements.jsonl", "sheet.csv"
TRUTH = "the world's truth"
_CATEGORY = "Question Answering"


class QualitySettings(Settings):
    """What is judged, and by whom."""

    texts: int = Field(500, ge=1)
    """Augmented texts in the sample, evenly over sources and rounds (the paper: 500); all of their pairs are judged."""
    seed: int = 0
    """Of the sample."""
    judge: JudgeSettings | None = None
    """The model that judges; null: none. Where the input is the sample world, its truth judges in any case."""
    labels: dict[Name, str] = Field(default_factory=dict)
    """Sheets that people filled in (`sheet.csv` of this analysis, saved as CSV), by the people's names. They may be
    named later: nothing is asked again then."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.judge is not None and self.judge.name() in self.labels:
            raise ValueError(f"labels by another name than {self.judge.name()}, the judge's")
        return self


def analyze_quality(
    inputs: Inputs, settings: QualitySettings, output: str, open_judge: OpenJudge = open_judge
) -> StageReport:
    """Have a sample of `inputs.synthesis` rated and publish `output`/part.json, the ratings and the sheet for people.

    Args:
        inputs: `synthesis`, and `world` where its truth is to judge.
        settings: what is judged, and by whom.
        output: the analysis' directory.
        open_judge: gives the judge of its settings.

    Raises:
        ConfigError: there is no synthesis run, or no key for the judge.
        InputError: the run is not finished or has no pairs, or a person's sheet can't be read.
        EvaluationError, EngineError: the judge does not answer.
        LedgerError: the output belongs to other settings.
    """
    run = synthesis_of(inputs, "quality")
    world = None if inputs.world is None else read_world(inputs.world)
    named = {
        **settings.model_dump(mode="json", exclude={"judge", "labels"}),
        "judge": None if settings.judge is None else {**settings.judge.identity(), "attempts": settings.judge.attempts},
        "labels": {
            name: hashlib.sha256(storage.read_bytes(path)).hexdigest() for name, path in settings.labels.items()
        },
        "world": None if world is None else world.seed,
        "segments": run_identity(run),
    }
    reopen(output, VERB, named, {"labels"})
    return run_once(output, VERB, named, lambda stage: _analyze(run, world, settings, stage, open_judge))


def synthesis_of(inputs: Inputs, analysis: str) -> str:
    """The finished synthesis run that an analysis looks at. Raises `ConfigError` or `InputError` without one."""
    if inputs.synthesis is None:
        raise ConfigError(f"{analysis} looks at a synthesis run", wanted="synthesis: its directory", got="none")
    if finished_report(inputs.synthesis) is None:
        raise InputError(
            f"{analysis} needs a finished synthesis run", wanted=f"one in {inputs.synthesis}", fix="run it first"
        )
    return inputs.synthesis


def run_identity(synthesis: str) -> str:
    """A name for the content of a synthesis run."""
    return fingerprint([reference.sha256 for reference in list_segments(synthesis)])


def _analyze(
    run: str, world: World | None, settings: QualitySettings, stage: Stage, open_judge: OpenJudge
) -> StageReport:
    texts = draw_sample(run, settings.texts, settings.seed)
    pairs = pairs_of(texts)
    storage.publish_bytes(storage.join(stage.output, SHEET), sheet(pairs))
    ratings: list[Rating] = []
    bill: Bill | None = None
    if settings.judge is not None:
        asked: Asked[Judgement] = ask_all(
            [quality_question(pair) for pair in pairs],
            settings.judge,
            cache_of(settings.judge, stage.output),
            read_judgement,
            open_judge,
        )
        bill = asked.bill
        ratings.append(_rating(settings.judge.name(), "judge", pairs, asked.values))
    if world is not None:
        ratings.append(_rating(TRUTH, "truth", pairs, [true_judgement(world, pair) for pair in pairs]))
    for name, path in settings.labels.items():
        ratings.append(Rating(name, "person", read_labels(path, pairs)))
    _publish_ratings(stage.output, pairs, ratings)
    part = quality_part(settings, texts, pairs, ratings, bill)
    figures = figures_of(texts, pairs, ratings, settings.judge, bill)
    record = {"figures": figures, "bill": None if bill is None else asdict(bill)}
    storage.publish_json(storage.join(stage.output, "quality.json"), record)
    publish_part(stage.output, part)
    lines = report_lines(pairs, ratings, settings.judge, bill)
    sheet_line = f"sheet for people: {storage.join(stage.output, SHEET)}, {len(pairs):,} pairs of {len(texts):,} texts"
    return stage.finish(figures, (*lines, sheet_line))


def true_judgement(world: World, pair: SampledPair) -> Judgement:
    """What the sample world's truth says of a pair: exact.

    Accurate is what `corpus.truth.judge` calls right. Relevant is a question of the world's about the text's person.
    All of the world's questions are question answering; what is none of them has no category.

    Raises:
        InputError: the text is none of the world's.
    """
    source_id = pair.text.source_id
    if source_id is None:
        raise InputError(
            f"document {pair.text.document_id} has no id of the sample world", fix="set input.id_column, or drop world"
        )
    asked = asked_about(pair.pair)
    about = asked is not None and asked[1] == world.person(person_index(source_id)).name
    verdict = judge(world, source_id, pair.text.text, pair.pair)
    return Judgement(about, verdict is Verdict.RIGHT, None if asked is None else _CATEGORY)


def read_judgements(output: str) -> list[dict[str, Any]]:
    """The lines of `judgements.jsonl` in a finished quality analysis' directory."""
    content = storage.read_bytes(storage.join(output, JUDGEMENTS)).decode()
    return [json.loads(line) for line in content.splitlines()]


def _rating(name: str, kind: str, pairs: Sequence[SampledPair], judgements: Sequence[Judgement | None]) -> Rating:
    found = {pair.id: said for pair, said in zip(pairs, judgements, strict=True) if said is not None}
    return Rating(name, kind, found)


def _publish_ratings(output: str, pairs: Sequence[SampledPair], ratings: Sequence[Rating]) -> None:
    lines = []
    for pair in pairs:
        said = {rating.name: rating.said.get(pair.id) for rating in ratings}
        record = {
            "id": pair.id,
            "document_id": pair.text.document_id,
            "piece": pair.text.piece,
            "pair": pair.number,
            "source": pair.text.source,
            "round": pair.text.round,
            "instruction": pair.pair.instruction,
            "response": pair.pair.response,
            "ratings": {
                name: None if judgement is None else {**asdict(judgement), "scenario": judgement.scenario}
                for name, judgement in said.items()
            },
        }
        lines.append(json.dumps(record) + "\n")
    storage.publish_bytes(storage.join(output, JUDGEMENTS), "".join(lines).encode())
