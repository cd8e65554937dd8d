"""Rendering: an M-shot example becomes the text that a model is pre-trained on (paper, section 2.2).

    classic    Text:\\nThe cat sat on the mat.\\n\\nQ: Who sat?\\nA: The cat.\\n\\nQ: Where?\\nA: On the mat.
    dialogue   User: Have a look at the following.\\n\\nThe cat sat ...\\n\\nUser: Who sat?\\nAssistant: The cat.
    numbered   The cat sat ...\\n\\nQuestions\\n1. Who sat?\\n2. Where?\\n\\nAnswers\\n1. The cat.\\n2. On the mat.

A pure function of (example, seed): the generator is seeded by a hash of the seed and the example's id, and only its
`random()` is used, which Python promises to keep. One style holds through all the shots of an example. Data is only
ever joined to other strings, so that braces, quotes and format characters in it stay what they are.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ipt_stream.corpus.pair import COT_ANSWER, COT_REQUEST, OPTIONS_HEADER, Pair
from ipt_stream.mixture import templates
from ipt_stream.mixture.templates import Answering, Layout, OptionWords, PairWords
from ipt_stream.synthesis.prompt import Shot
from ipt_stream.synthesis.results import Example

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Style:
    """Every choice of words for one example."""

    layout: Layout
    words: PairWords
    text_opening: str
    questions_opening: str
    headings: tuple[str, str]
    options: OptionWords
    answering: Answering
    think: str
    conclude: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a pair says, taken apart: options where it is multiple choice, a thought where it asks for one."""

    question: str
    options: tuple[str, ...]
    chain_of_thought: bool
    thought: str | None
    answer: str


def render(example: Example, seed: int) -> str:
    """The pre-training text of `example`. Each text in it appears verbatim."""
    digest = hashlib.sha256(f"{seed}:{example.example_id}".encode()).digest()
    rng = random.Random(int.from_bytes(digest[:8], "little"))
    style = draw_style(rng, several=any(len(shot.pairs) > 1 for shot in example.shots))
    return "\n\n".join(render_shot(shot, style, rng) for shot in example.shots)


def draw_style(rng: random.Random, several: bool) -> Style:
    """One style; `several`: whether some text has more than one pair."""
    layout = _weighted(rng, templates.LAYOUTS_MANY if several else templates.LAYOUTS_SINGLE)
    dialogue = layout is Layout.DIALOGUE
    bullets = rng.random() < templates.BULLET_SHARE
    labels = () if bullets else _pick(rng, templates.LABELS)
    before, after = (_pick(rng, templates.BULLETS), "") if bullets else _pick(rng, templates.BRACKETS)
    return Style(
        layout=layout,
        words=_pick(rng, templates.SPEAKERS if dialogue else templates.PAIR_WORDS),
        text_opening=_pick(rng, templates.DIALOGUE_REQUESTS) if dialogue else _maybe(rng, templates.TEXT_OPENINGS),
        questions_opening="" if dialogue else _maybe(rng, templates.QUESTIONS_OPENINGS),
        headings=_pick(rng, templates.NUMBERED_HEADINGS),
        options=OptionWords(
            header=_pick(rng, templates.OPTION_HEADERS),
            labels=labels,
            before=before,
            after=after,
            between="\n" if bullets else _weighted(rng, templates.OPTION_BETWEEN),
        ),
        answering=Answering.TEXT if bullets else _pick(rng, tuple(Answering)),
        think=_pick(rng, templates.THINK_REQUESTS),
        conclude=_pick(rng, templates.CONCLUSIONS),
    )


