"""A text's paragraphs and sentences, by rules: no model, one pass, any Unicode.

    "Dr. Hall et al. came at 3.5 m.p.h. on May 1. It rained!"  ->  "Dr. Hall ... on May 1." and "It rained!"

Where a rule is in doubt there is no boundary: a sentence that is too long is not used, one that is broken reads badly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

READ_CHARACTERS = 2**15
"""How much of a text is read, from its start: the cost of a document is bounded, whatever its length."""

TERMINATORS = ".!?…。！？।؟۔"
CLOSERS = "\"'”’»)]」』"
OPENERS = "\"'“‘«([「『¿¡"

WORDS = range(5, 61)  # of a sentence that is used
MOST_CHARACTERS = 500

_LINE = re.compile(r"[^\n\r\u2028\u2029]+")
_END = re.compile(f"[{TERMINATORS}]+[{re.escape(CLOSERS)}]*")
_SPACE = re.compile(r"\s*")
_LETTERS = re.compile(r"[^\W\d_]*")
_GLUED_BEFORE = re.compile(r"(?:^|\s)[^\s./@_:\\]*(?:[a-z]{3}|\))$")  # "the end.The next one": no domain
_GLUED_AFTER = re.compile(r"([A-Z][a-z]*|[A-Z]+(?=:))[,;:]?\s")
_WEB = re.compile(r"https?:|www\.|&\w+;|[|@©#<>{}\\]")
_TOKEN_CHARACTERS = 24  # how far a rule looks back at the word before a full stop


def word_set(listed: str) -> frozenset[str]:
    """The words of `listed`."""
    return frozenset(listed.split())


_NEVER_LAST = word_set("dr mr mrs ms prof messrs vs cf e.g i.e eg ie viz al figs eqs nos vols pp eds approx ca")
_SELDOM_LAST = word_set(
    "rev hon st gen col capt lt sgt sen rep gov pres mt ft fig eq ref refs tab sec ch no vol ed resp dept univ spp sp "
    "var subsp inc co corp ltd jr sr bros etc est ave blvd rd min max avg hr hrs lb lbs oz tbsp tsp jan feb mar apr "
    "jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun"
)  # before a name or a number it is no end, before one of `_STARTERS` it is
_STARTERS = word_set(
    "a an the this that these those it its he she they we you i his her their our your there here in on at by for "
    "from to with as if when while after before since because although though however therefore moreover furthermore "
    "thus hence also but and so then what why how who where most many some all both each no not one two"
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a text.

    Attributes:
        start: where it starts, in characters.
        end: where it ends, its closing mark included.
        paragraph: the number of its paragraph.
        text: the sentence on one line: white space inside it is single spaces.
    """

    start: int
    end: int
    paragraph: int
    text: str


def split_sentences(text: str) -> list[Sentence]:
    """The sentences of the first `READ_CHARACTERS` of `text`; what that bound cuts through is left out."""
    part = text[:READ_CHARACTERS]
    sentences = [
        Sentence(start, end, number, " ".join(part[start:end].split()))
        for number, span in enumerate(split_paragraphs(part))
        for start, end in _split(part, *span)
    ]
    return sentences[:-1] if len(text) > READ_CHARACTERS else sentences


def split_paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Where each paragraph of `text` starts and ends: a line, or the lines of a paragraph that was wrapped."""
    block: list[tuple[int, int]] = []
    for match in _LINE.finditer(text):
        line = match[0]
        start, end = match.start() + len(line) - len(line.lstrip()), match.start() + len(line.rstrip())
        if end <= start:
            continue
        if block and text.count("\n", block[-1][1], start) != 1:
            yield from _unwrap(text, block)
            block = []
        block.append((start, end))
    yield from _unwrap(text, block)


def _unwrap(text: str, lines: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join lines that were broken at a width: the next line's first word would have been too long for this one."""
    width = max((end - start for start, end in lines), default=0)
    too_long = [
        end - start + 1 + len(text[after : min(stop, after + width)].split(None, 1)[0]) > width
        for (start, end), (after, stop) in pairwise(lines)
    ]
    if len(lines) < 3 or not 40 <= width <= 100 or 2 * sum(too_long) < len(too_long):
        yield from lines
        return
    begin = lines[0][0]
    for number, (_, end) in enumerate(lines):
        if number == len(too_long) or not too_long[number]:
            yield begin, end
            begin = lines[number + 1][0] if number < len(too_long) else end


def _split(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of the paragraph `text[start:end]`."""
    begin = start
    for match in _END.finditer(text, start, end):
        stop = match.end()
        if stop < end and _is_boundary(text, begin, match, end):
            yield begin, stop
            begin = min(_end_of_space(text, stop), end)
    if begin < end:
        yield begin, end


def _is_boundary(text: str, begin: int, mark: re.Match[str], end: int) -> bool:
    """Whether the sentence that began at `begin` ends with `mark`."""
    if mark[0][0] in "。！？":
        return True
    before = text[max(begin, mark.start() - _TOKEN_CHARACTERS) : mark.start()]
    at = _end_of_space(text, mark.end())
    if at == mark.end():
        return _is_glued(before, mark[0], text[at : at + _TOKEN_CHARACTERS])
    while at < end and text[at] in OPENERS:
        at += 1
    if at == end or text[at].islower():
        return False
    if mark[0][0] != "." or mark[0].startswith(".."):
        return True
    word = (before.split() or [""])[-1].lstrip(OPENERS).casefold()
    if word.isdigit():  # "1. Flour" at the start of a list's item, "7. 8 %" where a decimal was torn
        return len(before.strip()) > len(word) and not text[at].isdigit()
    if word in _NEVER_LAST:
        return False
    if len(word) < 2 or "." in word or word in _SELDOM_LAST:  # also initials, "U.S."
        return _letters(text, at).casefold() in _STARTERS
    return True


def _is_glued(before: str, mark: str, after: str) -> bool:
    """Whether two sentences meet without a space."""
    word = _GLUED_AFTER.match(after)
    if mark not in (".", "!", "?") or word is None or _GLUED_BEFORE.search(before) is None:
        return False
    return len(word[1]) > 3 or word[1][1:].isupper() or word[1].casefold() in _STARTERS


def _end_of_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _letters(text: str, at: int) -> str:
    found = _LETTERS.match(text, at, at + _TOKEN_CHARACTERS)
    return found[0] if found else ""


def is_whole(sentence: str) -> bool:
    """Whether `sentence` (on one line) can be used alone: it starts and ends as a sentence does, and is prose."""
    opening, closing = sentence.lstrip(OPENERS)[:1], sentence.rstrip(CLOSERS)[-1:]
    return (
        len(sentence) <= MOST_CHARACTERS
        and len(sentence.split()) in WORDS
        and opening.isupper()
        and closing in (".", "!", "?")
        and is_prose(sentence)
    )


def is_prose(text: str) -> bool:
    """Whether `text` is mostly words, and all that it opens it closes."""
    letters, capitals = sum(map(str.isalpha, text)), sum(map(str.isupper, text))
    return 10 * letters >= 7 * len(text) and 3 * capitals <= letters and is_balanced(text) and _WEB.search(text) is None


def is_balanced(text: str) -> bool:
    """Whether as many brackets and quotation marks close in `text` as open."""
    return text.count('"') % 2 == 0 and all(text.count(left) == text.count(right) for left, right in ("()", "[]", "“”"))
