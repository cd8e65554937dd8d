"""The evaluate stage: every model answers every task through lm-eval, and what they scored is put side by side.

A finished (model, task) pair is published at once, as `results/MODEL/TASK.json`; a run that was killed asks only what
is missing. Paper: section 3 and appendix C (`acc_norm`, shots by task).
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints

from ipt_stream import storage
from ipt_stream.config import Settings, fingerprint
from ipt_stream.errors import EvaluationError
from ipt_stream.evaluation.quiet import calm_libraries, quiet
from ipt_stream.evaluation.results import Result, Score, from_json, mean_score, tables, to_json
from ipt_stream.evaluation.tasks import METRICS, Kind, Task, TaskSettings, load_task
from ipt_stream.progress import log
from ipt_stream.stage import Figure, Stage, StageReport, run_once

if TYPE_CHECKING:
    from ipt_stream.evaluation.harness import Answers

_MIB = 1 << 20
_MODEL_FILES = (".json", ".safetensors", ".bin", ".model", ".txt")
_NOT_THE_MODEL = ("stage.json", "README.md", "generation_config.json")

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Dtype(StrEnum):
    """Type of the weights while they are evaluated."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class EvaluateConfig(Settings):
    """Settings of `ipt-stream evaluate`."""

    output: str
    """Directory of the results."""
    models: dict[Name, str] = Field(min_length=1)
    """Hugging Face model folders, by the name that tables show."""
    tasks: dict[Name, TaskSettings] = Field(min_length=1)
    """Tasks, by the name that tables show."""
    limit: int | None = Field(default=None, ge=1)
    """Ask only the first so many questions of each task that has no limit of its own; null asks all."""
    seed: int = 0
    """Seed of the draw of the shots."""
    batch_size: int = Field(default=128, ge=1)
    """Most sequences in one forward pass."""
    batch_tokens: int = Field(default=4096, ge=1)
    """Most tokens in one forward pass, padding included; one sequence may be longer. Some 65,536 suit a GPU."""
    device: str | None = None
    """Where models run: `cpu`, `cuda`, `cuda:1`; null takes a GPU where there is one."""
    dtype: Dtype = Dtype.AUTO
    """Type of the weights; `auto` is float32 on a CPU, elsewhere the folder's own."""
    add_bos_token: bool | None = None
    """Whether prompts begin with the tokenizer's BOS; null leaves it to the tokenizer."""
    max_length: int | None = Field(default=None, ge=2)
    """Window in tokens; null is the model's own. What doesn't fit is cut from the left and counted."""


def evaluate(config: EvaluateConfig) -> StageReport:
    """Evaluate `config.models` on `config.tasks` into `config.output`; the report's lines are the table.

    Files: `results.json`, `results.md` and `results/MODEL/TASK.json` with scores, standard errors and chance levels.

    Raises:
        InputError: a question file is missing or a line of it is wrong.
        EvaluationError: a model or a task can't be used. Both come before any model is loaded.
        LedgerError: the output belongs to other settings, models or questions.
    """
    tasks = [load_task(name, settings, config.limit) for name, settings in config.tasks.items()]
    models = {name: _model_identity(name, folder) for name, folder in config.models.items()}
    identities = {task.name: task.identity for task in tasks}
    settings = {"models": models, "tasks": identities, "scoring": _scoring(config)}
    return run_once(config.output, "evaluate", settings, lambda stage: _run(config, tasks, models, stage))


def _run(config: EvaluateConfig, tasks: Sequence[Task], models: Mapping[str, str], stage: Stage) -> StageReport:
    calm_libraries(offline=all(task.kind is not Kind.LM_EVAL for task in tasks))
    results: dict[str, dict[str, Result]] = {}
    asked, seconds = 0, 0.0
    for model, identity in models.items():
        pairs = {task.name: fingerprint([identity, task.identity, _scoring(config)]) for task in tasks}
        known = {name: _finished(config.output, model, name, pair) for name, pair in pairs.items()}
        missing = [task for task in tasks if known[task.name] is None]
        for result in _ask_all(config, model, missing, pairs) if missing else ():
            storage.publish_json(_pair_path(config.output, model, result.task), to_json(result))
            known[result.task] = result
            asked, seconds = asked + result.n, seconds + result.seconds
        results[model] = {name: result for name, result in known.items() if result is not None}
    lines = tables(results)
    records = {m: {t: to_json(result) for t, result in by_task.items()} for m, by_task in results.items()}
    storage.publish_json(storage.join(config.output, "results.json"), {**stage.settings, "results": records})
    storage.publish_bytes(storage.join(config.output, "results.md"), ("\n".join(lines) + "\n").encode())
    figures: dict[str, Figure] = {
        "models": len(models),
        "tasks": len(tasks),
        "questions": sum(result.n for by_task in results.values() for result in by_task.values()),
        "questions_truncated": sum(result.truncated for by_task in results.values() for result in by_task.values()),
    }
    if asked:
        figures["questions_per_s"] = round(asked / seconds, 1)
    for model, by_task in results.items():
        for task, result in by_task.items():
            metric, score = result.main()
            figures[f"{model}/{task}/{metric}"] = round(score.value, 4)
    return stage.finish(figures, lines)


