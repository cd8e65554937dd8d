"""How sure the synthesizer was of each response: the mean log-probability of its tokens, from the generation itself.

    generation   <QUE> Who sat? <ANS> The cat. </END>
    counted                           ^^^^^^^^^

Counted are the tokens that hold at least one character of the response: not the markers, nor the white space between.
The engine tells log-probabilities by token and the parser tells responses by characters, so a token must be found by
its place in the text. A token's text is asked of the tokenizer once and remembered; where the texts so found don't make
up the generation (characters that are several tokens), prefixes of it are decoded instead, by bisection.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import fmean

DECIMALS = 5
"""Of the means, which are natural logarithms; engines agree to fewer."""
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder shows of a character of which not all tokens are there."""

Decode = Callable[[Sequence[int]], str]


def response_logprobs(
    decode: Decode,
    known: dict[int, str],
    token_ids: Sequence[int],
    logprobs: Sequence[float],
    places: Sequence[tuple[int, int]],
) -> tuple[float | None, ...]:
    """The mean log-probability of each response, natural logarithm.

    Args:
        decode: tokens to text.
        known: the texts of tokens that were asked for before; filled as it goes.
        token_ids: the generation, (tokens,).
        logprobs: the log-probability of each of them, (tokens,).
        places: where each response starts and ends in the text of the generation, in characters.

    Returns:
        A mean a response; None where no token is found for it.
    """
    text = decode(token_ids)
    pieces = [_piece(decode, known, token) for token in token_ids]
    if "".join(pieces) == text or "".join(pieces).removeprefix(" ") == text:
        ends = list(accumulate(map(len, pieces)))
        shift = (ends[-1] if ends else 0) - len(text)  # a space that some decoders leave out at the start
        ranges = [
            (bisect_right(ends, start + shift), bisect_left(ends, end + shift) + 1) for start, end in places
        ]  # fmt: skip
    else:
        ranges = [_by_prefixes(decode, token_ids, start, end) for start, end in places]
    found = [logprobs[first:stop] for first, stop in ranges]
    return tuple(round(fmean(values), DECIMALS) if values else None for values in found)


def _piece(decode: Decode, known: dict[int, str], token: int) -> str:
    """What `token` adds to a text: decoders treat the first token of a text in ways of their own."""
    if token not in known:
        known[token] = decode([token, token])[len(decode([token])) :]
    return known[token]


def _by_prefixes(decode: Decode, token_ids: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """The first token of characters `start` to `end`, and the one behind the last.

    A character of several tokens begins with the first of them and is complete with the last.
    """
    counts = range(len(token_ids) + 1)
    first = bisect_right(counts, start, key=lambda count: len(decode(token_ids[:count])))
    stop = bisect_left(counts, end, key=lambda count: len(decode(token_ids[:count]).rstrip(_UNFINISHED)))
    return first - 1, stop
