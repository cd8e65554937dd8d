"""The words that examples are dressed in, and how often. Nothing here is a format string: pieces are joined, never
filled in, so that what data holds cannot meet what a template means.

    templates          layouts, openings for reading and for questions, and what each layout says of itself
    templates_pairs    what stands before a question, and between it and its answer
    templates_options  how options are listed, labelled, and none of them right; requests to think, and conclusions
    templates_style    one choice of all that, drawn for an example

All of it was written for this project. The ideas (varied question and answer patterns, option labels, requests to
think, texts and pairs in many arrangements) follow the paper's section 2.2. Openings that stand before questions hold
for one question and for several. What is listed twice is drawn twice as often. Change `VERSION` with any of it:
rendered text then differs, and a mixture made before is another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

VERSION = 2

Around = tuple[str, str]
"""What stands before and after a word that is chosen elsewhere."""


class Layout(StrEnum):
    """How a text and its pairs stand together."""

    CLASSIC = "classic"
    """The text, then its pairs one after another."""
    DIALOGUE = "dialogue"
    """Two speakers: one brings the text and asks, the other answers."""
    NUMBERED = "numbered"
    """The text, then all questions numbered, then all answers."""
    WORKED = "worked"
    """The text, worked examples, then a test item whose answer comes with its explanation."""
    NEXT_TURN = "next turn"
    """A dialogue so far, and the question what is said next."""


LAYOUTS_MANY = (
    (Layout.CLASSIC, 0.80),
    (Layout.DIALOGUE, 0.05),
    (Layout.NUMBERED, 0.05),
    (Layout.WORKED, 0.05),
    (Layout.NEXT_TURN, 0.05),
)
LAYOUTS_SINGLE = ((Layout.CLASSIC, 0.95), (Layout.DIALOGUE, 0.05))
"""Weights where some text has several pairs, and where each has one: numbering one question says nothing."""

TEXT_AFTER_SHARE = 0.05
TEXT_AFTER_LAYOUTS = (Layout.CLASSIC, Layout.NUMBERED)
"""In this share of all examples the text comes after its questions; they are of these layouts."""

NOUNS = ("text", "passage", "document", "excerpt", "source text", "material")
"""What an example calls its texts. Some begin with a vowel: no article `a` goes before them."""

OPENING_SHARE = 0.4
"""How often each of the two openings, for the text and for its questions, is there at all."""

TITLE_SHARE = 0.35
TITLES: tuple[Around, ...] = (
    ("", ":\n"),
    ("", ":\n\n"),
    ("", ": "),
    ("# ", "\n\n"),
    ("### ", "\n"),
    ("**", "**\n\n"),
    ("**", ":** "),
    ("[", "]\n"),
    ("== ", " ==\n"),
)
"""Around the noun, with a capital: this share of the openings for a text."""
TEXT_OPENINGS: tuple[Around, ...] = (
    ("Read the following ", ".\n\n"),
    ("Here is the ", ".\n\n"),
    ("Please read this ", ".\n\n"),
    ("Please read the ", " with care.\n\n"),
    ("Read this ", ", then answer.\n\n"),
    ("Study the ", " below.\n\n"),
    ("Below is the ", ".\n\n"),
    ("Look at this ", ":\n\n"),
    ("Consider this ", ":\n\n"),
    ("Consider the following ", ".\n\n"),
    ("Take your time with this ", ".\n\n"),
    ("The ", " reads as follows.\n\n"),
    ("This is the ", ":\n\n"),
    ("What follows is the ", ".\n\n"),
)
QUESTIONS_OPENINGS: tuple[Around, ...] = (
    ("Now answer about the ", ".\n\n"),
    ("What does the ", " tell us?\n\n"),
    ("Answer from the ", " above.\n\n"),
    ("Answer with the help of the ", ".\n\n"),
    ("Use the ", " to answer.\n\n"),
    ("Asked about the ", " above:\n\n"),
    ("To be answered from the ", ":\n\n"),
    ("What can be learned from the ", "?\n\n"),
    ("Let us see what the ", " says.\n\n"),
    ("Now some work on the ", ".\n\n"),
    ("Go back to the ", " wherever you need to.\n\n"),
    ("What was understood of the ", "?\n\n"),
    ("With the ", " in mind:\n\n"),
    ("All that is needed stands in the ", " above.\n\n"),
)
MIND_OPENINGS: tuple[Around, ...] = (
    ("Keep this in mind while you read the ", " below.\n\n"),
    ("To be answered from the ", " below:\n\n"),
    ("What to look for in the ", " below:\n\n"),
    ("Read the ", " below with this in mind.\n\n"),
    ("First, what is asked about the ", " that follows.\n\n"),
    ("Before you read the ", ", see what is asked about it.\n\n"),
    ("The ", " below answers this.\n\n"),
    ("Asked in advance, about the ", " below:\n\n"),
)
"""Before the questions, where the text comes after them."""


@dataclass(frozen=True, slots=True)
class Speakers:
    """Who asks and who answers, and what the second is called inside a sentence."""

    asks: str
    answers: str
    second: str


SPEAKERS = (
    Speakers("User", "Assistant", "the assistant"),
    Speakers("User", "Helper", "the helper"),
    Speakers("Student", "Teacher", "the teacher"),
    Speakers("Teacher", "Student", "the student"),
    Speakers("Pupil", "Tutor", "the tutor"),
    Speakers("Reader", "Editor", "the editor"),
    Speakers("Visitor", "Guide", "the guide"),
    Speakers("Host", "Guest", "the guest"),
    Speakers("Interviewer", "Expert", "the expert"),
    Speakers("Reader", "Librarian", "the librarian"),
    Speakers("First speaker", "Second speaker", "the second speaker"),
    Speakers("A", "B", "B"),
)
REQUESTS: tuple[Around, ...] = (
    ("Please read this ", " first."),
    ("Have a look at this ", "."),
    ("I have something to ask about this ", "."),
    ("Let us talk about the following ", "."),
    ("Can we go through this ", " together?"),
    ("I would like to discuss this ", "."),
    ("This is the ", " that I want to ask about."),
    ("Here is the ", "."),
)
"""With these words the first speaker brings the text."""
READY_SHARE = 0.5
READY = ("I have read it.", "Go ahead.", "Please ask.", "All right.", "I am ready.", "Yes, what about it?", "Done.")
"""What the second speaker says to it. Where it is nothing, the first one asks in the same turn."""

CONVERSATIONS = ("", "", "Here is a conversation.\n\n", "Conversation:\n\n", "Two people talk.\n\n", "So far:\n\n")
NEXT_TURNS: tuple[Around, ...] = (
    ("What does ", " say next?"),
    ("What will ", " say next?"),
    ("What does ", " reply?"),
    ("How does ", " answer?"),
    ("Write what ", " says next."),
    ("Give the next turn of ", "."),
    ("Continue in the words of ", "."),
    ("Now it is the turn of ", "."),
)
NEXT_LEADS = ("\n", "\n\n", "\nNext turn: ", "\nThe next turn: ", "\nReply: ", "")
"""What leads to the reply; where it is nothing, the second speaker's name does."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """Two headings, and the signs before and after the number of a question and of its answer."""

    questions: str
    answers: str
    question_mark: str
    answer_mark: str
    after: str


