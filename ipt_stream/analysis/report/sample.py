"""Which examples of a synthesis run a report shows: drawn by seed, the same number of each segment, sources in turn.

Of a large run only some segments are read, of each source in turn. A segment that has fewer examples than its share
gives all; the others make up for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from ipt_stream.draw import seeded, shuffled
from ipt_stream.synthesis.results import SegmentReference, example_rows, load_rows
from ipt_stream.synthesis.segment import SegmentRow

EXAMPLES_A_SEGMENT = 16
"""About so many are taken of a segment, where there are segments enough: fewer would read more files."""
LEAST_SEGMENTS = 32
"""So many are read, where there are as many, however few examples are wanted."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """An example: the rows of its shots, in order, and the segment that holds them."""

    segment: SegmentReference
    rows: tuple[SegmentRow, ...]


def draw_examples(
    references: Sequence[SegmentReference], number: int, seed: int, least_segments: int = LEAST_SEGMENTS
) -> Iterator[Drawn]:
    """`number` examples of the segments, or all where there are fewer, in the order of the input.

    Reads the chosen segments twice: once to count, then to draw. Memory: one segment.

    Raises:
        InputError: a segment's file was altered.
    """
    order = in_turn(references, seed)
    wanted = max(-(-number // EXAMPLES_A_SEGMENT), least_segments)
    sizes: dict[int, int] = {}
    for index in order:
        if len(sizes) >= wanted and sum(sizes.values()) >= number:
            break
        sizes[index] = sum(1 for _ in example_rows(load_rows(references[index])))
    quotas = dict(zip(sizes, fill(list(sizes.values()), number), strict=True))
    for index in sorted(quotas):
        if quotas[index]:
            yield from _of_segment(references[index], quotas[index], seed)


def in_turn(references: Sequence[SegmentReference], seed: int) -> list[int]:
    """The indices of `references`, those of each shard in random order, one of each shard after another."""
    by_shard: dict[int, list[int]] = {}
    for index, reference in enumerate(references):
        by_shard.setdefault(reference.shard.index, []).append(index)
    rng = seeded(seed, "segments")
    columns = [shuffled(rng, indices) for indices in shuffled(rng, list(by_shard.values()))]
    return [index for index in chain.from_iterable(zip_longest(*columns)) if index is not None]


def fill(sizes: Sequence[int], number: int) -> list[int]:
    """How many to take of each: the same of all, as far as they have them, `number` together or all.

    fill([10, 1, 10], 9) = [4, 1, 4]
    """
    taken = [0] * len(sizes)
    left = min(number, sum(sizes))
    waiting = [(size, index) for index, size in enumerate(sizes)]
    heapq.heapify(waiting)
    while waiting:
        size, index = heapq.heappop(waiting)
        # The smallest first: what it can't give is spread over those that are left.
        taken[index] = min(size, -(-left // (len(waiting) + 1)))
        left -= taken[index]
    return taken


def _of_segment(reference: SegmentReference, number: int, seed: int) -> Iterator[Drawn]:
    found = [tuple(rows) for rows in example_rows(load_rows(reference))]
    rng = seeded(seed, f"{reference.shard.index}:{reference.start_row}")
    for place in sorted(shuffled(rng, range(len(found)))[:number]):
        yield Drawn(reference, found[place])
