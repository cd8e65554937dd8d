"""Distinct n-grams over their number (distinct-n, Li et al. 2016), of any number of texts, in bounded memory.

Each n-gram is the hash of its words, 64 bits. Up to a limit all hashes are kept, and the count is exact (two of a
million n-grams share a hash with probability 3e-8). Beyond, only hashes are kept whose last k bits are zero, with k the
smallest that keeps within the limit; the count is then 2^k times what is kept (Flajolet 1990, "On adaptive sampling").
It is unbiased, and its standard error is 1.2 over the root of the limit: 0.06% at 4 million. Which are kept depends on
the n-grams alone: so sets of parts are put together in any order, and the same texts give the same number.

Distinct-n falls as a corpus grows, since words repeat: compare corpora of about one size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipt_stream.analysis.folding import codes, loops, power, split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIX = 0x94D049BB133111EB


@dataclass(slots=True)
class Distinct:
    """What is known of the different among some hashes.

    Attributes:
        limit: how many are held at most, once they are looked at; twice as many wait to be.
        level: k: only hashes that end in so many zero bits are held.
        total: how many were added, repeated ones too.
    """

    limit: int
    level: int = 0
    total: int = 0
    _held: list[NDArray[np.uint64]] = field(default_factory=list)
    _waiting: int = 0

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Count `hashes`."""
        self._take(hashes[_sampled(hashes, self.level)], int(hashes.size))

    def merge(self, other: Distinct) -> None:
        """Count what `other` counted."""
        self.level = max(self.level, other.level)
        self._take(other.held(), other.total)

    def held(self) -> NDArray[np.uint64]:
        """(some,) the hashes that are held, sorted, each once."""
        import numpy as np

        both = np.concatenate([*self._held, np.empty(0, np.uint64)])
        found = np.unique(both[_sampled(both, self.level)])
        while found.size > self.limit:
            self.level += 1
            found = found[_sampled(found, self.level)]
        self._held, self._waiting = [found], 0
        return found

    def estimate(self) -> int:
        """How many different hashes there are; exact where `level` is 0."""
        count = int(self.held().size)  # first: this may raise the level
        return count << self.level

    def share(self) -> float | None:
        """Different over all; None without any."""
        return min(self.estimate() / self.total, 1.0) if self.total else None

    def _take(self, hashes: NDArray[np.uint64], count: int) -> None:
        self.total += count
        self._held.append(hashes)
        self._waiting += int(hashes.size)
        if self._waiting > 2 * self.limit:
            self.held()


def ngram_hashes(texts: Sequence[str], orders: Iterable[int]) -> dict[int, NDArray[np.uint64]]:
    """For each order n the hashes of all n-grams of words in `texts`, case and punctuation ignored, none across two."""
    import numpy as np

    parts = [split(codes(text)).hashes for text in texts]
    words = np.concatenate([*parts, np.empty(0, np.uint64)])
    text = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    found = {}
    for n in orders:
        count = max(words.size - n + 1, 0)
        hashes = np.empty(count, np.uint64)
        if count:
            loops().windows(words, n, np.uint64(power(n)), hashes)
        found[n] = _mixed(hashes[text[:count] == text[n - 1 :]])
    return found


def text_hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """A hash of the words of each text: the same for texts that differ in case, spaces and signs alone."""
    import numpy as np

    found = np.empty(len(texts), np.uint64)
    for number, text in enumerate(texts):
        words = split(codes(text)).hashes
        whole = np.empty(1, np.uint64)
        if words.size:
            loops().windows(words, int(words.size), np.uint64(0), whole)
        else:
            whole[0] = 0
        found[number] = whole[0]
    return _mixed(found)


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """With all bits mixed into the last ones, which sampling looks at."""
    import numpy as np

    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(MIX)
    return hashes ^ (hashes >> np.uint64(32))


def _sampled(hashes: NDArray[np.uint64], level: int) -> NDArray[np.bool_]:
    import numpy as np

    sampled: NDArray[np.bool_] = (hashes & np.uint64((1 << level) - 1)) == 0
    return sampled
