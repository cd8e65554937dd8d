"""Which column of a shard holds the text and which the id: named by the user and checked, or found out."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ipt_stream.errors import InputError

TEXT_COLUMNS = ("content", "text", "raw_content", "document", "body")
"""Tried in this order: RefinedWeb has `content`, FineWeb, C4 and The Pile `text`, RedPajama `raw_content`."""
ID_COLUMNS = (
    "id",
    "doc_id",
    "docid",
    "pmid",
    "url",
    "meta.pmid",
    "meta.id",
    "metadata.id",
    "meta.url",
    "metadata.url",
)
"""Tried in this order; FineWeb has `id`, RefinedWeb `url`, The Pile's PubMed Abstracts `meta.pmid`."""
NULL = "null"


@dataclass(frozen=True, slots=True)
class Column:
    """A column as a shard shows it.

    Attributes:
        name: dotted, where it is a field of a struct or of a JSON object.
        type: the type's name, for messages; `null` where no value was seen.
        is_text: whether it can hold documents.
        is_id: whether it can hold ids: strings, numbers and the like, nothing nested.
    """

    name: str
    type: str
    is_text: bool
    is_id: bool


def choose(
    path: str, columns: Sequence[Column], text_column: str | None, id_column: str | None
) -> tuple[str, str | None]:
    """The text column and the id column (or None) of the shard at `path`, which has `columns`.

    Raises:
        InputError: a named column is missing or of the wrong type, no text column can be found out, or two columns
            have the name.
    """
    known = {column.name: column for column in columns}
    doubled = {name for name, count in Counter(column.name for column in columns).items() if count > 1}
    if text_column is None:
        text_column = _first(TEXT_COLUMNS, known, text=True)
        if text_column is None:
            raise InputError(
                f"{path} has no text column that can be found out",
                wanted=f"one of {', '.join(TEXT_COLUMNS)} holding strings",
                got=summary(columns),
                fix="name it as input.text_column",
            )
    elif not _named(path, known, text_column, "text_column").is_text:
        raise _wrong_type(path, known[text_column], "text_column", "strings")
    if id_column is None:
        id_column = _first(ID_COLUMNS, known, text=False)
    elif not _named(path, known, id_column, "id_column").is_id:
        raise _wrong_type(path, known[id_column], "id_column", "strings or numbers")
    for name in (text_column, id_column):
        if name in doubled:
            raise InputError(f"{path} has two columns '{name}'", wanted="one", got=summary(columns), fix="rename one")
    return text_column, id_column


def summary(columns: Sequence[Column]) -> str:
    """What there is, as `content string, url string, ...`; at most 20 columns."""
    shown = ", ".join(f"{column.name} {column.type}" for column in columns[:20])
    return (shown + (f", and {len(columns) - 20} more" if len(columns) > 20 else "")) or "no columns"


def _first(candidates: Sequence[str], known: dict[str, Column], text: bool) -> str | None:
    """The first candidate of a fitting type; one with values goes before one that showed only nulls."""
    fitting = [known[name] for name in candidates if name in known]
    fitting = [column for column in fitting if (column.is_text if text else column.is_id)]
    fitting.sort(key=lambda column: column.type == NULL)
    return fitting[0].name if fitting else None


def _named(path: str, known: dict[str, Column], name: str, key: str) -> Column:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"{path} has no column '{name}'",
            wanted=f"input.{key}={name}",
            got=summary(list(known.values())),
            fix=f"{meant}leave input.{key} null to have it found out",
        )
    return known[name]


def _wrong_type(path: str, column: Column, key: str, wanted: str) -> InputError:
    return InputError(
        f"column '{column.name}' of {path} is of the wrong type",
        wanted=wanted,
        got=column.type,
        fix=f"name another column as input.{key}",
    )
