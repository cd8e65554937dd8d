"""What stands before a question, and between it and its answer. Composed, so that few words give many forms:

    short       Q: Who sat?\\nA: The cat.                    two short words, one sign for both, a gap
    labelled    [Problem] Who sat?\\n\\n[Solution] The cat.    two words, one sign for both, a gap
    phrased     Can you answer this? Who sat? Here is the answer: The cat.
    bare        Who sat?\\n-> The cat.

Both words of a couple go with every sign, and every request with every reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class PairWords:
    """What stands before a question, and between it and its answer."""

    question: str
    answer: str


class Case(StrEnum):
    """How a word is written."""

    GIVEN = "given"
    UPPER = "upper"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Sign:
    """What sets a word off from what follows it. It leads to a line of its own where it ends in one."""

    before: str
    after: str
    case: Case = Case.GIVEN

    def on(self, word: str) -> str:
        """`word`, set off."""
        written = {Case.GIVEN: word, Case.UPPER: word.upper(), Case.LOWER: word.lower()}[self.case]
        return self.before + written + self.after


class Kind(StrEnum):
    """The ways to tell a question from its answer."""

    SHORT = "short"
    LABELLED = "labelled"
    PHRASED = "phrased"
    BARE = "bare"


KINDS = ((Kind.LABELLED, 0.55), (Kind.SHORT, 0.15), (Kind.PHRASED, 0.15), (Kind.BARE, 0.15))

SHORT_COUPLES = (("Q", "A"), ("Q", "Ans"), ("Ques", "Ans"))
SHORT_SIGNS = (Sign("", ": "), Sign("", ". "), Sign("", " - "), Sign("", ":\n"), Sign("**", ":** "), Sign("**", "**: "))

COUPLES = (
    ("Question", "Answer"),
    ("Question", "Response"),
    ("Question", "Reply"),
    ("Question", "Solution"),
    ("Question", "Correct answer"),
    ("Problem", "Solution"),
    ("Problem", "Answer"),
    ("Task", "Result"),
    ("Task", "Answer"),
    ("Task", "Solution"),
    ("Task", "Output"),
    ("Exercise", "Solution"),
    ("Exercise", "Answer"),
    ("Exercise", "Model answer"),
    ("Assignment", "Solution"),
    ("Assignment", "Result"),
    ("Instruction", "Response"),
    ("Instruction", "Output"),
    ("Instruction", "Result"),
    ("Input", "Output"),
    ("Prompt", "Response"),
    ("Prompt", "Answer"),
    ("Query", "Response"),
    ("Query", "Reply"),
    ("Query", "Answer"),
    ("Request", "Reply"),
    ("Request", "Response"),
    ("Inquiry", "Reply"),
    ("Asked", "Answered"),
    ("Your question", "My answer"),
    ("Quiz question", "Answer"),
    ("Exam question", "Model answer"),
    ("Review question", "Answer"),
    ("Study question", "Answer"),
)
SIGNS = (
    Sign("", ": "),
    Sign("", ". "),
    Sign("", " - "),
    Sign("", ":\n"),
    Sign("**", ":** "),
    Sign("**", "**: "),
    Sign("**", "**\n"),
    Sign("*", ":* "),
    Sign("[", "] "),
    Sign("(", ") "),
    Sign("## ", "\n"),
    Sign("### ", "\n"),
    Sign("### ", ":\n"),
    Sign("== ", " ==\n"),
    Sign("", ": ", Case.UPPER),
    Sign("", "\n", Case.UPPER),
    Sign("[", "] ", Case.UPPER),
    Sign("", ": ", Case.LOWER),
    Sign("[", "] ", Case.LOWER),
)
GAPS = (("\n", 0.70), ("\n\n", 0.15), (" ", 0.15))
LINE_GAPS = (("\n", 0.75), ("\n\n", 0.25))
"""What parts a question from its answer, by weight; the second where a word stands on a line of its own."""

REQUESTS = (
    "Please answer: ",
    "Please respond: ",
    "Answer this: ",
    "Try this: ",
    "Tell me: ",
    "Let me ask: ",
    "To be answered: ",
    "This is asked: ",
    "The question is: ",
    "One question: ",
    "Consider this question: ",
    "Here is a question. ",
    "Here is a question for you: ",
    "Somebody asks: ",
    "Can you answer this? ",
    "What would you answer here? ",
    "How would you respond to this? ",
)
REPLIES = (
    "Answer: ",
    "The answer: ",
    "The answer to that: ",
    "This is the answer: ",
    "Here is the answer: ",
    "Here is a reply: ",
    "Reply: ",
    "Response: ",
    "One would answer: ",
    "A good answer: ",
    "A fitting answer: ",
    "It can be answered like this: ",
)

BARE = (
    PairWords("", "\n"),
    PairWords("", " "),
    PairWords("", "\n\n"),
    PairWords("", " -> "),
    PairWords("", "\n-> "),
    PairWords("", "\n=> "),
    PairWords("", "\n>> "),
)
UNMARKED_ANSWER = "\n\nAnswer: "
"""What leads to the answer where nothing would, and the question holds blank lines, so that one more says nothing."""

SPEAKER_SIGNS = (
    Sign("", ": "),
    Sign("", ": "),
    Sign("", ":\n"),
    Sign("**", ":** "),
    Sign("[", "] "),
    Sign("", ": ", Case.UPPER),
)


def set_off(couple: tuple[str, str], sign: Sign, gap: str) -> PairWords:
    """Two words, each with the sign, and the gap between a question and its answer."""
    question, answer = couple
    return PairWords(sign.on(question), gap + sign.on(answer))
