"""The synthesizer's format, to the byte (paper, section 2.1, appendix B, tables 7 and 13).

A shot is a raw text and its pairs, between `<s>` and `</s>`; an M-shot example is M shots joined by nothing at all:

    <s> <CON> The cat sat. </CON>

    <QUE> Who sat? <ANS> The cat. </END>

    <QUE> Is it so? Let's think step by step. ... </END></s><s> <CON> ...

The space after `<s>` matters: tokenizers of the Llama family see other tokens without it. Everything here is a pure
function of strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ipt_stream.corpus.pair import Pair

BOS, EOS = "<s>", "</s>"
CONTEXT_OPEN, CONTEXT_CLOSE = "<CON>", "</CON>"
INSTRUCTION_OPEN, RESPONSE_OPEN, PAIR_CLOSE = "<QUE>", "<ANS>", "</END>"
CONTEXT_START = f"{BOS} {CONTEXT_OPEN} "
MARKERS = (CONTEXT_OPEN, CONTEXT_CLOSE, INSTRUCTION_OPEN, RESPONSE_OPEN, PAIR_CLOSE, BOS, EOS)


@dataclass(frozen=True, slots=True)
class Shot:
    """A raw text and the pairs made from it."""

    text: str
    pairs: tuple[Pair, ...]


def neutralize(text: str, markers: Sequence[str] = MARKERS) -> str:
    """`text` with a space inside every marker in it, so that `</s>` on a web page stays text: `< /s>`.

    Only prompts see this; the document that is stored keeps its bytes. Nothing changes where no marker occurs, so
    that such prompts equal the plain template.

    Args:
        text: any text.
        markers: each of two characters at least, and without white space.
    """
    for marker in markers:
        while marker in text:  # again, where a marker overlaps itself: `||` in `|||`
            text = text.replace(marker, marker[0] + " " + marker[1:])
    return text


def format_context(text: str) -> str:
    """The part of a shot that the synthesizer is given: `<s> <CON> {text} </CON>` and a blank line."""
    return f"{CONTEXT_START}{text} {CONTEXT_CLOSE}\n\n"


def format_pair(pair: Pair) -> str:
    """One pair as the synthesizer writes it."""
    return f"{INSTRUCTION_OPEN} {pair.instruction} {RESPONSE_OPEN} {pair.response} {PAIR_CLOSE}"


def format_pairs(pairs: Iterable[Pair]) -> str:
    """All pairs of a text, and the `</s>` that ends its shot."""
    return "\n\n".join(format_pair(pair) for pair in pairs) + EOS


def format_shot(shot: Shot) -> str:
    """A finished shot."""
    return format_context(shot.text) + format_pairs(shot.pairs)


def format_prompt(earlier: Iterable[Shot], text: str) -> str:
    """What the engine is given in a round: the shots it inherits, then the new raw text."""
    return "".join(format_shot(shot) for shot in earlier) + format_context(text)
