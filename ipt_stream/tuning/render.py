"""From one row to its pairs: what a source file's templates make of it, in any of the four formats (paper, table 7).

instruction, options, answer             Who sat?\\nOptions:\\n- a cat\\n- a dog          a cat
with a rationale, used as the thought    ... \\nLet's think step by step.               It says so.\\nTherefore, ...
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Any, NamedTuple

from ipt_stream.corpus.pair import Pair, instruction_text, response_text
from ipt_stream.corpus.selection import is_selected
from ipt_stream.draw import seeded
from ipt_stream.tuning.source_file import PairTemplate, SourceFile
from ipt_stream.tuning.templates import Fields, TemplateFailed, expression, text_template

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DRAWN = 0
"""The seed of what is drawn here: which pairs have a thought is a property of the source, and of no run."""


class Left(StrEnum):
    """Why a row, or one pair of it, was left out."""

    FILTERED = "filtered_rows"
    """The source file's `when` doesn't hold, for the row or for all of its pairs."""
    EMPTY = "empty_pairs"
    """The instruction, the answer or the context is empty."""
    NO_SUCH_OPTION = "answers_not_among_options"
    """The answer is none of the options, or its letter or place is none of theirs."""
    TOO_FEW_OPTIONS = "too_few_options"
    """Fewer than two different options."""


class Found(NamedTuple):
    """One pair as a reader finds it.

    Attributes:
        pair: the pair.
        quote: what to look for in the context to find out where the answer stands; empty: nothing.
        start: where it stands in the context, None where that isn't known.
    """

    pair: Pair
    quote: str = ""
    start: int | None = None


def row_pairs(file: SourceFile, row: Fields, thought_share: float, counts: Counter[str]) -> tuple[str, list[Found]]:
    """The context of `row` and its pairs, as the source file orders them; what it doesn't give is counted by reason.

    Raises:
        TemplateFailed: a template doesn't fit the row.
    """
    asked = [pair for pair in file.pairs if pair.when is None or expression(pair.when)(row)]
    if not asked or (file.when is not None and not expression(file.when)(row)):
        counts[Left.FILTERED] += 1
        return "", []
    context = text_template(file.context)(row).rstrip()
    if file.pick_one and len(asked) > 1:
        key = context + "".join(text_template(pair.instruction)(row) for pair in asked)
        asked = [_drawn(asked, key)]
    found: list[Found] = []
    for template in asked:
        made = _pair(template, row, context, thought_share)
        if isinstance(made, Left):
            counts[made] += 1
        else:
            found.append(made)
    return context, found


def _drawn(templates: list[PairTemplate], key: str) -> PairTemplate:
    at = seeded(DRAWN, f"pick:{key}").random() * sum(template.share for template in templates)
    for template in templates[:-1]:
        at -= template.share
        if at < 0:
            return template
    return templates[-1]


def _pair(template: PairTemplate, row: Fields, context: str, thought_share: float) -> Found | Left:
    question = text_template(template.instruction)(row).strip()
    options = _options(template, row)
    if template.options is not None and len(set(options)) < 2:
        return Left.TOO_FEW_OPTIONS
    raw = _answer(template, row, options)
    if raw is None:
        return Left.NO_SUCH_OPTION
    answer = raw.strip()
    if not question or not answer or not context.strip():
        return Left.EMPTY
    if options and template.response is None and answer not in options:
        return Left.NO_SUCH_OPTION
    thought = None
    if template.rationale is not None and is_selected(DRAWN, f"thought:{context}:{question}", thought_share):
        thought = text_template(template.rationale)(row).strip() or None
    pair = Pair(instruction_text(question, options, thought is not None), response_text(answer, thought))
    evidence = "" if template.evidence is None else text_template(template.evidence)(row).strip()
    return Found(pair, evidence or ("" if options else answer), _start(template, row, raw))


def _options(template: PairTemplate, row: Fields) -> list[str]:
    match template.options:
        case None:
            return []
        case str(source):
            values = expression(source)(row)
            if not isinstance(values, (list, tuple)) or any(isinstance(v, (list, tuple, dict)) for v in values):
                raise TemplateFailed(f"{source!r}: {values!r} where a list of options is wanted")
            return ["" if value is None else str(value).strip() for value in values]
        case sources:
            return [text_template(source)(row).strip() for source in sources]


def _answer(template: PairTemplate, row: Fields, options: list[str]) -> str | None:
    """The answer as the data has it, or None where it is none of the options."""
    if template.answer_index is not None:
        index = expression(template.answer_index)(row)
        if not isinstance(index, int) or isinstance(index, bool):
            raise TemplateFailed(f"{template.answer_index!r}: {index!r} where a place among the options is wanted")
        return options[index] if 0 <= index < len(options) else None
    if template.answer_letter is not None:
        letter = str(expression(template.answer_letter)(row)).strip().upper()
        labels = list(LETTERS) if template.labels is None else _labels(template.labels, row)
        place = labels.index(letter) if letter in labels else len(options)
        return options[place] if place < len(options) else None
    return text_template(template.answer or template.response or "")(row)


def _labels(source: str, row: Fields) -> list[str]:
    values = expression(source)(row)
    if not isinstance(values, (list, tuple)):
        raise TemplateFailed(f"{source!r}: {values!r} where a list of letters is wanted")
    return [str(value).strip().upper() for value in values]


def _start(template: PairTemplate, row: Fields, answer: str) -> int | None:
    """Where the answer starts once white space around it is gone; None where the data doesn't say."""
    if template.start is None:
        return None
    value: Any = expression(template.start)(row)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TemplateFailed(f"{template.start!r}: {value!r} where a number of characters is wanted")
    return value + len(answer) - len(answer.lstrip()) if value >= 0 else None
