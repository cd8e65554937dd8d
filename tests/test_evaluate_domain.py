"""The ten domain tasks: on made-up rows of the hub's columns, on public data converted to them, in both backends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluating import (
    ENTITIES,
    NUMBERS,
    QUESTIONS,
    SCHEMAS,
    config,
    domain_folder,
    domain_rows,
    lines,
    load_direct,
    one_thread,
    pair,
    remember,
    said,
    token_log_likelihoods,
)
from sklearn.metrics import f1_score

from ipt_stream.errors import EvaluationError, InputError
from ipt_stream.evaluation.domain import DOMAIN_TASKS, check_row, lm_eval_config, local_file, read_rows
from ipt_stream.evaluation.domain_questions import DomainQuestionsConfig, write_domain_questions
from ipt_stream.evaluation.evaluate import EvaluateConfig, evaluate, load_backend
from ipt_stream.evaluation.tasks import Kind, TaskSettings, load_task
from ipt_stream.synthesis.engine_process import OWNER_VARIABLE

CHOICES = {
    "pubmedqa": "accuracy",
    "chemprot": "micro_f1",
    "mqp": "accuracy",
    "rct": "micro_f1",
    "usmle": "accuracy",
    "fpb": "weighted_f1",
    "fiqa_sa": "weighted_f1",
    "headline": "mean_class_f1",
}


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def knowing(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers the made-up numbers and entities as `evaluating` says."""
    return remember(model_folder, tmp_path_factory.mktemp("knowing"), said())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return domain_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def evaluated(knowing: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both domain suites were evaluated on the made-up rows, by the Hugging Face backend."""
    folder = tmp_path_factory.mktemp("evaluated")
    suites = {suite: {"path": str(data)} for suite in DOMAIN_TASKS}
    evaluate(config(folder, knowing, suites=suites))
    return folder


def direct_choices(model: Any, tokenizer: Any, row: dict[str, Any]) -> int:
    """The option with the least loss a token after BOS and the input, computed as AdaptLLM does."""
    losses = []
    for option in row["options"]:
        values = token_log_likelihoods(model, tokenizer, row["input"], " " + option, bos=True)
        losses.append(-sum(values) / len(values))
    return min(range(len(losses)), key=losses.__getitem__)


def test_choices_and_their_metrics_are_those_of_a_direct_computation(evaluated: Path, knowing: Path) -> None:
    model, tokenizer = load_direct(knowing)
    chosen = set()
    for task, metric in CHOICES.items():
        rows = domain_rows()[task]
        predicted = [direct_choices(model, tokenizer, row) for row in rows]
        gold = [row["gold_index"] for row in rows]
        if metric == "accuracy":
            expected = sum(g == p for g, p in zip(gold, predicted, strict=True)) / len(gold)
        elif metric == "mean_class_f1":
            parts = [[i for i, row in enumerate(rows) if row["class_id"] == number] for number in range(9)]
            scores = [
                f1_score([gold[i] for i in part], [predicted[i] for i in part], average="weighted", zero_division=0)
                for part in parts
            ]
            expected = sum(scores) / 9
        else:
            expected = f1_score(gold, predicted, average=metric.removesuffix("_f1"), zero_division=0)
        found = pair(evaluated, task)
        assert found["metrics"][metric]["value"] == pytest.approx(expected), task
        assert found["metrics"][metric]["stderr"] > 0 or expected in (0, 1)
        assert (found["n"], found["shots"], found["truncated"]) == (len(rows), 0, 0)
        options = len(rows[0]["options"])
        assert found["chance"] == pytest.approx(1 / options, abs=0.03 if metric in ("accuracy", "micro_f1") else 0.2)
        chosen |= {(task, choice) for choice in predicted}
    assert len(chosen) > len(CHOICES), "the model chooses now this, now that, so that something is compared"


def test_generated_answers_end_at_the_line_and_are_judged(evaluated: Path) -> None:
    numbers, entities = pair(evaluated, "convfinqa"), pair(evaluated, "ner")
    right = [float(counts) for _, _, counts in NUMBERS]
    assert numbers["metrics"]["numeric_match"]["value"] == pytest.approx(sum(right) / len(right))
    assert numbers["metrics"]["numeric_match"]["stderr"] > 0
    assert numbers["chance"] is None and entities["chance"] is None
    for place, metric in ((2, "entity_f1"), (3, "exact_f1")):
        assert entities["metrics"][metric]["value"] == pytest.approx(sum(row[place] for row in ENTITIES) / 3)


def test_the_suites_are_whole_and_have_their_averages(evaluated: Path) -> None:
    document = json.loads((evaluated / "out" / "results.json").read_text("utf-8"))
    table = (evaluated / "out" / "results.md").read_text("utf-8")
    for suite, tasks in DOMAIN_TASKS.items():
        values = [next(iter(pair(evaluated, task)["metrics"].values())) for task in tasks]
        mean = sum(value["value"] for value in values) / 5
        error = sum(value["stderr"] ** 2 for value in values) ** 0.5 / 5
        assert document["averages"][suite]["tiny"]["value"] == pytest.approx(mean)
        assert document["averages"][suite]["tiny"]["stderr"] == pytest.approx(error)
        assert f"{suite} average" in table
        assert f"{mean:.3f} ± {error:.3f}" in table
    assert "| chemprot (micro_f1) " in table
    assert "acc_norm, or the metric in brackets, ± standard error" in table


def test_bos_comes_first_in_domain_tasks_unless_it_is_refused(tmp_path: Path, knowing: Path, data: Path) -> None:
    from ipt_stream.evaluation.harness import ask

    model = load_backend(config(tmp_path, knowing, tasks={"ner": {"kind": "domain"}}), "tiny")
    seen: list[list[int]] = []

    def remembered(prompts: Any, settings: Any, most: int) -> Iterator[dict[int, str]]:
        seen.extend(prompts)
        yield dict.fromkeys(range(len(prompts)), "")

    model._generate_all = remembered
    task = load_task("ner", TaskSettings(kind=Kind.DOMAIN, path=str(data / "ner.jsonl")))
    ask(model, task, seed=0, bos=True)
    ask(model, task, seed=0, bos=False)
    with_bos, without = seen[:3], seen[3:]
    assert [[0, *prompt] for prompt in without] == with_bos and without[0][0] != 0


def test_what_does_not_fit_is_cut_and_counted_for_generation_too(tmp_path: Path, knowing: Path) -> None:
    rows = [{"input": "the river " * 400 + "Answer:", "label": "5"}, {"input": "who", "label": "5"}]
    tasks = {"convfinqa": {"kind": "domain", "path": lines(tmp_path / "c.jsonl", rows)}}
    report = evaluate(config(tmp_path, knowing, tasks=tasks, max_length=160))
    assert report.figures["questions_truncated"] == pair(tmp_path, "convfinqa")["truncated"] == 1
    with pytest.raises(EvaluationError, match=r"wanted: a window of more than the 100 tokens .* got: 64"):
        evaluate(config(tmp_path / "short", knowing, tasks=tasks, max_length=64))


GOOD = {"input": "x", "options": ["a", "b"], "gold_index": 1}


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("fpb", {**GOOD, "options": []}, 'has no options; wanted: {"input": text'),
        ("fpb", {**GOOD, "options": []}, "got: options []"),
        ("fpb", {**GOOD, "options": ["a", " "]}, 'got: options ["a", " "]'),
        ("fpb", {"input": "x", "gold_index": 0}, "has no options"),
        ("fpb", {"options": ["a", "b"], "gold_index": 0}, "has no input; wanted"),
        ("fpb", {"input": "x", "options": ["a", "b"], "label": 1}, "got: columns input, options, label"),
        ("fpb", {**GOOD, "gold_index": 2}, "has a gold_index out of range; wanted: an index from 0 to 1; got: 2"),
        ("fpb", {**GOOD, "gold_index": -1}, "has a gold_index out of range"),
        ("fpb", {**GOOD, "gold_index": True}, "has a gold_index out of range"),
        ("fpb", {**GOOD, "gold_index": "1"}, "has a gold_index out of range"),
        ("headline", GOOD, "has no class_id"),
        ("headline", {**GOOD, "class_id": -1}, "has a class_id out of range"),
        ("ner", GOOD, "has no label"),
        ("ner", {"input": "x", "label": []}, "has no label"),
        ("convfinqa", {"input": " ", "label": "5"}, "has no input"),
        ("rct", ["x"], "is not a row of rct"),
    ],
)
def test_a_bad_row_is_named_with_its_column(tmp_path: Path, task: str, row: Any, message: str) -> None:
    good = {"input": "x", "label": "5"} if task in ("ner", "convfinqa") else {**GOOD, "class_id": 3}
    path = lines(tmp_path / "rows.jsonl", [good, row])
    with pytest.raises(InputError) as caught:
        load_task(task, TaskSettings(kind=Kind.DOMAIN, path=path))
    assert f"{path}:2 " in str(caught.value) and message in str(caught.value)
    (tmp_path / "list.json").write_text(json.dumps([good, row]), "utf-8")
    with pytest.raises(InputError, match=r"list\.json: row 2 "):
        read_rows(task, str(tmp_path / "list.json"))


def test_a_row_keeps_its_own_columns_alone() -> None:
    assert check_row({**GOOD, "id": 3}, "here", "fpb") == GOOD
    assert check_row({"input": "x", "label": ["5", "6"]}, "here", "ner") == {"input": "x", "label": "5"}


def test_missing_files_and_wrong_settings_are_named(tmp_path: Path, data: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no data of mqp; wanted: .*MedQs/test\.json or .*mqp\.jsonl; got: no such"
    ):
        local_file(str(tmp_path / "nowhere"), "mqp")
    with pytest.raises(InputError, match=r"got: neither; fix: .*suites\.biomedicine\.without=\[mqp\]"):
        local_file(str(tmp_path), "mqp")
    assert local_file(str(data), "chemprot").endswith("ChemProt/test.json")
    with pytest.raises(InputError, match="no data of ner at gone"):
        load_task("ner", TaskSettings(kind=Kind.DOMAIN, path="gone"))
    (tmp_path / "empty.jsonl").write_text("\n", "utf-8")
    with pytest.raises(InputError, match="has no rows"):
        read_rows("ner", str(tmp_path / "empty.jsonl"))
    with pytest.raises(EvaluationError, match=r"there is no domain task fpbb; .* fix: did you mean 'fpb'"):
        load_task("fpbb", TaskSettings(kind=Kind.DOMAIN))
    with pytest.raises(EvaluationError, match="its prompts are whole"):
        load_task("fpb", TaskSettings(kind=Kind.DOMAIN, num_fewshot=5))


def test_lm_eval_itself_finds_the_tasks_and_their_functions() -> None:
    """As with `lm_eval --include_path ipt_stream/evaluation/tasks`."""
    from importlib import resources

    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = Path(str(resources.files("ipt_stream.evaluation").joinpath("tasks")))
    index = TaskManager(include_path=str(folder), include_defaults=False).task_index
    names = {name: suite for suite, tasks in DOMAIN_TASKS.items() for name in tasks}
    assert set(index) == {f"adaptllm_{name}" for name in names}
    for name, suite in names.items():
        theirs, ours = load_yaml(folder / suite / f"{name}.yaml"), lm_eval_config(name)
        assert {**theirs, "task": name} == ours
        assert callable(ours["process_results"])
        assert ours["num_fewshot"] == 0
    assert {ours.name for ours in (folder / "finance").iterdir()} == {f"{n}.yaml" for n in DOMAIN_TASKS["finance"]}


def test_data_in_the_form_of_the_hub_is_checked_and_asked(tmp_path: Path, knowing: Path) -> None:
    """A repository of the hub's layout, from a folder: what `datasets` does with it is the same."""
    from ipt_stream.evaluation.harness import Asked

    repository = tmp_path / "repository"
    lines(repository / "FPB" / "test.json", domain_rows()["fpb"])
    lines(repository / "MedQs" / "test.json", [{"input": "x", "options": ["a", "b"], "gold_index": 5}])
    configs = [("FPB", "FPB"), ("MQP", "MedQs")]
    entries = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {folder}/test.json\n"
        for name, folder in configs
    )
    (repository / "README.md").write_text(f"---\nconfigs:\n{entries}---\n", "utf-8")
    place = {"dataset_path": str(repository), "dataset_kwargs": {"cache_dir": str(tmp_path / "cache")}}
    task = load_task("fpb", TaskSettings(kind=Kind.DOMAIN))
    assert task.from_hub
    model = load_backend(config(tmp_path, knowing, tasks={"fpb": {"kind": "domain"}}), "tiny")
    answers = Asked(task, lm_eval_config("fpb") | place).ask(model, seed=0, bos=True)
    local = load_task("fpb", TaskSettings(kind=Kind.DOMAIN, path=str(repository / "FPB" / "test.json")))
    assert answers.metrics == Asked(local).ask(model, seed=0, bos=True).metrics
    with pytest.raises(InputError, match="MQP: row 1 has a gold_index out of range"):
        Asked(load_task("mqp", TaskSettings(kind=Kind.DOMAIN)), lm_eval_config("mqp") | place)


