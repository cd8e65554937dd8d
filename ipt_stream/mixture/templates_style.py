"""A style: one choice of words for an example, held through all its shots.

Only `random()` of the generator is used, which Python promises to keep.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ipt_stream.draw import pick
from ipt_stream.mixture import templates, templates_options, templates_pairs
from ipt_stream.mixture.templates import Explained, Layout, Numbering, WorkedHeadings
from ipt_stream.mixture.templates_options import Answering, OptionWords
from ipt_stream.mixture.templates_pairs import Kind, PairWords

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Talk:
    """The words of a dialogue, and of the question for its next turn.

    Attributes:
        request: brings the text.
        ready: the reply to it; empty: none.
        opening: before a conversation whose next turn is asked for.
        ask_next: asks for it.
        lead: leads to it; empty: the speaker's name does.
    """

    request: str
    ready: str
    opening: str
    ask_next: str
    lead: str


@dataclass(frozen=True, slots=True)
class Style:
    """Every choice of words for one example.

    Attributes:
        layout: how a text and its pairs stand together.
        text_after: the text comes after its questions.
        words: before a question, and between it and its answer.
        text_opening: before a text, or empty.
        questions_opening: between a text and its questions, or empty.
        mind_opening: before questions that their text comes after.
        numbering: of questions and of their answers.
        headings: of worked examples and the test item.
        explained: how a test item is explained.
        talk: the words of a dialogue.
        options: how options are listed.
        answering: how the right one is named.
        think: asks for a thought.
        conclude: between a thought and its answer.
    """

    layout: Layout
    text_after: bool
    words: PairWords
    text_opening: str
    questions_opening: str
    mind_opening: str
    numbering: Numbering
    headings: WorkedHeadings
    explained: Explained
    talk: Talk
    options: OptionWords
    answering: Answering
    think: str
    conclude: str


def draw_style(rng: random.Random, several: bool) -> Style:
    """One style; `several`: whether some text has more than one pair."""
    layouts = templates.LAYOUTS_MANY if several else templates.LAYOUTS_SINGLE
    layout = weighted(rng, layouts)
    movable = sum(weight for other, weight in layouts if other in templates.TEXT_AFTER_LAYOUTS)
    text_after = layout in templates.TEXT_AFTER_LAYOUTS and rng.random() < templates.TEXT_AFTER_SHARE / movable
    speakers = pick(rng, templates.SPEAKERS)
    if layout in (Layout.DIALOGUE, Layout.NEXT_TURN):
        sign = pick(rng, templates_pairs.SPEAKER_SIGNS)
        gap = weighted(rng, templates_pairs.LINE_GAPS)
        words = templates_pairs.set_off((speakers.asks, speakers.answers), sign, gap)
    else:
        # An answer that is not right behind its question needs a word that says what it is.
        words = draw_words(rng, bare=not text_after and layout is not Layout.WORKED)
    noun = pick(rng, templates.NOUNS)
    options, answering = _draw_options(rng, words, numbered=text_after or layout is Layout.NUMBERED)
    return Style(
        layout=layout,
        text_after=text_after,
        words=words,
        text_opening=_draw_text_opening(rng, noun),
        questions_opening=_maybe(rng, templates.OPENING_SHARE, around(noun, pick(rng, templates.QUESTIONS_OPENINGS))),
        mind_opening=around(noun, pick(rng, templates.MIND_OPENINGS)),
        numbering=Numbering(*pick(rng, templates.NUMBERED_HEADINGS), *pick(rng, templates.NUMBER_MARKS)),
        headings=pick(rng, templates.WORKED_HEADINGS),
        explained=pick(rng, templates.EXPLANATIONS),
        talk=Talk(
            request=around(noun, pick(rng, templates.REQUESTS)),
            ready=_maybe(rng, templates.READY_SHARE, pick(rng, templates.READY)),
            opening=pick(rng, templates.CONVERSATIONS),
            ask_next=around(speakers.second, pick(rng, templates.NEXT_TURNS)),
            lead=pick(rng, templates.NEXT_LEADS),
        ),
        options=options,
        answering=answering,
        think=pick(rng, templates_options.THINK_REQUESTS),
        conclude=pick(rng, templates_options.CONCLUSION_GAPS) + pick(rng, templates_options.CONCLUSIONS),
    )


def draw_words(rng: random.Random, bare: bool = True) -> PairWords:
    """What tells a question from its answer; `bare`: whether that may be next to nothing."""
    kind = weighted(rng, templates_pairs.KINDS)
    if kind is Kind.BARE and bare:
        return pick(rng, templates_pairs.BARE)
    if kind is Kind.PHRASED:
        request, reply = pick(rng, templates_pairs.REQUESTS), pick(rng, templates_pairs.REPLIES)
        return PairWords(request, weighted(rng, templates_pairs.GAPS) + reply)
    short = kind is Kind.SHORT
    couple = pick(rng, templates_pairs.SHORT_COUPLES if short else templates_pairs.COUPLES)
    sign = pick(rng, templates_pairs.SHORT_SIGNS if short else templates_pairs.SIGNS)
    own_line = sign.after.endswith("\n")
    gap = weighted(rng, templates_pairs.LINE_GAPS if own_line else templates_pairs.GAPS)
    return templates_pairs.set_off(couple, sign, gap)


def _draw_options(rng: random.Random, words: PairWords, numbered: bool) -> tuple[OptionWords, Answering]:
    bullets = rng.random() < templates_options.BULLET_SHARE
    labels = () if bullets else pick(rng, templates_options.LABELS)
    bracket = pick(rng, templates_options.BULLETS if bullets else templates_options.BRACKETS)
    if numbered and labels == templates_options.NUMBERS:
        labels = templates_options.LETTERS  # else numbered options would mix with numbered questions
    if labels in (templates_options.LETTERS, templates_options.SMALL_LETTERS) and _is_one_letter(words.question):
        bracket = templates_options.ROUND  # else "A: " would be an option here and an answer there
    between = "\n" if bullets else weighted(rng, templates_options.OPTION_BETWEEN)
    first = rng.random() < templates_options.OPTIONS_FIRST_SHARE
    header = pick(rng, templates_options.OPTION_HEADERS) + ("\n" if between == "\n" else " ")
    options = OptionWords(
        header=_maybe(rng, 1.0 if first else templates_options.HEADER_SHARE, header),
        labels=labels,
        bracket=bracket,
        between=between,
        first=first,
        none=pick(rng, templates_options.NONE_OPTIONS),
        reveal=pick(rng, templates_options.REVEALS),
    )
    return options, Answering.TEXT if bullets else pick(rng, tuple(Answering))


def _draw_text_opening(rng: random.Random, noun: str) -> str:
    if rng.random() < templates.TITLE_SHARE:
        opening = around(noun[0].upper() + noun[1:], pick(rng, templates.TITLES))
    else:
        opening = around(noun, pick(rng, templates.TEXT_OPENINGS))
    return _maybe(rng, templates.OPENING_SHARE, opening)


def _is_one_letter(word: str) -> bool:
    return sum(map(str.isalpha, word)) == 1


def around(word: str, pieces: templates.Around) -> str:
    """`word` between the two pieces."""
    before, after = pieces
    return before + word + after


def weighted(rng: random.Random, items: Sequence[tuple[T, float]]) -> T:
    """One of the items, by their weights, which add up to 1."""
    drawn = rng.random()
    for item, weight in items:
        drawn -= weight
        if drawn < 0:
            return item
    return items[-1][0]


def _maybe(rng: random.Random, share: float, text: str) -> str:
    return text if rng.random() < share else ""
