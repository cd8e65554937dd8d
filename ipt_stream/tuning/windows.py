"""Long contexts as windows, each with the pairs that are about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

from ipt_stream.corpus.cut import cut
from ipt_stream.corpus.pair import Pair
from ipt_stream.tuning.render import Found


def windows(context: str, found: Sequence[Found], limit: int) -> Iterator[tuple[str, tuple[Pair, ...]]]:
    """The windows of `context`, of about `limit` characters at most, in order, each with its pairs or with none.

    A pair goes to the window in which its answer starts, or what it follows from, and the window is drawn out to where
    that ends. A pair whose answer isn't a quotation goes to the window that shares the most words with it.
    """
    last = list(accumulate(map(len, cut(context, limit, _characters))))
    spans = list(zip([0, *last], last, strict=False))
    words = [_words(context[start:end]) for start, end in spans]
    held: list[list[Pair]] = [[] for _ in spans]
    ends = [end for _, end in spans]
    for item in found:
        start = item.start if item.start is not None else context.find(item.quote) if item.quote else -1
        if 0 <= start < len(context):
            window = next(i for i, (_, end) in enumerate(spans) if start < end)
            ends[window] = max(ends[window], min(start + len(item.quote), len(context)))
        else:
            asked = _words(f"{item.pair.instruction} {item.pair.response} {item.quote}")
            window = max(range(len(spans)), key=lambda i: len(words[i] & asked))
        held[window].append(item.pair)
    for (start, _), end, pairs in zip(spans, ends, held, strict=True):
        yield context[start:end].strip(), tuple(pairs)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def _characters(text: str) -> list[tuple[int, int]]:
    """Offsets that make a window's budget one of characters: no tokenizer is known yet when sources are read."""
    return [(at, at + 1) for at in range(len(text))]
