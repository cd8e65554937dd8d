"""The parts of a pair that checks look at, in any of the four formats (corpus/pair.py; paper, appendix B, table 7)."""

from __future__ import annotations

from dataclasses import dataclass

from ipt_stream.corpus.pair import COT_ANSWER, COT_REQUEST, OPTIONS_HEADER, Pair


@dataclass(frozen=True, slots=True)
class Parts:
    """A pair, taken apart.

    Attributes:
        question: the instruction without its options and the request to think.
        options: of a multiple-choice question; else none.
        asks_thought: whether the instruction asks for a chain of thought.
        thought: the chain of thought; empty without one.
        answer: the final answer: what follows the thought, or the whole response.
    """

    question: str
    options: tuple[str, ...]
    asks_thought: bool
    thought: str
    answer: str


def read_parts(pair: Pair) -> Parts:
    """Take `pair` apart."""
    asked = pair.instruction.removesuffix(COT_REQUEST)
    question, _, listed = asked.partition(OPTIONS_HEADER)
    options = tuple(line.strip().removeprefix("- ").strip() for line in listed.splitlines() if line.strip())
    thought, _, answer = pair.response.rpartition(COT_ANSWER)
    return Parts(question.strip(), options, asked != pair.instruction, thought.strip(), answer.strip())
