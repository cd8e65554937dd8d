"""lm-eval itself: one task asked of a model.

Importing this imports lm-eval, torch and transformers; import it inside functions, after `quiet.calm_libraries`.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from datasets import load_dataset
from datasets.exceptions import DatasetsError
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate as run_lm_eval
from lm_eval.tasks import TaskManager

from ipt_stream.errors import EvaluationError
from ipt_stream.evaluation import domain
from ipt_stream.evaluation.metered import Metered
from ipt_stream.evaluation.metrics import bootstrap_stderr, guess_score
from ipt_stream.evaluation.results import Score, mean_score
from ipt_stream.evaluation.tasks import Kind, Task, lm_eval_config, nearest

BOOTSTRAP_ITERATIONS = 200
"""Of lm-eval's own metrics that it bootstraps; its default is 100,000."""
_UNREACHABLE = (OSError, ValueError, RuntimeError, KeyError, DatasetsError, httpx.HTTPError)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model answered to one task.

    Attributes:
        metrics: scores by metric.
        samples: lm-eval's record of every question.
        shots: solved questions before each one.
        chance: expected score of a guess; None where nothing is chosen.
        truncated: how many questions didn't fit the model's window.
        seconds: time from the first prompt built to the last answer scored.
    """

    metrics: Mapping[str, Score]
    samples: Sequence[Mapping[str, Any]]
    shots: int
    chance: float | None
    truncated: int
    seconds: float


class Asked:
    """A task built for lm-eval, to be asked of any number of models; its questions are fetched once.

    Args:
        task: the task.
        config: lm-eval's configuration of it, in place of its own.

    Raises:
        EvaluationError: there is no such task, or its data can't be had.
        InputError: a row of the hub's is not what the task takes.
    """

    def __init__(self, task: Task, config: Mapping[str, Any] | None = None) -> None:
        self.task = task
        from_lm_eval = task.kind is Kind.LM_EVAL and config is None
        self._tasks = _from_lm_eval(task) if from_lm_eval else _from_config(task, config or lm_eval_config(task))
        for one in self._tasks["tasks"].values():
            shots = one.get_config("num_fewshot") if task.shots is None else task.shots
            one.set_config("num_fewshot", shots or 0)

    @property
    def leaves(self) -> Mapping[str, ConfigurableTask]:
        """lm-eval's tasks: the one, or those of a group."""
        return dict(self._tasks["tasks"])

    def ask(self, model: Metered, seed: int, bos: bool = False) -> Answers:
        """Let `model` answer; shots are drawn with `seed`, and every prompt gets a BOS where `bos` says so.

        Raises:
            EvaluationError: the model's likelihoods are not numbers, or its window is too short for an answer.
        """
        started = time.monotonic()
        task, leaves = self.task, self._tasks["tasks"]
        for one in leaves.values():
            one.set_fewshot_seed(seed)
        model.label, model.bos = task.name, bos
        model.truncated.clear()
        found = run_lm_eval(lm=model, task_dict=self._tasks, limit=task.limit, bootstrap_iters=BOOTSTRAP_ITERATIONS)
        samples = [sample for part in found["samples"].values() for sample in part]
        if any(isinstance(value, float) and math.isnan(value) for s in samples for value in _likelihoods(s)):
            raise EvaluationError(
                f"task {task.name} has no result", wanted="log likelihoods", got="NaN", fix="check the model's weights"
            )
        name = task.lm_eval_name
        if name not in found["results"]:
            raise EvaluationError(f"{task.name} has no result of its own", fix=f"name its tasks: {', '.join(leaves)}")
        metrics = _scores(found["results"][name], samples)
        if task.kind is Kind.DOMAIN:
            metrics = _bootstrapped(metrics, leaves[name], samples, seed)
        elif task.kind is Kind.LM_EVAL and "acc" in metrics and "acc_norm" not in metrics:
            metrics |= _acc_norm(leaves, found["samples"])
        return Answers(
            metrics=metrics,
            samples=samples,
            shots=int(found["n-shot"].get(name, task.shots or 0)),
            chance=_chance(task, leaves, samples, seed),
            truncated=len(model.truncated),
            seconds=time.monotonic() - started,
        )


def ask(model: Metered, task: Task, seed: int, bos: bool = False) -> Answers:
    """Build `task` and let `model` answer it; raises as `Asked` and its `ask` do."""
    return Asked(task).ask(model, seed, bos)


