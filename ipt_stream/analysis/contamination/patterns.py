"""What is searched for: substrings and word n-grams of evaluation examples, laid out for one pass over a text.

A rolling hash goes over a text, of windows as wide as the shortest pattern. Of each pattern one window is its key: the
one that the fewest other patterns hold, so that what all questions begin with is not looked at again and again. A table
of bits says whether the hash of a window may be a key's; where it does, the key is looked up in a sorted list, and
patterns with that key are compared letter by letter. So a hash decides nothing, and the time of a pass does not grow
with the number of patterns, only the room: about 8 bytes a key in bits and 50 a pattern, whatever the corpus.

N-grams are the same, over words in place of characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ipt_stream.analysis.folding import codes, fold, fold_table, loops, power, split
from ipt_stream.draw import seeded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BITS_A_KEY = 64
"""In one window of a thousand or more the table says maybe where there is nothing..."""
CACHED_BITS = 1 << 24
"""... unless the table would then be larger than what a core's cache holds: it has so many bits..."""
FEWEST_BITS_A_KEY = 8
"""... and no fewer than so many a key."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Hashes to look up, and what belongs to each.

    Attributes:
        width: values a window.
        top: the hash's base to the power of `width`.
        shift: 64 less the number of bits that choose a place in `bits`.
        bits: a table of bits, 64 a number. A key sets two of one number: that which its first bits choose, and that
            of the same number which its next six choose. Both from one place in memory, and hardly ever by chance.
        directory: (2^d + 1,) where in `hashes` those begin whose first d bits are such; about one each.
        directory_shift: 64 less d.
        hashes: (keys,) sorted, each once.
        first: (keys + 1,) where in the members those of a key begin.
    """

    width: int
    top: np.uint64
    shift: np.uint64
    bits: NDArray[np.uint64]
    directory: NDArray[np.int64]
    directory_shift: np.uint64
    hashes: NDArray[np.uint64]
    first: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Owners:
    """Which examples hold each pattern: those of pattern p are `examples[first[p]:first[p + 1]]`."""

    first: NDArray[np.int64]
    examples: NDArray[np.int32]

    def of(self, pattern: int) -> NDArray[np.int32]:
        """The examples that hold `pattern`, in order."""
        return self.examples[self.first[pattern] : self.first[pattern + 1]]


@dataclass(frozen=True, slots=True)
class Patterns:
    """The letters and digits to search for.

    Attributes:
        keys: of the windows that are looked up.
        members: (patterns,) numbers of the patterns, by key.
        offset: (patterns,) where in a pattern its key begins.
        begin: (patterns + 1,) where in `letters` a pattern begins, and the one after it.
        letters: code points of all patterns, one after the other.
        owners: the examples that each is from.
        count: how many patterns there are.
    """

    keys: Keys
    members: NDArray[np.int64]
    offset: NDArray[np.int64]
    begin: NDArray[np.int64]
    letters: NDArray[np.uint32]
    owners: Owners
    count: int


@dataclass(frozen=True, slots=True)
class NGrams:
    """The word n-grams to search for; each is there once.

    Attributes:
        keys: of all n-grams, by the hashes of their words.
        begin: (n-grams,) by key: where in `letters` an n-gram begins.
        end: (n-grams,) where it ends.
        letters: code points of the examples' words, a space between two.
        owners: the examples that hold each.
        totals: (examples,) different n-grams of each example; 0 where it is shorter than one.
        count: how many different n-grams there are.
    """

    keys: Keys
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    letters: NDArray[np.uint32]
    owners: Owners
    totals: NDArray[np.int32]
    count: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """How substrings are drawn: how many of which length, of examples of how many characters at least."""

    count: int
    length: int
    minimum: int
    seed: int
    ignore_case: bool

    def fold(self, text: str) -> str:
        """The letters and digits of an example."""
        return fold(codes(text), self.ignore_case).tobytes().decode("utf-32-le")