def render_shot(shot: Shot, style: Style, rng: random.Random) -> str:
    """A text with its pairs; the pairs alone where the text is empty, the text alone where it has none."""
    presented = [present(take_apart(pair), style, rng) for pair in shot.pairs]
    if not presented:
        return shot.text
    question, answer = style.words.question, style.words.answer
    if style.layout is Layout.NUMBERED:
        asking, solving = style.headings
        numbered = [list(map(_number, range(1, len(presented) + 1), side)) for side in zip(*presented, strict=True)]
        body = "\n".join([asking, *numbered[0]]) + "\n\n" + "\n".join([solving, *numbered[1]])
    else:
        body = "\n\n".join(question + asked + _break(answer, asked) + answered for asked, answered in presented)
    if not shot.text:
        return body
    if style.layout is Layout.DIALOGUE:
        return f"{question}{style.text_opening}\n\n" + shot.text + "\n\n" + body
    return style.text_opening + shot.text + "\n\n" + style.questions_opening + body


def present(asked: Asked, style: Style, rng: random.Random) -> tuple[str, str]:
    """The question as it is asked, and the answer as it is given. Options are shuffled; the right one stays right."""
    question, answer = asked.question, asked.answer
    if asked.options:
        words = style.options
        options = _shuffled(rng, asked.options)
        labelled = 0 < len(options) <= len(words.labels)
        labels = words.labels if labelled else ("",) * len(options)
        before, after = (words.before, words.after) if labelled or not words.labels else ("- ", "")
        listed = words.between.join(
            before + label + after + option for label, option in zip(labels, options, strict=False)
        )
        question += "\n" + (words.header + "\n" if words.header else "") + listed
        right = _find(options, answer)
        if labelled and right is not None and style.answering is Answering.LABEL:
            bracketed = words.before + labels[right] + words.after.rstrip()
            answer = bracketed if words.before else labels[right]  # "(A)", but "A" of "A." and "A:"
        elif labelled and right is not None and style.answering is Answering.BOTH:
            answer = words.before + labels[right] + words.after + options[right]
    if asked.chain_of_thought:
        question += "\n" + style.think
    if asked.thought is not None:
        answer = asked.thought + style.conclude + answer
    return question, answer


def take_apart(pair: Pair) -> Asked:
    """The parts of a pair in the synthesizer's format (paper, table 7). What is not in the format is left as it is."""
    instruction, asks = pair.instruction, pair.instruction.endswith(COT_REQUEST)
    question = instruction.removesuffix(COT_REQUEST)
    thought, separator, answer = pair.response.rpartition(COT_ANSWER) if asks else ("", "", "")
    if not separator:
        thought, answer = "", pair.response
    before, header, listed = question.rpartition(OPTIONS_HEADER + "\n- ")
    options = tuple(listed.split("\n- ")) if header else ()
    if len(options) < 2:
        before, options = question, ()
    return Asked(before, options, asks, thought if separator else None, answer)


def _break(answer: str, asked: str) -> str:
    """What leads to the answer, on a line of its own where the question ends in a list: else it would join that."""
    return "\n" + answer.lstrip() if "\n" in asked and not answer.startswith("\n") else answer


def _number(number: int, text: str) -> str:
    return f"{number}. " + text


def _find(options: Sequence[str], answer: str) -> int | None:
    """Which of `options` is `answer`, exactly or but for case and space around it."""
    for same in (str, lambda text: text.strip().casefold()):
        for index, option in enumerate(options):
            if same(option) == same(answer):
                return index
    return None


def _pick(rng: random.Random, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def _maybe(rng: random.Random, items: Sequence[str]) -> str:
    return _pick(rng, items) if rng.random() < templates.OPENING_SHARE else ""


def _weighted(rng: random.Random, items: Sequence[tuple[T, float]]) -> T:
    """One of the items, by their weights, which add up to 1."""
    drawn = rng.random()
    for item, weight in items:
        drawn -= weight
        if drawn < 0:
            return item
    return items[-1][0]


def _shuffled(rng: random.Random, items: Sequence[T]) -> list[T]:
    keys = [rng.random() for _ in items]
    return [items[index] for index in sorted(range(len(items)), key=keys.__getitem__)]
