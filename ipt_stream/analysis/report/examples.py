"""The examples of a report as the page holds them: compressed blocks of JSON, and small columns to filter by.

A block is about 256 KiB of JSON, deflated (zlib) and in base64: a text and its rendered form, which repeats it, take
little more than the text. The page opens a block when one of its examples is looked at, and all of them when a text is
searched for. The columns of checks are blocks too, one each, of all pairs in order.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ipt_stream.analysis.report.checks import CheckColumns, Value
from ipt_stream.analysis.report.sample import Drawn
from ipt_stream.mixture.sources import Making, rendered_texts
from ipt_stream.synthesis.results import example_of

BLOCK_BYTES = 1 << 18
"""Of JSON a block, about: large enough to compress well, small enough to open at once."""

Rendered = list[list[str | int]]
"""Texts that training sees; each in parts: words as they are, or the number of the shot whose text stands there."""


@dataclass(slots=True)
class Examples:
    """What the page gets.

    Attributes:
        sources: names of the shards.
        source: of each example, which of `sources`.
        rounds: of each example, the rounds of its texts, from 0.
        pairs: of each example, how many pairs it has.
        blocks: the examples, in order, compressed.
        sizes: how many examples each block holds.
        checks: names of the checks.
        kinds: of each check, `flag` (yes or no) or `number`.
        ranges: of each check, its least and greatest value; None where it has none.
        keeps: of each check, the condition under which a pair is not flagged, such as (">=", 0.5); None without one.
        columns: of each check, its values of all pairs in order, compressed.
        shortened: how many texts were cut.
    """

    sources: list[str] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    rounds: list[list[int]] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    ranges: list[tuple[float, float] | None] = field(default_factory=list)
    keeps: list[tuple[str, float] | None] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    shortened: int = 0

    def index(self) -> dict[str, Any]:
        """What the page needs before any block is opened, as JSON values."""
        names = ("sources", "source", "rounds", "pairs", "sizes", "checks", "kinds", "ranges", "keeps")
        return {name: getattr(self, name) for name in names}


def collect(drawn: Iterable[Drawn], making: Making, checks: CheckColumns | None, characters: int) -> Examples:
    """Encode `drawn`.

    Args:
        drawn: the examples.
        making: how the mixture renders them.
        checks: what the checks found; None where they were not run.
        characters: longer texts are cut there, and say so; the rendered form names them, and is cut with them.

    Raises:
        InputError: a file of checks can't be read.
    """
    found, numbers = Examples(), dict[str, int]()
    columns: dict[str, list[Value]] = {}
    block: list[str] = []
    size = 0
    for item in drawn:
        values = {} if checks is None else checks.of(item)
        count = sum(len(row.pairs) for row in item.rows)
        for name in values:
            columns.setdefault(name, [None] * sum(found.pairs))  # new here: nothing is known of earlier pairs
        here = {name: values.get(name, [None] * count) for name in columns}
        for name, column in columns.items():
            column.extend(here[name])
        record = _record(item, making, list(zip(*here.values(), strict=True)) or [()] * count, characters)
        source = item.rows[0].source
        found.source.append(numbers.setdefault(source, len(numbers)))
        found.rounds.append(sorted({row.round for row in item.rows}))
        found.pairs.append(count)
        found.shortened += any(shot["left_out"] for shot in record["shots"])
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        block.append(text)
        size += len(text)
        if size >= BLOCK_BYTES:
            _close(found, block)
            block, size = [], 0
    _close(found, block)
    found.sources = list(numbers)
    for name, column in columns.items():
        _add_column(found, name, column)
        found.keeps.append(None if checks is None else checks.keeps.get(name))
    return found


def compress(value: str) -> str:
    """`value` in UTF-8, deflated and in base64: letters, digits, `+`, `/` and `=` alone."""
    return base64.b64encode(zlib.compress(value.encode("utf-8", "replace"))).decode("ascii")


def apart(rendered: str, texts: Sequence[str]) -> list[str | int]:
    """`rendered` with each of `texts`, as they follow each other in it, replaced by its number.

    apart("See: A. Q? A.", ["A."]) = ["See: ", 0, " Q? A."]
    """
    parts: list[str | int] = []
    start = 0
    for number, text in enumerate(texts):
        place = rendered.find(text, start) if text else -1
        if place < 0:
            continue
        parts += [rendered[start:place], number]
        start = place + len(text)
    return [part for part in [*parts, rendered[start:]] if part != ""]


def _close(found: Examples, block: list[str]) -> None:
    if block:
        found.blocks.append(compress("[" + ",".join(block) + "]"))
        found.sizes.append(len(block))


def _record(item: Drawn, making: Making, checks: Sequence[Sequence[Value]], characters: int) -> dict[str, Any]:
    """An example as JSON. `checks` are the values of each of its pairs, in the order of the columns."""
    example, values = example_of(item.rows), iter(checks)
    shots = []
    for row in item.rows:
        text = row.text[:characters]
        pairs = [
            {"instruction": pair.instruction, "response": pair.response, "checks": [_plain(v) for v in next(values)]}
            for pair in row.pairs
        ]
        place = {"document": row.document_id, "piece": row.piece, "round": row.round, "inherits": row.inherits}
        shots.append({**place, "text": text, "left_out": len(row.text) - len(text), "pairs": pairs})
    texts = [row.text for row in item.rows]
    rendered: Rendered = [apart(text.text, texts) for text in rendered_texts(example, making)]
    return {"id": example.example_id, "shots": shots, "rendered": rendered}


def _plain(value: Value) -> Value:
    """A value that JSON holds, floats to five digits."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _add_column(found: Examples, name: str, column: Sequence[Value]) -> None:
    values = [_plain(value) for value in column]
    known = [value for value in values if value is not None]
    flag = bool(known) and all(isinstance(value, bool) for value in known)
    found.checks.append(name)
    found.kinds.append("flag" if flag else "number")
    found.ranges.append((float(min(known)), float(max(known))) if known and not flag else None)
    shown = [int(value) if isinstance(value, bool) else value for value in values]
    found.columns.append(compress(json.dumps(shown, separators=(",", ":"))))
