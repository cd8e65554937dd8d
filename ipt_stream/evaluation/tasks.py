"""The tasks a model is asked: settings, local files read and checked, and lm-eval's configuration of each.

A question file is JSON lines in one of two layouts, both with an optional `category`:

    {"query": "Question: ...", "choices": ["a", "b"], "gold": 1}                        multiple_choice
    {"context_options": ["... Sarah", "... Maria"], "continuation": "won.", "gold": 0}  partial_context

In the second the contexts differ and one continuation is scored after each (WinoGrande, by the partial evaluation of
Trinh and Le, arXiv 1806.02847). `domain` has the layout of the domain tasks' files. Everything that is here is checked
before any model is loaded.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any

from pydantic import Field

from ipt_stream import storage
from ipt_stream.config import Settings, fingerprint
from ipt_stream.errors import EvaluationError, InputError
from ipt_stream.evaluation import domain

METRICS = ("acc", "acc_norm")


class Kind(StrEnum):
    """How a task is scored."""

    MULTIPLE_CHOICE = "multiple_choice"
    PARTIAL_CONTEXT = "partial_context"
    LM_EVAL = "lm_eval"
    DOMAIN = "domain"


class TaskSettings(Settings):
    """One task. What is null has the paper's value where the task's name is one of the paper's, else 0, "" or none."""

    path: str | None = None
    """The question file, JSON lines; null for `kind: lm_eval`, and for `kind: domain` where the data is the hub's."""
    kind: Kind | None = None
    """`multiple_choice`, `partial_context`, `lm_eval`: its own task of this name, from the hub, or `domain`: one of the
    ten domain tasks of the paper, by its name in the suites `biomedicine` and `finance`."""
    lm_eval_name: str | None = None
    """What lm-eval calls a task of `kind: lm_eval`; null: the same."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Solved questions put before each question."""
    fewshot_path: str | None = None
    """Where those come from, JSON lines; null: from the question file itself, never the question asked."""
    limit: int | None = Field(default=None, ge=1)
    """Ask only the first so many questions; null: the config's limit."""
    cue: str | None = None
    """Put after every query, e.g. `"\\nAnswer:"`; white space at the query's end is dropped."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task ready to be asked.

    Attributes:
        name: its name in results.
        kind: how it is scored.
        shots: solved questions before each question; None leaves an lm-eval task its own number.
        limit: how many questions are asked at most, or None.
        rows: the questions, in lm-eval's columns; empty where lm-eval gets them from the hub.
        shot_rows: where shots come from when not from `rows`.
        identity: a hash of all that decides what is asked, file contents included.
        lm_eval_name: what lm-eval calls it.
    """

    name: str
    kind: Kind
    shots: int | None
    limit: int | None
    rows: tuple[Mapping[str, Any], ...]
    shot_rows: tuple[Mapping[str, Any], ...]
    identity: str
    lm_eval_name: str

    @property
    def from_hub(self) -> bool:
        """Whether its questions are the hub's."""
        return not self.rows


def load_task(name: str, settings: TaskSettings, limit: int | None = None) -> Task:
    """Read and check the task `name`; `limit` applies where the settings have none.

    Raises:
        InputError: a file is missing or a line of it is not a question; names the file and the line.
        EvaluationError: the settings contradict each other, the task is unknown, or there are too few questions to draw
            the shots from.
    """
    known = paper_defaults().get(name, {})
    kind = settings.kind or Kind(known.get("kind", Kind.MULTIPLE_CHOICE))
    limit = settings.limit if settings.limit is not None else limit
    if kind is Kind.DOMAIN:
        return _domain_task(name, settings, limit)
    if (kind is Kind.LM_EVAL) == (settings.path is not None):
        raise EvaluationError(
            f"task {name} can't be set up",
            wanted="a path for a local task, none for kind: lm_eval",
            got=f"kind {kind} with path {settings.path}",
        )
    if kind is Kind.LM_EVAL:
        shots, theirs = settings.num_fewshot, settings.lm_eval_name or name
        return Task(name, kind, shots, limit, (), (), fingerprint([theirs, kind, shots, limit]), theirs)
    shots = settings.num_fewshot if settings.num_fewshot is not None else int(known.get("num_fewshot", 0))
    cue = settings.cue if settings.cue is not None else str(known.get("cue", ""))
    rows, content = _read(settings.path or "", kind, cue)
    shot_rows, shot_content = _read(settings.fewshot_path, kind, cue) if settings.fewshot_path else ((), "")
    distinct = len({json.dumps(row, sort_keys=True) for row in shot_rows or rows}) - (not shot_rows)
    if distinct < shots:
        raise EvaluationError(
            f"task {name} has too few questions for its shots",
            wanted=f"{shots} distinct ones besides the one asked",
            got=f"{distinct} in {settings.fewshot_path or settings.path}",
            fix="lower num_fewshot",
        )
    identity = fingerprint([name, kind, shots, limit, cue, content, shot_content])
    return Task(name, kind, shots, limit, rows, shot_rows, identity, name)


