"""Pairs that occur more than once in a run, to the character: found by hash, in memory that has a bound.

Each segment leaves the 8-byte keys of its pairs in a file. They are looked through in as many passes over these files
as it takes for one pass to hold `at_once` keys: pass p of P takes the keys that leave p when divided by P. At 32
million keys a pass (1.5 GB while they are sorted), 200 million pairs take six. What a pass finds is a file of its own,
which is not made again:

    bounds      segments + 1 numbers: those of segment s are numbers bounds[s] to bounds[s + 1] of what follows
    again       pairs that came before in the run, by segment, each by its place in it
    times       how often keys occur, each number once
    different   how many keys occur so often

all of them 8 bytes. Before means in an earlier segment, in the order of the input, or earlier in the same one:
whichever worker comes first, the same pairs are found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipt_stream import storage
from ipt_stream.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEY_BYTES = 8
BUCKETS = ((1, "once"), (2, "twice"), (9, "3 to 9 times"), (99, "10 to 99 times"), (10**12, "100 times or more"))


@dataclass(frozen=True, slots=True)
class Repeats:
    """How often pairs occur.

    Attributes:
        pairs: all pairs.
        distinct: different ones among them.
        buckets: for each of `BUCKETS`, how many different pairs occur so often, and how many pairs these are.
    """

    pairs: int
    distinct: int
    buckets: tuple[tuple[int, int], ...]

    @property
    def again(self) -> int:
        """Pairs that came before, wherever in the run."""
        return self.pairs - self.distinct


def pass_paths(directory: str, pairs: int, at_once: int) -> tuple[str, ...]:
    """Where each pass over so many pairs leaves what it finds."""
    passes = max(1, -(-pairs // at_once))
    return tuple(storage.join(directory, f"{number:04d}-of-{passes:04d}.u64") for number in range(passes))


def find_repeats(paths: Sequence[str], sizes: Sequence[int], passes: Sequence[str]) -> Repeats:
    """Find which of the keys in the files at `paths` came before, and count how often they occur.

    Args:
        paths: files of keys, 8 bytes each, in the order of the run.
        sizes: how many keys each holds.
        passes: where each pass leaves what it finds (`pass_paths`); one that is there is not made again.

    Raises:
        InputError: a file holds another number of keys.
    """
    distinct: Counter[int] = Counter()
    for number, path in enumerate(passes):
        if not storage.exists(path):
            storage.publish_bytes(path, _one_pass(paths, sizes, number, len(passes)))
        (found,) = _read(path, len(paths), 1)
        rest = storage.read_range(path, KEY_BYTES * (len(paths) + 1 + found), storage.size(path))
        times, different = _numbers(rest).reshape(2, -1).tolist()
        distinct.update(dict(zip(times, different, strict=True)))
    buckets, least = [], 0
    for most, _ in BUCKETS:
        inside = {times: count for times, count in distinct.items() if least < times <= most}
        buckets.append((sum(inside.values()), sum(times * count for times, count in inside.items())))
        least = most
    total = sum(times * count for times, count in distinct.items())
    return Repeats(total, sum(distinct.values()), tuple(buckets))


def read_repeated(passes: Sequence[str], segment: int, segments: int) -> frozenset[int]:
    """Which pairs of a segment came before in the run, by their place in it.

    Args:
        passes: what the passes found.
        segment: the segment, by its place in the run.
        segments: how many there are.

    Raises:
        InputError: a file is too short.
    """
    found: set[int] = set()
    for path in passes:
        low, high = _read(path, segment, 2)
        found.update(_read(path, segments + 1 + low, high - low))
    return frozenset(found)


def _one_pass(paths: Sequence[str], sizes: Sequence[int], number: int, passes: int) -> bytes:
    """What pass `number` finds, as its file holds it."""
    import numpy as np

    starts = np.zeros(len(sizes) + 1, np.uint64)
    starts[1:] = np.cumsum(np.asarray(sizes, np.uint64))
    chosen, places = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for path, size, start, content in zip(paths, sizes, starts[:-1], storage.read_many(paths), strict=True):
        if len(content) != size * KEY_BYTES:
            raise InputError(
                f"{path} does not hold the keys of its segment", wanted=f"{size * KEY_BYTES:,} bytes",
                got=f"{len(content):,}", fix="remove the directory and run again",
            )  # fmt: skip
        keys = _numbers(content)
        inside = np.flatnonzero(keys % np.uint64(passes) == number).astype(np.uint64)
        chosen.append(keys[inside])
        places.append(inside + start)
    keys, place = np.concatenate(chosen), np.concatenate(places)
    del chosen, places
    order = np.argsort(keys, kind="stable")  # of equal keys the first of the run stays first
    keys = keys[order]
    is_again = np.zeros(keys.size, bool)
    is_again[1:] = keys[1:] == keys[:-1]
    again = np.sort(place[order[is_again]])
    firsts = np.flatnonzero(~is_again)
    times, different = np.unique(np.diff(firsts, append=keys.size), return_counts=True)
    bounds = np.searchsorted(again, starts)
    again -= np.repeat(starts[:-1], np.diff(bounds))
    return b"".join(part.astype("<u8").tobytes() for part in (bounds, again, times, different))


def _numbers(content: bytes) -> NDArray[np.uint64]:
    import numpy as np

    return np.frombuffer(content, "<u8")


def _read(path: str, first: int, count: int) -> list[int]:
    """Numbers `first` to `first + count` of the file at `path`."""
    if not count:
        return []
    content = storage.read_range(path, KEY_BYTES * first, KEY_BYTES * (first + count))
    if len(content) != KEY_BYTES * count:
        raise InputError(
            f"{path} is too short", wanted=f"{KEY_BYTES * (first + count):,} bytes or more",
            got=f"{KEY_BYTES * first + len(content):,}", fix="remove it and run again",
        )  # fmt: skip
    found: list[int] = _numbers(content).tolist()
    return found
