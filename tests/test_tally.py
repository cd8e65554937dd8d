"""The sum of a ledger: counts add up, what is there twice counts once, and nothing that is lost goes unseen."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from light import end, segment

from ipt_stream.errors import LedgerError
from ipt_stream.synthesis.tally import COUNTS, UNREADABLE, Tally, tally


@st.composite
def whole_runs(draw: st.DrawFn) -> tuple[list[dict[str, Any]], int]:
    """The records of a finished run, in some order, and how many shards it has."""
    records: list[dict[str, Any]] = []
    shards = draw(st.integers(1, 4))
    for shard in range(shards):
        sizes = draw(st.lists(st.integers(1, 9), max_size=4))
        for number, rows in enumerate(sizes):
            augmented = draw(st.integers(0, rows))
            rejected = draw(st.integers(0, rows - augmented))
            numbers = {name: draw(st.integers(0, 99)) for name in ("pairs", "raw_tokens", "resent_tokens")}
            why = {"no_pairs": {"nothing_generated": draw(st.integers(0, 3))}, "dropped": {"unfinished": 1}}
            records.append(segment(shard, number, rows, augmented, rejected, **numbers, **why))
        records.append(end(shard, sum(sizes), len(sizes)))
    return draw(st.permutations(records)), shards


@settings(max_examples=100, deadline=None)
@given(whole_runs(), st.data())
def test_counts_add_up_and_what_is_there_twice_counts_once(
    run: tuple[list[dict[str, Any]], int], data: st.DataObject
) -> None:
    records, shards = run
    again = data.draw(st.lists(st.sampled_from(records)))
    found = tally(records + again)
    found.check_conservation(shards, "here")
    segments = [record for record in records if record["kind"] == "segment"]
    for name in COUNTS:
        assert found.counts[name] == sum(record[name] for record in segments)
    assert found.counts["segments"] == len(segments)
    assert sum(found.rejected.values()) == sum(len(rows) for r in segments for rows in r["rejected"].values())
    assert found.dropped == Counter({"unfinished": len(segments)} if segments else {})
    assert all(found.is_whole(shard) for shard in range(shards))
    if segments:
        assert found.first_started == min(record["started"] for record in segments)
        assert found.last_ended == max(record["started"] + 2.0 for record in segments)


@settings(max_examples=100, deadline=None)
@given(whole_runs(), st.data())
def test_whatever_is_missing_or_too_much_is_found(run: tuple[list[dict[str, Any]], int], data: st.DataObject) -> None:
    records, shards = copy.deepcopy(run[0]), run[1]
    segments = [record for record in records if record["kind"] == "segment"]
    kinds = ["no end", "stray segment", "stray shard", "more shards"]
    harm = data.draw(st.sampled_from([*kinds, *(["missing", "wrong count"] if segments else [])]))
    victim = data.draw(st.sampled_from(segments if harm in ("missing", "wrong count") else records))
    if harm == "missing":
        records.remove(victim)
    elif harm == "no end":
        records = [record for record in records if record is not next(r for r in records if r["kind"] == "shard")]
    elif harm == "stray segment":  # as many rows as it takes for the sums to be right
        shard = data.draw(st.integers(0, shards - 1))
        records.append(segment(shard, 9, data.draw(st.integers(0, 5))))
    elif harm == "stray shard":
        records.append(segment(shards, 0, 3))
    elif harm == "more shards":
        shards += 1
    else:
        victim[data.draw(st.sampled_from(["augmented", "raw", "rows"]))] += 1
    with pytest.raises(LedgerError, match="the counts don't add up"):
        tally(records).check_conservation(shards, "here")


def test_errors_that_cancel_out_are_found() -> None:
    """One segment is missing in a shard, and there is one too many in another."""
    right = [segment(0, 0, 4), segment(0, 1, 4), end(0, 8, 2), segment(1, 0, 4), end(1, 4, 1)]
    tally(right).check_conservation(2, "here")
    wrong = [segment(0, 0, 4), end(0, 8, 2), segment(1, 0, 4), segment(1, 1, 4), end(1, 4, 1)]
    with pytest.raises(LedgerError, match="in 3 segments"):
        tally(wrong).check_conservation(2, "here")
    with pytest.raises(LedgerError, match="12 documents of 2 shards"):
        tally([*right[:3], segment(5, 0, 4), end(5, 4, 1)]).check_conservation(2, "here")


def test_a_shard_is_whole_with_its_end_and_all_its_segments() -> None:
    found = tally([segment(0, 0, 4), segment(0, 1, 4)])
    assert not found.is_whole(0)
    found.add(end(0, 11, 3))
    assert not found.is_whole(0)
    found.add(segment(0, 2, 3))
    assert found.is_whole(0)
    found.add(end(1, 0, 0))
    assert found.is_whole(1), "an empty shard has nothing but its end"


def test_broken_shards_are_those_that_end_too_soon_or_have_rows_that_can_not_be_read() -> None:
    found = tally([
        end(0, 4, 1), segment(0, 0, 4),
        end(1, 4, 1, "shard 1 is broken at row 4"), segment(1, 0, 4),
        end(2, 4, 1), segment(2, 0, 4, rejected=2) | {"rejected": {UNREADABLE: [2, 3]}},
        end(3, 0, 0, "shard 3 is broken at row 0"),
    ])  # fmt: skip
    assert found.broken_shards() == {1, 2, 3}
    found.check_conservation(4, "here")


def test_a_tally_of_nothing() -> None:
    Tally().check_conservation(0, "here")
    assert not Tally().broken_shards()
    with pytest.raises(LedgerError):
        Tally().check_conservation(1, "here")
