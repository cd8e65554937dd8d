"""Rendering: an M-shot example becomes the text that a model is pre-trained on (paper, section 2.2).

A pure function of (example, seed): the generator is seeded by a hash of the seed and the example's id, and only its
`random()` is used, which Python promises to keep. One style holds through all the shots of an example. Data is only
ever joined to other strings, so that braces, quotes and format characters in it stay what they are. Now and then a
text comes between its questions and their answers. The same shot in each layout:

classic: the text, then its pairs

    The cat sat on the mat.

    Q: Where?
    Options:
    (A) roof
    (B) mat
    Think it through.
    A: It sat on the mat.
    So the answer is (B) mat

    Q: Who sat?
    A: The cat.

dialogue

    User: Have a look at this text.

    The cat sat on the mat.

    Assistant: Go ahead.

    User: Where?
    Options:
    (A) roof
    (B) mat
    Think it through.
    Assistant: It sat on the mat.
    So the answer is (B) mat

    User: Who sat?
    Assistant: The cat.

numbered: questions, then answers

    The cat sat on the mat.

    Questions
    1. Where?
    Options:
    (A) roof
    (B) mat
    Think it through.
    2. Who sat?

    Answers
    1. It sat on the mat.
    So the answer is (B) mat
    2. The cat.

worked: examples, then a test item with its explanation

    The cat sat on the mat.

    Example
    Q: Who sat?
    A: The cat.

    Test
    Q: Where?
    Options:
    (A) roof
    (B) mat
    Answer and explain.
    A: (B) mat
    Explanation: It sat on the mat.

next turn: a dialogue and what is said next in it

    User: Have a look at this text.

    The cat sat on the mat.

    Assistant: Go ahead.

    User: Where?
    Options:
    (A) roof
    (B) mat
    Think it through.
    Assistant: It sat on the mat.
    So the answer is (B) mat

    User: Who sat?

    What does the assistant say next?
    The cat.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ipt_stream.corpus.pair import COT_ANSWER, COT_REQUEST, OPTIONS_HEADER, Pair
from ipt_stream.draw import seeded, shuffled
from ipt_stream.mixture import templates_options
from ipt_stream.mixture.templates import Layout
from ipt_stream.mixture.templates_options import Answering, Bracket, OptionWords
from ipt_stream.mixture.templates_pairs import UNMARKED_ANSWER
from ipt_stream.mixture.templates_style import Style, draw_style
from ipt_stream.synthesis.prompt import Shot
from ipt_stream.synthesis.results import Example

NONE_SHARE = templates_options.NONE_ADDED_SHARE + templates_options.NONE_RIGHT_SHARE


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
    rng = seeded(seed, example.example_id)
    style = draw_style(rng, several=any(len(shot.pairs) > 1 for shot in example.shots))
    return "\n\n".join(render_shot(shot, style, rng) for shot in example.shots)


def render_shot(shot: Shot, style: Style, rng: random.Random) -> str:
    """A text with its pairs; the pairs alone where the text is empty, the text alone where it has none."""
    pairs = [take_apart(pair) for pair in shot.pairs]
    if not pairs:
        return shot.text
    if style.layout is Layout.WORKED:
        body = _worked(pairs, style, rng)
    else:
        presented = [present(asked, style, rng) for asked in pairs]
        if style.layout in (Layout.DIALOGUE, Layout.NEXT_TURN):
            return _conversation(shot.text, presented, style)
        if style.text_after and shot.text:
            questions, answers = _numbered(presented, style)
            text = style.text_opening + shot.text
            return style.mind_opening + questions + "\n\n" + text + "\n\n" + answers
        if style.layout is Layout.NUMBERED and len(presented) > 1:
            body = "\n\n".join(_numbered(presented, style))
        else:
            body = _one_by_one(presented, style)
    return style.text_opening + shot.text + "\n\n" + style.questions_opening + body if shot.text else body


def present(asked: Asked, style: Style, rng: random.Random) -> tuple[str, str]:
    """The question as it is asked, and the answer as it is given. Options are shuffled; the right one stays right."""
    question, answer = _choose(asked, style, rng)
    if asked.chain_of_thought:
        question += "\n" + style.think
    if asked.thought is not None:
        ended = asked.thought.rstrip().endswith((".", "!", "?"))
        answer = asked.thought + (style.conclude if ended else _own_line(style.conclude)) + answer
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


def _one_by_one(presented: Sequence[tuple[str, str]], style: Style) -> str:
    return "\n\n".join(_pair(asked, answered, style) for asked, answered in presented)


def _pair(asked: str, answered: str, style: Style) -> str:
    return style.words.question + asked + _lead(style.words.answer, asked) + answered


def _numbered(presented: Sequence[tuple[str, str]], style: Style) -> tuple[str, str]:
    """All questions, and all answers, by number; one of each in the words of a pair, since a number says nothing."""
    if len(presented) == 1:
        ((asked, answered),) = presented
        return style.words.question + asked, style.words.answer.lstrip() + answered
    words = style.numbering
    questions, answers = [words.questions], [words.answers]
    for number, (asked, answered) in enumerate(presented, 1):
        questions.append(words.question_mark + str(number) + words.after + asked)
        answers.append(words.answer_mark + str(number) + words.after + answered)
    return "\n".join(questions), "\n".join(answers)


def _worked(pairs: Sequence[Asked], style: Style, rng: random.Random) -> str:
    """Worked examples, then the test item: the last pair that holds a thought to explain it with, else the last."""
    test = max((index for index, asked in enumerate(pairs) if _explains(asked)), default=len(pairs) - 1)
    examples = [_pair(*present(asked, style, rng), style) for index, asked in enumerate(pairs) if index != test]
    item = _explained(pairs[test], style, rng)
    if not examples:
        return item
    words = style.headings
    headings = [words.example + (f" {number}" if len(examples) > 1 else "") for number in range(1, len(pairs))]
    worked = [heading + words.after + example for heading, example in zip(headings, examples, strict=True)]
    return "\n\n".join([*worked, words.test + item])


def _explained(asked: Asked, style: Style, rng: random.Random) -> str:
    """A test item: its thought, where it has one, is the explanation of its answer."""
    if not _explains(asked):
        return _pair(*present(asked, style, rng), style)
    question, answer = _choose(asked, style, rng)
    words = style.explained
    question += "\n" + words.request
    explanation = words.lead + (asked.thought or "")
    if words.answer_first:
        return _pair(question, answer, style) + "\n" + explanation
    return style.words.question + question + "\n" + explanation + "\n" + style.words.answer.lstrip() + answer


def _explains(asked: Asked) -> bool:
    return asked.thought is not None and asked.thought.strip() != ""


def _conversation(text: str, presented: Sequence[tuple[str, str]], style: Style) -> str:
    """Turn by turn; where the next one is asked for, the last reply stands apart."""
    asks, answers, talk = style.words.question, style.words.answer, style.talk
    turns = _one_by_one(presented, style)
    if style.layout is Layout.NEXT_TURN:
        last_asked, last_answered = presented[-1]
        earlier = [_pair(asked, answered, style) for asked, answered in presented[:-1]]
        turns = "\n\n".join([*earlier, asks + last_asked])
    if text and talk.ready:
        turns = asks + talk.request + "\n\n" + text + "\n\n" + answers.lstrip() + talk.ready + "\n\n" + turns
    elif text:  # nothing is said to it: the first question is in the same turn
        turns = asks + talk.request + "\n\n" + text + "\n\n" + turns.removeprefix(asks)
    if style.layout is Layout.DIALOGUE:
        return turns
    lead = talk.lead or "\n" + answers.lstrip()
    return talk.opening + turns + "\n\n" + talk.ask_next + lead + last_answered


def _choose(asked: Asked, style: Style, rng: random.Random) -> tuple[str, str]:
    """The question with its options, and the answer as it names one of them; verbatim, where it is none of them."""
    if not asked.options:
        return asked.question, asked.answer
    words, answer = style.options, asked.answer
    options = shuffled(rng, asked.options)
    drawn = rng.random()
    right = _find(options, answer)
    left_out = False
    if right is not None and _takes_none(options, answer):
        if drawn < templates_options.NONE_ADDED_SHARE:
            options.append(words.none)
        elif drawn < NONE_SHARE and len(options) > 2 and not asked.chain_of_thought and _matches(options, answer) == 1:
            del options[right]
            options.append(words.none)
            left_out, right, answer = True, len(options) - 1, words.none
    labelled = len(options) <= len(words.labels)
    if labelled and right is not None and style.answering is not Answering.TEXT:
        label, bracket = words.labels[right], words.bracket
        if style.answering is Answering.BOTH or left_out:  # a label alone does not say that none fits
            answer = bracket.before + label + bracket.after + options[right]
        else:
            answer = bracket.before + label + bracket.close
    if left_out:
        answer += words.reveal + asked.answer
    listed = _list(options, words if labelled or not words.labels else _bulleted(words))
    question = listed + "\n" + asked.question if words.first else asked.question + "\n" + listed
    return question, answer


def _list(options: Sequence[str], words: OptionWords) -> str:
    labels = words.labels or ("",) * len(options)
    before, after = words.bracket.before, words.bracket.after
    lines = [before + label + after + option for label, option in zip(labels, options, strict=False)]
    return words.header + words.between.join(lines)


def _bulleted(words: OptionWords) -> OptionWords:
    """For more options than there are labels."""
    header = words.header.rstrip() + "\n" if words.header else ""
    return replace(words, header=header, labels=(), bracket=Bracket("- ", ""), between="\n")


def _takes_none(options: Sequence[str], answer: str) -> bool:
    """Whether one may be added that says none fits: the right one is known, and none speaks of the others."""
    said = {word for option in options for word in re.split(r"[^\w']+", option.casefold().replace("\u2019", "'"))}
    return answer in options and not said & templates_options.NOT_ONE_OF_MANY


def _lead(lead: str, asked: str) -> str:
    """What leads to the answer, on a line of its own where the question has several: else it would join a list."""
    if "\n" not in asked:
        return lead
    if lead.strip():
        return _own_line(lead)
    return "\n\n" if all(line.strip() for line in asked.split("\n")) else UNMARKED_ANSWER


def _own_line(lead: str) -> str:
    return lead if lead.startswith("\n") else "\n" + lead.lstrip()


def _find(options: Sequence[str], answer: str) -> int | None:
    """Which of `options` is `answer`, exactly or but for case and space around it."""
    for same in (str, _folded):
        for index, option in enumerate(options):
            if same(option) == same(answer):
                return index
    return None


def _matches(options: Sequence[str], answer: str) -> int:
    return sum(_folded(option) == _folded(answer) for option in options)


def _folded(text: str) -> str:
    return text.strip().casefold()
