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

    table = search_table(ignore_case)
    letters = np.empty(text_codes.size + 1, np.uint32)
    letters = letters[: loops().fold(text_codes, table, letters)]
    keys = patterns.keys
    arguments = (
        letters, keys.width, keys.top, keys.bits, keys.shift, keys.directory, keys.directory_shift, keys.hashes,
        keys.first, patterns.members, patterns.offset, patterns.begin, patterns.letters,
    )  # fmt: skip
    found, starts = _with_room(loops().find, arguments, 2)
    if not found.size:
        return Hits(found, starts, starts)
    places = np.empty(text_codes.size + 1, np.int64)  # in hardly any batch: so not written while folding
    loops().places(text_codes, table, places)
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
    """The compiled loops: see `loops`. Both that find count all hits, and write those that there is room for."""

    fold: Callable[..., int]
    places: Callable[..., None]
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
    def fold(text: Codes, table: Codes, out: Codes) -> int:
        """Letters and digits; written always, kept where it counts: so there is no branch to guess wrong."""
        count = zero  # unsigned, so that no index is looked at for being negative
        for i in range(text.size):
            kept = table[text[i]]
            out[count] = kept
            count += np.uint64(kept != 0)
        return np.int64(count)  # type: ignore[return-value,unused-ignore]

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def places(text: Codes, table: Codes, out: NDArray[np.int64]) -> None:
        """Where in a text each of its letters and digits stands."""
        count = zero
        for i in range(text.size):
            out[count] = i
            count += np.uint64(table[text[i]] != 0)

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def may_be(value: np.uint64, bits: NDArray[np.uint64], shift: np.uint64) -> bool:
        """Whether both bits of a hash are set; see `patterns.Keys`."""
        place = value >> shift
        word = bits[place >> six]
        return bool((word >> (place & last)) & (word >> ((value >> (shift - six)) & last)) & one != zero)

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
        if letters.size < width:
            return count
        value = zero
        for i in range(width - 1):
            value = value * base + np.uint64(letters[i])
        gone = zero
        back = np.uint64(width - 1)
        for end in range(back, np.uint64(letters.size)):
            value = value * base + (np.uint64(letters[end]) - top * gone)
            gone = np.uint64(letters[end - back])
            if not may_be(value, bits, shift):
                continue
            i = np.int64(end)  # type: ignore[assignment,unused-ignore]
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
        """Whether the words from `start` to before `stop` are those letters, a space between words, in one text."""
        at, between = begin, False
        for i in range(start, stop):
            kept = table[text[i]]
            if kept == 0:
                if text[i] == border:
                    return False
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
    def hash_words(text: Codes, table: Codes, hashes: NDArray[np.uint64], stops: NDArray[np.int64]) -> int:
        """As `folding.split`, but with no branch to guess wrong: as words end where nobody knows, that took most."""
        count, word, within = zero, one, False
        for i in range(text.size):
            kept = table[text[i]]
            is_letter = kept != 0
            hashes[count], stops[count] = word, i
            count += np.uint64(within and not is_letter)
            word = word * base + np.uint64(kept) if is_letter else one
            within = is_letter
        if within:
            hashes[count], stops[count] = word, text.size
            count += one
        for i in range(np.int64(count)):
            word = (hashes[i] ^ (hashes[i] >> half)) * mixer  # as `folding.mix`
            hashes[i] = word ^ (word >> half)
        return np.int64(count)  # type: ignore[return-value,unused-ignore]

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def find_words(
        text: Codes, table: Codes, width: int, top: np.uint64, bits: NDArray[np.uint64], shift: np.uint64,
        directory: NDArray[np.int64], directory_shift: np.uint64, hashes: NDArray[np.uint64],
        first: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64],
        letters: Codes, out_ngram: NDArray[np.int64], out_start: NDArray[np.int64], out_stop: NDArray[np.int64],
    ) -> int:  # fmt: skip
        most = text.size // 2 + 2
        words, stops = np.empty(most, np.uint64), np.empty(most, np.int64)
        seen = hash_words(text, table, words, stops)
        count = 0
        value = gone = zero
        for i in range(min(width - 1, seen)):
            value = value * base + words[i]
        for i in range(width - 1, seen):
            value = value * base + (words[i] - top * gone)
            gone = words[i - width + 1]
            if not may_be(value, bits, shift):
                continue
            key = look_up(value, directory, directory_shift, hashes)
            if key < 0:
                continue
            start, stop = stops[i - width] if i >= width else 0, stops[i]
            while table[text[start]] == 0:
                start += 1
            for ngram in range(first[key], first[key + 1]):
                if is_ngram(text, table, start, stop, letters, begin[ngram], end[ngram]):
                    if count < out_ngram.size:
                        out_ngram[count], out_start[count], out_stop[count] = ngram, start, stop
                    count += 1
        return count

    return Loops(fold, places, find, find_words)
