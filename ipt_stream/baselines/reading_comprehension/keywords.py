"""Which words are typical of a domain, told by a sample of its texts alone.

A word that tells what a text is about comes again in the texts that have it, and most texts don't have it (after
Church, "Empirical estimates of adaptation", 2000); a function word is everywhere, and a rare general word comes once:

    in 1,792 abstracts      in how many     twice or more in how many
    patients                  962           695                           not rare
    suggesting                 75             6                           does not come again
    ovarian                    77            50                           a keyword

Words are counted in a table of fixed size by their hashes (a count-min sketch), so that memory is 4 MiB whatever the
corpus, and tables add up: in any grouping and any order the sum is the same. Words that share a cell seem more common
than they are; each word has two cells, and the smaller count is believed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

from ipt_stream.baselines.reading_comprehension.sentences import READ_CHARACTERS

ROWS, CELLS = 2, 2**17
LENGTHS = range(4, 41)  # of a keyword, in characters

_COUNT = "<u8"
_WORD = re.compile(r"[^\W\d_][^\W_]*(?:[-'’][^\W_]+)*")
_POSSESSIVE = ("'s", "’s")


@dataclass(frozen=True, slots=True)
class Keywords:
    """In how many texts of a sample each word is, and in how many it is at least twice.

    Attributes:
        documents: texts in the sample.
        once: (ROWS, CELLS) counts of the texts that have a word of the cell.
        again: the same, of the texts that have such a word at least twice.
    """

    documents: int
    once: bytes = field(repr=False)
    again: bytes = field(repr=False)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Keywords:
        """Count `texts`, of each its first `READ_CHARACTERS`. A sample is enough: some 10,000 texts of the corpus."""
        import numpy as np

        documents = 0
        once, again = np.zeros(ROWS * CELLS, _COUNT), np.zeros(ROWS * CELLS, _COUNT)
        for text in texts:
            documents += 1
            counts = Counter(map(str.casefold, words(text[:READ_CHARACTERS])))
            cells = {word: _cells(word) for word in counts}
            once[list({cell for found in cells.values() for cell in found})] += 1
            again[list({cell for word, found in cells.items() if counts[word] > 1 for cell in found})] += 1
        return cls(documents, once.tobytes(), again.tobytes())

    def merge(self, other: Keywords) -> Keywords:
        """The counts over both samples: `Keywords.of(a + b) == Keywords.of(a).merge(Keywords.of(b))`."""
        return Keywords(self.documents + other.documents, _sum(self.once, other.once), _sum(self.again, other.again))

    def is_keyword(self, word: str) -> bool:
        """Whether `word` is typical: in 3 texts at least, in 1 of 20 at most, and in 1 of 3 of these again."""
        once, again = min((_count(self.once, cell), _count(self.again, cell)) for cell in _cells(word.casefold()))
        return once >= 3 and 20 * once <= self.documents and 3 * again >= once


def words(text: str) -> list[str]:
    """The words of `text` that can be keywords, as they stand there; "miller's" is "miller", "didn't" is none."""
    bare = (word[:-2] if word.endswith(_POSSESSIVE) else word for word in _WORD.findall(text))
    return [word for word in bare if len(word) in LENGTHS and "'" not in word and "’" not in word]


def _cells(word: str) -> list[int]:
    """The word's cell in each row."""
    digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4 * ROWS).digest()
    return [row * CELLS + int.from_bytes(digest[4 * row : 4 * row + 4], "little") % CELLS for row in range(ROWS)]


def _count(table: bytes, cell: int) -> int:
    return int.from_bytes(table[8 * cell : 8 * cell + 8], "little")


def _sum(left: bytes, right: bytes) -> bytes:
    import numpy as np

    both: bytes = (np.frombuffer(left, _COUNT) + np.frombuffer(right, _COUNT)).astype(_COUNT).tobytes()
    return both
