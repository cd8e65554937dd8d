"""The templates of source files: Jinja2, in its sandbox, in two shapes.

    a template      "{{ question }}"               gives text: contexts, instructions, answers, rationales
    an expression   answers.text[0]                gives a value: options, an index, a place, what to walk through

Both see the columns of one row by their names. Nothing is guessed: a column that isn't there is an error, a list where
text is wanted is one too; only null is taken for empty text. Data is never read as a template, and a template can
neither import nor change anything.

Beside Jinja's own filters there are three:

    last_sentence   "A train leaves. How long is it?"  ->  "How long is it?"
    without_letter  "B) 12 hours"                      ->  "12 hours"
    trimmed         ["a ", None]                       ->  ["a", ""]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

Fields = Mapping[str, Any]
"""What a template sees: the columns of a row, and `this` (rows.py)."""


class TemplateFailed(ValueError):
    """A template that can't be read, or that a row doesn't fit."""


@lru_cache(maxsize=4096)
def text_template(source: str) -> Callable[[Fields], str]:
    """The function that renders `source` with a row's fields. It raises `TemplateFailed`, and so does reading it."""
    from jinja2 import TemplateError

    try:
        template = _environment().from_string(source)
    except TemplateError as error:
        raise TemplateFailed(f"{source!r} is no template: {error}") from error

    def render(fields: Fields) -> str:
        try:
            return template.render(fields)
        except (TemplateError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise TemplateFailed(f"{source!r}: {error}") from error

    return render


@lru_cache(maxsize=4096)
def expression(source: str) -> Callable[[Fields], Any]:
    """The function that gives the value of `source` for a row's fields; iterators become lists. Raises as above."""
    from jinja2 import TemplateError, Undefined

    try:
        compiled = _environment().compile_expression(source, undefined_to_none=False)
    except TemplateError as error:
        raise TemplateFailed(f"{source!r} is no expression: {error}") from error

    def value(fields: Fields) -> Any:
        try:
            found = compiled(fields)
            if isinstance(found, Undefined):
                str(found)  # raises, and names what is missing
            return list(found) if isinstance(found, Iterator) else found
        except (TemplateError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise TemplateFailed(f"{source!r}: {error}") from error

    return value


@lru_cache(maxsize=1)
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, finalize=_shown, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    made.filters |= {"last_sentence": _last_sentence, "without_letter": _without_letter, "trimmed": _trimmed}
    return made


def _shown(value: Any) -> Any:
    """What `{{ }}` puts into a text."""
    from jinja2 import TemplateRuntimeError

    if value is None:
        return ""
    if isinstance(value, (list, tuple, dict, Iterator)):
        raise TemplateRuntimeError(f"a {type(value).__name__} where text is wanted")
    return value


def _last_sentence(text: str) -> str:
    return re.split(r"(?<=[.?!])\s+", text.strip())[-1]


def _without_letter(text: str) -> str:
    return re.sub(r"^\s*\(?[A-Za-z]\s*\)\s*", "", text)


def _trimmed(values: Any) -> list[str]:
    return ["" if value is None else str(value).strip() for value in values]