def _ask_all(config: EvaluateConfig, name: str, tasks: Sequence[Task], pairs: Mapping[str, str]) -> Iterator[Result]:
    """Load the model `name` and ask it `tasks`, giving each result as it is there."""
    with quiet():
        from ipt_stream.evaluation.harness import ask
        from ipt_stream.evaluation.model import default_device, load_model

        device = config.device or default_device()
        model = load_model(
            name,
            config.models[name],
            device=device,
            dtype="float32" if config.dtype is Dtype.AUTO and device == "cpu" else config.dtype.value,
            batch_size=config.batch_size,
            batch_tokens=config.batch_tokens,
            add_bos_token=config.add_bos_token,
            max_length=config.max_length,
        )
    for task in tasks:
        with quiet():
            answers = ask(model, task, config.seed)
        result = _result(name, task, answers, pairs[task.name])
        metric, score = result.main()
        rate = result.n / max(result.seconds, 1e-9)
        log.info("%-12s %-24s %s %s  %.0f questions/s", name, task.name, metric, score, rate)
        yield result


def _result(model: str, task: Task, answers: Answers, identity: str) -> Result:
    samples = answers.samples
    metrics = {
        name: Score(value, answers.metrics.get(f"{name}_stderr"), len(samples))
        for name, value in answers.metrics.items()
        if not name.endswith("_stderr")
    }
    by_category: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for sample in samples:
        if task.rows and sample["doc"]["category"] is not None:
            by_category[sample["doc"]["category"]].append(sample)
    categories = {
        category: {name: mean_score([sample[name] for sample in group]) for name in METRICS if name in group[0]}
        for category, group in sorted(by_category.items())
    }
    if task.kind is Kind.PARTIAL_CONTEXT:  # every option is scored on one continuation: its length changes no order
        for scores in (metrics, *categories.values()):
            scores["acc_norm"] = scores["acc"]
    choices = [len(sample["resps"]) for sample in samples]
    chance = sum(1 / n for n in choices) / len(choices) if min(choices) > 1 else None
    return Result(
        model=model,
        task=task.name,
        n=len(samples),
        shots=answers.shots,
        chance=chance,
        metrics=metrics,
        categories=categories,
        truncated=answers.truncated,
        seconds=round(answers.seconds, 3),
        identity=identity,
    )


def _finished(output: str, model: str, task: str, identity: str) -> Result | None:
    """The result of a pair that an earlier run published, unless it is of another model, task or setting."""
    path = _pair_path(output, model, task)
    if not storage.exists(path):
        return None
    result = from_json(storage.read_json(path))
    return result if result.identity == identity else None


def _pair_path(output: str, model: str, task: str) -> str:
    return storage.join(output, "results", model, f"{task}.json")


def _scoring(config: EvaluateConfig) -> dict[str, Any]:
    """The settings that scores depend on; devices and batches change their rounding alone."""
    return config.model_dump(mode="json", include={"seed", "dtype", "add_bos_token", "max_length"})


def _model_identity(name: str, folder: str) -> str:
    """A hash of a model folder: each file of config, tokenizer and weights by name, size, first and last MiB.

    Training changes every weight, so the ends of a file tell models apart without reading gigabytes.
    """
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise EvaluationError(
            f"model {name} can't be found",
            wanted="a Hugging Face model folder, with config.json",
            got=f"{folder}, without" if os.path.isdir(folder) else f"nothing at {folder}",
            fix="check models in the config, or export the model first",
        )
    digest = hashlib.sha256()
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.endswith(_MODEL_FILES) and entry.name not in _NOT_THE_MODEL:
            size = entry.stat().st_size
            with open(entry.path, "rb") as file:
                digest.update(f"{entry.name}:{size}:".encode() + file.read(_MIB))
                file.seek(max(0, size - _MIB))
                digest.update(file.read())
    return digest.hexdigest()[:16]
