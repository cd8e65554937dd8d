"""Whether a synthesized pair is right, by the truth of the sample world that its document comes from.

The truth is computed, not looked up: a document's id names its person, and (seed, person) gives every fact. So the
pairs of ten million documents can be judged with no index at all.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import cache

from ipt_stream.corpus.pair import COT_ANSWER, COT_REQUEST, OPTIONS_HEADER, Pair
from ipt_stream.corpus.world.facts import Attribute, World
from ipt_stream.corpus.world.wording import QUESTIONS
from ipt_stream.errors import InputError

_NUMBER = re.compile(r"(\d+)$")
_SLOT = "{name}"


class Verdict(Enum):
    """What is to be said of a pair."""

    RIGHT = "right"
    WRONG = "wrong"
    UNANSWERABLE = "unanswerable"


def person_index(source_id: str) -> int:
    """The number of the person whom a document of the sample world is about, from its `url` or its `meta` id.

    Raises:
        InputError: the id doesn't end in a number, so that it is none of the sample world's.
    """
    found = _NUMBER.search(source_id)
    if found is None:
        raise InputError(
            f"{source_id} is no document of the sample world", wanted="an id ending in a person's number", got=source_id
        )
    return int(found.group(1))


def judge(world: World, source_id: str, text: str, pair: Pair) -> Verdict:
    """Judge one synthesized pair.

    RIGHT: the question asks for an attribute of the document's person, and the (final) answer is its true value, is
    stated in `text` and, for multiple choice, is among the options, none of which comes twice. WRONG: a question of
    the world's with any other answer, or about anybody else. UNANSWERABLE: the instruction is none of the world's.

    Args:
        world: the world that the document comes from.
        source_id: the document's own id (`url` or `meta` id).
        text: the document, or the piece of it that the pair was made from.
        pair: the pair.

    Raises:
        InputError: `source_id` is none of the world's.
    """
    person = world.person(person_index(source_id))
    question, options = _read_instruction(pair.instruction)
    asked = _asked(question)
    if asked is None:
        return Verdict.UNANSWERABLE
    attribute, name = asked
    answer = final_answer(pair)
    right = (
        name == person.name
        and answer == person.value(attribute)
        and (not options or (answer in options and len(set(options)) == len(options)))
        and re.search(rf"\b{re.escape(answer)}\b", text) is not None
    )
    return Verdict.RIGHT if right else Verdict.WRONG


def asked_about(pair: Pair) -> tuple[Attribute, str] | None:
    """What a pair's question asks for, and the name that it asks about; None where it is none of the world's."""
    return _asked(_read_instruction(pair.instruction)[0])


def final_answer(pair: Pair) -> str:
    """The answer of a response: what follows the chain of thought where there is one, else all of it."""
    return pair.response.rpartition(COT_ANSWER)[2].strip()


def _read_instruction(instruction: str) -> tuple[str, tuple[str, ...]]:
    """The question, and its options (none for free-form)."""
    instruction = instruction.removesuffix(COT_REQUEST)
    question, _, listed = instruction.partition(OPTIONS_HEADER)
    return question, tuple(line.removeprefix("- ") for line in listed.splitlines() if line)


@cache
def _patterns() -> dict[tuple[str, str], Attribute]:
    """What stands before and after the name in each question, and what it asks for."""
    patterns = {}
    for attribute, wordings in QUESTIONS.items():
        for wording in wordings:
            before, _, after = wording.partition(_SLOT)
            patterns[before, after] = attribute
    return patterns


def _asked(question: str) -> tuple[Attribute, str] | None:
    """The attribute and the name that a question of the world asks about, or None."""
    for (before, after), attribute in _patterns().items():
        if question.startswith(before) and question.endswith(after) and len(question) > len(before) + len(after):
            name = question[len(before) : len(question) - len(after)]
            if all(part.isalpha() and part.istitle() for part in name.split(" ")):
                return attribute, name
    return None
