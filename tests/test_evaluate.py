"""evaluate: through the real lm-eval, on tiny random models whose likelihoods are also computed directly here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from evaluating import QUESTIONS, SCHEMAS, lines, load_direct, log_likelihood, pair
from evaluating import config as any_config
from hypothesis import given
from hypothesis import strategies as st

from ipt_stream.errors import EvaluationError, InputError, IptError, LedgerError
from ipt_stream.evaluation.branches import batches, grow
from ipt_stream.evaluation.evaluate import EvaluateConfig, evaluate
from ipt_stream.evaluation.tasks import TaskSettings, load_task


def config(folder: Path, model: Path, tasks: dict[str, Any], **settings: Any) -> EvaluateConfig:
    return any_config(folder, model, tasks=tasks, **settings)


@pytest.fixture(scope="module")
def direct(model_folder: Path) -> Any:
    return load_direct(model_folder)


@pytest.mark.parametrize("bos", [False, True])
def test_accuracies_and_errors_are_those_of_a_direct_computation(
    tmp_path: Path, model_folder: Path, direct: Any, bos: bool
) -> None:
    path = lines(tmp_path / "q.jsonl", QUESTIONS)
    evaluate(config(tmp_path, model_folder, {"q": {"path": path, "cue": "\nAnswer:"}}, add_bos_token=bos))
    right: dict[str, list[float]] = {"acc": [], "acc_norm": []}
    for row in QUESTIONS:
        prompt = row["query"].rstrip() + "\nAnswer:"
        scores = [log_likelihood(*direct, prompt, " " + choice, bos) for choice in row["choices"]]
        by_length = [score / len(choice) for score, choice in zip(scores, row["choices"], strict=True)]
        right["acc"].append(float(max(range(len(scores)), key=scores.__getitem__) == row["gold"]))
        right["acc_norm"].append(float(max(range(len(scores)), key=by_length.__getitem__) == row["gold"]))
    found = pair(tmp_path, "q")
    for metric, values in right.items():
        mean = sum(values) / len(values)
        assert found["metrics"][metric]["value"] == pytest.approx(mean)
        assert found["metrics"][metric]["stderr"] == pytest.approx(math.sqrt(mean * (1 - mean) / (len(values) - 1)))
    assert found["chance"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 2 + 1 / 2 + 1 / 3) / 6)
    assert (found["n"], found["shots"], found["truncated"]) == (6, 0, 0)


@pytest.mark.parametrize("window", [None, 8])
def test_likelihoods_are_those_of_lm_evals_own_model(tmp_path: Path, model_folder: Path, window: int | None) -> None:
    """Also where attention slides, so that choices can't share a context."""
    import shutil

    from lm_eval.models.huggingface import HFLM

    from ipt_stream.evaluation.harness import ask
    from ipt_stream.evaluation.model import load_model

    task = load_task("q", TaskSettings(path=lines(tmp_path / "q.jsonl", QUESTIONS), num_fewshot=2))
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**settings, "sliding_window": window}), "utf-8")
    mine = load_model("tiny", str(folder), device="cpu", dtype="float32", batch_size=3, batch_tokens=200)
    theirs = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=2)
    theirs.truncated = set()
    answers = [ask(model, task, seed=3) for model in (mine, theirs)]
    assert mine.shares == (window is None)
    prompts = [[sample["arguments"] for sample in one.samples] for one in answers]
    assert prompts[0] == prompts[1]
    for one, other in zip(answers[0].samples, answers[1].samples, strict=True):
        for (mine_is,), (theirs_is,) in zip(one["resps"], other["resps"], strict=True):
            assert mine_is[0] == pytest.approx(theirs_is[0], abs=1e-4)
            assert mine_is[1] == theirs_is[1]


