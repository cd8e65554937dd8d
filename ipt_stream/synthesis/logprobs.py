"""How sure the synthesizer was of each response: the mean log-probability of its tokens, from the generation itself.

    generation   <QUE> Who sat? <ANS> The cat. </END>
    counted                           ^^^^^^^^^

Counted are the tokens that hold at least one character of the response: not the markers, nor the white space between.
The engine tells log-probabilities by token and the parser tells responses by characters, so each token must be found by
its place in the text. A token's own text is asked of the tokenizer once and remembered; tokens that are parts of
characters are taken together. Where what is so found does not make up the generation, as in one that is no valid UTF-8,
prefixes of it are decoded instead, by bisection.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import groupby
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
    spans = _spans(decode, known, token_ids, text)
    if spans is None:
        found = [logprobs[slice(*_by_prefixes(decode, token_ids, start, end))] for start, end in places]
    else:
        firsts, ends = [first for first, _ in spans], [end for _, end in spans]
        found = [logprobs[bisect_right(ends, start) : bisect_left(firsts, end)] for start, end in places]
    return tuple(round(fmean(values), DECIMALS) if values else None for values in found)


def _spans(decode: Decode, known: dict[int, str], token_ids: Sequence[int], text: str) -> list[tuple[int, int]] | None:
    """Where each token stands in `text`, in characters; parts of characters stand where all of them together do.

    None: the tokens' own texts don't make up `text`.
    """
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    at = 0
    for is_part, group in groupby(token_ids, key=lambda token: _UNFINISHED in _piece(decode, known, token)):
        tokens = list(group)
        added = [_added(decode, tokens)] if is_part else [known[token] for token in tokens]
        for piece in added:
            spans += [(at, at + len(piece))] * (len(tokens) if is_part else 1)
            at += len(piece)
        pieces += added
    whole = "".join(pieces)
    if whole == text:
        return spans
    if whole.removeprefix(" ") == text:  # some decoders leave out a space at the start
        return [(max(first - 1, 0), end - 1) for first, end in spans]
    return None


def _piece(decode: Decode, known: dict[int, str], token: int) -> str:
    """What `token` adds to a text."""
    if token not in known:
        known[token] = _added(decode, [token])
    return known[token]


def _added(decode: Decode, tokens: Sequence[int]) -> str:
    """What `tokens` add to a text: decoders treat the first token of a text in ways of their own."""
    before = decode(tokens)
    whole = decode([*tokens, *tokens])
    return whole[len(before) :]


def _by_prefixes(decode: Decode, token_ids: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """The first token of characters `start` to `end`, and the one behind the last.

    A character of several tokens begins with the first of them and is complete with the last.
    """
    counts = range(len(token_ids) + 1)
    first = bisect_right(counts, start, key=lambda count: len(decode(token_ids[:count])))
    stop = bisect_left(counts, end, key=lambda count: len(decode(token_ids[:count]).rstrip(_UNFINISHED)))
    return first - 1, stop