def draw_substrings(letters: str, count: int, length: int, seed: int, name: str) -> tuple[str, ...]:
    """`count` random substrings of `length` of what is left of an example, or all of it where it is not longer.

    No place is drawn twice; where there are not more places than `count`, all are taken (appendix C of the GPT-4
    report: three of 50 characters).

    Args:
        letters: the letters and digits of an example.
        count: how many are drawn.
        length: characters each.
        seed: of the draw.
        name: names the example, for the draw.
    """
    places = len(letters) - length + 1
    if places <= 1:
        return (letters,)
    if places <= count:
        return tuple(letters[place : place + length] for place in range(places))
    rng, drawn = seeded(seed, name), dict[int, None]()
    while len(drawn) < count:
        drawn[int(rng.random() * places)] = None
    return tuple(letters[place : place + length] for place in drawn)


def build_patterns(drawn: Mapping[str, Sequence[int]]) -> Patterns:
    """The patterns of folded substrings, each with the numbers of the examples that it is from.

    Args:
        drawn: none empty; a shortest one of few characters makes a search slow, and takes nothing from its result.
    """
    import numpy as np

    found = list(drawn)
    parts = [codes(text) for text in found]
    lengths = np.array([part.size for part in parts], np.int64)
    begin = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    letters = np.concatenate([*parts, np.empty(0, np.uint32)])
    width = int(lengths.min()) if found else 1
    hashes, offset = _rarest_windows(letters, begin, width)
    order = np.argsort(hashes, kind="stable")
    keys = _keys(width, hashes[order])
    owners = _owners([sorted(set(drawn[text])) for text in found])
    _read_only(order, offset, begin, letters)
    return Patterns(keys, order, offset, begin, letters, owners, len(found))


def build_ngrams(texts: Iterable[str], n: int) -> NGrams:
    """The n-grams of examples' texts, each once, with the examples that hold it."""
    import numpy as np

    joined: list[NDArray[np.uint32]] = []
    hashes, begins, ends, holders = [], [], [], []
    at = count = 0
    for example, text in enumerate(texts):
        count += 1
        letters = _spaced(codes(text))
        joined.append(letters)
        found = split(letters)
        if found.hashes.size >= n:
            values = np.empty(found.hashes.size - n + 1, np.uint64)
            loops().windows(found.hashes, n, np.uint64(power(n)), values)
            hashes.append(values)
            begins.append(found.starts[: values.size] + at)
            ends.append(found.stops[n - 1 :] + at)
            holders.append(np.full(values.size, example, np.int32))
        at += letters.size
    letters = np.concatenate([*joined, np.empty(0, np.uint32)])
    values = np.concatenate([*hashes, np.empty(0, np.uint64)])
    begin = np.concatenate([*begins, np.empty(0, np.int64)])
    end = np.concatenate([*ends, np.empty(0, np.int64)])
    holder = np.concatenate([*holders, np.empty(0, np.int32)])
    order = np.argsort(values, kind="stable")
    values, begin, end, holder = values[order], begin[order], end[order], holder[order]
    number = np.empty(values.size, np.int64)
    _numbering()(values, begin, end, letters, number)
    kept = np.flatnonzero(np.diff(number, prepend=-1)) if number.size else number  # the first of each n-gram
    pairs = np.unique(number * max(count, 1) + holder)  # of an n-gram and an example that holds it
    first = np.searchsorted(pairs, np.arange(kept.size + 1) * max(count, 1)).astype(np.int64)
    owners = (pairs % max(count, 1)).astype(np.int32)
    totals = np.bincount(owners, minlength=count).astype(np.int32)
    keys, begin, end = _keys(n, values[kept]), begin[kept], end[kept]
    _read_only(begin, end, letters)
    return NGrams(keys, begin, end, letters, Owners(first, owners), totals, int(kept.size))


def name_patterns(letters: Sequence[str], names: Sequence[str], settings: Drawing) -> dict[str, list[int]]:
    """The substrings drawn of each example, with the numbers of the examples; too short examples give none."""
    drawn: dict[str, list[int]] = {}
    for number, (text, name) in enumerate(zip(letters, names, strict=True)):
        if len(text) >= settings.minimum:
            for part in draw_substrings(text, settings.count, settings.length, settings.seed, name):
                drawn.setdefault(part, []).append(number)
    return drawn


