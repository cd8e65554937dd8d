"""Suites, results side by side with their fingerprints, and what is said where data or the hub is missing."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from evaluating import QUESTIONS, SCHEMAS, config, lines, load_direct, log_likelihood, one_thread, pair

from ipt_stream.cli import main
from ipt_stream.config import build, fingerprint
from ipt_stream.corpus.sample_world import SampleWorldConfig, write_sample_world
from ipt_stream.errors import ConfigError, EvaluationError, InputError, LedgerError
from ipt_stream.evaluation.evaluate import EvaluateConfig, evaluate, load_backend
from ipt_stream.evaluation.plot import draw, groups, png
from ipt_stream.evaluation.provenance import code_identity, mixture_of
from ipt_stream.evaluation.quiet import hub_answers
from ipt_stream.evaluation.results import Result, Score, average
from ipt_stream.evaluation.suites import Suite, SuiteName, SuiteSettings, expand, suite_tasks
from ipt_stream.evaluation.table import sources, tables
from ipt_stream.evaluation.tasks import Kind, TaskSettings, load_task
from ipt_stream.stage import open_stage

GENERAL = suite_tasks(SuiteName.GENERAL)
SHOTS = dict.fromkeys(GENERAL, 5) | {"winogrande": 0, "piqa": 0, "hellaswag": 0}


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made-up questions for each general task."""
    folder = tmp_path_factory.mktemp("general")
    for name in GENERAL:
        lines(folder / f"{name}.jsonl", SCHEMAS if name == "winogrande" else QUESTIONS)
    return folder


def named(**suites: Any) -> EvaluateConfig:
    mapping = {"output": "o", "models": {"m": "m"}, "suites": suites.get("suites", suites)}
    return build(EvaluateConfig, mapping, "test")


def result(model: str, task: str, value: float, stderr: float | None = 0.1, **changes: Any) -> Result:
    settings: dict[str, Any] = {
        "n": 10, "shots": 0, "chance": 0.25, "metrics": {"acc_norm": Score(value, stderr, 10)}, "categories": {},
        "truncated": 0, "seconds": 1.0, "identity": "i", **changes,
    }  # fmt: skip
    return Result(model=model, task=task, **settings)


def test_the_general_suite_on_local_files_is_asked_as_the_paper_does(
    tmp_path: Path, model_folder: Path, general: Path
) -> None:
    report = evaluate(config(tmp_path, model_folder, suites={"general": {"path": str(general)}}))
    assert {name: pair(tmp_path, name)["shots"] for name in GENERAL} == SHOTS
    document = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert document["suites"] == {"general": list(GENERAL)}
    values = [pair(tmp_path, name)["metrics"]["acc_norm"] for name in GENERAL]
    assert document["averages"]["general"]["tiny"]["value"] == pytest.approx(sum(v["value"] for v in values) / 9)
    assert report.figures["tiny/general/average"] == pytest.approx(sum(v["value"] for v in values) / 9, abs=1e-4)
    row = next(line for line in report.lines if line.startswith("| general average"))
    assert f"| {sum(v['n'] for v in values)} " in row
    assert (tmp_path / "out" / "results.png").read_bytes().startswith(b"\x89PNG")


def test_the_general_suite_from_the_hub_is_lm_evals_own_tasks() -> None:
    suites, tasks = expand({SuiteName.GENERAL: SuiteSettings()})
    assert suites == [Suite("general", GENERAL, (), averaged=True)]
    assert {name: task.num_fewshot for name, task in tasks.items()} == SHOTS
    assert {task.kind for task in tasks.values()} == {Kind.LM_EVAL}
    loaded = {name: load_task(name, settings) for name, settings in tasks.items()}
    theirs = {"siqa": "social_iqa", "openbook_qa": "openbookqa"}
    assert {name: task.lm_eval_name for name, task in loaded.items()} == {n: theirs.get(n, n) for n in GENERAL}
    assert all(task.from_hub for task in loaded.values())
    assert GENERAL == (
        "winogrande",
        "piqa",
        "hellaswag",
        "arc_easy",
        "arc_challenge",
        "boolq",
        "siqa",
        "openbook_qa",
        "mmlu",
    )


