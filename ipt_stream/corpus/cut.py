"""Cutting a document that is longer than a prompt may be into pieces that are not (DESIGN 4.2).

Cuts fall after a blank line if one is near, else after a line, a sentence, a word, a token; never inside a character.
White space stays with the piece before it, so the pieces joined are the document.

The pieces are balanced: with `n` tokens left and room for `b`, the next piece aims at `n / ceil(n / b)` tokens and
takes the best boundary that leaves at least half of that on either side. Filling each piece to the brim would make
about as many engine calls, and leave a last piece of a few words, about which no question can be asked:

    2,100 tokens, budget 1,000:   balanced  700 700 700      to the brim  1,000 1,000 100

A text of very many pieces is first split into parts of some dozens each, so that not all its tokens are held at once.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from ipt_stream.errors import ConfigError

Offsets = Sequence[tuple[int, int]]

PART_CHARACTERS = 2**18  # of a long text, tokenized at once
PART_CHARACTERS_A_TOKEN = 64  # of the budget; so parts are longer where it is above 4,096 tokens
SEARCHED_CHARACTERS = 2**14  # how far before its aim a part may end, so that it ends between paragraphs

_BOUNDARIES = (
    re.compile(r"\n[ \t\r]*\n\s*"),  # paragraphs
    re.compile(r"\n\s*"),  # lines: web pages have one paragraph a line
    re.compile(r"[.!?…][\"')\]»”’]*\s+|[。！？][」』”’]*\s*"),  # sentences
    re.compile(r"\s+"),  # words
)


def cut(text: str, budget_tokens: int, encode: Callable[[str], Offsets]) -> list[str]:
    """The pieces of `text`, each of at most `budget_tokens` tokens; `[text]` where it fits as it is.

    `"".join(pieces) == text`, and no piece is empty (one of white space alone can come out of a run of white space that
    is itself above the budget). The text is tokenized once for its boundaries and each piece once more to be sure:
    tokens of a piece are not always those of the whole, and a piece that comes out too long is made shorter.

    Args:
        text: the document.
        budget_tokens: most tokens a piece may have, at least 1.
        encode: the (start, end) of each token of a text in characters, in order, special tokens not added, as fast
            tokenizers give them. Several tokens may share a character.

    Raises:
        ConfigError: the budget is below 1, or one character has more tokens than it.
    """
    if budget_tokens < 1:
        raise ConfigError("a document can't be cut to pieces of no tokens", wanted="at least 1", got=str(budget_tokens))
    pieces: list[str] = []
    for part in _parts(text, max(PART_CHARACTERS, PART_CHARACTERS_A_TOKEN * budget_tokens)):
        pieces += _pieces(part, budget_tokens, encode)
    return pieces


def _parts(text: str, most: int) -> Iterator[str]:
    """`text` in parts of at most `most` characters and of about the same length, cut at the best boundary."""
    at = 0
    while (left := len(text) - at) > most:
        aim = at + left // -(-left // most)
        near = text[aim - SEARCHED_CHARACTERS : aim]
        found = ([match.end() for match in pattern.finditer(near)] for pattern in _BOUNDARIES)
        end = aim - len(near) + next((ends[-1] for ends in found if ends), len(near))
        yield text[at:end]
        at = end
    yield text[at:]


def _pieces(text: str, budget: int, encode: Callable[[str], Offsets]) -> Iterator[str]:
    offsets = encode(text)
    if len(offsets) <= budget:
        yield text
        return
    starts = list(accumulate((start for start, _ in offsets), max))  # (tokens,) where each token starts, never falling
    levels = [[match.end() for match in pattern.finditer(text)] for pattern in _BOUNDARIES]
    at = 0
    while at < len(text):
        first = bisect_left(starts, at)  # the first token that starts here or later
        limit = budget
        end = _aim(starts, levels, len(text), at, first, limit)
        while (count := len(encode(text[at:end]))) > budget:
            if end - at == 1:
                raise ConfigError(
                    f"a document can't be cut to pieces of {budget} tokens",
                    wanted=f"room for one character, {text[at:end]!r}, of {count} tokens",
                    fix="raise the budget",
                )
            limit = (bisect_left(starts, end) - first) * budget // count  # less than the piece has: it gets shorter
            end = _aim(starts, levels, len(text), at, first, limit) if limit else at + (end - at) // 2
        yield text[at:end]
        at = end


def _aim(starts: list[int], levels: list[list[int]], length: int, at: int, first: int, limit: int) -> int:
    """Where the piece from character `at` (whose first token is `first`) best ends, at `limit` tokens at most."""
    left = len(starts) - first
    if left <= limit:
        return length
    wanted = -(-left // -(-left // limit))
    aim, high = starts[first + wanted], starts[first + min(limit, left - wanted // 2)]
    low = max(starts[first + wanted // 2], at + 1)
    for boundaries in levels:
        near = bisect_left(boundaries, aim)
        around = [end for end in boundaries[max(near - 1, 0) : near + 1] if low <= end <= high]
        if around:
            return min(around, key=lambda end: abs(end - aim))
    return max(aim, at + 1)
