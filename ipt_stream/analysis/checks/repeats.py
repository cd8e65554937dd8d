"""Pairs that occur more than once in a run, to the character: counted by hash, in memory that has a bound.

Each segment leaves the 8-byte keys of its pairs in a file. They are counted in as many passes over these files as it
takes for one pass to hold `at_once` keys: pass p of P takes the keys that leave p when divided by P. At 64 million keys
a pass (0.5 GB, twice that while they are sorted), 200 million pairs take four.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipt_stream import storage

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


def count_repeats(paths: Sequence[str], pairs: int, at_once: int) -> Repeats:
    """Count how often the keys in the files at `paths` occur.

    Args:
        paths: files of keys, 8 bytes each.
        pairs: how many keys there are in all.
        at_once: keys in memory at once, about.
    """
    import numpy as np

    passes = max(1, -(-pairs // at_once))
    distinct: Counter[int] = Counter()
    for number in range(passes):
        found = np.concatenate([np.empty(0, np.uint64), *_keys(paths, number, passes)])
        _, counts = np.unique(found, return_counts=True)
        times, how_many = np.unique(counts, return_counts=True)
        distinct.update(dict(zip(times.tolist(), how_many.tolist(), strict=True)))
    buckets, least = [], 0
    for most, _ in BUCKETS:
        inside = {times: count for times, count in distinct.items() if least < times <= most}
        buckets.append((sum(inside.values()), sum(times * count for times, count in inside.items())))
        least = most
    total = sum(times * count for times, count in distinct.items())
    return Repeats(total, sum(distinct.values()), tuple(buckets))


def _keys(paths: Sequence[str], number: int, passes: int) -> Iterator[NDArray[np.uint64]]:
    import numpy as np

    for content in storage.read_many(paths):
        keys = np.frombuffer(content, "<u8")
        yield keys[keys % np.uint64(passes) == number] if passes > 1 else keys
