"""The evaluate stage: every model answers every task through lm-eval, and what they scored is put side by side.

A finished (model, task) pair is published at once, as `results/MODEL/TASK.json`; a run that was killed asks only what
is missing, and so does one with further models or tasks. Paper: section 3 and appendix C (`acc_norm`, shots by task).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ipt_stream import storage
from ipt_stream.config import fingerprint
from ipt_stream.errors import EvaluationError
from ipt_stream.evaluation import provenance
from ipt_stream.evaluation.quiet import calm_libraries, calm_vllm, cpu_build_named, hub_answers, quiet
from ipt_stream.evaluation.results import Result, average, from_json, mean_score, to_json
from ipt_stream.evaluation.settings import Backend, Dtype, EvaluateConfig
from ipt_stream.evaluation.suites import Suite, expand
from ipt_stream.evaluation.table import AVERAGE, sources, tables
from ipt_stream.evaluation.tasks import METRICS, Kind, Task, load_task
from ipt_stream.progress import log
from ipt_stream.stage import Figure, Stage, StageReport, run_once

if TYPE_CHECKING:
    from ipt_stream.evaluation.harness import Answers, Asked
    from ipt_stream.evaluation.metered import Metered

    Loader = Callable[[EvaluateConfig, str], Metered]

__all__ = ["EvaluateConfig", "evaluate"]


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be asked, all checked.

    Attributes:
        config: the settings.
        suites: those that are asked.
        tasks: all tasks, those of suites last.
        models: fingerprints of the models by name.
        pairs: what a result's `identity` has to be, by model and task.
        load: gives the model of a name.
    """

    config: EvaluateConfig
    suites: Sequence[Suite]
    tasks: Sequence[Task]
    models: Mapping[str, str]
    pairs: Mapping[str, Mapping[str, str]]
    load: Loader


def evaluate(config: EvaluateConfig, load: Loader | None = None) -> StageReport:
    """Evaluate `config.models` on `config.suites` and `config.tasks` into `config.output`; the report's lines are the
    table.

    Files: `results.json`, `results.md`, `results.png` and `results/MODEL/TASK.json`, with scores, standard errors,
    chance levels, and fingerprints of the models, of what they were trained on, and of the code.

    Args:
        config: what to do.
        load: gives the model of a name, to be asked and then closed; None: `load_backend`.

    Raises:
        InputError: a question file is missing or a line of it is wrong.
        EvaluationError: a model or a task can't be used. Both come before any model is loaded.
        LedgerError: the output belongs to other settings, models, questions or code.
    """
    suites, named = expand(config.suites)
    for name in config.tasks:
        if name in named:
            raise EvaluationError(f"task {name} is there twice", wanted="one of that name", got="a suite's too")
    tasks = [load_task(name, settings, config.limit) for name, settings in {**config.tasks, **named}.items()]
    models = {name: provenance.model_identity(name, folder) for name, folder in config.models.items()}
    scoring, code = config.scoring(), provenance.code_identity()
    settings = {"models": models, "tasks": {t.name: t.identity for t in tasks}, "scoring": scoring, "code": code}
    pairs = {
        model: {task.name: fingerprint([identity, task.identity, scoring, code]) for task in tasks}
        for model, identity in models.items()
    }
    _reopen(config.output, settings)
    work = _Work(config, suites, tasks, models, pairs, load or load_backend)
    return run_once(config.output, "evaluate", settings, lambda stage: _run(work, stage))


def _reopen(output: str, settings: Mapping[str, Any]) -> None:
    """Let an evaluation be asked again with more or fewer models and tasks; what stays must be the same.

    What is finished stays in `results/`, under its own identity.
    """
    path = storage.join(output, "stage.json")
    known = storage.read_json(path) if storage.exists(path) else None
    if known is None or known.get("verb") != "evaluate" or known["settings"] == settings:
        return
    before = known["settings"]
    if any(before.get(key) != settings[key] for key in ("scoring", "code")):
        return
    if all(before[key].get(name, it) == it for key in ("models", "tasks") for name, it in settings[key].items()):
        storage.remove(path)


def _run(work: _Work, stage: Stage) -> StageReport:
    output = work.config.output
    known = {
        model: {task: _finished(output, model, task, pair) for task, pair in pairs.items()}
        for model, pairs in work.pairs.items()
    }
    missing = {model: [task for task in work.tasks if known[model][task.name] is None] for model in work.models}
    asked, seconds = 0, 0.0
    for model, result in _ask_all(work, missing):
        storage.publish_json(_pair_path(output, model, result.task), to_json(result))
        known[model][result.task] = result
        asked, seconds = asked + result.n, seconds + result.seconds
    results = {
        model: {task: result for task, result in by_task.items() if result is not None}
        for model, by_task in known.items()
    }
    lines = _publish(work, stage, results)
    figures: dict[str, Figure] = {
        "models": len(work.models),
        "tasks": len(work.tasks),
        "questions": sum(result.n for by_task in results.values() for result in by_task.values()),
        "questions_truncated": sum(result.truncated for by_task in results.values() for result in by_task.values()),
    }
    if asked:
        figures["questions_per_s"] = round(asked / seconds, 1)
    for model, by_task in results.items():
        for task, result in by_task.items():
            metric, score = result.main()
            figures[f"{model}/{task}/{metric}"] = round(score.value, 4)
        for suite in _whole(work.suites):
            mean, _ = average([by_task[task] for task in suite.tasks])
            figures[f"{model}/{suite.name}/{AVERAGE}"] = round(mean.value, 4)
    return stage.finish(figures, lines)


