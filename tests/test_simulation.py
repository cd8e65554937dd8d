"""A simulated cluster: small ones come out as computed by hand, and no segment is lost or doubled, whatever is lost."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ipt_stream import storage
from ipt_stream.config import build
from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.ledger import LedgerWriter, read_ledger
from ipt_stream.simulation import simulate as module
from ipt_stream.simulation.clock import Clock
from ipt_stream.simulation.corpus import make_plan, make_segment, segments_of
from ipt_stream.simulation.engine import EngineModel
from ipt_stream.simulation.pool import Pool
from ipt_stream.simulation.settings import DriverSettings, EngineSettings, SimulationSettings
from ipt_stream.simulation.simulate import Outcome, simulate
from ipt_stream.simulation.store import close_bucket, open_bucket
from ipt_stream.synthesis.orders import Order

PLAIN: dict[str, Any] = {
    "corpus": {"shards": 2, "documents_a_shard": 1000, "spread": 0, "token_spread": 0, "tokens_a_document": 500},
    # One sequence at a time, 1,000 raw tokens a second: a document takes half a second, and nothing overlaps.
    "engine": {"raw_tokens_a_day": 86_400_000, "max_num_seqs": 1, "tokenize_tokens_a_second": 1e15},
    "nodes": {
        "gpus": 1,
        "join_seconds": 0,
        "start_seconds": 60,
        "start_spread": 0,
        "loss_hours": None,
        "slow_share": 0,
    },
    "store": {"request_seconds": 0, "bytes_a_document": 0},
    "driver": {"order_seconds": 0, "queue_seconds": 0},
    "segment_documents": 100,
}


def cluster(**changes: dict[str, Any] | Any) -> SimulationSettings:
    """`PLAIN`, changed: sections key by key."""
    settings = {**PLAIN}
    for name, value in changes.items():
        settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
    return build(SimulationSettings, settings, "test")


def check_whole(outcome: Outcome, expected: SimulationSettings) -> None:
    """All segments are there, and GPU time is accounted for."""
    plan = make_plan(expected)
    assert outcome.segments == sum(segments_of(plan, shard.index) for shard in plan.shards)
    assert outcome.documents == sum(shard.rows or 0 for shard in plan.shards)
    shares = (outcome.useful, outcome.lost, outcome.starting, outcome.tail, outcome.waiting)
    assert sum(shares) == pytest.approx(1) and min(shares) > -1e-6


def test_one_engine_takes_its_start_and_the_work() -> None:
    outcome = simulate(cluster())
    assert outcome.hours * 3600 == pytest.approx(60 + 2000 * 0.5)
    assert outcome.ideal_hours * 3600 == pytest.approx(1000)
    assert outcome.useful == pytest.approx(1000 / 1060) and outcome.starting == pytest.approx(60 / 1060)
    assert (outcome.lost, outcome.recorded_again, outcome.drivers) == (0, 0, 1)
    # 20 segments: one look each before, one put each, and one for each record; both shards' ends are recorded too.
    asked = outcome.requests
    assert (asked["head", "segments"], asked["put", "segments"], asked["put", "ledger"]) == (20, 20, 22)


def test_what_is_not_converted_costs_nothing() -> None:
    assert simulate(cluster(fraction=0.2)).hours * 3600 == pytest.approx(60 + 2000 * 0.5 * 0.2)


def test_four_engines_share_the_work_and_a_slow_one_holds_the_others_up() -> None:
    even = simulate(cluster(nodes={"gpus": 4}))
    assert even.hours * 3600 == pytest.approx(60 + 250)
    assert even.idle == pytest.approx(60 / 310)
    # At a quarter of the speed its segments take 200 s each: in the last of its orders the others have nothing to do.
    slow = simulate(cluster(nodes={"gpus": 4, "slow_share": 0.25, "slow_factor": 0.25}))
    assert 60 + 1000 / 3.25 < slow.hours * 3600 <= 60 + 1000 / 3.25 + 4 * 200
    assert slow.tail > even.tail


def test_store_and_driver_take_their_time() -> None:
    base = simulate(cluster()).hours * 3600
    # The first segment is read, looked at, published and recorded; the others' requests overlap with work. The last
    # record is followed by nothing; the first order is given out after all are queued, and one second for it.
    slow = cluster(
        store={"request_seconds": 1, "request_spread": 0, "bytes_a_document": 0},
        driver={"order_seconds": 1, "queue_seconds": 2},
    )
    outcome = simulate(slow)
    # The engine starts in 60 s, while the driver queues 20 orders in 40: what counts is 60.
    assert outcome.order_count == 20
    # It is read and looked at before the engine has it, and published and recorded behind it.
    assert outcome.hours * 3600 == pytest.approx(base + 2 + 2)
    held_up = simulate(cluster(driver={"order_seconds": 0, "queue_seconds": 5}))
    assert held_up.hours * 3600 == pytest.approx(base + 20 * 5 - 60)


def test_lost_nodes_cost_work_and_lose_nothing() -> None:
    lossy = cluster(nodes={"gpus": 16, "gpus_a_node": 4, "loss_hours": 0.1, "replace_seconds": 100})
    outcome = simulate(lossy)
    assert outcome.nodes_lost > 0 and outcome.lost > 0
    assert outcome.hours > simulate(cluster(nodes={"gpus": 16})).hours
    check_whole(outcome, lossy)


def test_a_lost_driver_resumes_from_the_ledger() -> None:
    resumed = cluster(driver_lost_hours=(0.15,))
    outcome = simulate(resumed)
    assert outcome.drivers == 2 and outcome.order_count > 20
    check_whole(outcome, resumed)
    # What was at the engine is made again, after another start: at most the two segments it has at once.
    assert 60 < outcome.hours * 3600 - 1060 < 60 + 2 * 50
    assert outcome.lost > 0


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    lossy = {"gpus": 8, "gpus_a_node": 2, "loss_hours": 0.1, "start_spread": 0.5}
    runs = [simulate(cluster(nodes=lossy, seed=seed)) for seed in (1, 1, 2)]
    assert runs[0].hours == runs[1].hours and runs[0].lost == runs[1].lost
    assert runs[0].hours != runs[2].hours


@settings(max_examples=25)
@given(st.data())
def test_every_segment_is_recorded_once_whatever_the_cluster(data: st.DataObject) -> None:
    draw = data.draw
    settings_ = cluster(
        corpus={
            "shards": draw(st.integers(1, 4)),
            "documents_a_shard": draw(st.integers(1, 500)),
            "spread": draw(st.sampled_from([0, 0.5])),
            "token_spread": 1.3,
        },
        engine={"raw_tokens_a_day": 864_000_000, "max_num_seqs": draw(st.sampled_from([1, 32, 512]))},
        nodes={
            "gpus": draw(st.integers(1, 9)),
            "gpus_a_node": draw(st.integers(1, 4)),
            "join_seconds": draw(st.sampled_from([0, 50])),
            "start_seconds": draw(st.sampled_from([0, 10])),
            "start_spread": 0.5,
            "loss_hours": draw(st.sampled_from([None, 0.02, 0.2])),
            "replace_seconds": 20,
            "slow_share": draw(st.sampled_from([0, 0.5])),
        },
        store={"request_seconds": draw(st.sampled_from([0, 0.5])), "bytes_a_document": 1000},
        driver={"order_seconds": draw(st.sampled_from([0, 0.5]))},
        rounds=draw(st.integers(1, 3)),
        fraction=draw(st.sampled_from([0.2, 1])),
        segment_documents=draw(st.sampled_from([7, 50, 1000])),
        driver_lost_hours=draw(st.sampled_from([(), (0.005,), (0.01, 0.02)])),
        seed=draw(st.integers(0, 1000)),
    )
    check_whole(simulate(settings_), settings_)


def test_a_document_that_is_lost_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from ipt_stream.errors import LedgerError

    read = module.read_ledger
    monkeypatch.setattr(module, "read_ledger", lambda root: (r for r in read(root) if r["id"] != "000001-000003"))
    with pytest.raises(LedgerError, match="the counts don't add up"):
        simulate(cluster())


def test_an_engine_is_a_server_with_a_least_time() -> None:
    settings_ = EngineSettings(raw_tokens_a_day=86_400_000, max_num_seqs=10, step_floor=0.3)
    engine = EngineModel(settings_, rounds=2, tokens_a_document=500)
    # A request takes 10 * 500 / 1000 = 5 s in a full engine, a chain of two 10 s.
    first = engine.submit(100.0, 50_000, 50)
    assert (first.begin, first.end, first.done) == (100.0, 150.0, 150.0)
    assert engine.submit(120.0, 10_000, 10).begin == 150.0
    # One chain alone: two requests at the pace of a step with a tenth of the sequences: 0.3 + 0.7 * 0.1 of 10 s.
    alone = engine.submit(1000.0, 1000, 1)
    assert alone.end == 1001.0 and alone.done == pytest.approx(1003.7)
    assert EngineModel(settings_, 2, 500, speed=0.5).submit(0.0, 1000, 100).end == 2.0


def test_segments_are_the_same_whenever_they_are_asked_for_and_add_up() -> None:
    spread = cluster(corpus={"token_spread": 1.3, "spread": 0.3}, fraction=0.5, rounds=3)
    plan = make_plan(spread)
    made = [make_segment(spread, plan, 1, number) for number in range(segments_of(plan, 1))]
    assert made == [make_segment(spread, plan, 1, number) for number in range(segments_of(plan, 1))]
    assert sum(segment.rows for segment in made) == plan.shards[1].rows
    assert made[0].chains == math.ceil(made[0].selected / 3) and made[0].selected == 50
    record = made[0].record(1.0, 2.0)
    assert record["rows"] == record["augmented"] + record["raw"] and record["raw_tokens"] == made[0].tokens
    assert 450 < len(json.dumps(record)) < 900  # as large as real ones


class TestPool:
    class Actor:
        def __init__(self) -> None:
            self.orders: list[Order] = []

        def give(self, order: Order) -> None:
            self.orders.append(order)

        def has(self) -> int:
            return len(self.orders)

    def pool(self, orders: int, order_seconds: float = 0.0) -> tuple[Clock, Pool]:
        shard = ShardSpec("/a", 0, "a", Format.PARQUET, "text", None, 1, 100)
        clock = Clock()
        costs = DriverSettings(order_seconds=order_seconds, queue_seconds=0)
        return clock, Pool(clock, [Order(shard, n, n + 1, frozenset()) for n in range(orders)], 3, costs, lambda: None)

    def test_the_actor_with_the_fewest_gets_the_next_and_none_has_too_many(self) -> None:
        clock, pool = self.pool(20)
        first, second = self.Actor(), self.Actor()
        pool.up(first)
        clock.run(lambda: False)
        assert first.has() == 3
        pool.up(second)
        clock.run(lambda: False)
        assert second.has() == 3
        second.orders.clear()
        for _ in range(3):
            pool.done(second)
        clock.run(lambda: False)
        assert [order.first for order in second.orders] == [6, 7, 8] and first.has() == 3
        assert not pool.empty and not pool.finished

    def test_an_actor_that_is_lost_gets_nothing_and_one_order_is_given_after_another(self) -> None:
        clock, pool = self.pool(4, order_seconds=2.0)
        first, second = self.Actor(), self.Actor()
        pool.up(first)
        pool.down(first)
        pool.up(second)
        clock.run(lambda: False)
        assert (first.has(), second.has(), clock.now) == (0, 3, 4.0)


def test_the_store_counts_and_holds_what_a_real_one_does() -> None:
    bucket = open_bucket("test")
    try:
        root = "simulated://test/run"
        assert storage.publish_once(f"{root}/segments/a", b"1") and not storage.publish_once(f"{root}/segments/a", b"2")
        assert storage.read_bytes(f"{root}/segments/a") == b"1"
        assert not storage.exists(f"{root}/segments/b")
        writer = LedgerWriter(root, owner="w")
        for number in range(3):
            writer.append({"id": str(number)})
        assert [record["id"] for record in read_ledger(root)] == ["0", "1", "2"]
        assert bucket.requests["put", "ledger"] == 3 and bucket.requests["list", "ledger"] == 1
        assert list(bucket.objects["test/run/ledger"]) == ["part-w-000000.jsonl"]
    finally:
        close_bucket("test")


def test_unknown_and_impossible_settings_are_refused() -> None:
    with pytest.raises(ValidationError):
        SimulationSettings.model_validate({"fraction": 0})
    with pytest.raises(ValidationError):
        SimulationSettings.model_validate({"nodes": {"gpu": 3}})
