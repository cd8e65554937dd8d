"""The whole path, as a user runs it: a recipe on the sample world through every real part, killed and resumed.

One run, made once, and several looks at it: shards, a tuned synthesizer, vLLM under Ray Data, MDS, Composer, lm-eval.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from ipt_stream.config import build
from ipt_stream.ledger import read_ledger
from ipt_stream.recipe import load_recipe
from ipt_stream.stage import finished_report
from ipt_stream.synthesis.prompt import Shot, format_prompt
from ipt_stream.synthesis.results import list_segments, load_examples, load_rows, load_segment
from ipt_stream.synthesis.segment import SegmentRow
from ipt_stream.verbs import VERBS

DOCUMENTS = 60
BUDGET = 768 - 96
TINY: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "layers": 2, "heads": 2, "kv_heads": 2}
RECIPE: dict[str, Any] = {
    "title": "all stages, tiny",
    "stages": {
        "world": {
            "verb": "sample-world",
            "output": "${output}/world",
            "documents": DOCUMENTS,
            "shard_documents": 20,
            "tuning_documents": 400,
            "validation_documents": 20,
            "evaluation_questions": 24,
        },
        "synthesizer": {
            "verb": "tune",
            "output": "${output}/synthesizer",
            "sources": [{"path": "${output}/world/tuning/train.jsonl"}],
            "validation": [{"path": "${output}/world/tuning/validation.jsonl"}],
            "vocab_size": 1000,
            "model": {**TINY, "initializer_range": 0.08, "residual_scale": 0.15},
            "steps": 300,
            "fit": {"learning_rate": 3.0e-3, "schedule": "linear", "warmup_steps": 20, "final_share": 0.02},
        },
        "segments": {
            "verb": "synthesize",
            "output": "${output}/segments",
            "input": {"shards": ["${output}/world/shards"]},
            "rounds": 2,
            "fraction": 0.8,
            "segment_documents": 5,
            "engine": {
                "model": "${output}/synthesizer/model",
                "max_model_len": 768,
                "max_new_tokens": 96,
                "max_num_seqs": 16,
                "max_num_batched_tokens": 2048,
                "dtype": "float32",  # as what it is compared with, on processors of all kinds
                "segments_in_flight": 1,
            },
        },
        "mixture": {
            "verb": "mix",
            "output": "${output}/mixture",
            "tokenizer": "${output}/synthesizer/model",
            "sequence_length": 128,
            "sources": {
                "augmented": {"kind": "augmented", "path": "${output}/segments", "passes": 8},
                "raw": {"kind": "raw", "path": "${output}/segments", "passes": 8},
                "tuning": {"kind": "pairs", "path": "${output}/world/tuning/validation.jsonl", "passes": 1},
            },
        },
        "model": {
            "verb": "pretrain",
            "output": "${output}/model",
            "mixture": "${output}/mixture",
            "model": TINY,
            "sequences_per_batch": 8,
        },
        "evaluation": {
            "verb": "evaluate",
            "output": "${output}/evaluation",
            "models": {"pretrained": "${output}/model/model"},
            "tasks": {"seen": {"path": "${output}/world/evaluation/seen.jsonl"}},
        },
        "analysis": {
            "verb": "analyze",
            "output": "${output}/analysis",
            "synthesis": "${output}/segments",
            "world": "${output}/world",
            "mixture": "${output}/mixture",
            "evaluation": "${output}/evaluation",
            "stages": {"segments": "${output}/segments", "model": "${output}/model"},
            "summary": {},
            "report": {"file": "${output}/report.html"},
        },
    },
}


@dataclass(frozen=True, slots=True)
class Finished:
    """A recipe that was killed in its synthesize stage, run to its end, and then asked once more."""

    output: Path
    killed_at: dict[str, Any]
    last_words: str
    second_run: str
    imported: frozenset[str]


def run(recipe: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ipt_stream.cli", "run", str(recipe)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=1800, check=False, env={**os.environ, **environment}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("recipe")
    output = folder / "out"
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "output": str(output)}, sort_keys=False))
    killed_at = _kill_in_synthesis(recipe, output)
    completed = run(recipe)
    assert completed.returncode == 0, completed.stderr[-4000:]
    again = run(recipe, PYTHONPROFILEIMPORTTIME="1")
    assert again.returncode == 0, again.stderr[-4000:]
    lines = again.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    return Finished(output, killed_at, completed.stdout, again.stderr, frozenset(imported))


def _kill_in_synthesis(recipe: Path, output: Path) -> dict[str, Any]:
    """Start the recipe, `kill -9` the synthesize stage once it has recorded something; give what it had recorded."""
    with (output.parent / "first.log").open("w") as log:
        command = [sys.executable, "-m", "ipt_stream.cli", "run", str(recipe)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 1800
        while not list((output / "segments" / "ledger").glob("part-*")):
            text = (output.parent / "first.log").read_text()
            assert process.poll() is None, f"the recipe ended before it could be killed: {text[-4000:]}"
            assert time.monotonic() < deadline, f"no segment was recorded in time: {text[-4000:]}"
            time.sleep(0.02)
        stage = next(child for child in psutil.Process(process.pid).children() if "synthesize" in child.cmdline())
        os.kill(stage.pid, signal.SIGKILL)
        assert process.wait(300) == 1, "a stage that died fails the recipe"
    assert "stage segments died" in (output.parent / "first.log").read_text()
    return records_of(output)


def records_of(output: Path) -> dict[str, Any]:
    return {record["id"]: dict(record) for record in read_ledger(str(output / "segments"))}


def rows_of(finished: Finished) -> list[SegmentRow]:
    return [row for reference in list_segments(str(finished.output / "segments")) for row in load_rows(reference)]


def test_a_kill_in_the_middle_loses_nothing_and_nothing_is_made_again(finished: Finished) -> None:
    records = records_of(finished.output)
    before = {key for key, record in finished.killed_at.items() if record["kind"] == "segment"}
    segments = {key: record for key, record in records.items() if record["kind"] == "segment"}
    assert 0 < len(before) < len(segments) == DOCUMENTS // 5
    assert all(records[key] == record for key, record in finished.killed_at.items())
    report = finished_report(str(finished.output / "segments"))
    assert report is not None
    figures = report.figures
    assert figures["documents_in"] == DOCUMENTS
    assert figures["documents_in"] == figures["augmented"] + figures["raw"] + figures["rejected"]  # type: ignore[operator]
    assert 0 < int(figures["raw_unselected"]) < DOCUMENTS / 2
    found: Counter[str] = Counter()
    for reference in list_segments(str(finished.output / "segments")):
        content = load_segment(reference)
        found.update({document for example in content.examples for document in example.document_ids})
        found.update(raw.document_id for raw in content.raw)
    assert len(found) == DOCUMENTS
    assert set(found.values()) == {1}


def test_no_engine_outlives_its_run(finished: Finished) -> None:
    needle = str(finished.output)
    left = [
        process for process in psutil.process_iter(["cmdline"]) if needle in " ".join(process.info["cmdline"] or [])
    ]
    assert left == []


def test_the_engine_saw_the_prompts_and_answered_as_the_model_does(finished: Finished) -> None:
    """Prompts rebuilt from the segment files, given to transformers: the same greedy generation as vLLM's."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished.output / "synthesizer" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows = sorted(rows_of(finished), key=lambda row: (row.source, row.row // 5, row.chain, row.round))
    shots: list[Shot] = []
    same, inherited, recorded = 0, 0, 0
    for row in rows[:12]:
        if not row.inherits:
            shots = []
        prompt = tokenizer(format_prompt(shots, row.text), add_special_tokens=False).input_ids
        assert row.prompt_tokens == len(prompt) <= BUDGET
        made = model.generate(
            torch.tensor([prompt]), max_new_tokens=96, do_sample=False, eos_token_id=tokenizer.eos_token_id
        )[0, len(prompt) :]
        if tokenizer.decode(made, skip_special_tokens=True) == row.generation:
            same += 1
            expected = mean_logprobs(model, tokenizer, prompt, made, row)
            recorded += len(expected)
            assert row.response_logprobs == pytest.approx(expected, abs=1e-3), "another order of sums"
        inherited += row.inherits
        shots = [*shots, Shot(row.text, row.pairs)] if row.pairs else []
    # Two implementations round differently, and a tie in one token changes all that follow.
    assert same >= 10
    assert recorded >= 10


