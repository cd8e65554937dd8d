"""The words that examples are dressed in. Nothing here is a format string: pieces are joined, never filled in.

All of it was written for this project. The ideas (varied question and answer patterns, option labels, requests to
think) follow the paper's section 2.2. Change `VERSION` with any of it: rendered text then differs, and a mixture
made before is another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

VERSION = 1


class Layout(StrEnum):
    """How a text and its pairs stand together."""

    CLASSIC = "classic"
    """The text, then its pairs one after another."""
    DIALOGUE = "dialogue"
    """Two speakers: one brings the text and asks, the other answers."""
    NUMBERED = "numbered"
    """The text, then all questions numbered, then all answers."""


LAYOUTS_MANY = ((Layout.CLASSIC, 0.90), (Layout.DIALOGUE, 0.05), (Layout.NUMBERED, 0.05))
LAYOUTS_SINGLE = ((Layout.CLASSIC, 0.95), (Layout.DIALOGUE, 0.05))
"""Weights where some text has several pairs, and where each has one: numbering one question says nothing."""


@dataclass(frozen=True, slots=True)
class PairWords:
    """What stands before a question, and between it and its answer."""

    question: str
    answer: str


PAIR_WORDS = (
    PairWords("", "\n"),
    PairWords("", " "),
    PairWords("", "\n\n"),
    PairWords("", "\n-> "),
    PairWords("Q: ", "\nA: "),
    PairWords("Q. ", "\nA. "),
    PairWords("Question: ", "\nAnswer: "),
    PairWords("Question:\n", "\nAnswer:\n"),
    PairWords("QUESTION: ", "\nANSWER: "),
    PairWords("**Question:** ", "\n**Answer:** "),
    PairWords("### Question\n", "\n### Answer\n"),
    PairWords("Asked: ", "\nAnswered: "),
    PairWords("Task: ", "\nResult: "),
    PairWords("Problem: ", "\nSolution: "),
    PairWords("Exercise: ", "\nKey: "),
    PairWords("Instruction: ", "\nOutput: "),
    PairWords("Please answer: ", "\nAnswer: "),
    PairWords("To be answered: ", "\nThe answer: "),
    PairWords("Here is a question. ", "\nHere is its answer. "),
)

SPEAKERS = (
    PairWords("User: ", "\nAssistant: "),
    PairWords("Student: ", "\nTeacher: "),
    PairWords("Reader: ", "\nEditor: "),
    PairWords("A: ", "\nB: "),
    PairWords("Visitor: ", "\nGuide: "),
)
DIALOGUE_REQUESTS = (
    "Please read this first.",
    "I have a text here, and some things to ask about it.",
    "Have a look at the following.",
    "Let us talk about this text.",
)

TEXT_OPENINGS = (
    "Read the following text.\n\n",
    "Here is a text.\n\n",
    "Text:\n",
    "Passage: ",
    "Please read carefully.\n\n",
    "Read this, then answer.\n\n",
    "Material to study:\n\n",
)
QUESTIONS_OPENINGS = (
    "Now answer about the text.\n\n",
    "Questions about the text:\n\n",
    "Based on the text above:\n\n",
    "What does the text tell us?\n\n",
    "Let us see what was said.\n\n",
    "Answer from what you have read.\n\n",
)
OPENING_SHARE = 0.4
"""How often each of the two openings is there at all."""

NUMBERED_HEADINGS = (("Questions", "Answers"), ("Questions:", "Answers:"), ("To answer:", "Solutions:"))


class Answering(StrEnum):
    """How the right option is named."""

    TEXT = "text"
    LABEL = "label"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class OptionWords:
    """How options are listed: a header line, then `before` label `after` option, with `between` two of them."""

    header: str
    labels: tuple[str, ...]
    before: str
    after: str
    between: str


LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SMALL_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
NUMBERS = tuple(str(number) for number in range(1, 27))
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
LABELS = (LETTERS, SMALL_LETTERS, NUMBERS, ROMAN)
BRACKETS = (("(", ") "), ("", ") "), ("", ". "), ("[", "] "), ("", ": "))
BULLETS = ("- ", "* ", "+ ")
OPTION_HEADERS = ("Options:", "OPTIONS:", "Choices:", "Choose one:", "Pick from these:", "Possible answers:", "")
OPTION_BETWEEN = (("\n", 0.85), ("; ", 0.05), ("  ", 0.10))
BULLET_SHARE = 0.3

THINK_REQUESTS = (
    "Let's think step by step.",
    "Think step by step.",
    "Think it through before you answer.",
    "Give your reasons first.",
    "Explain, then answer.",
    "Work it out one step at a time.",
    "How do you know?",
)
CONCLUSIONS = (
    "\nTherefore, the answer is ",
    "\nSo the answer is ",
    " So the answer is ",
    "\nThe answer: ",
    "\nHence: ",
    " That makes it: ",
    "\nFinal answer: ",
)
