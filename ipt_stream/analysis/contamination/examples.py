"""Evaluation examples: what must not be in what a model is trained on.

An example is one text. Of files it is the named columns of a row, one after the other; of a task it is a question with
its right answer after it, as a training text would have them. Solved questions that prompts begin with are no part of
it, unless a task's own rows hold them (the domain suites: their prompts are whole).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ipt_stream.analysis.contamination.settings import ContaminationSettings, ExamplesSettings
from ipt_stream.errors import ConfigError, InputError
from ipt_stream.evaluation.suites import SuiteName, SuiteSettings, expand
from ipt_stream.evaluation.tasks import Kind, Task, load_task
from ipt_stream.progress import log
from ipt_stream.tuning.rows import place_rows
from ipt_stream.tuning.source_file import DataPlace
from ipt_stream.tuning.templates import TemplateFailed, expression


@dataclass(frozen=True, slots=True)
class EvaluationExample:
    """One evaluation example.

    Attributes:
        task: what it belongs to, as tables show it.
        number: its place there, from 0.
        text: what is searched for.
    """

    task: str
    number: int
    text: str

    @property
    def name(self) -> str:
        """Names it in results: `task:number`."""
        return f"{self.task}:{self.number}"


def read_all(settings: ContaminationSettings, world: str | None) -> list[EvaluationExample]:
    """All examples that `settings` names, task by task.

    Args:
        settings: what to read.
        world: the sample world, whose questions are taken where the settings name nothing.

    Raises:
        ConfigError: nothing is named, and there is no world.
        InputError: a file has no examples, or a row lacks a column.
        EvaluationError: a task can't be had.
    """
    suites = settings.suites
    if not (settings.examples or suites or settings.tasks):
        if world is None:
            raise ConfigError(
                "there is nothing to search for",
                wanted="evaluation examples",
                got="no contamination.examples, suites or tasks, and no world",
                fix="name some, for example contamination.suites=[general]",
            )
        suites = {SuiteName.SAMPLE_WORLD: SuiteSettings(path=world)}
    _, tasks = expand(suites)
    found: list[EvaluationExample] = []
    for name, files in settings.examples.items():
        found += _numbered(name, islice(file_texts(files, name), settings.limit))
    for name, task in {**tasks, **settings.tasks}.items():
        loaded = load_task(name, task, settings.limit)
        found += _numbered(name, islice(task_texts(loaded), loaded.limit))
    return found


def identity(examples: Iterable[EvaluationExample]) -> str:
    """A name for examples by their content: 16 hex digits of a SHA-256."""
    digest = hashlib.sha256()
    for example in examples:
        text = example.text.encode("utf-8", "surrogatepass")
        digest.update(f"{example.name}\0{len(text)}\0".encode())
        digest.update(text)
    return digest.hexdigest()[:16]


def file_texts(settings: ExamplesSettings, name: str) -> Iterator[str]:
    """The examples of files. Raises `InputError` where a row lacks a column, or it holds no text."""
    data = DataPlace(format=settings.format, walk=settings.walk)
    for place, row in place_rows(data, name, settings.path):
        yield "\n".join(part for column in settings.columns for part in _parts(row, column, f"{name}: {place}"))


def task_texts(task: Task) -> Iterator[str]:
    """The questions of a task, each with its right answer."""
    if task.from_hub:
        yield from _hub_texts(task)
        return
    for row in task.rows:
        yield row_text(row, task.kind)


def row_text(row: Mapping[str, Any], kind: Kind) -> str:
    """A checked row of a local task: the question, and after a space its right answer."""
    if kind is Kind.PARTIAL_CONTEXT:
        return f"{row['context_options'][row['gold']]} {row['continuation']}"
    if kind is Kind.MULTIPLE_CHOICE:
        return f"{row['query']} {row['choices'][row['gold']]}"
    answer = row["options"][row["gold_index"]] if "options" in row else row["label"]
    return f"{row['input']} {answer}"


def _hub_texts(task: Task) -> Iterator[str]:
    """The questions of a task whose data lm-eval gets from the hub, leaf by leaf of a group."""
    from ipt_stream.evaluation.quiet import calm_libraries, hub_answers, quiet

    offline = not hub_answers()
    if offline:
        log.warning("the hub doesn't answer: %s can only be read where its cache holds it", task.name)
    calm_libraries(offline=offline)
    with quiet():
        from ipt_stream.evaluation.harness import Asked

        leaves = Asked(task).leaves
    for leaf in leaves.values():
        yield from (leaf_text(leaf, row) for row in leaf.eval_docs)


def leaf_text(leaf: Any, row: Any) -> str:
    """A row of a task of lm-eval's, as it shows it to a model without solved questions, and its right answer."""
    target = leaf.doc_to_target(row)
    if getattr(leaf, "multiple_input", 0):  # contexts differ: which one is right is what the text says
        contexts = leaf.doc_to_choice(row)
        return f"{contexts[leaf.doc_to_text(row)]} {target}"
    question = leaf.doc_to_text(row)
    if isinstance(target, list):
        target = target[0] if target else ""
    if isinstance(target, int):
        target = leaf.doc_to_choice(row)[target]
    return f"{question} {target}"


def _numbered(name: str, texts: Iterable[str]) -> list[EvaluationExample]:
    found = [EvaluationExample(name, number, text) for number, text in enumerate(texts)]
    if not found:
        raise InputError(f"{name} has no examples", wanted="at least one", got="none", fix="check its path")
    return found


def _parts(row: Mapping[str, Any], column: str, where: str) -> Sequence[str]:
    """The texts in a column."""
    try:
        value = row[column] if column in row else expression(column)(row)
    except TemplateFailed as error:
        known = ", ".join(str(key) for key in row if key != "this")
        raise InputError(
            f"{where} has no column {column}", wanted=f"one of {known}", got=str(error), fix="correct columns"
        ) from error
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if isinstance(value, (str, int, float)):
        return (str(value),)
    raise InputError(
        f"{where}: {column} is no text",
        wanted="a text, or a list of texts",
        got=type(value).__name__,
        fix="name what is within it, for example column.text, or walk through it",
    )
