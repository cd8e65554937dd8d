"""Suites: named lists of tasks, each asked as the paper asks it.

    general         WinoGrande, PIQA, HellaSwag (0-shot), ARC-e, ARC-c, BoolQ, SIQA, OBQA, MMLU (5-shot)      acc_norm
    biomedicine     PubMedQA, ChemProt, MQP, RCT, USMLE                                                       AdaptLLM's
    finance         ConvFinQA, FPB, FiQA SA, Headline, NER                                                    AdaptLLM's
    sample-world    the sample world's questions: seen, held_out, reading                                     acc_norm

A suite's data is the hub's, or a folder's (`path`): question files TASK.jsonl for `general`, the hub repository's files
or TASK.jsonl of the same columns for the domain suites, the world itself for `sample-world`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.errors import EvaluationError, InputError
from ipt_stream.evaluation import domain
from ipt_stream.evaluation.tasks import Kind, TaskSettings, nearest, paper_defaults

WORLD_TASKS = ("seen", "held_out", "reading")


class SuiteName(StrEnum):
    """The suites there are."""

    GENERAL = "general"
    BIOMEDICINE = "biomedicine"
    FINANCE = "finance"
    SAMPLE_WORLD = "sample-world"


class SuiteSettings(Settings):
    """Where a suite's data is, and what of it is asked."""

    path: str | None = None
    """A folder with its data, or the sample world; null: the hub."""
    without: tuple[str, ...] = ()
    """Tasks that are left out; there is no average then."""
    limit: int | None = Field(default=None, ge=1)
    """Ask only the first so many questions of each task; null: the config's limit."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite as results show it.

    Attributes:
        name: its name.
        tasks: the tasks that are asked, in order.
        without: those that are left out.
        averaged: whether the tasks measure one thing, so that their mean says something.
    """

    name: str
    tasks: tuple[str, ...]
    without: tuple[str, ...]
    averaged: bool


def suite_tasks(suite: SuiteName) -> tuple[str, ...]:
    """The names of a suite's tasks, in the paper's order."""
    if suite is SuiteName.GENERAL:
        return tuple(paper_defaults())
    return WORLD_TASKS if suite is SuiteName.SAMPLE_WORLD else domain.DOMAIN_TASKS[suite]


def expand(suites: Mapping[SuiteName, SuiteSettings]) -> tuple[list[Suite], dict[str, TaskSettings]]:
    """The suites, and the settings of all their tasks by name.

    Raises:
        EvaluationError: a task that is to be left out is not of the suite, or none is left; the sample world's path is
            not given.
        InputError: a folder lacks the file of a task.
    """
    shown: list[Suite] = []
    tasks: dict[str, TaskSettings] = {}
    for suite, settings in suites.items():
        known = suite_tasks(suite)
        for name in settings.without:
            if name not in known:
                raise EvaluationError(
                    f"suite {suite} has no task {name}", wanted=f"one of {', '.join(known)}", fix=nearest(name, known)
                )
        kept = tuple(name for name in known if name not in settings.without)
        if not kept:
            raise EvaluationError(f"nothing is left of suite {suite}", wanted="at least one of its tasks")
        if suite is SuiteName.SAMPLE_WORLD and settings.path is None:
            raise EvaluationError(
                f"suite {suite} has no data",
                wanted="the folder of a sample world",
                got="no path",
                fix=f"set suites.{suite}.path; ipt-stream sample-world makes one",
            )
        tasks |= {name: _task(suite, name, settings) for name in kept}
        shown.append(Suite(suite.value, kept, settings.without, suite is not SuiteName.SAMPLE_WORLD))
    return shown, tasks


def _task(suite: SuiteName, name: str, settings: SuiteSettings) -> TaskSettings:
    folder, limit = settings.path, settings.limit
    if suite in (SuiteName.BIOMEDICINE, SuiteName.FINANCE):
        path = None if folder is None else domain.local_file(folder, name)
        return TaskSettings(kind=Kind.DOMAIN, path=path, limit=limit)
    if folder is None:
        paper = paper_defaults()[name]
        return TaskSettings(
            kind=Kind.LM_EVAL, num_fewshot=paper["num_fewshot"], lm_eval_name=paper.get("lm_eval_name"), limit=limit
        )
    if suite is SuiteName.SAMPLE_WORLD:
        return TaskSettings(path=storage.join(folder, "evaluation", f"{name}.jsonl"), limit=limit)
    path = storage.join(folder, f"{name}.jsonl")
    if not storage.exists(path):
        raise InputError(
            f"{folder} has no questions of {name}",
            wanted=path,
            got="nothing there",
            fix=f"put it there, or leave it out: suites.{suite}.without=[{name}]",
        )
    return TaskSettings(path=path, limit=limit)