def test_a_question_is_never_its_own_shot_and_shots_may_come_from_elsewhere(tmp_path: Path, model_folder: Path) -> None:
    from ipt_stream.evaluation.harness import ask
    from ipt_stream.evaluation.model import load_model

    model = load_model("tiny", str(model_folder), device="cpu", dtype="float32", batch_size=8, batch_tokens=4096)
    path = lines(tmp_path / "q.jsonl", QUESTIONS)
    for sample in ask(model, load_task("q", TaskSettings(path=path, num_fewshot=3)), seed=0).samples:
        prompt = sample["arguments"][0][0]
        assert prompt.count(sample["doc"]["query"]) == 1
        assert prompt.count("\n\n") == 3
    other = lines(tmp_path / "s.jsonl", [{"query": "one shot?", "choices": ["no", "yes"], "gold": 1}])
    settings = TaskSettings(path=path, num_fewshot=1, fewshot_path=other)
    for sample in ask(model, load_task("q", settings), seed=0).samples:
        assert sample["arguments"][0][0] == "one shot? yes\n\n" + sample["doc"]["query"]


def test_partial_contexts_score_one_continuation_after_each(tmp_path: Path, model_folder: Path, direct: Any) -> None:
    path = lines(tmp_path / "w.jsonl", SCHEMAS)
    evaluate(config(tmp_path, model_folder, {"winogrande": {"path": path}}))  # the name alone says how it is scored
    right = []
    for row in SCHEMAS:
        scores = [log_likelihood(*direct, context, " " + row["continuation"]) for context in row["context_options"]]
        right.append(float(scores.index(max(scores)) == row["gold"]))
    found = pair(tmp_path, "winogrande")
    assert found["metrics"]["acc"]["value"] == pytest.approx(sum(right) / 2)
    assert found["metrics"]["acc_norm"] == found["metrics"]["acc"]
    assert found["chance"] == 0.5


def test_what_is_too_long_is_cut_and_counted(tmp_path: Path, model_folder: Path) -> None:
    rows = [*QUESTIONS[:2], {"query": "the river " * 100, "choices": ["a", "the"], "gold": 0}]
    rows.append({"query": "the", "choices": ["a", "the old stone bridge by the river " * 20], "gold": 0})
    path = lines(tmp_path / "q.jsonl", rows)
    report = evaluate(config(tmp_path, model_folder, {"q": {"path": path}}, max_length=64))
    assert report.figures["questions_truncated"] == pair(tmp_path, "q")["truncated"] == 2
    assert "tiny, q: 2 of 4 questions were cut from the left to fit the window" in report.lines


def test_categories_have_their_own_scores(tmp_path: Path, model_folder: Path) -> None:
    rows = [{**row, "category": "town" if i % 2 else "river"} for i, row in enumerate(QUESTIONS)]
    report = evaluate(config(tmp_path, model_folder, {"q": {"path": lines(tmp_path / "q.jsonl", rows)}}))
    found = pair(tmp_path, "q")
    assert {name: scores["acc"]["n"] for name, scores in found["categories"].items()} == {"river": 3, "town": 3}
    for metric in ("acc", "acc_norm"):
        parts = [scores[metric]["value"] for scores in found["categories"].values()]
        assert sum(parts) / 2 == pytest.approx(found["metrics"][metric]["value"])
    assert any(line.startswith("| q    | river    | 3 |") for line in report.lines)


def test_a_killed_run_asks_only_what_is_missing(tmp_path: Path, model_folder: Path, caplog: Any) -> None:
    path = lines(tmp_path / "q.jsonl", QUESTIONS)
    settings = config(tmp_path, model_folder, {"a": {"path": path}, "b": {"path": path, "num_fewshot": 1}})
    first = evaluate(settings)
    out = tmp_path / "out"
    before = pair(tmp_path, "a"), pair(tmp_path, "b")["metrics"], (out / "results.md").read_bytes()
    stage = json.loads((out / "stage.json").read_text("utf-8"))
    (out / "stage.json").write_text(json.dumps({**stage, "finished": False}), "utf-8")
    (out / "results" / "tiny" / "b.json").unlink()
    (out / "results.md").unlink()
    again = evaluate(settings)
    assert not again.skipped
    after = pair(tmp_path, "a"), pair(tmp_path, "b")["metrics"], (out / "results.md").read_bytes()
    assert after == before
    scores = [key for key in first.figures if "/" in key]
    assert scores and all(first.figures[key] == again.figures[key] for key in scores)
    third = evaluate(settings)
    assert third.skipped and third.lines == again.lines


