"""Public evaluation data becomes questions of the domain suites: small files in the formats as published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ipt_stream.errors import InputError, LedgerError
from ipt_stream.evaluation.domain import read_rows
from ipt_stream.evaluation.domain_questions import (
    DomainQuestionsConfig,
    PublishedTask,
    questions,
    write_domain_questions,
)
from ipt_stream.evaluation.suites import SuiteName, SuiteSettings, expand

DIALOGUE = {
    "doc": {"pre_text": "the mill in 2007 .", "post_text": "", "table": {"2007": {"stones": 12.0}}},
    "dialogue": {"conv_questions": ["how many stones?", "and twice that?"], "conv_answers": ["12", "24"]},
}
PUBLISHED: dict[str, Any] = {
    "usmle": [{"question": "Which river?", "options": {"A": "old", "B": "new"}, "answer_idx": "B", "meta_info": "x"}],
    "chemprot": [
        {"text": "<< lime >> stops [[ millase ]].", "label": "INHIBITOR", "metadata": []},
        {"text": "[[ Millase ]] needs << flour >>.", "label": "ACTIVATOR", "metadata": []},
    ],
    "fpb": [{"context": "Input: the mill has lost .\nAnswer: ", "target": "negative"}],
    "fiqa_sa": [{"context": "Input: $MILL up\nAnswer: ", "target": "positive"}],
    "convfinqa": {"dev": [DIALOGUE]},
    "ner": "-DOCSTART- -X- O O\n\nOld NNP - I-ORG\nMill NNP - I-ORG\nof IN - O\nTown NNP - I-LOC\nSmith NNP - I-PER\n"
    "Jones NNP - B-PER\n\nnobody NN - O\n",
}


def text(task: str, rows: Any) -> str:
    if task == "ner":
        return str(rows)
    return json.dumps(rows) if task == "convfinqa" else "".join(json.dumps(row) + "\n" for row in rows)


def config(folder: Path, published: dict[str, Any] = PUBLISHED) -> DomainQuestionsConfig:
    for task, rows in published.items():
        (folder / task).write_text(text(task, rows), "utf-8")
    files = {task: str(folder / task) for task in published}
    return DomainQuestionsConfig.model_validate({"output": str(folder / "out"), "files": files})


def test_each_format_becomes_the_columns_of_its_task(tmp_path: Path) -> None:
    report = write_domain_questions(config(tmp_path))
    rows = {task: list(read_rows(task, str(tmp_path / "out" / f"{task}.jsonl"))[0]) for task in PUBLISHED}
    assert {task: report.figures[f"questions_{task}"] for task in rows} == {task: len(rows[task]) for task in rows}
    assert rows["usmle"] == [{"input": "Question: Which river?\nAnswer:", "options": ["old", "new"], "gold_index": 1}]
    assert [(row["options"], row["gold_index"]) for row in rows["chemprot"]] == [
        (["ACTIVATOR", "INHIBITOR"], 1),
        (["ACTIVATOR", "INHIBITOR"], 0),
    ]
    assert rows["chemprot"][0]["input"].startswith("Text: << lime >> stops [[ millase ]].\nQuestion: ")
    sentiments = {"options": ["negative", "neutral", "positive"]}
    assert rows["fpb"] == [{"input": "Input: the mill has lost .\nAnswer:", **sentiments, "gold_index": 0}]
    assert rows["fiqa_sa"] == [{"input": "Input: $MILL up\nAnswer:", **sentiments, "gold_index": 2}]
    told = 'the mill in 2007 .\n{"2007": {"stones": 12.0}}\n\nQ: how many stones?\nA:'
    assert rows["convfinqa"] == [
        {"input": told, "label": "12"},
        {"input": f"{told} 12\nQ: and twice that?\nA:", "label": "24"},
    ]
    label = "Old Mill (ORG), Town (LOC), Smith (PER), Jones (PER)"
    assert rows["ner"] == [{"input": "Old Mill of Town Smith Jones\nEntities:", "label": label}]


def test_the_suites_take_the_folder(tmp_path: Path) -> None:
    write_domain_questions(config(tmp_path))
    suites = {
        SuiteName.BIOMEDICINE: SuiteSettings(path=str(tmp_path / "out"), without=("pubmedqa", "mqp", "rct")),
        SuiteName.FINANCE: SuiteSettings(path=str(tmp_path / "out"), without=("headline",)),
    }
    _, tasks = expand(suites)
    assert sorted(tasks) == sorted(PUBLISHED)
    assert tasks["ner"].path == str(tmp_path / "out" / "ner.jsonl")


def test_asked_again_it_skips_and_refuses_other_data(tmp_path: Path) -> None:
    write_domain_questions(config(tmp_path))
    assert write_domain_questions(config(tmp_path)).skipped
    changed = {**PUBLISHED, "fpb": [{"context": "another", "target": "neutral"}]}
    with pytest.raises(LedgerError, match=r"files\.fpb was '\w+', is '\w+'"):
        write_domain_questions(config(tmp_path, changed))


TURNS = {"conv_questions": ["a", "b"], "conv_answers": ["1"]}


@pytest.mark.parametrize(
    ("task", "rows", "said"),
    [
        ("usmle", [{"options": {"A": "x"}, "answer_idx": "A"}], ":1 has no question; wanted: {.*got: columns options"),
        ("usmle", [{"question": "x", "options": {"A": "x"}, "answer_idx": "C"}], "answer_idx is one of.*got: 'C' of"),
        ("usmle", ["x"], ":1 is no object; wanted: .*; got: str; fix: take the file as it was published"),
        ("chemprot", [{"text": "lime stops [[ x ]]", "label": "A"}], ":1 marks no chemical.*got: lime stops"),
        ("chemprot", [PUBLISHED["chemprot"][0]], ":1 has no options; wanted: .*two or more.*got: options"),
        ("fpb", [{"context": "x", "target": "good"}], r":1 has another target; wanted: .*negative \| neutral.*'good'"),
        ("fiqa_sa", [{"context": " ", "target": "neutral"}], ":1 has no context; .*got: ' '"),
        ("convfinqa", {"train": []}, 'convfinqa has no dialogues; wanted: {"dev".*got: keys train'),
        ("convfinqa", {"dev": [{"doc": {}}]}, "dialogue 1 has no doc or no dialogue"),
        ("convfinqa", {"dev": [{**DIALOGUE, "dialogue": TURNS}]}, "dialogue 1 has not as many answers as questions"),
        ("convfinqa", {"dev": [{**DIALOGUE, "doc": {}}]}, "dialogue 1 has no pre_text"),
        ("convfinqa", {"dev": []}, "has no questions of convfinqa; wanted: at least one; got: none"),
        ("ner", "Mill NNP I-ORG\n", r":1 is no word with its entity; wanted: lines .*got: Mill NNP I-ORG"),
        ("ner", "a DT - O\nMill NNP - ORG\n", r":2 is no word with its entity"),
    ],
)
def test_what_is_not_as_published_is_named(task: str, rows: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        questions(PublishedTask(task), text(task, rows).encode(), task)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data of ner at .*nowhere; .* fix: correct files\.ner, or leave it out"):
        write_domain_questions(
            DomainQuestionsConfig.model_validate({"output": str(tmp_path), "files": {"ner": str(tmp_path / "nowhere")}})
        )
