"""JSON lines: one object a line, plain or compressed. Blank lines are no rows; every other line is exactly one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from ipt_stream.corpus.bytestream import BOM, HEAD_BLOCK_BYTES, StreamBroken, chunks
from ipt_stream.corpus.columns import NULL, Column
from ipt_stream.corpus.formats import MAX_ROW_BYTES, Reason, RejectedRow, Row, Rows, ShardBroken, ShardSpec, make_row
from ipt_stream.errors import InputError

HEAD_ROWS, HEAD_BYTES = 100, 2**20  # what is looked at to find the columns out


def rows(shard: ShardSpec, start_row: int) -> Rows:
    """Rows `start_row` and on. Earlier ones are decompressed and counted but not parsed.

    Raises:
        ShardBroken: the compressed bytes are corrupt or end too soon, or the file ends in the middle of an object. A
            line cut off there is no row.
        StorageError: the file can't be opened or read.
    """
    row = 0
    line: bytes | None = None
    made: Row | None = None  # held back until it is known whether the file goes on
    text_path, id_path = _steps(shard.text_column), _steps(shard.id_column)
    filled = _Filled(chunks(shard.path))
    try:
        for line in filled:
            if made is not None:
                yield made
            made = _parse(shard, row, line, text_path, id_path) if row >= start_row else None
            row += 1
    except StreamBroken as error:
        if made is not None:
            yield made
        where = f"line {filled.number + 1}, byte {error.byte} of the file"
        raise ShardBroken(shard.path, row, where, error.cause) from error
    if _is_torn(line, filled.tail):
        raise ShardBroken(shard.path, row - 1, f"line {filled.number}", "the file ends in the middle of it")
    if made is not None:
        yield made


class _Filled:
    """The lines of a file that are rows, without the byte order marks that joined files have between them.

    Attributes:
        number: how many lines there were so far, blank ones too.
        tail: the last bytes so far.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self.number, self.tail = pieces, 0, b""

    def __iter__(self) -> Iterator[bytes | None]:
        for line in lines(self._watched()):
            self.number += 1
            if line is not None:
                line = line.removeprefix(BOM)
                if not line or line.isspace():
                    continue
            yield line

    def _watched(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.tail = piece[-64:]
            yield piece


def _is_torn(line: bytes | None, tail: bytes) -> bool:
    """Whether a file with the last row `line` and the last bytes `tail` was cut off in the middle of an object."""
    ends_with_it = tail.rpartition(b"\n")[2].strip()
    if line is None or not ends_with_it or not line.lstrip().startswith(b"{"):
        return False
    try:
        _load(line)
    except (ValueError, RecursionError):
        return True
    return False


def _load(line: bytes) -> object:
    return json.loads(line.decode("utf-8"))


def _parse(shard: ShardSpec, row: int, line: bytes | None, text_path: tuple[str, ...], id_path: tuple[str, ...]) -> Row:
    if line is None:
        return RejectedRow(row, Reason.TOO_LONG, None)
    try:
        value = _load(line)
    except UnicodeDecodeError:
        return RejectedRow(row, Reason.NOT_UTF8, None)
    except (ValueError, RecursionError):  # RecursionError: brackets nested without end
        return RejectedRow(row, Reason.BAD_JSON, None)
    if not isinstance(value, dict):
        return RejectedRow(row, Reason.WRONG_TYPE, None)
    source_id = _at(value, id_path)
    if b"\\u" not in line:  # only an escape can bring half a character in
        return make_row(shard, row, _at(value, text_path), source_id)
    if isinstance(source_id, str):
        source_id = source_id.encode("utf-8", "backslashreplace").decode("utf-8")
    made = make_row(shard, row, _at(value, text_path), source_id)
    if isinstance(made, RejectedRow) or _is_encodable(made.text):
        return made
    return RejectedRow(row, Reason.NOT_UTF8, made.source_id)


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _steps(column: str | None) -> tuple[str, ...]:
    return () if column is None else tuple(column.split("."))


def _at(value: dict[str, object], steps: tuple[str, ...]) -> object:
    """What a dotted path leads to, or None where it leads nowhere; a key that itself has the dots goes first."""
    if len(steps) == 1:
        return value.get(steps[0])
    whole = ".".join(steps)
    if whole in value:
        return value[whole]
    found: object = value if steps else None
    for step in steps:
        found = found.get(step) if isinstance(found, dict) else None
    return found


def lines(pieces: Iterable[bytes]) -> Iterator[bytes | None]:
    """The lines in `pieces`, without their ends; None for one above `MAX_ROW_BYTES`.

    Holds one piece and the line that is under way.
    """
    held: list[bytes] = []
    held_bytes = 0
    for piece in pieces:
        start, *rest = piece.split(b"\n")
        held_bytes += len(start)
        if held_bytes <= MAX_ROW_BYTES:
            held.append(start)
        else:
            held.clear()
        if rest:
            yield b"".join(held) if held_bytes <= MAX_ROW_BYTES else None
            yield from rest[:-1]
            held, held_bytes = [rest[-1]], len(rest[-1])
    if held_bytes:
        yield b"".join(held) if held_bytes <= MAX_ROW_BYTES else None


def columns(path: str) -> list[Column]:
    """The keys of the first rows, those of objects within them dotted, with the JSON types seen.

    Raises:
        InputError: there are lines, but none is a JSON object.
        ShardBroken: it breaks before the first line ends.
    """
    types: dict[str, set[str]] = {}
    seen = seen_bytes = objects = 0
    line: bytes | None = None
    filled = _Filled(chunks(path, HEAD_BLOCK_BYTES))
    try:
        for line in filled:
            if line is None:
                continue
            try:
                value = _load(line)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                objects += 1
                for name, kind in _types(value):
                    types.setdefault(name, set()).add(kind)
            seen, seen_bytes = seen + 1, seen_bytes + len(line)
            if seen >= HEAD_ROWS or (seen_bytes >= HEAD_BYTES and objects):
                break
    except StreamBroken as error:
        if not objects:
            raise ShardBroken(path, 0, f"byte {error.byte} of the file", error.cause) from error
    if seen == 1 and _is_torn(line, filled.tail):
        raise ShardBroken(path, 0, "its first line", "the file ends in the middle of it")
    if seen and not objects:
        raise InputError(
            f"{path} holds no JSON lines",
            wanted="one JSON object a line, in UTF-8",
            got=f"none among the first {seen} lines",
            fix="turn a JSON array into lines (jq -c '.[]'), or name the format as input.format",
        )
    return [_column(name, kinds - {NULL}) for name, kinds in types.items()]


def _types(value: dict[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        yield prefix + key, _JSON_TYPES.get(type(inner), "array")
        if isinstance(inner, dict) and prefix.count(".") < 2:
            yield from _types(inner, f"{prefix}{key}.")


_JSON_TYPES: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
    type(None): NULL,
}


def _column(name: str, kinds: set[str]) -> Column:
    is_text = not kinds or "string" in kinds
    is_id = not kinds & {"object", "array"}
    return Column(name, " or ".join(sorted(kinds)) or NULL, is_text, is_id)
