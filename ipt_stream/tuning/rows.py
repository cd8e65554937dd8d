"""The rows of a source: from files or the Hugging Face hub, walked through, joined and grouped.

What a template sees of a row are its columns, those of the rows around it, and `this`:

    this.value     the row itself; where lists of plain values are walked through, the value
    this.number    its place in its list or file, from 0
    this.key       its key, where it is a value of a mapping
    this.file      its file below the source's path, or its split
"""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import InputError
from ipt_stream.tuning.source_file import DataPlace, FileFormat, Join, SourceFile
from ipt_stream.tuning.templates import TemplateFailed, expression

Row = dict[str, Any]
ENDINGS = {
    ".json": FileFormat.JSON,
    ".jsonl": FileFormat.JSON_LINES,
    ".ndjson": FileFormat.JSON_LINES,
    ".csv": FileFormat.CSV,
    ".parquet": FileFormat.PARQUET,
}


def source_rows(source: SourceFile, name: str, root: str | None) -> Iterator[tuple[str, Row]]:
    """The rows of `source`, each with its place for messages (`data/train.json, row 12`).

    Args:
        source: what is read.
        name: what it is called in messages.
        root: the path of local files, in place of what the source says; null: as it says.

    Raises:
        InputError: nothing matches, a file is not what its format says, the hub does not give the data, or a row does
            not have what is walked through or joined on.
    """
    rows = place_rows(source.data, name, root)
    for join in source.joins:
        rows = _joined(rows, join, name, root)
    return rows if source.group is None else _grouped(rows, source.group, name)


def data_files(data: DataPlace, name: str, root: str | None) -> list[tuple[str, str]]:
    """The local files of `data` below `root`, in order: (path, path below the root).

    A root that is a file, or a glob, is taken as it is; in a folder, what the source's globs match.

    Raises:
        InputError: no root is given, or nothing matches.
    """
    if root is None:
        fix = "set path to where its files are"
        raise InputError(f"source {name} reads local files", wanted="a path", got="none", fix=fix)
    if any(sign in root for sign in "*?[") or storage.expand([root]) == [storage.local(root)]:
        return [(path, posixpath.basename(path)) for path in storage.expand([root])]
    patterns = data.files or tuple(f"**/*{ending}" for ending in ENDINGS)
    found: list[str] = []
    for pattern in patterns:
        try:
            found += storage.expand([storage.join(root, pattern)])
        except InputError:
            if data.files:
                raise
    if not found:
        raise InputError(f"no data of source {name} in {root}", wanted=", ".join(patterns), got="no such file")
    return [(path, posixpath.relpath(path, storage.local(root))) for path in sorted(set(found))]


