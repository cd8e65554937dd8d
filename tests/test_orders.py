"""Orders and the reading of shards: every segment is made once and every end is found, whatever was killed before."""

from __future__ import annotations

import gzip
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import Format, RejectedRow, Row, ShardBroken, ShardSpec
from ipt_stream.errors import StorageError
from ipt_stream.progress import log
from ipt_stream.synthesis import read_segments as module
from ipt_stream.synthesis.orders import (
    MANY_ORDERS,
    PARTS_OF_A_STREAM,
    SHARE,
    Order,
    advice,
    order_from_json,
    order_to_json,
    plan_orders,
)
from ipt_stream.synthesis.plan import RunPlan, load_plan, segment_id
from ipt_stream.synthesis.read_segments import SegmentInput, ShardEnd, read_segments
from ipt_stream.synthesis.results import SegmentReference, unselected_documents
from ipt_stream.synthesis.rounds import SegmentResult
from ipt_stream.synthesis.tally import UNREADABLE, Tally, tally
from ipt_stream.synthesis.worker import _shard_record, describe


@dataclass(frozen=True)
class Truth:
    """What a shard really holds.

    Attributes:
        spec: what is known of it before it is read.
        rows: how many rows it has.
        group: rows of a row group (Parquet).
        broken: rows that can't be read: in a stream nothing behind the first can, in Parquet the rest of its group.
    """

    spec: ShardSpec
    rows: int
    group: int
    broken: frozenset[int]

    def read(self, start_row: int) -> Iterator[Row]:
        """As the readers do: from the start, or from the first row group that is needed."""
        parquet = self.spec.format is Format.PARQUET
        for row in range(start_row // self.group * self.group if parquet else 0, self.rows):
            if row in self.broken:
                raise ShardBroken(self.spec.path, row, "here", "bits")
            if row >= start_row:
                yield (
                    RejectedRow(row, "empty", None)
                    if row % 5 == 3
                    else Document(f"{self.spec.name}:{row}", None, self.spec.name, row, f"text {row}")
                )

    def rows_told(self) -> int:
        """Rows that must be accounted for: all of them in Parquet, in a stream those before the first broken one."""
        if self.spec.format is Format.PARQUET:
            return self.rows
        return min(self.broken, default=self.rows)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Truth], int]:
    """Shards and a segment size; borders of all kinds are likely, and guesses of rows go wrong both ways."""
    size = draw(st.integers(1, 6))
    truths = []
    for index in range(draw(st.integers(1, 4))):
        rows = draw(st.one_of(st.integers(0, 60), st.integers(0, 9).map(lambda n, size=size: n * size)))
        broken: frozenset[int] = frozenset()
        if rows and draw(st.booleans()):
            borders = st.integers(0, (rows - 1) // size).map(lambda n, size=size: n * size)
            anywhere = st.integers(0, rows - 1)
            near = borders.flatmap(
                lambda b, rows=rows: st.sampled_from([row for row in (b - 1, b, b + 1) if 0 <= row < rows])
            )
            broken = draw(st.frozensets(st.one_of(anywhere, near), min_size=1, max_size=3))
        kind = draw(st.sampled_from(list(Format)))
        spec = ShardSpec(
            f"/{index}", index, f"s{index}", kind, "text", None, draw(st.integers(0, 400)),
            rows if kind is Format.PARQUET else None,
        )  # fmt: skip
        truths.append(Truth(spec, rows, draw(st.integers(1, 12)), broken))
    return truths, size


def record_of(item: SegmentInput | ShardEnd) -> dict[str, Any]:
    """The ledger record, where no document was selected for conversion."""
    if isinstance(item, ShardEnd):
        return _shard_record(item)
    return {**describe(item, SegmentResult((), 0, 0, {})), "started": 0.0, "seconds": 0.0}


def read_all(truths: list[Truth], orders: list[Order], size: int) -> list[SegmentInput | ShardEnd]:
    """What comes of `orders`, read one after the other."""
    with patch.object(module, "read_rows", lambda shard, start=0: truths[shard.index].read(start)):
        return [item for order in orders for item in read_segments(order_from_json(order_to_json(order)), size)]


@settings(max_examples=150, deadline=None)
@given(worlds(), st.integers(1, 6), st.floats(0.5, 50), st.randoms(use_true_random=False))
def test_each_segment_is_made_once_and_each_end_told_once_over_any_number_of_kills(
    world: tuple[list[Truth], int], at_once: int, bytes_a_row: float, chance: random.Random
) -> None:
    """Each run but the last records a random part of what its orders would give, as if killed then."""
    truths, size = world
    shards = [truth.spec for truth in truths]
    records: dict[str, dict[str, Any]] = {}
    seen: dict[str, SegmentInput] = {}
    for kept in (0.5, 0.8, 1.0):
        before = tally(records.values())
        orders = list(plan_orders(shards, before, size, at_once, bytes_a_row))
        chance.shuffle(orders)
        items = read_all(truths, orders, size)
        new = [record_of(item) for item in items]
        names = [record["id"] for record in new]
        assert len(set(names)) == len(names), "nothing is made or told twice in a run"
        assert not set(names) & records.keys(), "what is recorded is not made or told again"
        for item in items:
            if isinstance(item, SegmentInput):
                known = seen.setdefault(segment_id(item.shard, item.number), item)
                assert known == item, "a segment is the same, wherever reading began"
        records |= {record["id"]: record for record in new if chance.random() < kept}
    final = tally(records.values())
    final.check_conservation(len(shards), "here")
    assert not list(plan_orders(shards, final, size, at_once, bytes_a_row)), "nothing is left to do"
    for truth in truths:
        rows, index = truth.rows_told(), truth.spec.index
        assert final.ends[index].rows == rows
        assert final.ends[index].segments == -(-rows // size)
        assert (index in final.broken_shards()) == bool(truth.broken)
        for number in range(-(-rows // size)):
            item = seen[segment_id(index, number)]
            assert (item.start_row, item.rows) == (number * size, min(size, rows - number * size))
            covered = [document.row for document in item.documents] + [
                r for rows in item.rejected.values() for r in rows
            ]
            assert sorted(covered) == list(range(item.start_row, item.start_row + item.rows))


@settings(max_examples=50, deadline=None)
@given(worlds(), st.integers(0, 3))
def test_documents_that_stay_raw_are_found_again_in_broken_shards_too(
    world: tuple[list[Truth], int], seed: int
) -> None:
    truths, size = world
    shards = [truth.spec for truth in truths]
    items = read_all(truths, list(plan_orders(shards, Tally(), size, 1, 10.0)), size)
    plan = RunPlan((), size, 1, 0.0, seed)
    with patch.object(module, "read_rows", lambda shard, start=0: truths[shard.index].read(start)):
        for item in items:
            if isinstance(item, SegmentInput):
                reference = SegmentReference("", "", shards[item.shard], item.start_row, item.rows, plan)
                assert tuple(next(unselected_documents([reference]))) == item.documents


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([Format.PARQUET, Format.JSONL]), st.integers(0, 3000)), min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(1, 7),
)
def test_orders_shrink_towards_the_end_and_their_number_is_bounded(
    sizes: list[tuple[Format, int]], size: int, at_once: int
) -> None:
    shards = [
        ShardSpec(f"/{n}", n, f"{n}", kind, "text", None, rows, rows if kind is Format.PARQUET else None)
        for n, (kind, rows) in enumerate(sizes)
    ]
    segments = [max(-(-rows // size), 1) for _, rows in sizes]
    orders = list(plan_orders(shards, Tally(), size, at_once, 1.0))
    left = sum(segments)
    bound = 0
    spans = []
    for order in orders:
        count = segments[order.shard.index]
        least = 1 if order.shard.format is Format.PARQUET else -(-count // PARTS_OF_A_STREAM)
        span = (order.stop or count) - order.first
        assert span <= max(least, left // (SHARE * at_once)), "at most its share of what is left"
        if order.shard.format is Format.PARQUET and order.stop is not None:
            spans.append(span)
        left -= span
    assert left == 0
    assert spans == sorted(spans, reverse=True)
    streams = sum(kind is Format.JSONL for kind, _ in sizes)
    share = SHARE * at_once
    bound = len(shards) + PARTS_OF_A_STREAM * streams + share * (1 + math.log(max(sum(segments) / share, 1))) + share
    assert len(orders) <= bound


@settings(max_examples=100, deadline=None)
@given(worlds(), st.integers(1, 6), st.integers(1, 4), st.floats(0.5, 50))
def test_the_orders_in_hand_at_the_end_have_as_many_marked_segments_as_are_at_work_then(
    world: tuple[list[Truth], int], at_once: int, smallest: int, bytes_a_row: float
) -> None:
    truths, size = world
    shards = [truth.spec for truth in truths]
    before = Tally(made={0: {0, 2}})
    orders = [
        order_from_json(order_to_json(o)) for o in plan_orders(shards, before, size, at_once, bytes_a_row, smallest)
    ]
    last = orders[-at_once:]
    assert [order for order in orders if order.ending is not None] == last
    for order in orders[:-at_once]:
        assert not any(order.is_ending(number) for number in range(order.first, (order.stop or 500) + 1))
    for order in last:
        if order.stop is None:  # where it ends is a guess
            assert order.ending is not None and order.ending >= order.first
            continue
        missing = [number for number in range(order.first, order.stop) if number not in order.finished]
        marked = [number for number in missing if order.is_ending(number)]
        assert marked == missing[-smallest:]


def test_a_stream_that_is_one_order_competes_at_its_end_alone() -> None:
    """64 segments in orders of at least 2: of the two orders that are in hand last, the last segment each."""
    spec = ShardSpec("/0", 0, "s", Format.JSONL, "text", None, 640)
    orders = list(plan_orders([spec], Tally(), 10, 2, 1.0))
    assert [(order.first, order.stop, order.ending) for order in orders[-3:]] == [
        (59, 61, None), (61, 63, 62), (63, None, 63),
    ]  # fmt: skip


def test_a_million_segments_for_a_thousand_engines_are_planned_in_seconds() -> None:
    shards = [
        ShardSpec(f"s3://b/{n:05d}.parquet", n, f"{n:05d}.parquet", Format.PARQUET, "content", None, 10**9, 175_000)
        for n in range(5534)
    ]
    at_once = 1000 * 3
    half = Tally(made={n: set(range(0, 181, 2)) for n in range(0, 5534, 2)})
    for made in (Tally(), half):
        started = time.process_time()
        orders = list(plan_orders(shards, made, 968, at_once, 1000.0))
        seconds = time.process_time() - started
        segments = sum((o.stop or 181) - o.first - len(o.finished) for o in orders)
        log.info("%s segments in %s orders, planned in %.1f s", f"{segments:,}", f"{len(orders):,}", seconds)
        assert segments == 5534 * 181 - sum(map(len, made.made.values()))
        assert len(orders) < 120_000
        assert seconds < 20


def test_the_end_is_told_by_the_order_with_the_last_row_if_the_next_begins_just_there() -> None:
    for rows, broken in ((6, False), (7, True)):
        spec = ShardSpec("/0", 0, "s", Format.JSONL, "text", None, 10)
        truth = Truth(spec, rows, 1, frozenset([6] if broken else []))
        orders = [Order(spec, 0, 2, frozenset()), Order(spec, 2, None, frozenset())]
        told = [[item for item in read_all([truth], [order], 3) if isinstance(item, ShardEnd)] for order in orders]
        assert [len(ends) for ends in told] == [1, 0]
        assert (told[0][0].rows, told[0][0].segments, told[0][0].broken is not None) == (6, 2, broken)


def test_a_shard_that_lacks_its_end_alone_is_read_from_its_last_segment_on() -> None:
    spec = ShardSpec("/0", 0, "s", Format.JSONL, "text", None, 1000)
    before = Tally(made={0: {0, 1, 2}})
    for bytes_a_row in (1.0, 1000.0):  # 1,000 rows guessed, and 1; there are 9
        orders = list(plan_orders([spec], before, 3, 1, bytes_a_row))
        assert orders[0].first == 2
        items = read_all([Truth(spec, 9, 1, frozenset())], orders, 3)
        assert items == [ShardEnd(0, 9, 3, None)]


def test_what_is_recorded_of_an_end_bounds_the_orders() -> None:
    spec = ShardSpec("/0", 0, "s", Format.JSONL, "text", None, 10**6)
    before = tally([_shard_record(ShardEnd(0, 30, 10, None))])
    before.made[0] = {0, 1, 2, 4, 5, 7, 8, 9}
    orders = list(plan_orders([spec], before, 3, 100, 1.0))
    assert [(order.first, order.stop) for order in orders] == [(3, 4), (6, 7)]


@pytest.fixture(params=["jsonl", "jsonl.gz", "parquet"])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> ShardSpec:
    """A real shard of 24 rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"a.{request.param}"
    rows = [{"text": f"the mill of town {n}"} for n in range(24)]
    if request.param == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)
        return ShardSpec(str(path), 0, path.name, Format.PARQUET, "text", None, path.stat().st_size, 24)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(lines) if request.param.endswith("gz") else lines)
    return ShardSpec(str(path), 0, path.name, Format.JSONL, "text", None, path.stat().st_size)


@pytest.mark.parametrize("size", [1, 4, 5, 7, 24, 25])
def test_real_files_come_out_whole(real: ShardSpec, size: int) -> None:
    for bytes_a_row in (5.0, 40.0, 5000.0):
        orders = list(plan_orders([real], Tally(), size, 2, bytes_a_row))
        items = [item for order in orders for item in read_segments(order, size)]
        final = tally(record_of(item) for item in items)
        final.check_conservation(1, "here")
        texts = [d.text for item in items if isinstance(item, SegmentInput) for d in item.documents]
        assert texts == [f"the mill of town {n}" for n in range(24)]


def test_a_parquet_file_with_a_broken_row_group_is_read_on_behind_it(tmp_path: Path) -> None:
    """4 row groups of 8 rows, the second of them broken; segments of 6: the break takes the rest of its one along."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    table = pa.Table.from_pylist([{"text": f"the mill of town {n}"} for n in range(32)])
    pq.write_table(table, path, row_group_size=8, use_dictionary=False, compression="zstd", write_page_checksum=True)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 4] ^= 0xFF
    path.write_bytes(content)
    spec = ShardSpec(str(path), 0, path.name, Format.PARQUET, "text", None, len(content), 32)
    whole = [item for order in plan_orders([spec], Tally(), 6, 100, 1.0) for item in read_segments(order, 6)]
    in_one = list(read_segments(Order(spec, 0, None, frozenset()), 6))
    assert whole == in_one, "however it is ordered"
    made = [item for item in in_one if isinstance(item, SegmentInput)]
    assert [item.rejected for item in made] == [
        {}, {UNREADABLE: [8, 9, 10, 11]}, {UNREADABLE: [12, 13, 14, 15, 16, 17]}, {}, {}, {},
    ]  # fmt: skip
    final = tally(record_of(item) for item in in_one)
    final.check_conservation(1, "here")
    assert final.broken_shards() == {0}
    assert final.rejected == {UNREADABLE: 10}
    lost = replace(spec, path=str(tmp_path / "b.parquet"))
    (tmp_path / "b.parquet").write_bytes(content[:-9])
    everything = tally(record_of(item) for item in read_segments(Order(lost, 0, None, frozenset()), 6))
    assert everything.rejected == {UNREADABLE: 32}, "the footer is gone since it was listed"


def test_a_plan_of_another_version_is_refused_clearly(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"shards": [], "rounds": 2}')
    with pytest.raises(StorageError, match=r"is not the plan of a synthesis run; wanted: one that this version wrote"):
        load_plan(str(tmp_path))


def test_orders_that_keep_one_driver_busy_for_long_are_said_to() -> None:
    assert advice(MANY_ORDERS, 1000) is None
    told = advice(360_000, 10_000)
    assert told is not None and "for 60 minutes" in told and "10,000 engines" in told