def test_changed_questions_or_weights_are_refused(tmp_path: Path, model_folder: Path) -> None:
    path = lines(tmp_path / "q.jsonl", QUESTIONS)
    evaluate(config(tmp_path, model_folder, {"q": {"path": path}}))
    lines(tmp_path / "q.jsonl", QUESTIONS[:-1])
    with pytest.raises(LedgerError, match=r"tasks\.q was"):
        evaluate(config(tmp_path, model_folder, {"q": {"path": path}}))


def test_models_stand_side_by_side_and_nothing_is_on_standard_output(
    tmp_path: Path, model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "q.jsonl", QUESTIONS)
    models = {"one": str(model_folder), "two": str(model_folder)}
    report = evaluate(config(tmp_path, model_folder, {"q": {"path": path, "limit": 4}}, models=models))
    assert capfd.readouterr().out == ""
    table = (tmp_path / "out" / "results.md").read_text("utf-8")
    assert table.splitlines() == list(report.lines)
    header, _, row = [line.strip("| ").split("|") for line in report.lines if line.startswith("|")]
    assert [cell.strip() for cell in header] == ["task", "n", "shots", "chance", "one", "two"]
    assert [cell.strip() for cell in row[:4]] == ["q", "4", "0", "0.396"]
    assert row[4].strip() == row[5].strip()
    document = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert document["results"]["one"]["q"]["metrics"] == document["results"]["two"]["q"]["metrics"]


