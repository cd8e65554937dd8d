"""What the per-pair checks found of the examples that a report shows, read from their Parquet files, one a segment."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Mapping, Sequence

from ipt_stream import storage
from ipt_stream.analysis.report.sample import Drawn
from ipt_stream.errors import InputError

Value = bool | int | float | None

KEYS = ("document_id", "piece", "pair")
"""Columns that name a pair."""
KNOWN = {*KEYS, "source_id", "source", "chain", "round", "instruction", "response"}
"""Columns that are no checks."""

LISTING = "checks.json"
"""What the checks say of their columns."""
CONDITION = re.compile(r"(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")

_Key = tuple[str, int, int]


def read_condition(text: str | bool | None) -> tuple[str, float] | None:
    """A condition such as `>= 0.5`, `true` or `false`, as a comparison and a number; None where it is none.

    read_condition(">= 0.5") = (">=", 0.5); read_condition("false") = ("==", 0.0)
    """
    shown = str(text).strip().lower()
    if shown in ("true", "false"):
        return "==", float(shown == "true")
    match = CONDITION.fullmatch(shown)
    return None if match is None else (match.group(1), float(match.group(2)))


class CheckColumns:
    """The checks' values, a segment's file at a time: those of the last one asked about are kept.

    Args:
        directory: the checks' output.
    """

    def __init__(self, directory: str) -> None:
        self._files = {posixpath.basename(path): path for path in storage.list_directory(directory)}
        columns = storage.read_json(self._files[LISTING])["columns"] if LISTING in self._files else {}
        self.keeps = {name: read_condition(column.get("keeps")) for name, column in columns.items()}
        """By check: the condition under which a pair is not flagged, a comparison and a value; None without one."""
        self._read: tuple[str, dict[str, Sequence[Value]], dict[_Key, int]] | None = None

    def of(self, item: Drawn) -> Mapping[str, Sequence[Value]]:
        """The values of all pairs of `item`, in order, by check; None where one was not computed.

        Nothing where its segment was not checked.

        Raises:
            InputError: the file can't be read, or lacks one of these pairs.
        """
        path = self._files.get("segment-" + posixpath.basename(item.segment.path))
        if path is None:
            return {}
        if self._read is None or self._read[0] != path:
            self._read = (path, *_load(path))
        _, columns, places = self._read
        keys = [(row.document_id, row.piece, pair) for row in item.rows for pair in range(len(row.pairs))]
        lost = [key for key in keys if key not in places]
        if lost:
            raise InputError(
                f"{path} is not of this synthesis run",
                wanted=f"pair {lost[0][2]} of {lost[0][0]}",
                got="a file without it",
                fix="analyze into another directory",
            )
        return {name: [column[places[key]] for key in keys] for name, column in columns.items()}


def _load(path: str) -> tuple[dict[str, Sequence[Value]], dict[_Key, int]]:
    """The columns of checks, and in which row each pair is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(storage.read_bytes(path)))
        keys = zip(*(table.column(name).to_pylist() for name in KEYS), strict=True)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(f"{path} holds no checks", got=str(error), fix="remove it and run again") from error
    columns = {
        field.name: table.column(field.name).to_pylist()
        for field in table.schema
        if field.name not in KNOWN and _is_value(field.type)
    }
    return columns, {key: row for row, key in enumerate(keys)}


def _is_value(kind: object) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
    return any(test(kind) for test in tests)
