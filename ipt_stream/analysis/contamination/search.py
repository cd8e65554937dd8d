"""One pass over texts: which patterns and n-grams are in them, and where. Exact: what a hash suggests is compared.

Many texts are searched at once, with a border between them that nothing is found across: starting a loop costs as much
as searching two thousand characters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ipt_stream.analysis.folding import BASE, BORDER, MIXER, codes, fold_table, search_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ipt_stream.analysis.contamination.patterns import NGrams, Patterns

    Codes = NDArray[np.uint32]

FEW = 256
"""Hits that are made room for; where there are more, a text is searched again with as much room as they take."""


class Hits(NamedTuple):
    """What was found: each hit's pattern, and where in the text it starts and stops, in characters."""

    patterns: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def find_patterns(text_codes: Codes, patterns: Patterns, ignore_case: bool) -> Hits:
    """All places of all patterns in a text, also those that overlap."""
    import numpy as np

    letters, places = np.empty(text_codes.size + 1, np.uint32), np.empty(text_codes.size + 1, np.int64)
    count = loops().fold(text_codes, search_table(ignore_case), letters, places)
    letters = letters[:count]
    keys = patterns.keys
    arguments = (
        letters, keys.width, keys.top, keys.bits, keys.shift, keys.directory, keys.directory_shift, keys.hashes,
        keys.first, patterns.members, patterns.offset, patterns.begin, patterns.letters,
    )  # fmt: skip
    found, starts = _with_room(loops().find, arguments, 2)
    if not found.size:
        return Hits(found, starts, starts)
    lengths = patterns.begin[found + 1] - patterns.begin[found]
    return Hits(found, places[starts], places[starts + lengths - 1] + 1)


def find_ngrams(text_codes: Codes, ngrams: NGrams) -> Hits:
    """All places of all n-grams in a text."""
    keys = ngrams.keys
    arguments = (
        text_codes, fold_table(True), keys.width, keys.top, keys.bits, keys.shift, keys.directory,
        keys.directory_shift, keys.hashes, keys.first, ngrams.begin, ngrams.end, ngrams.letters,
    )  # fmt: skip
    return Hits(*_with_room(loops().find_ngrams, arguments, 3))


def find_in(text: str, patterns: Patterns, ignore_case: bool = False) -> Hits:
    """`find_patterns` of a text that is no array yet."""
    return find_patterns(codes(text), patterns, ignore_case)


def _with_room(loop: Callable[..., int], arguments: tuple[Any, ...], outputs: int) -> list[NDArray[np.int64]]:
    import numpy as np

    room = FEW
    while True:
        out = [np.empty(room, np.int64) for _ in range(outputs)]
        count = loop(*arguments, *out)
        if count <= room:
            return [part[:count] for part in out]
        room = count


class Loops(NamedTuple):
    """The compiled loops: see `loops`. Both count all hits, and write those that there is room for."""

    fold: Callable[..., int]
    find: Callable[..., int]
    find_ngrams: Callable[..., int]


