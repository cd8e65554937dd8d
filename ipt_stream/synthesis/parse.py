"""From generated text back to pairs (paper, appendix B). What is dropped is counted by reason, never silently lost.

parse("<QUE> a? <ANS> b </END>\\n\\n<QUE> c? <ANS> d")  ->  one pair (a?, b), dropped {unfinished: 1}
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from ipt_stream.corpus.pair import Pair
from ipt_stream.synthesis.prompt import EOS, INSTRUCTION_OPEN, PAIR_CLOSE, RESPONSE_OPEN


class Dropped(StrEnum):
    """Why a piece of generated text did not become a pair."""

    UNFINISHED = "unfinished"
    """The text ended before `</END>`: the token limit, or the model's own early end."""
    NO_INSTRUCTION = "no_instruction"
    """The piece does not start with exactly one `<QUE>`."""
    NO_RESPONSE = "no_response"
    """The piece does not hold exactly one `<ANS>`."""
    EMPTY = "empty"
    """The instruction or the response is empty."""
    DUPLICATE = "duplicate"
    """The instruction was given before for this text, ignoring case."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The pairs of one generation, in order, and how many pieces were dropped for which reason.

    Attributes:
        pairs: what is well-formed and new.
        dropped: pieces that became no pair, by reason.
        places: where the response of each pair starts and ends in the generation, in characters.
    """

    pairs: tuple[Pair, ...]
    dropped: dict[str, int]
    places: tuple[tuple[int, int], ...] = ()


def parse(generation: str) -> Parsed:
    """Split `generation` at `</END>` and keep each well-formed piece as a pair."""
    *pieces, rest = generation.split(PAIR_CLOSE)
    pairs: list[Pair] = []
    places: list[tuple[int, int]] = []
    end = 0
    seen: set[str] = set()
    dropped: Counter[str] = Counter()
    for piece in pieces:
        start, end = end, end + len(piece) + len(PAIR_CLOSE)
        result = _parse_piece(piece.strip())
        if isinstance(result, Dropped):
            dropped[result.value] += 1
        elif result.instruction.casefold() in seen:
            dropped[Dropped.DUPLICATE.value] += 1
        else:
            seen.add(result.instruction.casefold())
            pairs.append(result)
            stop = start + len(piece.rstrip())
            places.append((stop - len(result.response), stop))
    if rest.removesuffix(EOS).strip():
        dropped[Dropped.UNFINISHED.value] += 1
    return Parsed(tuple(pairs), dict(dropped), tuple(places))


def _parse_piece(piece: str) -> Pair | Dropped:
    if not piece.startswith(INSTRUCTION_OPEN) or piece.count(INSTRUCTION_OPEN) != 1:
        return Dropped.NO_INSTRUCTION
    if piece.count(RESPONSE_OPEN) != 1:
        return Dropped.NO_RESPONSE
    instruction, response = piece.removeprefix(INSTRUCTION_OPEN).split(RESPONSE_OPEN)
    if not instruction.strip() or not response.strip():
        return Dropped.EMPTY
    return Pair(instruction.strip(), response.strip())