def _from_config(task: Task, config: Mapping[str, Any]) -> dict[str, Any]:
    """A task that `config` says all about; questions of the hub's are checked before lm-eval takes them."""
    settings = dict(config)
    if "custom_dataset" not in settings:
        place, name = settings["dataset_path"], settings["dataset_name"]
        try:
            data = load_dataset(place, name, **settings.get("dataset_kwargs", {}))
        except _UNREACHABLE as error:
            raise EvaluationError(
                f"the data of task {task.name} can't be had",
                wanted=f"{place}, {name}, from the hub or its cache",
                got=_line(error),
                fix=f"connect, or name a folder of it: suites.{domain.suite_of(task.name)}.path=FOLDER",
            ) from error
        for number, row in enumerate(data[settings["test_split"]], start=1):
            domain.check_row(row, f"{place}, {name}: row {number}", task.name)
        settings["custom_dataset"] = lambda **_: data
    return {"tasks": {task.lm_eval_name: ConfigurableTask(config=settings)}}


def _from_lm_eval(task: Task) -> dict[str, Any]:
    """A task, or group of tasks, of lm-eval's own."""
    manager = _task_manager()
    if task.lm_eval_name not in manager.all_tasks:
        fix = nearest(task.lm_eval_name, manager.all_tasks) or "see `lm_eval ls tasks`"
        raise EvaluationError(f"lm-eval has no task {task.lm_eval_name}", fix=fix)
    try:
        return dict(manager.load([task.lm_eval_name]))
    except _UNREACHABLE as error:
        raise EvaluationError(
            f"the data of task {task.name} can't be had",
            wanted=f"lm-eval's task {task.lm_eval_name}, from the hub or its cache",
            got=_line(error),
            fix="connect, or name a local question file",
        ) from error


@functools.cache
def _task_manager() -> TaskManager:
    """lm-eval's index of its own tasks; it reads 10,000 files to make it, so once."""
    return TaskManager()


def _scores(found: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> dict[str, Score]:
    """lm-eval's numbers, `metric,filter` and `metric_stderr,filter`; standard errors that it doesn't know are texts.

    `acc,none` is `acc`: mostly no filter is named.
    """
    numbers = {key.removesuffix(",none"): value for key, value in found.items() if "," in key}
    numbers = {key: float(value) for key, value in numbers.items() if isinstance(value, (int, float))}
    errors = {key: numbers.get(_stderr_key(key)) for key in numbers if "_stderr" not in key}
    return {key: Score(numbers[key], error, len(samples)) for key, error in errors.items()}


def _stderr_key(metric: str) -> str:
    name, comma, answer_filter = metric.partition(",")
    return f"{name}_stderr{comma}{answer_filter}"


def _bootstrapped(
    metrics: Mapping[str, Score], leaf: ConfigurableTask, samples: Sequence[Mapping[str, Any]], seed: int
) -> dict[str, Score]:
    """`metrics` with the standard errors that have no formula."""
    filled = dict(metrics)
    for name, score in metrics.items():
        if score.stderr is None:
            rows = [sample[name] for sample in samples]
            filled[name] = Score(score.value, bootstrap_stderr(leaf.aggregation()[name], rows, seed), score.n)
    return filled


def _acc_norm(leaves: Mapping[str, Any], samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Score]:
    """`acc_norm` of multiple-choice tasks that lm-eval gives `acc` alone: BoolQ, SIQA, WinoGrande, MMLU."""
    values: list[float] = []
    for name, leaf in leaves.items():
        if leaf.OUTPUT_TYPE != "multiple_choice" or not all("acc" in sample for sample in samples[name]):
            return {}
        for sample in samples[name]:
            if leaf.multiple_input:  # one continuation after each context: its length changes no order
                values.append(float(sample["acc"]))
                continue
            choices = leaf.doc_to_choice(sample["doc"])
            by_length = [response[0][0] / len(text) for response, text in zip(sample["resps"], choices, strict=True)]
            best = max(range(len(choices)), key=by_length.__getitem__)
            values.append(float(_is_gold(best, sample["target"], choices)))
    return {"acc_norm": mean_score(values)}


def _is_gold(choice: int, gold: Any, choices: Sequence[str]) -> bool:
    """Whether a choice is the gold one, which lm-eval has as an index, a text, or a list of either."""
    return any(
        (choices[choice] if isinstance(one, str) else choice) == one
        for one in (gold if isinstance(gold, list) else [gold])
    )


def _chance(task: Task, leaves: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], seed: int) -> float | None:
    """What guessing scores: 1/choices in the mean, or, where F1 is the metric, the F1 of even guesses."""
    options = [len(sample["resps"]) for sample in samples]
    if min(options) < 2:
        return None
    metric, first = next(iter(samples[0]["metrics"])), samples[0]
    if task.kind is Kind.DOMAIN and isinstance(first[metric], tuple):
        rows = [sample[metric] for sample in samples]
        return guess_score(leaves[task.lm_eval_name].aggregation()[metric], rows, options, seed)
    return sum(1 / n for n in options) / len(options)


def _likelihoods(sample: Mapping[str, Any]) -> list[Any]:
    return [response[0][0] for response in sample["resps"] if isinstance(response[0], tuple)]


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