GOOD = QUESTIONS[0]
BAD_LINES = [
    ("{", "q.jsonl:2 is not JSON"),
    ("[1]", "q.jsonl:2 is not a question"),
    (json.dumps({"query": "x", "gold": 0}), "q.jsonl:2 has no choices"),
    (json.dumps({**GOOD, "choices": ["one"]}), "q.jsonl:2 has no choices"),
    (json.dumps({**GOOD, "choices": ["one", " "]}), "q.jsonl:2 has no choices"),
    (json.dumps({**GOOD, "query": " "}), "q.jsonl:2 has no query"),
    (json.dumps({**GOOD, "gold": 2}), "q.jsonl:2 has a gold out of range; wanted: an index from 0 to 1; got: 2"),
    (json.dumps({**GOOD, "gold": -1}), "q.jsonl:2 has a gold out of range"),
    (json.dumps({**GOOD, "gold": True}), "q.jsonl:2 has a gold out of range"),
    (json.dumps(SCHEMAS[0]), "fix: set the task's kind: partial_context"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_bad_line_is_named_before_any_model_is_loaded(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "config.json").write_text("no model at all", "utf-8")
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n", "utf-8")
    with pytest.raises(InputError) as caught:
        evaluate(config(tmp_path, tmp_path, {"q": {"path": str(path)}}))
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_task_of_lm_eval_is_named(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(EvaluationError, match="lm-eval has no task no_such_task"):
        evaluate(config(tmp_path, model_folder, {"no_such_task": {"kind": "lm_eval"}}))


@pytest.mark.parametrize(
    ("tasks", "kind", "message"),
    [
        ({"q": {"path": "nowhere.jsonl"}}, InputError, "no question file nowhere.jsonl"),
        ({"q": {"path": "q.jsonl", "num_fewshot": 6}}, EvaluationError, "wanted: 6 distinct ones besides"),
        ({"q": {}}, EvaluationError, "wanted: a path for a local task"),
        ({"q": {"path": "q.jsonl", "kind": "lm_eval"}}, EvaluationError, "none for kind: lm_eval"),
    ],
)
def test_a_task_that_cannot_be_asked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: dict[str, Any], kind: type[IptError], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "q.jsonl", QUESTIONS)
    with pytest.raises(kind) as caught:
        evaluate(config(tmp_path, tmp_path, tasks))
    assert message in str(caught.value)


def test_models_that_are_none_are_refused(tmp_path: Path, model_folder: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    tasks = {"q": {"path": lines(tmp_path / "q.jsonl", QUESTIONS)}}
    with pytest.raises(EvaluationError, match="model tiny can't be found"):
        evaluate(config(tmp_path, tmp_path / "nowhere", tasks))
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(model_folder / "config.json", empty)
    with pytest.raises(EvaluationError, match="model tiny can't be loaded"):
        evaluate(config(tmp_path, empty, tasks, output=str(tmp_path / "empty-out")))
    broken = Path(shutil.copytree(model_folder, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    save_file(
        {name: value * float("nan") for name, value in weights.items()}, broken / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(EvaluationError, match="got: NaN"):
        evaluate(config(tmp_path, broken, tasks, output=str(tmp_path / "broken-out")))


def test_the_paper_decides_where_a_task_of_its_name_says_nothing(tmp_path: Path) -> None:
    path = lines(tmp_path / "q.jsonl", QUESTIONS)
    assert load_task("arc_easy", TaskSettings(path=path)).shots == 5
    assert load_task("arc_easy", TaskSettings(path=path)).rows[0]["query"].endswith("bridge\nAnswer:")
    assert load_task("arc_easy", TaskSettings(path=path, num_fewshot=0, cue="")).shots == 0
    assert load_task("my_task", TaskSettings(path=path)).shots == 0


def test_the_published_files_of_the_general_tasks_are_read(
    tmp_path: Path, model_folder: Path, shared_data: Path
) -> None:
    names = ["arc_easy", "arc_challenge", "boolq", "openbook_qa", "piqa", "siqa", "winogrande"]
    tasks = {name: {"path": str(shared_data / "evaluation" / "general" / f"{name}.jsonl")} for name in names}
    report = evaluate(config(tmp_path, model_folder, tasks, limit=5))
    assert report.figures["questions"] == 35
    shots = {name: pair(tmp_path, name)["shots"] for name in names}
    assert shots == dict.fromkeys(names, 5) | {"piqa": 0, "winogrande": 0}
    assert {pair(tmp_path, name)["chance"] for name in names} == {0.25, 0.5}


def test_importing_the_settings_imports_no_heavy_library() -> None:
    code = "import sys, ipt_stream.evaluation.evaluate; print({'torch', 'lm_eval', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=5)


@given(st.lists(st.tuples(TOKENS, TOKENS), max_size=12), st.booleans(), st.integers(1, 4), st.integers(1, 30))
def test_every_request_is_in_one_batch_and_predicted_by_what_precedes_it(
    requests: list[tuple[list[int], list[int]]], shared: bool, most: int, tokens: int
) -> None:
    seen = []
    for batch in batches(grow(requests, shared), most, tokens):
        assert len(batch) <= most
        assert len(batch) == 1 or len(batch) * max(tree.width() for tree in batch) <= tokens
        for tree in batch:
            inputs, branches, positions = tree.inputs(), tree.branches(), tree.positions()
            assert len(inputs) == len(branches) == len(positions) == tree.width()
            for number, (request, places) in enumerate(zip(tree.requests, tree.predictors(), strict=True), start=1):
                context, continuation = requests[request]
                visible = [i for i, branch in enumerate(branches) if branch in (0, number)]
                assert [inputs[i] for i in visible] == context + continuation[:-1]
                assert [positions[i] for i in visible] == list(range(len(visible)))
                assert places == visible[len(context) - 1 :]
                seen.append(request)
    assert sorted(seen) == list(range(len(requests)))
