"""The connectives that are looked for, and the words in which is asked. All of it was written for this project.

A wording is the pieces around what it asks about, and nothing here is a format string: pieces are joined, never filled
in. Connectives stand as they open a sentence, with the space after them; the longer ones of a kind come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")
Wording = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChoiceWording(Generic[T]):
    """How is asked of which kind something is: the pieces around it, and what the kinds are called as options."""

    pieces: Wording
    options: dict[T, str]


class Relation(StrEnum):
    """What a connective says of its sentence and the one before."""

    ENTAILMENT = "entailment"
    CONTRADICTION = "contradiction"
    NEUTRAL = "neutral"


INFERENCE_OPENINGS: dict[Relation, Wording] = {
    Relation.ENTAILMENT: (
        "Therefore, ", "Therefore ", "Thus, ", "Hence, ", "Consequently, ", "Accordingly, ", "It follows that ",
        "This means that ", "This implies that ", "We conclude that ",
    ),
    Relation.CONTRADICTION: (
        "However, ", "Nevertheless, ", "Nonetheless, ", "On the contrary, ", "Yet, ", "Even so, ", "Despite this, ",
        "In spite of this, ", "Contrary to this, ",
    ),
    Relation.NEUTRAL: (
        "Moreover, ", "Furthermore, ", "Additionally, ", "In addition, ", "Besides, ", "Also, ", "Meanwhile, ",
        "Incidentally, ", "At the same time, ",
    ),
}  # fmt: skip


_CLASSES = {
    Relation.ENTAILMENT: "Entailment",
    Relation.CONTRADICTION: "Contradiction",
    Relation.NEUTRAL: "Neutral",
}
_ANSWERS = {Relation.ENTAILMENT: "Yes", Relation.CONTRADICTION: "No", Relation.NEUTRAL: "It can't be said"}
_PHRASES = {
    Relation.ENTAILMENT: "It follows from the first",
    Relation.CONTRADICTION: "It goes against the first",
    Relation.NEUTRAL: "It only adds to the first",
}
INFERENCE = (
    ChoiceWording(("Premise: ", "\nHypothesis: ", "\nDoes the second follow from the first?"), _CLASSES),
    ChoiceWording(("Name the relation of these two sentences.\n1) ", "\n2) ", ""), _CLASSES),
    ChoiceWording(("Given this: ", "\nMay we infer this? ", ""), _ANSWERS),
    ChoiceWording(("We read: ", "\nIs it to be expected, then, that this holds? ", ""), _ANSWERS),
    ChoiceWording(("First statement: ", "\nSecond statement: ", "\nHow does the second relate to it?"), _PHRASES),
    ChoiceWording(("The text says: ", "\nWhat is this to it? ", ""), _PHRASES),
)

RESULT_OPENINGS = (
    "As a result, ", "As a consequence, ", "For this reason, ", "For that reason, ", "For these reasons, ",
    "Because of this, ", "Because of that, ", "Due to this, ", "Owing to this, ", "That is why ", "This is why ",
)  # fmt: skip
REASON_OPENINGS = ("This is because ", "That is because ", "The reason is that ", "The reason for this is that ")
CAUSE_OPENINGS = ("Because of ", "Because ", "Due to ", "Owing to ", "As a result of ", "As a consequence of ")
"""These open a sentence whose first half is the cause; those above, one whose cause or effect is the sentence before"""
ASK_CAUSE: tuple[Wording, ...] = (
    ("Why is this, according to the text?\n", ""),
    ("What reason does the text give for this?\n", ""),
    ("The text says: ", " Why?"),
    ("Give the cause that the text names.\nEffect: ", ""),
    ("Explain, as the text does, why this is so: ", ""),
)
ASK_EFFECT: tuple[Wording, ...] = (
    ("What comes of this, according to the text?\n", ""),
    ("The text says: ", " With what result?"),
    ("Give the effect that the text names.\nCause: ", ""),
    ("What does the text say follows from this?\n", ""),
)
ASK_EFFECT_OF_CLAUSE: tuple[Wording, ...] = (
    ("According to the text, what is so ", "?"),
    ("What does the text tell us is so, ", "?"),
    ("What does the text say is the case ", "?"),
)

PARAPHRASE_OPENINGS = (
    "In other words, ", "To put it another way, ", "To put it simply, ", "To put it differently, ", "Put another way, ",
    "Put differently, ", "Put simply, ", "Simply put, ", "Stated differently, ", "Said differently, ",
    "In simple terms, ", "In plain terms, ", "In plain English, ", "That is to say, ", "That is, ", "Which is to say, ",
    "Namely, ", "This is to say that ",
)  # fmt: skip
"""Not "In short" and the like: what they open sums up more than the sentence before."""
PARAPHRASE: tuple[Wording, ...] = (
    ("Put this in other words: ", ""),
    ("Say the same in another way.\n", ""),
    ("How else could one say this?\n", ""),
    ("Restate the sentence: ", ""),
    ("What does this amount to?\n", ""),
)


class Likeness(StrEnum):
    """What a connective of comparison says of its sentence and the one before."""

    ALIKE = "alike"
    DIFFERENT = "different"


COMPARISON_OPENINGS: dict[Likeness, Wording] = {
    Likeness.ALIKE: (
        "Similarly, ", "Likewise, ", "In the same way, ", "In a similar way, ", "In a similar manner, ",
        "By the same token, ", "In like manner, ", "Correspondingly, ",
    ),
    Likeness.DIFFERENT: (
        "In contrast, ", "By contrast, ", "In comparison, ", "On the other hand, ", "Conversely, ",
        "Contrarily, ",
    ),
}  # fmt: skip


COMPARISON = (
    ChoiceWording(
        ("Do these two say something alike, or do they differ?\n1) ", "\n2) ", ""),
        {Likeness.ALIKE: "Alike", Likeness.DIFFERENT: "They differ"},
    ),
    ChoiceWording(
        ("Compare.\nFirst: ", "\nSecond: ", ""),
        {Likeness.ALIKE: "The second is like the first", Likeness.DIFFERENT: "The second is unlike the first"},
    ),
    ChoiceWording(
        ("Here is one statement: ", "\nAnd another: ", "\nDoes the text liken or contrast them?"),
        {Likeness.ALIKE: "It likens them", Likeness.DIFFERENT: "It contrasts them"},
    ),
)

OPENINGS = tuple(
    opening
    for openings in (*INFERENCE_OPENINGS.values(), *COMPARISON_OPENINGS.values(), RESULT_OPENINGS)
    for opening in openings
    if opening.endswith(", ")
)
"""All that link a sentence to the one before and can be left out."""

SUMMARY: tuple[Wording, ...] = (
    ("Give the text a title.",),
    ("What is this text about?",),
    ("Sum the text up in one line.",),
    ("Under which heading could this stand?",),
    ("In a few words, what is the subject here?",),
)
SUMMARY_OF_QUESTION: tuple[Wording, ...] = (
    ("Give the text a title.",),
    ("Which question does this text deal with?",),
    ("Under which heading could this stand?",),
    ("What does this text set out to answer?",),
)

WORDS: tuple[Wording, ...] = (
    ("Write a sentence with these words: ", ""),
    ("Make one sentence of these terms: ", ""),
    ("Using the terms ", ", say something that the text says."),
    ("What does the text say in one sentence with all of these words: ", "?"),
    ("From these key words, build a sentence about the text's subject.\n", ""),
)

COMPLETION: tuple[Wording, ...] = (
    ("Complete this passage:\n", ""),
    ("How does this go on?\n", ""),
    ("Continue from here:\n", ""),
    ("The text has this passage. Write the rest of it.\n", ""),
    ("What comes next, after this?\n", ""),
)
