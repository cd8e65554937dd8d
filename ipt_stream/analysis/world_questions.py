"""`ipt-stream world-questions`: what a model can know of the sample world, by how it came to know it.

    converted.jsonl   about people whose documents were given pairs
    raw.jsonl         about people whose documents stayed plain text
    reading.jsonl     about people of whom nothing is told, each with the document before the question

Where several synthesis runs are compared, a person is converted who is so in all of them, and raw likewise: so that
all models are asked the same questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from pydantic import Field

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.corpus.sample_world import json_lines, questions_about, read_world
from ipt_stream.corpus.truth import person_index
from ipt_stream.corpus.world.facts import Population
from ipt_stream.errors import InputError
from ipt_stream.stage import Stage, StageReport, finished_report, run_once
from ipt_stream.synthesis.results import list_segments, load_rows, unselected_documents
from ipt_stream.synthesis.segment import Status, outcomes

CONVERTED, RAW, READING = "converted", "raw", "reading"


class WorldQuestionsConfig(Settings):
    """Settings of the questions."""

    output: str
    """Directory of the question files."""
    world: str
    """The sample world's directory."""
    synthesis: tuple[str, ...] = Field(min_length=1)
    """Finished synthesis runs over its shards."""
    questions: int = Field(300, ge=1)
    """Questions of each file, where there are so many."""


def write_world_questions(config: WorldQuestionsConfig) -> StageReport:
    """Write the question files that `config` describes.

    Raises:
        InputError: a run is not finished, there is no sample world, or nobody is left for one of the files.
        LedgerError: the output belongs to other settings.
    """
    runs = []
    for run in config.synthesis:
        report = finished_report(run)
        if report is None:
            raise InputError(f"{run} is not finished", wanted="a finished synthesis run", fix="run it first")
        runs.append({"documents": report.figures["documents_in"], "augmented": report.figures["augmented"]})
    settings = {**config.model_dump(mode="json", exclude={"output"}), "runs": runs}
    return run_once(config.output, "world-questions", settings, lambda stage: _write(config, stage))


def _write(config: WorldQuestionsConfig, stage: Stage) -> StageReport:
    world = read_world(config.world)
    told = [_told(run) for run in config.synthesis]
    people = {
        CONVERTED: sorted(set.intersection(*(converted for converted, _ in told))),
        RAW: sorted(set.intersection(*(raw for _, raw in told))),
        READING: [Population.HELD_OUT.index(position) for position in range(config.questions)],
    }
    figures: dict[str, int] = {}
    for name, known in people.items():
        if not known:
            raise InputError(
                f"nobody is {name} in all runs",
                wanted="documents of both kinds",
                fix="another fraction or more documents",
            )
        rows = list(questions_about(world, known, config.questions, reading=name == READING))
        storage.publish_bytes(storage.join(config.output, f"{name}.jsonl"), json_lines(rows))
        figures |= {f"people_{name}": len(known), f"questions_{name}": len(rows)}
    line = ", ".join(f"{figures[f'questions_{name}']:,} {name}" for name in people)
    return stage.finish(figures, (f"questions: {line}",))


def _told(run: str) -> tuple[set[int], set[int]]:
    """The people of a run whose documents were augmented, and those whose documents were not selected."""
    converted: set[int] = set()
    raw: set[int] = set()
    for _, found in groupby(list_segments(run), key=lambda reference: reference.shard.index):
        references = list(found)
        for reference in references:
            rows = load_rows(reference)
            outcome = outcomes(rows)
            converted.update(_people(row.source_id for row in rows if outcome[row.document_id] is Status.AUGMENTED))
        if references[0].plan.fraction < 1.0:
            for documents in unselected_documents(references):
                raw.update(_people(document.source_id for document in documents))
    return converted, raw


def _people(source_ids: Iterator[str | None]) -> Iterator[int]:
    return (person_index(source_id or "") for source_id in source_ids)
