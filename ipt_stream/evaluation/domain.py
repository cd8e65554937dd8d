"""The ten domain tasks of the paper (appendix C): AdaptLLM's data, with its prompts as they are, and its scoring.

Each is a YAML file of lm-eval's in `tasks/SUITE/`, which lm-eval itself reads too (`--include_path`). The data comes
from the hub, or from a local file of the same columns, JSON lines or one JSON list:

    {"input": "...", "options": ["a", "b"], "gold_index": 1}      choices; Headline has `class_id` besides
    {"input": "...", "label": "60.9"}                             generation; a label may be a list, its first counts

Options are scored after the input as " " + option by their mean log likelihood a token, with BOS before all of it.
Rows are checked wherever they come from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module, resources
from typing import Any, ClassVar

import yaml

from ipt_stream import storage
from ipt_stream.errors import EvaluationError, InputError

DOMAIN_TASKS: Mapping[str, tuple[str, ...]] = {
    "biomedicine": ("pubmedqa", "chemprot", "mqp", "rct", "usmle"),
    "finance": ("convfinqa", "fpb", "fiqa_sa", "headline", "ner"),
}
_METRICS = "ipt_stream.evaluation.metrics"
_CHOICE_LAYOUT = '{"input": text, "options": two or more texts, "gold_index": index}'
_LABEL_LAYOUT = '{"input": text, "label": text}'


def suite_of(task: str) -> str:
    """The suite of a domain task. Raises `KeyError` for any other."""
    return {name: suite for suite, names in DOMAIN_TASKS.items() for name in names}[task]


def task_yaml(task: str) -> str:
    """The YAML of a domain task."""
    folder = resources.files("ipt_stream.evaluation").joinpath("tasks", suite_of(task))
    return folder.joinpath(f"{task}.yaml").read_text("utf-8")


def lm_eval_config(task: str) -> dict[str, Any]:
    """A domain task as lm-eval's `ConfigurableTask` takes it, its functions imported.

    Raises:
        EvaluationError: its YAML names a function of another module than `metrics`.
    """
    config = _FunctionLoader(task_yaml(task)).get_single_data()
    return {**config, "task": task}


def local_file(folder: str, task: str) -> str:
    """The file of `task` in a folder: a copy of the hub's repository, or of files TASK.jsonl. Raises `InputError`."""
    candidates = [storage.join(folder, str(_header(task)["metadata"]["file"]))]
    candidates += [storage.join(folder, f"{task}{ending}") for ending in (".jsonl", ".json")]
    found = next((path for path in candidates if storage.exists(path)), None)
    if found is None:
        raise InputError(
            f"{folder} has no data of {task}",
            wanted=" or ".join(candidates[:2]),
            got="neither" if storage.exists(folder) else "no such folder",
            fix=f"put it there, or leave it out: suites.{suite_of(task)}.without=[{task}]",
        )
    return found


def read_rows(task: str, path: str) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """The rows of `task` in `path`, its own columns alone, and a hash of the file's content.

    Raises:
        InputError: there is no file, it is not JSON, or a row is not as it should be; names the row and the column.
    """
    if not storage.exists(path):
        raise InputError(f"no data of {task} at {path}", wanted="JSON lines", got="nothing there", fix="check the path")
    content = storage.read_bytes(path)
    rows = tuple(check_row(row, where, task) for where, row in records(content, path))
    if not rows:
        raise InputError(f"{path} has no rows", wanted=_layout(task), got="an empty file")
    return rows, hashlib.sha256(content).hexdigest()[:16]


def check_row(row: Any, where: str, task: str) -> Mapping[str, Any]:
    """`row` with its checked columns alone, a list of labels reduced to its first.

    Raises:
        InputError: a column is missing, empty, or out of range; `where` says in which row.
    """
    layout = _layout(task)
    if not isinstance(row, Mapping):
        raise InputError(f"{where} is not a row of {task}", wanted=layout, got=type(row).__name__)
    checked: dict[str, Any] = {"input": _text(row, "input", where, layout)}
    if layout == _LABEL_LAYOUT:
        label = row.get("label")
        first = {"label": label[0]} if isinstance(label, list) and label else row
        return {**checked, "label": _text(first, "label", where, layout)}
    options = row.get("options")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(o, str) and o.strip() for o in options):
        got = _shown(row) if "options" not in row else f"options {_clipped(json.dumps(options, ensure_ascii=False))}"
        raise InputError(f"{where} has no options", wanted=layout, got=got)
    last = len(options) - 1
    checked |= {"options": options, "gold_index": _index(row, "gold_index", last, where, layout)}
    extra = {name: _index(row, name, None, where, layout) for name in _header(task)["metadata"].get("columns", ())}
    return checked | extra


def _text(row: Mapping[str, Any], column: str, where: str, layout: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} has no {column}", wanted=layout, got=_shown(row))
    return value


def _index(row: Mapping[str, Any], column: str, last: int | None, where: str, layout: str) -> int:
    """A whole number from 0 to `last`."""
    value = row.get(column)
    if value is None:
        raise InputError(f"{where} has no {column}", wanted=layout, got=_shown(row))
    if not isinstance(value, int) or isinstance(value, bool) or value < 0 or (last is not None and value > last):
        wanted = "an index from 0" + (f" to {last}" if last is not None else "")
        raise InputError(f"{where} has a {column} out of range", wanted=wanted, got=repr(value))
    return value


def _layout(task: str) -> str:
    return _CHOICE_LAYOUT if _header(task)["output_type"] == "multiple_choice" else _LABEL_LAYOUT


def records(content: bytes, path: str) -> Iterator[tuple[str, Any]]:
    """Where each record of `content` is, the JSON lines or JSON list at `path`, and the record."""
    if content.lstrip()[:1] == b"[":
        for number, row in enumerate(_parsed(content, path), start=1):
            yield f"{path}: row {number}", row
        return
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", _parsed(line, f"{path}:{number}")


def _parsed(text: bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is not JSON", got=str(error)) from error


def _shown(row: Mapping[str, Any]) -> str:
    return f"columns {_clipped(', '.join(map(str, row)))}" if row else "no columns"


def _clipped(text: str, length: int = 120) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


@cache
def _header(task: str) -> Mapping[str, Any]:
    """The YAML of a domain task with the names of functions in place of functions."""
    loaded: Mapping[str, Any] = _NameLoader(task_yaml(task)).get_single_data()
    return loaded


def _name(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _function(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    reference = _name(loader, node)
    module, _, name = reference.rpartition(".")
    found = getattr(import_module(_METRICS), name, None) if module == _METRICS else None
    if not callable(found):
        raise EvaluationError("a task names an unknown function", wanted=f"one of {_METRICS}", got=reference)
    return found


class _NameLoader(yaml.SafeLoader):
    """Reads `!function module.name` as that text."""

    yaml_constructors: ClassVar = {**yaml.SafeLoader.yaml_constructors, "!function": _name}


class _FunctionLoader(yaml.SafeLoader):
    """Reads `!function module.name` as that function, of the module `metrics` alone."""

    yaml_constructors: ClassVar = {**yaml.SafeLoader.yaml_constructors, "!function": _function}
