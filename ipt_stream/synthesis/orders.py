"""Work orders: which segments an engine is asked to make, in one go. Pure.

An order is a run of consecutive segments of one shard. Orders shrink towards the end of the run (guided
self-scheduling): at first an engine is given a long run of a shard, and so little of the shard is read twice; in the
end single segments, so that all engines end together. The segments that are at work when nothing is left to be given
out are marked: of these the longest chains go first, whichever segment they are of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.plan import RunPlan
from ipt_stream.synthesis.tally import Tally

SHARE = 4
"""All orders that are being worked on are at most 1/SHARE of what is left to do."""
PARTS_OF_A_STREAM = 32
"""A shard that can only be read from its start (all but Parquet) is cut into at most so many orders: each reads what
lies before it once more, so that on average a shard is read PARTS_OF_A_STREAM / 2 times."""

MANY_ORDERS = 150_000
"""One driver hands out about 100 a second (benchmarks/driver.py)."""


@dataclass(frozen=True, slots=True)
class Order:
    """Make the missing segments `first` to `stop` of `shard`.

    Attributes:
        shard: what to read.
        first: number of the first segment.
        stop: number after the last, or None: to the shard's end.
        finished: numbers in between that are made already.
        end_is_known: whether the shard's end is recorded, so that it is not to be told again.
        ending: segments from this number on are among the last of the run; None: none are.
    """

    shard: ShardSpec
    first: int
    stop: int | None
    finished: frozenset[int]
    end_is_known: bool = False
    ending: int | None = None

    def is_ending(self, number: int) -> bool:
        """Whether segment `number` is among the last of the run."""
        return self.ending is not None and number >= self.ending


def expected_rows(shard: ShardSpec, bytes_a_row: float) -> int:
    """Rows of `shard`: what it says, or a guess from its size."""
    return shard.rows if shard.rows is not None else max(1, round(shard.size_bytes / bytes_a_row))


def plan_orders(
    shards: Sequence[ShardSpec],
    tally: Tally,
    segment_documents: int,
    at_once: int,
    bytes_a_row: float,
    smallest: int = 1,
) -> Iterator[Order]:
    """Orders for all that `tally` doesn't have, in input order.

    A guess of a shard's rows that is wrong costs nothing but balance: its last order goes to its end, wherever it is.
    While its end is not recorded, the orders cover all from the last segment that is made: the shard may end in it, and
    only who reads the last row finds the end.

    The last `at_once` orders are those that are in hand when no other is left: of each, the last `smallest` segments
    are marked as ending, which are as many as all engines have at work then.

    Args:
        shards: the whole input.
        tally: what is recorded.
        segment_documents: rows a segment.
        at_once: how many orders are worked on at once, on all engines.
        bytes_a_row: of shards that don't say how many rows they have.
        smallest: segments an order has at least; more than 1 where segments are so small that orders would cost more.
    """
    held: deque[tuple[Order, int]] = deque()  # with the number after the last segment, told or guessed
    for order, stop in _orders(shards, tally, segment_documents, at_once, bytes_a_row, smallest):
        held.append((order, stop))
        if len(held) > at_once:
            yield held.popleft()[0]
    for order, stop in held:
        missing = [number for number in range(order.first, stop) if number not in order.finished]
        yield replace(order, ending=min(missing[-smallest:], default=order.first))


def _orders(
    shards: Sequence[ShardSpec],
    tally: Tally,
    segment_documents: int,
    at_once: int,
    bytes_a_row: float,
    smallest: int,
) -> Iterator[tuple[Order, int]]:
    """As `plan_orders`, without marks; with each order the number after its last segment, guessed where it has none."""
    guessed = {
        shard.index: _segments(shard, tally, segment_documents, bytes_a_row)
        for shard in shards
        if not tally.is_whole(shard.index)
    }
    left = sum(segments - len(tally.made.get(index, ())) for index, segments in guessed.items())
    for shard in shards:
        if shard.index not in guessed:
            continue
        made = tally.made.get(shard.index, set())
        segments = guessed[shard.index]
        end_is_known = shard.index in tally.ends
        last = max(made, default=-1)
        unskipped = segments if end_is_known else max(last, 0)
        least = smallest if shard.format is Format.PARQUET else max(smallest, -(-segments // PARTS_OF_A_STREAM))
        first = 0
        while True:
            while first in made and first < unskipped:
                first += 1
            if end_is_known and first >= segments:
                break
            end = first + max(least, min(left // (SHARE * at_once), segments))
            is_last = end >= segments  # it goes to the shard's end, wherever that is
            stop = max(end, last + 1) if is_last else end
            finished = frozenset(made.intersection(range(first, stop)))
            left -= max(min(end, segments) - first - len(finished), 0)
            yield Order(shard, first, None if is_last else end, finished, end_is_known), min(end, segments)
            if is_last:
                break
            first = end


def _segments(shard: ShardSpec, tally: Tally, segment_documents: int, bytes_a_row: float) -> int:
    """How many segments `shard` has, at least 1: what is recorded, or what its rows, told or guessed, make."""
    end = tally.ends.get(shard.index)
    if end is not None:
        return end.segments  # It is not whole, so there is one.
    rows = expected_rows(shard, bytes_a_row)
    return max(-(-rows // segment_documents), max(tally.made.get(shard.index, {0})) + 1, 1)


def orders_at_once(engine: EngineConfig, plan: RunPlan) -> tuple[int, int]:
    """Orders that an engine works on, and segments that an order has at least.

    The last orders of a run are the smallest, and all that an engine works on must fill it: one more than that, for
    one that ends. Where segments are tiny, an order has an eighth of what fills the engine.
    """
    segments = engine.segments_at_once(plan.chains_a_segment())
    smallest = max(1, segments // 8)
    return -(-segments // smallest) + 1, smallest


def advice(orders: int, engines: int) -> str | None:
    """What to do where there are more orders than one driver hands out while so many engines work on them."""
    if orders <= MANY_ORDERS:
        return None
    return (
        f"{orders:,} orders for up to {engines:,} engines keep one driver busy for {orders / 100 / 60:.0f} minutes: "
        "where that is too long, run on parts of the shards, each with an output and a driver of its own"
    )


def order_to_json(order: Order) -> str:
    """`order` as it travels to a worker. Of many, some microseconds each."""
    return msgspec.json.encode(order, order="deterministic").decode()


def order_from_json(text: str) -> Order:
    """The order that `order_to_json` made `text` of."""
    return msgspec.json.decode(text, type=Order)
