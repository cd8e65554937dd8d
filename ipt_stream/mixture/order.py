"""The training order of a plan: which sequence comes when, at every prefix true to the plan.

For every prefix of n sequences and every source, `|count - target| < 1`. The j-th sequence of a source therefore has a
window: it comes at the earliest when the source's target exceeds j - 1, and at the latest when it reaches j. Where a
source with c of N sequences keeps its share throughout, that is

    floor((j - 1) * N / c) + 1  <=  position  <=  ceil(j * N / c)

and taking, of the windows that are open, the one that closes first meets them all: an assignment exists (Tijdeman
1980, "The chairman assignment problem"), and with unit jobs the earliest deadline finds one wherever one exists. It
runs in O(sources) a position and compares integers only. Where shares change over training (curves.py), targets are
sums of parabolas in floating point; windows are narrowed by `MARGIN`, many times what rounding can do to a target.
Tijdeman's bound for k sources is 1 - 1 / (2k - 2), so there is room for it.

So pass k of P of a source fills the k-th P-th of its training, evenly. Each pass is a fresh permutation, drawn from
numpy's Philox generator seeded by (seed, source name, pass): adding a source changes no other's permutations.

Passes are local to shards: a pass takes the shards in random order, in groups of equal size, as few as have at most
`shuffle_shards` each, and the sequences of a group in random order. So at most `shuffle_shards` shards of a source are
read from at a time (twice as many while one group follows another), and each is fetched once a pass where the cache
holds those. What shuffling is given up: two sequences that follow each other are from one shard with probability 1 in
the size of a group (more than half of `shuffle_shards`), instead of 1 in all shards; which shards come together is new
in every pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ipt_stream.errors import MixtureError
from ipt_stream.mixture.curves import Targets, targets
from ipt_stream.mixture.plan import MAX_SEQUENCES, Plan, PlannedSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN = 1e-5
"""Of a sequence, where shares change: the rounding of targets is below 1e-6 up to `MAX_SEQUENCES`."""
MAX_CHANGING = 1_000
"""Sources where shares change: the room that Tijdeman's bound leaves is then 50 times `MARGIN`."""


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
    total = _check(counts, np.iinfo(np.uint16).max)
    order = np.empty(total if limit is None else min(limit, total), np.uint16)
    _kernels()[0](np.array(counts, np.int64), order)
    return order


def changing_order(counts: Sequence[int], aims: Targets, limit: int | None = None) -> NDArray[np.uint16]:
    """As `source_order`, with shares that change over training as `aims` says. Raises as it does."""
    total = _check(counts, MAX_CHANGING)
    order = np.empty(total if limit is None else min(limit, total), np.uint16)
    met = _kernels()[1](np.array(counts, np.int64), aims.borders, aims.starts, aims.slopes, aims.reached, MARGIN, order)
    if not met:
        raise MixtureError("the order misses a target", wanted="each within one sequence", got="a closed window")
    return order


def plan_targets(plan: Plan) -> Targets:
    """How many sequences of each of `plan.streamed` are due when. Raises `MixtureError` where the curves don't fit."""
    return targets([source.name for source in plan.streamed], [source.planned for source in plan.streamed],
                   [source.curve for source in plan.streamed])  # fmt: skip


def training_order(plan: Plan) -> NDArray[np.unsignedinteger]:
    """The whole order of `plan`: (plan.sequences,) sample ids, uint32 or, where there are too many, uint64.

    Sample ids count through `plan.streamed` in order, as a StreamingDataset with these streams numbers its samples.
    """
    streamed = plan.streamed
    counts = [source.planned for source in streamed]
    changing = any(source.curve for source in streamed)
    sources = changing_order(counts, plan_targets(plan)) if changing else source_order(counts)
    held = sum(source.sequences for source in streamed)
    samples = np.empty(plan.sequences, np.uint32 if held <= 1 << 32 else np.uint64)
    starts = np.cumsum([0, *counts])
    offset = 0
    for source, start in zip(streamed, starts[:-1], strict=True):
        place = int(start)
        for part in source_samples(plan, source):
            samples[place : place + len(part)] = part + offset
            place += len(part)
        offset += source.sequences
    order = np.empty_like(samples)
    _kernels()[2](sources, samples, starts[:-1].copy(), order)
    return order


