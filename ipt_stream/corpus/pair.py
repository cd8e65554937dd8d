"""A pair and its four formats (paper, appendix B, table 7): what synthesizers write, and tuning data and worlds hold.

free-form            Who sat?                                The cat.
multiple choice      Who sat?\nOptions:\n- a cat\n- a dog     a cat
chain of thought     ... \nLet's think step by step.         {thought}\nTherefore, the answer is a cat
both                 options first, then the request to think
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OPTIONS_HEADER = "\nOptions:"
COT_REQUEST = "\nLet's think step by step."
COT_ANSWER = "\nTherefore, the answer is "


@dataclass(frozen=True, slots=True)
class Pair:
    """An instruction (with its options, where it is multiple choice) and the response to it."""

    instruction: str
    response: str


def instruction_text(question: str, options: Sequence[str] = (), chain_of_thought: bool = False) -> str:
    """The instruction of any of the four formats (table 7): options first, then the request to think."""
    listed = OPTIONS_HEADER + "".join(f"\n- {option}" for option in options) if options else ""
    return question + listed + (COT_REQUEST if chain_of_thought else "")


def response_text(answer: str, thought: str | None = None) -> str:
    """The response: the answer alone, or the thought and then the answer (table 7)."""
    return answer if thought is None else f"{thought}{COT_ANSWER}{answer}"
