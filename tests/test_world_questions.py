"""world-questions: who is asked about in which file follows from what became of each document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mixture_world import make_run

from ipt_stream.analysis.world_questions import WorldQuestionsConfig, write_world_questions
from ipt_stream.config import build
from ipt_stream.corpus.sample_world import SampleWorldConfig, read_world, write_sample_world
from ipt_stream.corpus.world.facts import Attribute, Population, World
from ipt_stream.errors import InputError
from ipt_stream.stage import open_stage
from ipt_stream.synthesis.results import list_segments, load_segment

DOCUMENTS, QUESTIONS = 40, 200


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    sizes = {"tuning_documents": 5, "validation_documents": 0, "evaluation_questions": 5}
    write_sample_world(SampleWorldConfig(output=str(folder), documents=DOCUMENTS, shard_documents=DOCUMENTS, **sizes))
    return folder


def finished_run(root: Path, world: Path, fraction: float, rounds: int = 2) -> Path:
    root.mkdir()
    run = make_run(
        root, documents=DOCUMENTS, fraction=fraction, rounds=rounds, shard=world / "shards" / "web-00000.parquet"
    )
    open_stage(str(run), "synthesize", {}).finish({"documents_in": DOCUMENTS, "augmented": 1})
    return run


def asked_about(file: Path, world: World) -> set[int]:
    """The people whose names stand in the questions of `file`, which holds one of the right answers each."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    everybody = [Population.CORPUS.index(i) for i in range(DOCUMENTS)]
    everybody += [Population.HELD_OUT.index(i) for i in range(QUESTIONS)]
    named = {world.person(index).name: index for index in everybody}
    found = set()
    for row in rows:
        people = [index for name, index in named.items() if name in row["query"].rpartition("Question:")[2]]
        assert len(people) == 1
        assert row["choices"][row["gold"]] == world.person(people[0]).value(Attribute(row["category"]))
        found.update(people)
    return found


def test_files_are_about_the_augmented_the_unselected_and_strangers(world: Path, tmp_path: Path) -> None:
    runs = [finished_run(tmp_path / f"run{rounds}", world, 0.5, rounds) for rounds in (2, 3)]
    settings = {"output": str(tmp_path / "out"), "world": str(world), "synthesis": [str(run) for run in runs]}
    report = write_world_questions(build(WorldQuestionsConfig, {**settings, "questions": QUESTIONS}, "test"))
    truth = read_world(str(world))
    asked = {name: asked_about(tmp_path / "out" / f"{name}.jsonl", truth) for name in ("converted", "raw", "reading")}
    contents = [load_segment(reference) for reference in list_segments(str(runs[0]))]
    rows = {int(d.rsplit(":", 1)[1]) for c in contents for e in c.examples for d in e.document_ids}
    assert asked["converted"] == {Population.CORPUS.index(row) for row in rows}
    plain = {int(text.document_id.rsplit(":", 1)[1]) for content in contents for text in content.raw}
    barren = {row for row in plain if row % 5 == 4}
    assert {Population.CORPUS.index(row) for row in plain - barren} <= asked["raw"]
    assert not asked["raw"] & asked["converted"]
    assert not asked["reading"] & {Population.CORPUS.index(row) for row in range(DOCUMENTS)}
    assert report.figures["people_converted"] == len(rows)
    query = json.loads((tmp_path / "out" / "reading.jsonl").read_text("utf-8").splitlines()[0])["query"]
    assert len(query.split("\n\nQuestion:")[0]) > 20


def test_where_nobody_stays_raw_or_a_run_is_not_finished_it_says_so(world: Path, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", world, 1.0)
    settings = {"output": str(tmp_path / "out"), "world": str(world), "synthesis": [str(run)]}
    with pytest.raises(InputError, match="nobody is raw in all runs"):
        write_world_questions(build(WorldQuestionsConfig, settings, "test"))
    with pytest.raises(InputError, match="nothing is not finished"):
        write_world_questions(
            build(WorldQuestionsConfig, {**settings, "synthesis": [str(tmp_path / "nothing")]}, "test")
        )