def mean_logprobs(model: Any, tokenizer: Any, prompt: list[int], made: Any, row: SegmentRow) -> list[float]:
    """The mean log-probability of each response in a row, by a forward pass of transformers."""
    import torch

    with torch.no_grad():
        logits = model(torch.cat([torch.tensor(prompt), made])[None]).logits[0, len(prompt) - 1 : -1]
    values = torch.log_softmax(logits.float(), -1).gather(1, made[:, None])[:, 0].tolist()
    ends = [len(tokenizer.decode(made[: count + 1], skip_special_tokens=True)) for count in range(len(made))]
    found, at = [], 0
    for pair in row.pairs:
        before = f"{pair.instruction} <ANS> "  # a pair that was dropped may have had the same response
        start = row.generation.index(f"{before}{pair.response} </END>", at) + len(before)
        at = start + len(pair.response)
        places = zip(values, ends, [0, *ends[:-1]], strict=True)
        inside = [value for value, end, begin in places if end > start and begin < at]
        found.append(sum(inside) / len(inside))
    return found


def test_what_was_mixed_is_what_was_synthesized(finished: Finished) -> None:
    plan = json.loads((finished.output / "mixture" / "plan.json").read_text())
    report = finished_report(str(finished.output / "segments"))
    assert report is not None
    sources = {source["name"]: source for source in plan["sources"]}
    assert set(sources) == {"augmented", "raw", "tuning"}
    assert int(report.figures["augmented"]) > DOCUMENTS / 4, "a synthesizer that learned its format answers most texts"
    assert sources["raw"]["documents"] == report.figures["raw"]
    samples = [json.loads(line) for line in (finished.output / "mixture" / "samples.jsonl").read_text().splitlines()]
    assert {sample["source"] for sample in samples} == set(sources)
    synthesized = {row.document_id: row.text for row in rows_of(finished)}
    for sample in samples:
        if sample["source"] == "augmented":
            assert synthesized[sample["id"].partition("#")[0]] in sample["text"]
        if sample["source"] == "raw" and sample["id"] in synthesized:
            assert sample["text"] == synthesized[sample["id"]]