@cache
def loops() -> Loops:
    """Compiled once a process where they are called."""
    import numba
    import numpy as np

    base, mixer, six, last = np.uint64(BASE), np.uint64(MIXER), np.uint64(6), np.uint64(63)
    zero, one, half, border = np.uint64(0), np.uint64(1), np.uint64(31), np.uint32(ord(BORDER))

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def fold(text: Codes, table: Codes, out: Codes, places: NDArray[np.int64]) -> int:
        """Letters and digits, and where each stands; written always, kept where it counts. One place more than text."""
        count = 0
        for i in range(text.size):
            kept = table[text[i]]
            out[count], places[count] = kept, i
            count += kept != 0
        return count

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def look_up(
        value: np.uint64, directory: NDArray[np.int64], shift: np.uint64, hashes: NDArray[np.uint64]
    ) -> int:  # fmt: skip
        """Where in sorted `hashes` a value is, or -1."""
        place = value >> shift
        for key in range(directory[place], directory[place + one]):
            if hashes[key] == value:
                return key
        return -1

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def find(
        letters: Codes, width: int, top: np.uint64, bits: NDArray[np.uint64], shift: np.uint64,
        directory: NDArray[np.int64], directory_shift: np.uint64, hashes: NDArray[np.uint64],
        first: NDArray[np.int64], members: NDArray[np.int64], offset: NDArray[np.int64],
        begin: NDArray[np.int64], pattern_letters: Codes, out_pattern: NDArray[np.int64], out_start: NDArray[np.int64],
    ) -> int:  # fmt: skip
        count = 0
        value = zero
        for i in range(min(width - 1, letters.size)):
            value = value * base + np.uint64(letters[i])
        gone = zero
        for i in range(width - 1, letters.size):
            value = value * base + (np.uint64(letters[i]) - top * gone)
            gone = np.uint64(letters[i - width + 1])
            place = value >> shift
            if (bits[place >> six] >> (place & last)) & one == zero:
                continue
            key = look_up(value, directory, directory_shift, hashes)
            if key < 0:
                continue
            for member in range(first[key], first[key + 1]):
                pattern = members[member]
                start = i - width + 1 - offset[pattern]
                length = begin[pattern + 1] - begin[pattern]
                if start < 0 or start + length > letters.size:
                    continue
                same = True
                for j in range(length):
                    if letters[start + j] != pattern_letters[begin[pattern] + j]:
                        same = False
                        break
                if same:
                    if count < out_pattern.size:
                        out_pattern[count], out_start[count] = pattern, start
                    count += 1
        return count

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def is_ngram(text: Codes, table: Codes, start: int, stop: int, letters: Codes, begin: int, end: int) -> bool:
        """Whether the words from `start` to before `stop` are those letters, with a space between words."""
        at, between = begin, False
        for i in range(start, stop):
            kept = table[text[i]]
            if kept == 0:
                between = True
                continue
            if between:
                if at >= end or letters[at] != 32:
                    return False
                at += 1
                between = False
            if at >= end or letters[at] != kept:
                return False
            at += 1
        return bool(at == end)

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def find_words(
        text: Codes, table: Codes, width: int, top: np.uint64, bits: NDArray[np.uint64], shift: np.uint64,
        directory: NDArray[np.int64], directory_shift: np.uint64, hashes: NDArray[np.uint64],
        first: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64],
        letters: Codes, out_ngram: NDArray[np.int64], out_start: NDArray[np.int64], out_stop: NDArray[np.int64],
    ) -> int:  # fmt: skip
        count = seen = 0
        start = -1
        word = value = zero
        words, starts = np.zeros(width, np.uint64), np.zeros(width, np.int64)  # of the last so many words, in a ring
        slot = 0
        for i in range(text.size + 1):
            kept = table[text[i]] if i < text.size else np.uint32(0)
            if kept != 0:
                if start < 0:
                    start, word = i, one
                word = word * base + np.uint64(kept)
                continue
            is_border = i < text.size and text[i] == border
            if start < 0:
                if is_border:
                    seen = 0
                continue
            word = (word ^ (word >> half)) * mixer  # as `folding.mix`
            word = word ^ (word >> half)
            value = value * base + (word - top * words[slot])
            words[slot], starts[slot] = word, start
            slot = slot + 1 if slot + 1 < width else 0
            seen += 1
            start = -1
            if seen >= width:
                place = value >> shift
                if (bits[place >> six] >> (place & last)) & one != zero:
                    key = look_up(value, directory, directory_shift, hashes)
                    if key >= 0:
                        for ngram in range(first[key], first[key + 1]):
                            if is_ngram(text, table, starts[slot], i, letters, begin[ngram], end[ngram]):
                                if count < out_ngram.size:
                                    out_ngram[count], out_start[count], out_stop[count] = ngram, starts[slot], i
                                count += 1
            if is_border:
                seen = 0
        return count

    return Loops(fold, find, find_words)