def _domain_task(name: str, settings: TaskSettings, limit: int | None) -> Task:
    names = [task for tasks in domain.DOMAIN_TASKS.values() for task in tasks]
    if name not in names:
        raise EvaluationError(f"there is no domain task {name}", wanted=", ".join(names), fix=nearest(name, names))
    if settings.num_fewshot or settings.fewshot_path is not None or settings.cue is not None:
        raise EvaluationError(
            f"task {name} can't be set up",
            wanted="neither num_fewshot, fewshot_path nor cue: its prompts are whole",
            got=f"num_fewshot {settings.num_fewshot}, fewshot_path {settings.fewshot_path}, cue {settings.cue!r}",
        )
    rows, content = domain.read_rows(name, settings.path) if settings.path is not None else ((), "hub")
    identity = fingerprint([name, Kind.DOMAIN, limit, domain.task_yaml(name), content])
    return Task(name, Kind.DOMAIN, 0, limit, rows, (), identity, name)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A question after the name in `known` that `name` may have been meant for, or None."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else None


def lm_eval_config(task: Task) -> dict[str, Any]:
    """`task` as lm-eval's `ConfigurableTask` takes it; local questions stay in memory, so nothing is cached on disk.

    Every template names a column, so that no text is ever run through a template engine. For partial contexts
    `acc_norm` would divide by the lengths of contexts, which are not what is scored: only `acc` is asked for.
    """
    local = {"custom_dataset": lambda **_: _dataset(task)}
    if task.kind is Kind.DOMAIN:
        return domain.lm_eval_config(task.lm_eval_name) | ({} if task.from_hub else local)
    multiple_choice = task.kind is Kind.MULTIPLE_CHOICE
    wanted = METRICS if multiple_choice else METRICS[:1]
    return {
        **local,
        "task": task.name,
        "test_split": "test",
        "fewshot_split": "shots" if task.shot_rows else "test",
        "num_fewshot": task.shots,
        "output_type": "multiple_choice",
        "doc_to_text": "query" if multiple_choice else "gold",
        "doc_to_choice": "choices" if multiple_choice else "context_options",
        "doc_to_target": "gold" if multiple_choice else "continuation",
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in wanted],
    }


def _dataset(task: Task) -> Any:
    from datasets import Dataset, DatasetDict

    splits = {"test": task.rows, "shots": task.shot_rows}
    return DatasetDict({name: Dataset.from_list([dict(row) for row in rows]) for name, rows in splits.items() if rows})


def _read(path: str, kind: Kind, cue: str) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """The questions in `path`, and a hash of the file's content."""
    if not storage.exists(path):
        raise InputError(f"no question file {path}", wanted="JSON lines", got="nothing there", fix="check the path")
    content = storage.read_bytes(path)
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            rows.append(_question(line, f"{path}:{number}", kind, cue))
    if not rows:
        raise InputError(f"{path} has no questions", wanted="JSON lines", got="an empty file")
    return tuple(rows), hashlib.sha256(content).hexdigest()[:16]


def _question(line: bytes, where: str, kind: Kind, cue: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON", got=str(error)) from error
    text_key, list_key = ("query", "choices") if kind is Kind.MULTIPLE_CHOICE else ("continuation", "context_options")
    layout = f'{{"{text_key}": text, "{list_key}": two or more texts, "gold": index}}'
    if not isinstance(row, dict):
        raise InputError(f"{where} is not a question", wanted=layout, got=type(row).__name__)
    text, options, gold = row.get(text_key), row.get(list_key), row.get("gold")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where} has no {text_key}", wanted=layout, got=_shown(row), fix=_kind_hint(row, kind))
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(o, str) and o.strip() for o in options):
        raise InputError(f"{where} has no {list_key}", wanted=layout, got=_shown(row), fix=_kind_hint(row, kind))
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(options):
        raise InputError(
            f"{where} has a gold out of range", wanted=f"an index from 0 to {len(options) - 1}", got=repr(gold)
        )
    category = None if row.get("category") is None else str(row["category"])
    if kind is Kind.MULTIPLE_CHOICE:
        return {"query": text.rstrip() + cue, "choices": options, "gold": gold, "category": category}
    contexts = [option.rstrip() for option in options]
    return {"continuation": text.strip(), "context_options": contexts, "gold": gold, "category": category}


def _kind_hint(row: Mapping[str, Any], kind: Kind) -> str | None:
    other = Kind.PARTIAL_CONTEXT if kind is Kind.MULTIPLE_CHOICE else Kind.MULTIPLE_CHOICE
    mark = "context_options" if other is Kind.PARTIAL_CONTEXT else "choices"
    return f"set the task's kind: {other}" if mark in row else None


def _shown(row: Mapping[str, Any]) -> str:
    shown = json.dumps(row, ensure_ascii=False)
    return shown if len(shown) <= 120 else shown[:117] + "..."


def paper_defaults() -> dict[str, dict[str, Any]]:
    """How the paper's general tasks are asked, by name: `num_fewshot`, `cue`, `kind`, `lm_eval_name`."""
    import yaml

    text = resources.files("ipt_stream.evaluation").joinpath("tasks/general.yaml").read_text("utf-8")
    loaded = yaml.safe_load(text)
    return dict(loaded)