def source_samples(plan: Plan, source: PlannedSource) -> Iterator[NDArray[np.int64]]:
    """The samples of one source in the order of their use, in parts: a permutation a pass, the last perhaps cut."""
    left = source.planned
    number = 0
    while left:
        for part in permutation(
            plan.seed, source.name, number, source.sequences, source.shard_sequences, plan.shuffle_shards
        ):
            yield part[:left]
            left -= min(left, len(part))
            if not left:
                return
        number += 1


def permutation(
    seed: int, name: str, number: int, size: int, shard_size: int, shuffle_shards: int
) -> Iterator[NDArray[np.int64]]:
    """Pass `number` over a source of `size` sequences in shards of `shard_size`: groups of shards, one array each.

    Sorts raw generator output, which numpy promises to keep, in place of a method whose stream may change.
    """
    source = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    generator = np.random.Philox(np.random.SeedSequence([seed, source, number]))
    shards = -(-size // shard_size)
    if shards <= shuffle_shards:
        yield np.argsort(generator.random_raw(size), kind="stable")
        return
    shuffled = np.argsort(generator.random_raw(shards), kind="stable")
    for group in np.array_split(shuffled, -(-shards // shuffle_shards)):
        samples = np.concatenate([np.arange(n * shard_size, min((n + 1) * shard_size, size)) for n in group])
        yield samples[np.argsort(generator.random_raw(len(samples)), kind="stable")]


def _check(counts: Sequence[int], most: int) -> int:
    total = sum(counts)
    if not counts or min(counts) < 1 or total > MAX_SEQUENCES or len(counts) > most:
        raise MixtureError(
            "no order for such counts",
            wanted=f"1 to {most:,} sources with at least one sequence each, at most {MAX_SEQUENCES:,} together",
            got=f"{len(counts):,} sources, {total:,} sequences, the smallest with {min(counts, default=0):,}",
        )
    return total


@cache
def _kernels() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """The compiled loops: the order of constant shares, of changing ones, and from sources to sample ids.

    Compiled once a process where they are called, in a second or two, so that no cache on disk can be stale.
    """
    import numba

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def constant(counts: NDArray[np.int64], order: NDArray[np.uint16]) -> None:
        total = counts.sum()
        used = np.zeros(counts.size, np.int64)
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

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def reaches(
        wanted: float, piece: int, source: int, borders: NDArray[np.float64], starts: NDArray[np.float64],
        slopes: NDArray[np.float64], reached: NDArray[np.float64],
    ) -> int:  # fmt: skip
        """The first position by which the target of `source` is `wanted`, from `piece` on."""
        last = borders.size - 2
        while piece < last and reached[source, piece + 1] < wanted:
            piece += 1
        missing, rate, slope = wanted - reached[source, piece], starts[source, piece], slopes[source, piece]
        if missing <= 0:
            return int(np.ceil(borders[piece]))
        speed = rate + np.sqrt(max(rate * rate + 2 * slope * missing, 0.0))
        if speed <= 0:
            return int(borders[last + 1])
        return int(min(np.ceil(borders[piece] + 2 * missing / speed), borders[last + 1]))

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def changing(
        counts: NDArray[np.int64], borders: NDArray[np.float64], starts: NDArray[np.float64],
        slopes: NDArray[np.float64], reached: NDArray[np.float64], margin: float, order: NDArray[np.uint16],
    ) -> bool:  # fmt: skip
        used = np.zeros(counts.size, np.int64)
        closes = np.empty(counts.size, np.int64)
        for source in range(counts.size):
            closes[source] = reaches(1 - margin, 0, source, borders, starts, slopes, reached)
        piece = 0
        for index in range(order.size):
            position = index + 1
            while piece < borders.size - 2 and borders[piece + 1] < position:
                piece += 1
            inside = position - borders[piece]
            chosen = -1
            for source in range(counts.size):
                if used[source] < counts[source] and (chosen < 0 or closes[source] < closes[chosen]):
                    rate = starts[source, piece] + slopes[source, piece] * inside / 2
                    if reached[source, piece] + rate * inside >= used[source] + margin:
                        chosen = source
            if chosen < 0 or closes[chosen] < position:
                return False
            order[index] = chosen
            used[chosen] += 1
            closes[chosen] = reaches(used[chosen] + 1 - margin, piece, chosen, borders, starts, slopes, reached)
        return True

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def gather(
        sources: NDArray[np.uint16], samples: NDArray[Any], following: NDArray[np.int64], order: NDArray[Any]
    ) -> None:
        for index in range(sources.size):
            source = sources[index]
            order[index] = samples[following[source]]
            following[source] += 1

    return constant, changing, gather
