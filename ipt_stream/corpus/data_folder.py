"""The data files of a Hugging Face data set's folder, whether `save_to_disk` wrote it or the hub did.

    saved      dataset_dict.json, train/{state.json, dataset_info.json, data-00000-of-00002.arrow, ...}
    hub        README.md, data/train-00000-of-00002.parquet, data/test-00000-of-00001.parquet

Where neither a split is asked for nor files are named by splits, a path is taken as it is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from ipt_stream import storage
from ipt_stream.errors import InputError

_DATA = (".arrow", ".parquet", ".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst")
_SETTINGS = ("dataset_dict.json", "dataset_info.json", "state.json", "dataset_infos.json")
_SPLIT = re.compile(r"(?:^|[-_./])(train|training|test|testing|validation|valid|dev|val)(?:[-_./]|$)")
_SAME = {"training": "train", "testing": "test", "valid": "validation", "val": "validation", "dev": "validation"}
_DEFAULT = "train"


def data_files(patterns: Sequence[str], split: str | None = None) -> tuple[str, ...]:
    """`patterns`, with each folder of a data set replaced by the data files of one of its splits.

    Args:
        patterns: files, globs and directories.
        split: which split (valid, val and dev are validation); None: the only one, or `train`.

    Raises:
        InputError: a data set has no such split, or several configurations with splits of their own; a pattern
            matches nothing.
    """
    wanted = split and _SAME.get(split, split)
    return tuple(path for pattern in patterns for path in _of(pattern.rstrip("/"), wanted))


def _of(pattern: str, split: str | None) -> list[str]:
    files = storage.expand([pattern])
    saved = {posixpath.dirname(path) for path in files if posixpath.basename(path) == "state.json"}
    if saved:
        parts = {posixpath.basename(folder): _saved(folder) for folder in sorted(saved)}
        if len(parts) == 1 and split is None:
            return next(iter(parts.values()))
        parts = {_SAME.get(name, name): found for name, found in parts.items()}
        return _choose(pattern, parts, split)
    data = [path for path in files if path.endswith(_DATA) and posixpath.basename(path) not in _SETTINGS]
    named: dict[str, list[str]] = {}
    for path in data:
        found = _SPLIT.findall(path.removeprefix(pattern) if files != [pattern] else posixpath.basename(path))
        named.setdefault(_SAME.get(found[-1], found[-1]) if found else "", []).append(path)
    has_splits = named and "" not in named  # with files of no split among them there is nothing to choose from
    if split is None and (files == [pattern] or re.search(r"[*?[]", pattern) or not has_splits):
        return [pattern]
    chosen = _choose(pattern, named, split)
    folders = {posixpath.dirname(path) for path in chosen}
    if len(folders) > 1 and not all(_SPLIT.search(folder.removeprefix(pattern)) for folder in folders):
        raise InputError(
            f"the data set in {pattern} has several configurations",
            wanted="one",
            got=", ".join(sorted(folder.removeprefix(pattern).strip("/") for folder in folders)),
            fix="name the folder of one of them, or a glob",
        )
    return chosen


def _saved(folder: str) -> list[str]:
    """The files that `save_to_disk` wrote, and not what `map` left beside them, in order."""
    state = storage.read_json(storage.join(folder, "state.json"))
    try:
        names = [str(item["filename"]) for item in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}/state.json is no data set's", got=f"{error!r}", fix="save it again") from error
    beside = {posixpath.basename(path): path for path in storage.list_directory(folder)}
    missing = [name for name in names if name not in beside]
    if missing:
        raise InputError(f"{missing[0]!r} of the data set in {folder} is missing", fix="save it again")
    return [beside[name] for name in names]


def _choose(pattern: str, parts: dict[str, list[str]], split: str | None) -> list[str]:
    wanted = split or (next(iter(parts)) if len(parts) == 1 else _DEFAULT)
    if wanted not in parts:
        raise InputError(
            f"the data set in {pattern} has no split {wanted}",
            wanted=", ".join(sorted(name for name in parts if name)) or "files that are named by splits",
            got=wanted,
            fix="set split to one of them, or name the files by a glob",
        )
    return parts[wanted]
