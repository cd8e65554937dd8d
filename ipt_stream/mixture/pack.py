"""Packing: token documents end to end, cut into sequences of one length (paper, section 3.3: loss on all tokens).

    documents     a b c | d e | f g h i j          EOS is `.`
    joined        a b c . d e . f g h i j .
    length 5      a b c . d   e . f g h   i j . . .

Only the last sequence of a source is padded, with EOS: of a trailing run of EOS all but the first is padding, because
no document is empty or holds an EOS of its own. Nothing is dropped and nothing is seen twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray

    Tokens = NDArray[np.unsignedinteger]


def token_dtype(vocabulary_size: int) -> np.dtype[np.unsignedinteger]:
    """The smallest type that the ids of a vocabulary fit in: uint16, or else uint32."""
    import numpy as np

    return np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.uint32)


def join(documents: Iterable[Sequence[int]], *, eos: int, bos: int | None, dtype: DTypeLike) -> Tokens:
    """The non-empty `documents` one after another, each ended by `eos` and, on request, begun by `bos`: (tokens,)."""
    import numpy as np

    flat: list[int] = []
    for document in documents:
        if document:
            if bos is not None:
                flat.append(bos)
            flat += document
            flat.append(eos)
    return np.array(flat, dtype)


def concat(blocks: Iterable[Tokens], length: int, eos: int) -> Iterator[Tokens]:
    """Cut the joined `blocks` into sequences: (sequences, length) a block, the last of all padded with `eos`.

    Where the blocks end makes no difference to the sequences. Holds one block and less than one sequence at a time.
    """
    import numpy as np

    rest: Tokens | None = None
    for block in blocks:
        joined = block if rest is None else np.concatenate([rest, block])
        whole = len(joined) // length * length
        if whole:
            yield joined[:whole].reshape(-1, length)
        rest = joined[whole:].copy()
    if rest is not None and len(rest):
        yield np.concatenate([rest, np.full(length - len(rest), eos, rest.dtype)]).reshape(1, length)