NUMBERED_HEADINGS = (
    ("Questions", "Answers"),
    ("Questions:", "Answers:"),
    ("QUESTIONS", "ANSWERS"),
    ("## Questions", "## Answers"),
    ("**Questions**", "**Answers**"),
    ("Problems", "Solutions"),
    ("Exercises:", "Solutions:"),
    ("Tasks:", "Results:"),
    ("To answer:", "Answered:"),
    ("What is asked:", "What is answered:"),
)
NUMBER_MARKS = (
    ("", "", ". "),
    ("", "", ") "),
    ("#", "#", ": "),
    ("No. ", "No. ", ": "),
    ("Q", "A", ": "),
    ("Q", "A", ". "),
    ("Question ", "Answer ", ": "),
)


@dataclass(frozen=True, slots=True)
class WorkedHeadings:
    """The heading of a worked example, before its number and after it, and that of the test item."""

    example: str
    after: str
    test: str


WORKED_HEADINGS = (
    WorkedHeadings("Example", "\n", "Test\n"),
    WorkedHeadings("Example", ":\n", "Now the test:\n"),
    WorkedHeadings("EXAMPLE", "\n", "TEST\n"),
    WorkedHeadings("Worked example", ":\n", "Test item:\n"),
    WorkedHeadings("Solved example", "\n", "To solve\n"),
    WorkedHeadings("### Example", "\n", "### Test\n"),
    WorkedHeadings("**Example", "**\n", "**Test**\n"),
    WorkedHeadings("Sample", ":\n", "Your turn:\n"),
)


@dataclass(frozen=True, slots=True)
class Explained:
    """The request of a test item, what leads to its explanation, and whether the answer comes before that."""

    request: str
    lead: str
    answer_first: bool


EXPLANATIONS = (
    Explained("Answer and explain.", "Explanation: ", True),
    Explained("Give the answer with an explanation.", "Explanation:\n", True),
    Explained("Give the answer, then your reasons.", "Reasons: ", True),
    Explained("Answer, and say why.", "Why: ", True),
    Explained("Give the answer and how it is found.", "How it is found: ", True),
    Explained("Explain, then answer.", "Explanation: ", False),
    Explained("Give your reasons, then the answer.", "Reasons: ", False),
    Explained("Reason first, then answer.", "Reasoning: ", False),
)
