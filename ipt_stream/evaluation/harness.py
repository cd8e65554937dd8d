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

from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate as run_lm_eval
from lm_eval.tasks import TaskManager

from ipt_stream.errors import EvaluationError
from ipt_stream.evaluation.model import MeteredLM
from ipt_stream.evaluation.tasks import Kind, Task, lm_eval_config

BOOTSTRAP_ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model answered to one task.

    Attributes:
        metrics: lm-eval's numbers, `metric` and `metric_stderr`; standard errors it doesn't know are left out.
        samples: lm-eval's record of every question.
        shots: solved questions before each one.
        truncated: how many questions had a choice that didn't fit the model's window.
        seconds: time from the first prompt built to the last answer scored.
    """

    metrics: Mapping[str, float]
    samples: Sequence[Mapping[str, Any]]
    shots: int
    truncated: int
    seconds: float


def ask(model: MeteredLM, task: Task, seed: int) -> Answers:
    """Let `model` answer `task`; shots are drawn with `seed`.

    Raises:
        EvaluationError: the task can't be built, or the model's likelihoods are not numbers.
    """
    started = time.monotonic()
    tasks = _build(task, seed)
    model.label = task.name
    model.truncated.clear()
    # Standard errors of means have a formula; the others are bootstrapped, 100,000 times by default.
    found = run_lm_eval(lm=model, task_dict=tasks, limit=task.limit, bootstrap_iters=BOOTSTRAP_ITERATIONS)
    samples = [sample for part in found["samples"].values() for sample in part]
    if any(isinstance(value, float) and math.isnan(value) for s in samples for value in _likelihoods(s)):
        raise EvaluationError(
            f"task {task.name} has no result", wanted="log likelihoods", got="NaN", fix="check the model's weights"
        )
    if task.name not in found["results"]:
        raise EvaluationError(
            f"{task.name} has no result of its own", fix=f"name its tasks: {', '.join(tasks['tasks'])}"
        )
    metrics = {_metric(key): value for key, value in found["results"][task.name].items() if "," in key}
    shots = found["n-shot"].get(task.name, task.shots or 0)
    return Answers(
        metrics={key: float(value) for key, value in metrics.items() if isinstance(value, (int, float))},
        samples=samples,
        shots=int(shots),
        truncated=len(model.truncated),
        seconds=time.monotonic() - started,
    )


def _build(task: Task, seed: int) -> dict[str, Any]:
    """`task` as lm-eval's `evaluate` takes it."""
    if task.kind is not Kind.LM_EVAL:
        tasks: dict[str, Any] = {"tasks": {task.name: ConfigurableTask(config=lm_eval_config(task))}}
    else:
        try:
            tasks = dict(_task_manager().load([task.name]))
        except (OSError, ValueError, RuntimeError) as error:
            raise EvaluationError(f"lm-eval can't load its task {task.name}", got=str(error)) from error
        except KeyError as error:
            raise EvaluationError(f"lm-eval has no task {task.name}", fix="see `lm_eval ls tasks`") from error
    for one in tasks["tasks"].values():
        shots = one.get_config("num_fewshot") if task.shots is None else task.shots
        one.set_config("num_fewshot", shots or 0)
        one.set_fewshot_seed(seed)
    return tasks


@functools.cache
def _task_manager() -> TaskManager:
    """lm-eval's index of its own tasks; it reads 10,000 files to make it, so once."""
    return TaskManager()


def _metric(key: str) -> str:
    """`acc,none` is `acc`: lm-eval names the filter that answers went through, mostly none."""
    return key.removesuffix(",none")


def _likelihoods(sample: Mapping[str, Any]) -> list[Any]:
    return [response[0][0] for response in sample["resps"] if isinstance(response[0], tuple)]
