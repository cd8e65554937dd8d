"""What is read of a document before anything is asked: its sentences, which of them can be used, its title."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ipt_stream.baselines.reading_comprehension.sentences import (
    CLOSERS,
    OPENERS,
    READ_CHARACTERS,
    Sentence,
    is_whole,
    split_sentences,
    word_set,
)

TITLE_WORDS = range(3, 31)
TITLE_CHARACTERS = 200
BODY_SENTENCES = 3  # at least

_LETTERS = re.compile(r"[^\W\d_]+")
_PERSON = word_set("i we you my our your me us")
_SOMEONE = _PERSON | word_set("he she they it his her their him them this these")
_COMMON = word_set("about after also been best been from have here into more most over than that their this")


@dataclass(frozen=True, slots=True)
class Passage:
    """What is read of a document.

    Attributes:
        text: its first `READ_CHARACTERS`.
        title: where it starts with one, without marks around it.
        sentences: the sentences, without the title's.
        whole: the numbers of those that can be used alone.
        neighbours: the number of each whole one that follows a whole one in its paragraph, where neither asks.
    """

    text: str
    title: str | None
    sentences: tuple[Sentence, ...]
    whole: tuple[int, ...]
    neighbours: tuple[int, ...]


def read(text: str) -> Passage:
    """The passage that all finders look at."""
    part, sentences = text[:READ_CHARACTERS], split_sentences(text)
    title = find_title(part, sentences)
    if title is not None:
        sentences = sentences[1:]
    whole = [number for number, sentence in enumerate(sentences) if is_whole(sentence.text)]
    neighbours = [
        after
        for before, after in pairwise(whole)
        if after == before + 1
        and sentences[before].paragraph == sentences[after].paragraph
        and "?" not in sentences[before].text[-2:] + sentences[after].text[-2:]
    ]
    return Passage(part, title, tuple(sentences), tuple(whole), tuple(neighbours))


def find_title(text: str, sentences: Sequence[Sentence]) -> str | None:
    """The title of `text`: its first line, where that is one, as it stands there but for marks around it.

    A title is a short paragraph of one sentence before a longer body, and at least half of its content words, two or
    more, come in the body again. One with a full stop (PubMed's have it) needs more: the body is a single paragraph, as
    an abstract is, and it speaks of nobody, for on web pages such a line is the first sentence; nor may one that asks
    speak to the reader.
    """
    if len(sentences) <= BODY_SENTENCES or sentences[1].paragraph == sentences[0].paragraph:
        return None
    first, body = sentences[0], text[sentences[0].end :]
    line = first.text
    found = [word.casefold() for word in _LETTERS.findall(line)]
    if (
        len(line.split()) not in TITLE_WORDS
        or len(line) > min(TITLE_CHARACTERS, len(body) // 2)
        or line.lstrip(OPENERS)[:1].islower()
        or 10 * sum(map(len, found)) < 6 * len(line)
        or line[-1] in "!:;,…-–—"
        or not {*"|<>@#"}.isdisjoint(line)
    ):
        return None
    if line[-1] == "?" and (sentences[1].text[-1:] == "?" or not _PERSON.isdisjoint(found)):  # or a list of questions
        return None
    stops = line.rstrip(CLOSERS)[-1:] == "."
    if stops and (sentences[-1].paragraph > sentences[1].paragraph or not _SOMEONE.isdisjoint(found)):
        return None
    content = {word[:6] for word in found if len(word) >= 4 and word not in _COMMON}  # by stems: mutation, mutations
    again = content & {word[:6] for word in map(str.casefold, _LETTERS.findall(body)) if len(word) >= 4}
    if len(again) < 2 or 2 * len(again) < len(content):
        return None
    title = text[first.start : first.end].rstrip(".").strip()
    bare = title[1:-1] if title[:1] == "[" and title[-1:] == "]" else title  # PubMed: titles that were translated
    return bare.rstrip(".").strip() or None