@contextmanager
def reported(name: str, place: str, row: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Make an `InputError` that names source, place and columns of what a template can't do with a row."""
    try:
        yield
    except TemplateFailed as error:
        known = ", ".join(str(key) for key in row if key != "this") if row is not None else None
        fix = "correct the source file, or its path"
        raise InputError(
            f"source {name}: {place} does not fit",
            wanted=f"columns {known}" if known else None,
            got=str(error),
            fix=fix,
        ) from error


def place_rows(data: DataPlace, name: str, root: str | None) -> Iterator[tuple[str, Row]]:
    """The rows of `data`, walked through, each with its place for messages; arguments and errors as `source_rows`."""
    if data.hub is not None and root is None:
        if not data.files:
            for split in data.splits or ("train",):
                yield from _walked(enumerate(_hub_rows(data.hub, data, split)), split, data.walk, name)
            return
        root = _hub_files(data.hub, data)
    for path, shown in data_files(data, name, root):
        yield from _walked(_file_rows(path, data.format), shown, data.walk, name)


def _walked(rows: Iterable[tuple[int, Any]], file: str, steps: Sequence[str], name: str) -> Iterator[tuple[str, Row]]:
    for number, value in rows:
        place = f"{file}, row {number + 1}"
        start = _within({}, value, number, None, file)
        for row in _steps(start, steps, file, name, place):
            yield place, row


def _steps(row: Row, steps: Sequence[str], file: str, name: str, place: str) -> Iterator[Row]:
    if not steps:
        yield row
        return
    with reported(name, place, row):
        found = expression(steps[0])(row)
        if not isinstance(found, (list, tuple, dict)):
            raise TemplateFailed(f"{steps[0]!r}: a {type(found).__name__} where a list is walked through")
    pairs = found.items() if isinstance(found, dict) else ((None, value) for value in found)
    for number, (key, value) in enumerate(pairs):
        yield from _steps(_within(row, value, number, key, file), steps[1:], file, name, place)


def _within(outer: Row, value: Any, number: int, key: Any, file: str) -> Row:
    """The row of `value`: its columns before those of the row around it."""
    columns = value if isinstance(value, dict) else {}
    return {**outer, **columns, "this": {"value": value, "number": number, "key": key, "file": file}}


def _joined(rows: Iterator[tuple[str, Row]], join: Join, name: str, root: str | None) -> Iterator[tuple[str, Row]]:
    table: dict[Any, list[Row]] = {}
    for place, row in place_rows(join.data, name, root):
        with reported(name, place, row):
            table.setdefault(_key(expression(join.key)(row)), []).append(row)
    for place, row in rows:
        with reported(name, place, row):
            yield place, {**row, join.name: table.get(_key(expression(join.equals)(row)), [])}


def _grouped(rows: Iterator[tuple[str, Row]], group: str, name: str) -> Iterator[tuple[str, Row]]:
    groups: dict[Any, tuple[str, list[Row]]] = {}
    for place, row in rows:
        with reported(name, place, row):
            groups.setdefault(_key(expression(group)(row)), (place, []))[1].append(row)
    for place, found in groups.values():
        yield place, {**found[0], "group": found}


def _key(value: Any) -> Any:
    """What rows are joined by; lists are compared by what is in them."""
    return value if isinstance(value, (str, int, float, bool, type(None))) else json.dumps(value, sort_keys=True)


def _file_rows(path: str, given: FileFormat | None) -> Iterator[tuple[int, Any]]:
    """The rows of a file with their numbers, from 0; blank lines count and are no rows."""
    kind = given or ENDINGS.get(os.path.splitext(path)[1].lower())
    match kind:
        case None:
            wanted = "a name that ends in " + ", ".join(ENDINGS)
            raise InputError(f"what is {path}?", wanted=wanted, got=posixpath.basename(path), fix="set data.format")
        case FileFormat.JSON_LINES:
            yield from json_lines(path)
        case FileFormat.JSON:
            try:
                content = json.loads(storage.read_bytes(path))
            except ValueError as error:
                fix = "set data.format: jsonl, if each line of it is a row"
                raise InputError(f"{path} is not JSON", got=str(error), fix=fix) from error
            yield from enumerate(content) if isinstance(content, list) else ((0, content),)
        case FileFormat.CSV:
            try:
                text = storage.read_bytes(path).decode("utf-8-sig")
                yield from enumerate(csv.DictReader(io.StringIO(text)))
            except (UnicodeDecodeError, csv.Error) as error:
                raise InputError(f"{path} is not CSV", wanted="UTF-8, comma-separated", got=str(error)) from error
        case FileFormat.PARQUET:
            yield from enumerate(_parquet_rows(path))


def json_lines(path: str) -> Iterator[tuple[int, Any]]:
    """Every line of a JSON-lines file that is not blank, with its number from 0. Raises `InputError` by its number."""
    for number, line in enumerate(storage.read_bytes(path).splitlines()):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number + 1} is not JSON", got=str(error)) from error


def _parquet_rows(path: str) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    with storage.open_read(path) as file:
        try:
            for batch in ParquetFile(file).iter_batches(batch_size=1024):
                yield from batch.to_pylist()
        except ArrowException as error:
            raise InputError(f"{path} is not parquet", got=str(error)) from error


def _hub_rows(hub: str, data: DataPlace, split: str) -> Iterator[Row]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(hub, data.config, data_dir=data.directory, split=split, revision=data.revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise _not_there(data, error) from error
    yield from rows


def _hub_files(hub: str, data: DataPlace) -> str:
    """A local folder with the files that are read of a hub id."""
    if os.path.isdir(hub):
        return hub
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(hub, repo_type="dataset", revision=data.revision, allow_patterns=list(data.files))
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_there(data, error) from error


def _not_there(data: DataPlace, error: Exception) -> InputError:
    where = " ".join(part for part in (data.config or data.directory, data.revision) if part)
    return InputError(
        f"can't read {data.hub}{f' ({where})' if where else ''}",
        wanted="a data set that the hub gives, and a network",
        got=f"{type(error).__name__}: {error}",
        fix="set path to a local copy, or HF_TOKEN where it asks for one",
    )
