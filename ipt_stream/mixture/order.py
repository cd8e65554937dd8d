"""The training order of a plan: which sequence comes when, at every prefix true to the plan.

For every prefix of n sequences and every source, `|count - n * share| < 1`. The j-th sequence of a source with c of N
therefore has a window: not before the source's target exceeds j - 1, and not after it reaches j,

    floor((j - 1) * N / c) + 1  <=  position  <=  ceil(j * N / c)

and taking, of the windows that are open, the one that closes first meets them all: an assignment exists (Tijdeman
1980, "The chairman assignment problem"), and with unit jobs the earliest deadline finds one wherever one exists. It
runs in O(sources) a position and compares integers only. Where shares change over training, the windows follow from
the cumulative targets in the same way, and the same proof holds.

So pass k of P of a source fills the k-th P-th of training, evenly. Each pass is a fresh permutation, drawn from numpy's
Philox generator seeded by (seed, source name, pass): adding a source changes no other's permutations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ipt_stream.errors import MixtureError
from ipt_stream.mixture.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SEQUENCES = 3_000_000_000
"""Products of two counts must fit in 63 bits."""


def source_order(counts: Sequence[int], limit: int | None = None) -> NDArray[np.uint16]:
    """The source of each position, the first `limit` of them; a shorter limit gives a prefix.

    Args:
        counts: sequences of each source in the whole order, each at least 1.
        limit: how many positions; None: all.

    Returns:
        (limit,) indices into `counts`.

    Raises:
        MixtureError: a count is below 1, or there are more sequences or sources than can be counted with.
    """
    total = sum(counts)
    if not counts or min(counts) < 1 or total > MAX_SEQUENCES or len(counts) > np.iinfo(np.uint16).max:
        raise MixtureError(
            "no order for such counts",
            wanted=f"1 to 65,535 sources with at least one sequence each, at most {MAX_SEQUENCES:,} together",
            got=f"{len(counts):,} sources, {total:,} sequences, the smallest with {min(counts, default=0):,}",
        )
    order = np.empty(total if limit is None else min(limit, total), np.uint16)
    _kernel()(np.array(counts, np.int64), np.zeros(len(counts), np.int64), order)
    return order


def training_order(plan: Plan) -> NDArray[np.int64]:
    """The whole order of `plan`: (plan.sequences,) sample ids.

    Sample ids count through `plan.streamed` in order, as a StreamingDataset with these streams numbers its samples.
    """
    sources = source_order([source.planned for source in plan.streamed])
    order = np.empty(len(sources), np.int64)
    offset = 0
    for index, source in enumerate(plan.streamed):
        order[sources == index] = source_samples(plan.seed, source.name, source.sequences, source.planned) + offset
        offset += source.sequences
    return order


def source_samples(seed: int, name: str, sequences: int, planned: int) -> NDArray[np.int64]:
    """The samples of one source in the order of their use: (planned,), a permutation a pass, the last perhaps cut."""
    passes = -(-planned // sequences)
    return np.concatenate([permutation(seed, name, number, sequences) for number in range(passes)])[:planned]


def permutation(seed: int, name: str, number: int, size: int) -> NDArray[np.int64]:
    """Pass `number` over a source of `size` sequences: (size,).

    Sorts raw generator output, which numpy promises to keep, in place of a method whose stream may change.
    """
    source = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    generator = np.random.Philox(np.random.SeedSequence([seed, source, number]))
    return np.argsort(generator.random_raw(size), kind="stable")


@cache
def _kernel() -> Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint16]], None]:
    """The compiled loop: from counts and as many zeros it fills the order.

    Compiled once a process, in about a second, so that no cache on disk can be stale or can't be written.
    """
    import numba

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def assign(counts: NDArray[np.int64], used: NDArray[np.int64], order: NDArray[np.uint16]) -> None:
        total = counts.sum()
        opens, closes = np.empty(counts.size, np.int64), np.empty(counts.size, np.int64)
        for source in range(counts.size):
            opens[source], closes[source] = 1, (total + counts[source] - 1) // counts[source]
        for index in range(order.size):
            chosen = -1
            for source in range(counts.size):
                if opens[source] <= index + 1 and (chosen < 0 or closes[source] < closes[chosen]):
                    chosen = source
            order[index] = chosen
            used[chosen] += 1
            opens[chosen] = used[chosen] * total // counts[chosen] + 1
            closes[chosen] = ((used[chosen] + 1) * total + counts[chosen] - 1) // counts[chosen]

    compiled: Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint16]], None] = assign
    return compiled
