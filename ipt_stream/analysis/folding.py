"""Text as comparisons see it: letters and digits alone, and words made of them; the definition, and a fast way to it.

    folded("It's 5 p.m.")  ->  "Its5pm"
    words("It's 5 p.m.")   ->  ["it", "s", "5", "p", "m"]

A letter or digit is what `str.isalnum` says is one, of any script. Case is ignored character by character, where the
lower-case form is one character too: so folding never moves what is beside it. The compiled loops work on the code
points of a text (4 bytes a character), with a table over all of Unicode, at some 300 MB/s a core; tests compare both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.uint32]

CODE_POINTS = 0x110000
BASE = 0x9E3779B97F4A7C15
"""Of the polynomial hashes, modulo 2^64: odd, and with its bits spread. Equal hashes are compared letter by letter."""
BORDER = "\U0010ffff"
"""What is put between texts that are searched together. It is no character, in no pattern, and never a letter; where a
text holds it all the same, it becomes a space."""
MIXER = 0xBF58476D1CE4E5B9


def folded(text: str, ignore_case: bool = False) -> str:
    """The letters and digits of `text`, nothing else."""
    kept = (character for character in text if character.isalnum())
    return "".join(map(lower, kept)) if ignore_case else "".join(kept)


def words(text: str) -> list[str]:
    """The runs of letters and digits in `text`, case ignored."""
    return "".join(lower(character) if character.isalnum() else " " for character in text).split()


def lower(character: str) -> str:
    """The lower-case form where it is one character, else the character."""
    found = character.lower()
    return found if len(found) == 1 else character


def codes(text: str) -> Codes:
    """(characters,) code points of `text`."""
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@cache
def fold_table(ignore_case: bool) -> Codes:
    """(0x110000,) what becomes of each code point: another, itself, or 0 where it is left out."""
    import numpy as np

    table = np.zeros(CODE_POINTS, np.uint32)
    kept = [code for code in range(CODE_POINTS) if chr(code).isalnum()]
    table[kept] = [ord(lower(chr(code))) for code in kept] if ignore_case else kept
    table.setflags(write=False)
    return table


@cache
def search_table(ignore_case: bool) -> Codes:
    """As `fold_table`, but the border between texts stays what it is."""
    table = fold_table(ignore_case).copy()
    table[ord(BORDER)] = ord(BORDER)
    table.setflags(write=False)
    return table


def fold(text_codes: Codes, ignore_case: bool = False) -> Codes:
    """(letters and digits,) the code points of the folded text."""
    import numpy as np

    out = np.empty(text_codes.size + 1, np.uint32)
    return out[: loops().fold(text_codes, fold_table(ignore_case), out)]


class Words(NamedTuple):
    """The words of a text: their hashes, case ignored, and where in it they start and end, in characters."""

    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def split(text_codes: Codes) -> Words:
    """The words of a text."""
    import numpy as np

    most = text_codes.size // 2 + 1
    found = Words(np.empty(most, np.uint64), np.empty(most, np.int64), np.empty(most, np.int64))
    count = loops().split(text_codes, fold_table(True), *found)
    return Words(found.hashes[:count], found.starts[:count], found.stops[:count])


def power(exponent: int) -> int:
    """`BASE` to that power, modulo 2^64."""
    return pow(BASE, exponent, 1 << 64)


class Loops(NamedTuple):
    """The compiled loops: see `loops`."""

    fold: Callable[..., int]
    split: Callable[..., int]
    windows: Callable[..., None]
    mix: Callable[..., Any]


@cache
def loops() -> Loops:
    """Compiled once a process where they are called, in a second or two, so that no cache on disk can be stale.

    All arithmetic is on uint64: with a signed number beside it, numba would go on in floating point.
    """
    import numba
    import numpy as np

    base, mixer, shift = np.uint64(BASE), np.uint64(MIXER), np.uint64(31)
    zero, one = np.uint64(0), np.uint64(1)

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def fold_codes(text: Codes, table: Codes, out: Codes) -> int:
        """Written always, kept where it counts: so there is no branch to guess wrong. `out` has one place more."""
        count = 0
        for i in range(text.size):
            kept = table[text[i]]
            out[count] = kept
            count += kept != 0
        return count

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def mix(value: np.uint64) -> np.uint64:
        """Words that differ little get hashes that differ much."""
        value = (value ^ (value >> shift)) * mixer
        return value ^ (value >> shift)

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def split_codes(
        text: Codes, table: Codes, hashes: NDArray[np.uint64], starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> int:
        count, start = 0, -1
        value = zero
        for i in range(text.size + 1):
            kept = table[text[i]] if i < text.size else np.uint32(0)
            if kept != 0:
                if start < 0:
                    start, value = i, one
                value = value * base + np.uint64(kept)
            elif start >= 0:
                hashes[count], starts[count], stops[count] = mix(value), start, i
                count += 1
                start = -1
        return count

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def windows(values: Any, width: int, top: np.uint64, out: NDArray[np.uint64]) -> None:
        """The hash of each window of `width` values; `top` is the base to that power."""
        value = zero
        for i in range(values.size):
            value = value * base + np.uint64(values[i])
            if i >= width:
                value -= top * np.uint64(values[i - width])
            if i >= width - 1:
                out[i - width + 1] = value

    return Loops(fold_codes, split_codes, windows, mix)
