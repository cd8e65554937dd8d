"""How options are listed and labelled, how the right one is named, how none is right; requests to think first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Answering(StrEnum):
    """How the right option is named."""

    TEXT = "text"
    LABEL = "label"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Bracket:
    """What stands around an option's label; `close` is what follows a label that stands alone: "(A)", but "A"."""

    before: str
    after: str
    close: str = ""


@dataclass(frozen=True, slots=True)
class OptionWords:
    """How options are listed: a header, then each label in its bracket and the option, with `between` two of them.

    Attributes:
        header: with the space or line break that ends it; empty: none.
        labels: none for bullets.
        bracket: around a label, or the bullet.
        between: two options.
        first: the options come before the question.
        none: the option that none of the others fits.
        reveal: what stands between that, as the answer, and what would have been right.
    """

    header: str
    labels: tuple[str, ...]
    bracket: Bracket
    between: str
    first: bool
    none: str
    reveal: str


LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SMALL_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
NUMBERS = tuple(str(number) for number in range(1, 27))
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
SMALL_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
LABELS = (LETTERS, LETTERS, SMALL_LETTERS, NUMBERS, ROMAN, SMALL_ROMAN)
ROUND = Bracket("(", ") ", ")")
BRACKETS = (
    ROUND,
    Bracket("", ") "),
    Bracket("", ". "),
    Bracket("[", "] ", "]"),
    Bracket("", ": "),
    Bracket("", " - "),
    Bracket("**", ".** ", "**"),
    Bracket("Option ", ": "),
    Bracket("Choice ", ": "),
)
BULLETS = (Bracket("- ", ""), Bracket("* ", ""), Bracket("+ ", ""))
BULLET_SHARE = 0.3
OPTION_BETWEEN = (("\n", 0.85), ("; ", 0.05), ("  ", 0.05), (" | ", 0.05))

OPTION_HEADERS = (
    "Options:",
    "OPTIONS:",
    "**Options:**",
    "Choices:",
    "CHOICES:",
    "Your options:",
    "The choices are:",
    "Answer choices:",
    "Possible answers:",
    "Candidates:",
    "Choose one:",
    "Select one:",
    "Pick one of these:",
    "Choose from these answers:",
)
HEADER_SHARE = 0.85
"""How often options have a header; always where they come before the question."""
OPTIONS_FIRST_SHARE = 0.05

NONE_ADDED_SHARE = 0.05
NONE_RIGHT_SHARE = 0.03
"""How often an option is added that none fits, and how often it is the right one: the right one is then left out."""
NONE_OPTIONS = (
    "None of these",
    "None of the above",
    "None of the options",
    "None of these fits",
    "None of them is right",
    "No option fits",
    "No right option is given",
)
REVEALS = (
    ". It is ",
    ". The right answer: ",
    ". The right answer is ",
    ". The answer would be: ",
    ". It should be: ",
    ". What fits: ",
)
# fmt: off
NOT_ONE_OF_MANY = frozenset((
    "none", "neither", "nor", "both", "all", "any", "above", "below", "other", "others", "else", "no", "not",
    "never", "nothing", "cannot", "can't", "unknown", "unsure", "uncertain", "undetermined", "unanswerable", "yes",
    "true", "false",
))
# fmt: on
"""An option with such a word may speak of the other options or leave no third way: none is then added or left out."""

THINK_REQUESTS = (
    "Let's think step by step.",
    "Think step by step.",
    "Please think step by step.",
    "Let us go one step at a time.",
    "Work it out one step at a time.",
    "Think it through before you answer.",
    "Think first, then answer.",
    "Take it slowly, and show each step.",
    "Give your reasons first.",
    "Give your reasons, then the answer.",
    "Explain, then answer.",
    "Explain how you get to the answer.",
    "Show how you arrive at it.",
    "Show your reasoning.",
    "Reason about it first.",
    "Lay out your reasoning, then conclude.",
    "What leads you to the answer?",
    "How do you know?",
)
CONCLUSION_GAPS = ("\n", "\n", "\n\n", " ")
CONCLUSIONS = (
    "Therefore, the answer is ",
    "So the answer is ",
    "Thus the answer is ",
    "Hence the answer is ",
    "The answer is therefore ",
    "The answer: ",
    "So the answer: ",
    "Answer: ",
    "Final answer: ",
    "My answer: ",
    "Hence: ",
    "Therefore: ",
    "In short: ",
    "In conclusion: ",
    "That makes it: ",
    "This leads to: ",
)