def lm_eval_yaml(path: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A task of lm-eval's own, on made-up rows of its data set's columns."""
    import lm_eval
    from datasets import Dataset
    from lm_eval.tasks._yaml_loader import load_yaml

    data = Dataset.from_list(rows)
    return load_yaml(Path(lm_eval.__file__).parent / "tasks" / path) | {
        "custom_dataset": lambda **_: {"train": data, "validation": data}, "num_fewshot": 0, "tag": None,
    }  # fmt: skip


def test_lm_evals_tasks_without_acc_norm_get_it(tmp_path: Path, model_folder: Path) -> None:
    from ipt_stream.evaluation.harness import Asked

    passages = ["the old bridge by the river", "a miller of the town", "who built the mill", "the keeper was old", "a"]
    boolq = [{"passage": p, "question": "was it old", "idx": i, "label": i % 2} for i, p in enumerate(passages)]
    winogrande = [
        {"sentence": f"{p} and _ was by the river.", "option1": "the miller", "option2": "he", "answer": "12"[i % 2]}
        for i, p in enumerate(passages)
    ]
    siqa = [
        {"context": p, "question": "who?", "answerA": "the keeper of the old bridge", "answerB": "a", "answerC": "x y",
         "label": "123"[i % 3]}
        for i, p in enumerate(passages)
    ]  # fmt: skip
    model = load_backend(config(tmp_path, model_folder, tasks={"q": {"kind": "lm_eval"}}), "tiny")
    direct = load_direct(model_folder)

    def asked(name: str, path: str, rows: list[dict[str, Any]]) -> Any:
        task = load_task(name, TaskSettings(kind=Kind.LM_EVAL, lm_eval_name=name, num_fewshot=0))
        answers = Asked(task, lm_eval_yaml(path, rows)).ask(model, seed=0)
        assert answers.metrics["acc_norm"].n == len(rows) and answers.metrics["acc_norm"].stderr is not None
        return answers.metrics

    right = []
    for row in boolq:
        prompt = f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:"
        no, yes = log_likelihood(*direct, prompt, " no") / 2, log_likelihood(*direct, prompt, " yes") / 3
        right.append(float((yes > no) == row["label"]))
    found = asked("boolq", "super_glue/boolq/default.yaml", boolq)
    assert found["acc_norm"].value == pytest.approx(sum(right) / len(right))
    right = []
    for row in siqa:
        options = [row["answerA"], row["answerB"], row["answerC"]]
        prompt = f"Q: {row['context']} {row['question']}\nA:"
        scores = [log_likelihood(*direct, prompt, f" {option}") / len(option) for option in options]
        right.append(float(scores.index(max(scores)) + 1 == int(row["label"])))
    assert asked("social_iqa", "siqa/siqa.yaml", siqa)["acc_norm"].value == pytest.approx(sum(right) / len(right))
    found = asked("winogrande", "winogrande/default.yaml", winogrande)
    assert found["acc_norm"] == found["acc"], "one continuation: its length changes no order"


def test_the_sample_world_is_a_suite_without_an_average(tmp_path: Path, model_folder: Path) -> None:
    world = SampleWorldConfig(
        output=str(tmp_path / "world"), documents=20, tuning_documents=4, validation_documents=0, evaluation_questions=6
    )
    write_sample_world(world)
    report = evaluate(config(tmp_path, model_folder, suites={"sample-world": {"path": world.output, "limit": 4}}))
    assert report.figures["questions"] == 12
    shown = [line.split("|")[1].strip() for line in report.lines if line.startswith("| ")]
    assert shown[:5] == ["task", "-" * 8, "seen", "held_out", "reading"]
    assert not any("average" in line for line in report.lines)


def test_a_suite_with_tasks_left_out_says_so(tmp_path: Path, model_folder: Path, general: Path) -> None:
    without = [name for name in GENERAL if name not in ("boolq", "piqa")]
    suites = {"general": {"path": str(general), "without": without}}
    report = evaluate(config(tmp_path, model_folder, suites=suites))
    assert report.figures["tasks"] == 2
    assert f"general: not whole, so no average; without {', '.join(without)}" in report.lines


@pytest.mark.parametrize(
    ("suites", "message"),
    [
        (["genral"], "not 'genral'; did you mean 'general'?"),
        ({"sample_world": {}}, "did you mean 'sample-world'?"),
        ({"finance": {"pth": "x"}}, "unknown key 'suites.finance.pth'; did you mean"),
        ({}, "at least one suite or task"),
    ],
)
def test_an_unknown_suite_names_the_nearest(suites: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        named(suites=suites)
    assert message in str(caught.value)


def test_a_list_of_suites_on_the_command_line_does_not_replace_a_mapping(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evaluate.yaml"
    file.write_text("output: o\nmodels: {m: m}\nsuites: {general: {}}\n", "utf-8")
    assert main(["evaluate", str(file), "suites=[finance]"]) == 2
    assert "wanted: a list in place of a list, a mapping of a mapping" in capsys.readouterr().err


def test_suites_are_named_in_a_list_or_with_their_settings() -> None:
    assert named(suites=["general", "finance"]).suites == {
        SuiteName.GENERAL: SuiteSettings(), SuiteName.FINANCE: SuiteSettings(),
    }  # fmt: skip
    assert named(finance={"without": ["ner"]}).suites[SuiteName.FINANCE].without == ("ner",)
    with pytest.raises(ConfigError, match="engine only with backend: vllm"):
        build(
            EvaluateConfig, {"output": "o", "models": {"m": "m"}, "suites": ["finance"], "engine": {"seed": 1}}, "test"
        )


def test_missing_files_and_tasks_of_a_suite_are_named(tmp_path: Path, model_folder: Path, general: Path) -> None:
    partial = tmp_path / "partial"
    shutil.copytree(general, partial)
    (partial / "mmlu.jsonl").unlink()
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"general": {"path": str(partial)}}, InputError, "no questions of mmlu"),
        ({"general": {"path": str(partial)}}, InputError, "suites.general.without=[mmlu]"),
        ({"general": {"without": ["helaswag"]}}, EvaluationError, "did you mean 'hellaswag'?"),
        (
            {"finance": {"without": ["ner", "fpb", "fiqa_sa", "headline", "convfinqa"]}},
            EvaluationError,
            "nothing is left",
        ),
        ({"sample-world": {}}, EvaluationError, "set suites.sample-world.path"),
        ({"sample-world": {"path": str(tmp_path)}}, InputError, "evaluation/seen.jsonl"),
    ]
    for suites, kind, message in cases:
        with pytest.raises(kind) as caught:
            evaluate(config(tmp_path, model_folder, suites=suites))
        assert message in str(caught.value)
    path = str(general / "boolq.jsonl")
    with pytest.raises(EvaluationError, match="task boolq is there twice"):
        evaluate(
            config(tmp_path, model_folder, suites={"general": {"path": str(general)}}, tasks={"boolq": {"path": path}})
        )


def test_without_the_hub_one_line_says_what_to_do(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: tried.append(address))
    with pytest.raises(EvaluationError) as caught:
        evaluate(config(tmp_path, model_folder, suites={"biomedicine": {"without": ["pubmedqa"]}}))
    shown = str(caught.value)
    assert "\n" not in shown
    assert "the data of task chemprot can't be had; wanted: AdaptLLM/medicine-tasks, ChemProt" in shown
    assert "name a folder of it: suites.biomedicine.path=FOLDER" in shown
    with pytest.raises(EvaluationError, match="the data of task piqa can't be had; wanted: lm-eval's task piqa"):
        evaluate(config(tmp_path / "2", model_folder, tasks={"piqa": {"kind": "lm_eval"}}))
    assert tried == [], "and nothing for minutes"


class _Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_whether_the_hub_answers_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    assert hub_answers(), "any answer is one"
    thread.join()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub_answers(), "it is not asked"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    server.server_close()
    started = time.monotonic()
    assert not hub_answers(timeout_s=2)
    assert time.monotonic() - started < 20
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    assert not hub_answers()


def test_more_models_and_tasks_are_asked_alone(tmp_path: Path, model_folder: Path) -> None:
    path = lines(tmp_path / "q.jsonl", QUESTIONS)
    first: dict[str, Any] = {"tasks": {"a": {"path": path}}}
    evaluate(config(tmp_path, model_folder, **first))
    file = tmp_path / "out" / "results" / "tiny" / "a.json"
    before = (file.stat().st_mtime_ns, file.read_bytes())
    both = {"tiny": str(model_folder), "two": str(model_folder)}
    more: dict[str, Any] = {"tasks": {**first["tasks"], "b": {"path": path, "num_fewshot": 1}}, "models": both}
    report = evaluate(config(tmp_path, model_folder, **more))
    assert not report.skipped and report.figures["questions"] == 24
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
    assert evaluate(config(tmp_path, model_folder, **more)).skipped
    again = evaluate(config(tmp_path, model_folder, **first))
    assert not again.skipped and again.figures["questions"] == 6 and "questions_per_s" not in again.figures
    with pytest.raises(LedgerError, match=r"scoring\.seed was 0, is 1"):
        evaluate(config(tmp_path, model_folder, **first, seed=1))


def test_other_code_is_another_identity(tmp_path: Path, model_folder: Path) -> None:
    path = lines(tmp_path / "q.jsonl", QUESTIONS)
    settings = config(tmp_path, model_folder, tasks={"q": {"path": path}})
    evaluate(settings)
    identity = pair(tmp_path, "q")["identity"]
    assert code_identity()["lm_eval"] and len(code_identity()["hash"]) == 16
    known = json.loads((tmp_path / "out" / "stage.json").read_text("utf-8"))
    assert known["settings"]["code"] == code_identity()
    older = {**known["settings"], "code": {**code_identity(), "hash": "0" * 16}}
    record = {**known, "settings": older, "fingerprint": fingerprint({"verb": "evaluate", **older})}
    (tmp_path / "out" / "stage.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(LedgerError, match=r"code\.hash was '0000000000000000', is "):
        evaluate(settings)
    # Where only the pair is of older code, it is asked again.
    (tmp_path / "out" / "stage.json").unlink()
    file = tmp_path / "out" / "results" / "tiny" / "q.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "identity": "older", "n": 5}), "utf-8")
    evaluate(settings)
    assert (pair(tmp_path, "q")["identity"], pair(tmp_path, "q")["n"]) == (identity, 6)


def test_results_say_what_they_come_from(tmp_path: Path, model_folder: Path) -> None:
    trained, tuned = tmp_path / "trained", tmp_path / "tuned"
    open_stage(str(trained), "pretrain", {"plan": "0123456789abcdef", "seed": 0})
    shutil.copytree(model_folder, trained / "model")
    open_stage(str(tuned), "tune", {"base_model": str(trained / "model")})
    shutil.copytree(model_folder, tuned / "model")
    assert mixture_of(str(trained / "model")) == mixture_of(f"{tuned}/model/") == "0123456789abcdef"
    assert mixture_of(str(model_folder)) is None
    models = {"trained": str(trained / "model"), "other": str(model_folder)}
    path = lines(tmp_path / "q.jsonl", QUESTIONS)
    report = evaluate(config(tmp_path, model_folder, tasks={"q": {"path": path}}, models=models))
    document = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert document["mixtures"] == {"trained": "0123456789abcdef", "other": None}
    assert document["code"] == code_identity()
    model = document["models"]["trained"]
    assert f"trained: model {model[:8]}, mixture 01234567" in report.lines
    assert f"other: model {model[:8]}, mixture not known" in report.lines
    assert report.lines[-1] == sources({}, {}, code_identity())[0]
    assert (tmp_path / "out" / "results.md").read_text("utf-8").splitlines() == list(report.lines)


def test_a_suites_average_by_hand() -> None:
    parts = [result("m", "a", 0.5, 0.03, n=10), result("m", "b", 0.7, 0.04, n=10, chance=0.5)]
    mean, chance = average(parts)
    assert mean == Score(pytest.approx(0.6), pytest.approx(0.05 / 2), 20)
    assert chance == pytest.approx(0.375)
    mean, chance = average([*parts, result("m", "c", 0.0, None, chance=None)])
    assert mean.stderr is None and chance is None


def test_the_table_holds_what_questions_may_hold() -> None:
    nasty = "a|b `c` <b>\n[d](e) \\"
    scores = {"acc_norm": Score(0.5, None, 4)}
    found = {"m": {"t": result("m", "t", 0.5, categories={nasty: scores}, truncated=3)}}
    shown = tables(found)
    row = next(line for line in shown if line.startswith("| t ") and "a\\|b" in line)
    assert r"a\|b \`c\` \<b> \[d](e) \\" in row
    assert all("\n" not in line for line in shown)
    assert "m, t: 3 of 10 questions were cut from the left to fit the window" in shown


def test_the_plot_shows_scores_errors_and_chance() -> None:
    from matplotlib.container import BarContainer

    models = ("first", "second_model")
    values = {"t1": (0.2, 0.4), "t2": (0.6, 0.9)}
    results = {
        model: {task: result(model, task, value[i], 0.05 * (i + 1)) for task, value in values.items()}
        for i, model in enumerate(models)
    }
    suite = Suite("general", ("t1", "t2"), (), averaged=True)
    bars = groups(results, [suite])
    assert [group.label for group in bars] == ["t1\nacc_norm", "t2\nacc_norm", "general\naverage"]
    axes = draw(bars, models).axes[0]
    first, second = [
        [bar.get_height() for bar in container] for container in axes.containers if isinstance(container, BarContainer)
    ]
    assert first == pytest.approx([0.2, 0.6, 0.4]) and second == pytest.approx([0.4, 0.9, 0.65])
    errors, chance = [part.get_segments() for part in axes.collections][:2], axes.collections[-1].get_segments()
    assert [segment[1][1] - segment[0][1] for segment in errors[1]] == pytest.approx([0.2, 0.2, 2 * 0.1 / 2**0.5])
    assert [(segment[0][1], segment[1][1]) for segment in chance] == [(0.25, 0.25)] * 3
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["chance", *models]
    image = png(results, [suite])
    assert image.startswith(b"\x89PNG\r\n\x1a\n") and image == png(results, [suite])