def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what the backend sets in the environment put back after the test; one thread is best for what is small."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE", "VLLM_LOGGING_STREAM", OWNER_VARIABLE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what vLLM imports warns of itself
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_vllm_scores_and_answers_as_the_hugging_face_backend_does(
    tmp_path: Path,
    knowing: Path,
    data: Path,
    evaluated: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from ipt_stream.evaluation.harness import ask

    restored(monkeypatch)
    suites = {suite: {"path": str(data)} for suite in DOMAIN_TASKS}
    general = {
        "q": {"path": lines(tmp_path / "q.jsonl", QUESTIONS), "num_fewshot": 2},
        "winogrande": {"path": lines(tmp_path / "w.jsonl", SCHEMAS)},
    }
    settings: dict[str, Any] = {"suites": suites, "tasks": general, "max_length": 512}
    likelihoods: dict[str, list[list[Any]]] = {}

    def load(wanted: EvaluateConfig, name: str) -> Any:
        model = load_backend(wanted, name)
        for task in ("q", "winogrande"):
            found = ask(model, load_task(task, TaskSettings(**general[task])), seed=3)
            likelihoods.setdefault(task, []).append([r[0] for sample in found.samples for r in sample["resps"]])
        return model

    evaluate(config(tmp_path / "hf", knowing, **settings), load)
    evaluate(
        config(tmp_path / "vllm", knowing, **settings, backend="vllm", engine={"num_gpu_blocks_override": 128}), load
    )
    assert capfd.readouterr().out == ""
    for here, there in likelihoods.values():
        assert len(here) == len(there) >= 4
        for one, other in zip(here, there, strict=True):
            assert one[0] == pytest.approx(other[0], abs=2e-3)
            assert one[1] == other[1] and one.tokens == other.tokens
    for task in [*CHOICES, "convfinqa", "ner", "q", "winogrande"]:
        mine, theirs = pair(tmp_path / "hf", task), pair(tmp_path / "vllm", task)
        assert mine["metrics"] == theirs["metrics"], task
        assert mine["identity"] != theirs["identity"]
    assert pair(tmp_path / "vllm", "convfinqa")["metrics"] == pair(evaluated, "convfinqa")["metrics"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_arguments_of_the_engine_are_checked_before_it_starts(
    tmp_path: Path, knowing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored(monkeypatch)
    tasks = {"q": {"path": lines(tmp_path / "q.jsonl", QUESTIONS)}}
    wrong = [
        ({"tensor_paralel_size": 2}, "has no argument tensor_paralel_size; fix: did you mean 'tensor_parallel_size'"),
        ({"trust_remote_code": True}, "is not to be given the argument trust_remote_code"),
    ]
    for engine, message in wrong:
        with pytest.raises(EvaluationError) as caught:
            load_backend(config(tmp_path, knowing, tasks=tasks, backend="vllm", engine=engine), "tiny")
        assert message in str(caught.value)


def test_the_domain_suites_on_public_data(tmp_path: Path, knowing: Path, shared_data: Path) -> None:
    source = shared_data / "evaluation"
    files = {
        "usmle": source / "medqa" / "medqa_test.jsonl",
        "chemprot": source / "chemprot" / "test.txt",
        "fpb": source / "finlora" / "fpb_test.jsonl",
        "fiqa_sa": source / "finlora" / "fiqa_test.jsonl",
        "convfinqa": source / "convfinqa" / "convfinqa_dataset.json",
        "ner": source / "fin_ner" / "FIN3.txt",
    }
    settings = {"output": str(tmp_path / "data"), "files": {name: str(path) for name, path in files.items()}}
    made = write_domain_questions(DomainQuestionsConfig.model_validate(settings)).figures
    counts = {name: made[f"questions_{name}"] for name in files}
    assert counts | {"ner": 0} == {
        "usmle": 1273, "chemprot": 3469, "fpb": 1212, "fiqa_sa": 235, "convfinqa": 1490, "ner": 0,
    }  # fmt: skip
    assert 50 < int(counts["ner"]) < 305, "sentences that name somebody"
    suites = {
        "biomedicine": {"path": str(tmp_path / "data"), "without": ["pubmedqa", "mqp", "rct"]},
        "finance": {"path": str(tmp_path / "data"), "without": ["headline"]},
    }
    report = evaluate(config(tmp_path, knowing, suites=suites, limit=8))
    assert report.figures["questions"] == 48
    for name, metric in {**CHOICES, "convfinqa": "numeric_match", "ner": "entity_f1"}.items():
        if name in files:
            found = pair(tmp_path, name)
            assert 0 <= found["metrics"][metric]["value"] <= 1 and found["metrics"][metric]["stderr"] is not None
            assert found["n"] == 8
    assert pair(tmp_path, "usmle")["chance"] == pytest.approx(1 / 4)
    assert pair(tmp_path, "chemprot")["chance"] == pytest.approx(1 / 12, abs=0.05)
    assert pair(tmp_path, "convfinqa")["truncated"] > 0, "reports are longer than the small model's window"
    assert any("finance: not whole, so no average; without headline" in line for line in report.lines)