def _publish(work: _Work, stage: Stage, results: Mapping[str, Mapping[str, Result]]) -> tuple[str, ...]:
    """Write `results` as JSON, Markdown and PNG; gives the Markdown's lines."""
    with quiet():
        from ipt_stream.evaluation.plot import png

        plot = png(results, work.suites)
    mixtures = {name: provenance.mixture_of(folder) for name, folder in work.config.models.items()}
    lines = (*tables(results, work.suites), "", *sources(work.models, mixtures, provenance.code_identity()))
    averages = {
        suite.name: {
            model: asdict(average([by_task[task] for task in suite.tasks])[0]) for model, by_task in results.items()
        }
        for suite in _whole(work.suites)
    }
    record = {
        **stage.settings,
        "mixtures": mixtures,
        "suites": {suite.name: list(suite.tasks) for suite in work.suites},
        "averages": averages,
        "results": {model: {task: to_json(r) for task, r in by_task.items()} for model, by_task in results.items()},
    }
    path = storage.join(work.config.output, "results")
    storage.publish_json(f"{path}.json", record)
    storage.publish_bytes(f"{path}.md", ("\n".join(lines) + "\n").encode())
    storage.publish_bytes(f"{path}.png", plot)
    return lines


def _whole(suites: Sequence[Suite]) -> list[Suite]:
    """The suites that have an average."""
    return [suite for suite in suites if suite.averaged and not suite.without]


def _ask_all(work: _Work, missing: Mapping[str, Sequence[Task]]) -> Iterator[tuple[str, Result]]:
    """Ask each model what is missing, giving each result as it is there. Tasks are built before any model is loaded."""
    wanted = {task.name: task for tasks in missing.values() for task in tasks}
    if not wanted:
        return
    needs_hub = any(task.from_hub for task in wanted.values())
    offline = not (needs_hub and hub_answers())
    if needs_hub and offline:
        log.warning("the hub doesn't answer: only data sets that its cache holds can be asked")
    calm_libraries(offline=offline)
    with quiet():
        from ipt_stream.evaluation.harness import Asked

        built = {name: Asked(task) for name, task in wanted.items()}
    for name, tasks in missing.items():
        if tasks:
            for result in _ask_one(work, name, [built[task.name] for task in tasks]):
                yield name, result


def _ask_one(work: _Work, name: str, tasks: Sequence[Asked]) -> Iterator[Result]:
    config = work.config
    with quiet():
        model = work.load(config, name)
    try:
        for asked in tasks:
            bos = config.add_bos_token
            with quiet():
                answers = asked.ask(model, config.seed, bos if bos is not None else asked.task.kind is Kind.DOMAIN)
            result = _result(name, asked.task, answers, work.pairs[name][asked.task.name])
            metric, score = result.main()
            rate = result.n / max(result.seconds, 1e-9)
            log.info("%-12s %-24s %s %s  %.0f questions/s", name, result.task, metric, score, rate)
            yield result
    finally:
        model.close()


def load_backend(config: EvaluateConfig, name: str) -> Metered:
    """The model `name` in the backend that `config` says. Raises `EvaluationError` where it can't be loaded."""
    from ipt_stream.evaluation.model import default_device, load_model

    device = config.device or default_device()
    settings: dict[str, Any] = {
        "device": device,
        "dtype": "float32" if config.dtype is Dtype.AUTO and device == "cpu" else config.dtype.value,
        "batch_size": config.batch_size,
        "batch_tokens": config.batch_tokens,
        "add_bos_token": config.add_bos_token,
        "max_length": config.max_length,
    }
    if config.backend is Backend.HF:
        return load_model(name, config.models[name], **settings)
    calm_vllm(on_cpu=device == "cpu")
    with cpu_build_named():
        try:
            from ipt_stream.evaluation.vllm_model import load_vllm
        except ImportError as error:
            raise EvaluationError(
                "vLLM can't be imported", got=str(error), fix="install the extra cpu or gpu, or set backend: hf"
            ) from error
        return load_vllm(name, config.models[name], engine=config.engine, **settings)


def _result(model: str, task: Task, answers: Answers, identity: str) -> Result:
    samples, metrics = answers.samples, dict(answers.metrics)
    by_category: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for sample in samples:
        if task.rows and sample["doc"].get("category") is not None:
            by_category[sample["doc"]["category"]].append(sample)
    categories = {
        category: {name: mean_score([sample[name] for sample in group]) for name in METRICS if name in group[0]}
        for category, group in sorted(by_category.items())
    }
    if task.kind is Kind.PARTIAL_CONTEXT:  # every option is scored on one continuation: its length changes no order
        for scores in (metrics, *categories.values()):
            scores["acc_norm"] = scores["acc"]
    return Result(
        model=model,
        task=task.name,
        n=len(samples),
        shots=answers.shots,
        chance=answers.chance,
        metrics=metrics,
        categories=categories,
        truncated=answers.truncated,
        seconds=round(answers.seconds, 3),
        identity=identity,
    )


def _finished(output: str, model: str, task: str, identity: str) -> Result | None:
    """The result of a pair that an earlier run published, unless it is of another model, task, setting or code."""
    path = _pair_path(output, model, task)
    if not storage.exists(path):
        return None
    result = from_json(storage.read_json(path))
    return result if result.identity == identity else None


def _pair_path(output: str, model: str, task: str) -> str:
    return storage.join(output, "results", model, f"{task}.json")
