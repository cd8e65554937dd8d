"""Packing: token documents to sequences of one length (paper, section 3.3: loss on all tokens).

    documents     a b c | d e | f g h i j          EOS is `.`
    joined        a b c . d e . f g h i j .
    concat, 5     a b c . d   e . f g h   i j . . .
    best-fit, 5   f g h i j   a b c . .   d e . . .

`concat` lays them end to end and pads only the last sequence of a source. `best_fit` cuts no document that fits into
one sequence, and pads what it can't fill. Padding is EOS: of a trailing run of EOS all but the first is padding,
because no document is empty or holds an EOS of its own. Nothing is dropped and nothing is seen twice; but where
best-fit cuts a document that ends with a sequence, as `f g h i j` does, the EOS behind it would be alone, and is left
out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray

    Tokens = NDArray[np.unsignedinteger]


WINDOW = 16_384
"""Documents that are packed together where none is to be cut."""


class Packing(StrEnum):
    """How documents become sequences."""

    CONCAT = "concat"
    """End to end, cut where a sequence is full: no padding but in the last one."""
    BEST_FIT = "best-fit"
    """None is cut that fits into a sequence; some padding."""


def token_dtype(vocabulary_size: int) -> np.dtype[np.unsignedinteger]:
    """The smallest type that the ids of a vocabulary fit in: uint16, or else uint32."""
    import numpy as np

    return np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.uint32)


def join(documents: Iterable[Sequence[int]], *, eos: int, bos: int | None, dtype: DTypeLike) -> Tokens:
    """The non-empty `documents` one after another, each ended by `eos` and, on request, begun by `bos`: (tokens,)."""
    import numpy as np

    parts: list[Tokens] = [np.empty(0, dtype)]
    first, last = np.array([] if bos is None else [bos], dtype), np.array([eos], dtype)
    for document in documents:
        if len(document):
            parts += (first, np.array(document, dtype), last)
    return np.concatenate(parts)


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


def best_fit(blocks: Iterable[Tokens], length: int, eos: int, window: int = WINDOW) -> Iterator[Tokens]:
    """Pack whole documents of the joined `blocks` into sequences: (sequences, length) a window, padded with `eos`.

    Of every `window` documents the longest comes first, each into the sequence that it fills best. A document that is
    longer than `length` with its EOS is cut into whole sequences and a rest, which is packed as a document. Where the
    blocks end makes no difference. Holds one block and one window at a time; O(documents log window).
    """
    import numpy as np

    pieces: list[Tokens] = []
    rest: Tokens | None = None
    for block in blocks:
        joined = block if rest is None else np.concatenate([rest, block])
        ends = np.flatnonzero(joined == eos) + 1
        for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=False):
            is_alone = (end - start) % length == 1 and end - start > 1  # the EOS, behind whole sequences
            pieces.append(joined[start : end - is_alone])
            if len(pieces) == window:
                yield _pack(pieces, length, eos)
                pieces = []
        rest = joined[int(ends[-1]) if len(ends) else 0 :]
    if pieces:
        yield _pack(pieces, length, eos)


def padding(rows: Tokens, eos: int) -> NDArray[np.bool_]:
    """Which tokens of the sequences `rows` are padding: a trailing run of EOS but for its first. (sequences, length)"""
    import numpy as np

    found = np.zeros(rows.shape, bool)
    padded = np.flatnonzero((rows[:, -2:] == eos).all(axis=1))
    trailing = np.logical_and.accumulate(rows[padded, ::-1] == eos, axis=1)[:, ::-1]
    found[padded, 1:] = trailing[:, 1:] & trailing[:, :-1]
    return found


def _pack(documents: Sequence[Tokens], length: int, eos: int) -> Tokens:
    """The documents, best fit, longest first: (sequences, length)."""
    import numpy as np

    whole = [piece[: len(piece) // length * length].reshape(-1, length) for piece in documents if len(piece) >= length]
    rests = [rest for piece in documents if len(rest := piece[len(piece) // length * length :])]
    sequences: list[list[Tokens]] = []
    by_room: list[list[int]] = [[] for _ in range(length + 1)]
    rooms = 0  # bit r is set where some sequence has room for r more
    for piece in sorted(rests, key=len, reverse=True):
        fitting = rooms >> len(piece)
        if fitting:
            room = len(piece) + (fitting & -fitting).bit_length() - 1
            chosen = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
            sequences[chosen].append(piece)
        else:
            room, chosen = length, len(sequences)
            sequences.append([piece])
        left = room - len(piece)
        if left:
            by_room[left].append(chosen)
            rooms |= 1 << left
    packed = np.full((len(sequences), length), eos, documents[0].dtype)
    for row, parts in zip(packed, sequences, strict=True):
        joined = np.concatenate(parts)
        row[: len(joined)] = joined
    return np.concatenate([*whole, packed])