def test_training_learned_and_the_model_was_evaluated(finished: Finished) -> None:
    for stage in ("synthesizer", "model"):
        report = finished_report(str(finished.output / stage))
        assert report is not None
        assert float(report.figures["loss_last"]) < float(report.figures["loss_first"])
        assert (finished.output / stage / "model" / "model.safetensors").exists()
    results = json.loads((finished.output / "evaluation" / "results.json").read_text())
    assert "seen" in json.dumps(results)
    assert "| seen" in (finished.output / "evaluation" / "results.md").read_text()


def test_the_experiment_tells_ways_of_training_apart_by_what_was_made(finished: Finished, tmp_path: Path) -> None:
    comparison = experiment(finished.output, tmp_path / "experiment")
    record = json.loads((comparison / "comparison.json").read_text())
    assert set(record["tasks"]) == {
        "converted", "converted_4_shots", "raw", "raw_4_shots", "reading", "reading_2_shots",
    }  # fmt: skip
    for task in record["tasks"].values():
        assert {arm: len(found["values"]) for arm, found in task["arms"].items()} == {"vanilla": 2, "instruct-2": 2}
    assert (comparison / "comparison.png").read_bytes().startswith(b"\x89PNG")


def experiment(made: Path, output: Path) -> Path:
    """The recipe that is shipped, two ways and two seeds of it, from the questions on; gives the comparison's place."""
    output.mkdir()
    (output / "segments").mkdir()
    for name in ("world", "synthesizer"):
        (output / name).symlink_to(made / name)
    for rounds in ("2", "3"):
        (output / "segments" / rounds).symlink_to(made / "segments")
    small = [f"output={output}", "seeds=[0, 1]", "arms=[vanilla, instruct-2]", "tokens=60000", "questions=12"]
    recipe = load_recipe(str(Path(__file__).parents[1] / "jobs" / "configs" / "experiment.yaml"), small)
    trained = [step for step in recipe.steps if step.group == "models"]
    mixed = {name for step in trained for name in step.upstream}
    for step in recipe.steps:
        if step.group in ("questions", "models", "evaluations", "comparison") or step.name in mixed - {"synthesizer"}:
            verb = VERBS[step.verb]
            verb.load_function()(build(verb.load_config_class(), dict(step.settings), step.name))
    return output / "comparison"


def test_the_last_words_are_what_a_person_wants_to_read(finished: Finished) -> None:
    assert f"documents in {DOCUMENTS} = augmented" in finished.last_words
    for heading in ("Documents and pairs", "round", "Stages", "Evaluation", "Where it lies"):
        assert heading in finished.last_words
    assert (finished.output / "analysis" / "summary" / "summary.md").read_text().strip() in finished.last_words


def test_the_report_is_there_with_every_example(finished: Finished) -> None:
    report = finished_report(str(finished.output / "analysis"))
    assert report is not None
    examples = [e for reference in list_segments(str(finished.output / "segments")) for e in load_examples(reference)]
    assert report.figures["report/examples"] == len(examples) > 0
    page = (finished.output / "report.html").read_text()
    assert report.figures["report/bytes"] == len(page.encode())
    assert "Evaluation</h3>" in page and str(finished.output / "report.html") in finished.last_words


def test_a_second_run_does_nothing_twice(finished: Finished) -> None:
    assert finished.second_run.count("is done already") == len(RECIPE["stages"])
    assert "ipt_stream.recipe" in finished.imported
    assert not {"torch", "transformers", "ray", "vllm", "composer", "lm_eval"} & finished.imported, "no stage is begun"