def _rarest_windows(
    letters: NDArray[np.uint32], begin: NDArray[np.int64], width: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """For each pattern the hash of the window that the fewest patterns hold, the first of such, and where it begins."""
    import numpy as np

    count = begin.size - 1
    if not count:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    # Windows across the border of two patterns are hashed too, and then left out.
    values = np.empty(letters.size - width + 1, np.uint64)
    loops().windows(letters, width, np.uint64(power(width)), values)
    pattern = np.repeat(np.arange(count), np.diff(begin))[: values.size]
    inside = np.arange(values.size) + width <= begin[pattern + 1]
    values, pattern = values[inside], pattern[inside]
    offset = np.flatnonzero(inside) - begin[pattern]
    _, same, frequency = np.unique(values, return_inverse=True, return_counts=True)
    order = np.lexsort((offset, frequency[same], pattern))
    best = order[np.searchsorted(pattern[order], np.arange(count))]
    return values[best], offset[best].astype(np.int64)


def _keys(width: int, hashes: NDArray[np.uint64]) -> Keys:
    """Keys of sorted hashes, of which several may be equal."""
    import numpy as np

    unique, first = np.unique(hashes, return_index=True)
    wanted = min(unique.size * BITS_A_KEY, max(CACHED_BITS, unique.size * FEWEST_BITS_A_KEY))
    size = max(16, int(wanted - 1).bit_length())
    shift = np.uint64(64 - size)
    bits = np.zeros(1 << (size - 6), np.uint64)
    six, last, one = np.uint64(6), np.uint64(63), np.uint64(1)
    place = unique >> shift
    both = (one << (place & last)) | (one << ((unique >> (shift - six)) & last))
    np.bitwise_or.at(bits, (place >> six).astype(np.int64), both)
    ends = np.append(first, hashes.size).astype(np.int64)
    places = max(8, int(unique.size).bit_length())
    beginnings = np.arange(1 << places, dtype=np.uint64) << np.uint64(64 - places)
    directory = np.append(np.searchsorted(unique, beginnings), unique.size).astype(np.int64)
    _read_only(bits, directory, unique, ends)
    return Keys(width, np.uint64(power(width)), shift, bits, directory, np.uint64(64 - places), unique, ends)


def _owners(examples: Sequence[Sequence[int]]) -> Owners:
    import numpy as np

    first = np.concatenate([[0], np.cumsum([len(some) for some in examples])]).astype(np.int64)
    return Owners(first, np.array([one for some in examples for one in some], np.int32))


def _spaced(text_codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The words of a text, case ignored, with one space between two."""
    import numpy as np

    letters = fold_table(True)[text_codes]
    between = letters == 0
    letters[between] = ord(" ")
    kept: NDArray[np.uint32] = letters[~between | ~np.concatenate([[True], between[:-1]])]
    return kept


@cache
def _numbering() -> Callable[..., None]:
    import numba

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def number(
        values: NDArray[np.uint64], begin: NDArray[np.int64], end: NDArray[np.int64], letters: NDArray[np.uint32],
        out: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """The number of each n-gram, equal ones having one; they come sorted by hash, and are numbered so."""
        count = 0
        for i in range(values.size):
            same = i > 0 and values[i] == values[i - 1] and end[i] - begin[i] == end[i - 1] - begin[i - 1]
            if same:
                for j in range(end[i] - begin[i]):
                    if letters[begin[i] + j] != letters[begin[i - 1] + j]:
                        same = False
                        break
            count += not same
            out[i] = count - 1

    numbering: Callable[..., None] = number
    return numbering


def _read_only(*arrays: Any) -> None:
    """Let nobody write to `arrays`: what Ray hands to workers is so, and the loops are compiled for one kind."""
    for array in arrays:
        array.setflags(write=False)
