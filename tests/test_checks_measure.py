"""Sums over pairs and what follows from them, against numbers worked out by hand and by brute force."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt_stream import storage
from ipt_stream.analysis.checks.listing import CHECKS, Check, condition
from ipt_stream.analysis.checks.measure import (
    Point,
    Spread,
    Sums,
    Tallied,
    average_precision,
    curve,
    roc_area,
    thin,
)
from ipt_stream.analysis.checks.repeats import find_repeats, pass_paths, read_repeated
from ipt_stream.analysis.checks.report import bins
from ipt_stream.errors import InputError

BY_NAME = {check.name: check for check in CHECKS}
GROUNDED, NUMBERS, LOGPROB = BY_NAME["grounded"], BY_NAME["numbers"], BY_NAME["logprob"]
EXAMPLE = Spread({1.0: Tallied(4, 4), 0.5: Tallied(4, 2), 0.0: Tallied(2, 0)})
shares = st.fractions(0, 1, max_denominator=60).map(float)


def test_a_curve_by_hand() -> None:
    assert curve(GROUNDED, EXAMPLE) == [
        Point(1.0, 0.4, 1.0, pytest.approx(4 / 6)),
        Point(0.5, 0.8, 0.75, 1.0),
        Point(0.0, 1.0, pytest.approx(0.6), 1.0),
    ]
    assert average_precision(GROUNDED, EXAMPLE) == pytest.approx(4 / 6 * 1 + 2 / 6 * 6 / 8)
    # 4 not right: 2 at 0.5 have 4 right above and 2 beside, 2 at 0.0 have all 6 above, of 6 x 4 couples
    assert roc_area(GROUNDED, EXAMPLE) == pytest.approx((2 * (4 + 1) + 2 * 6) / 24)


def test_where_low_is_good_the_curve_begins_there() -> None:
    spread = Spread({0.0: Tallied(5, 5), 3.0: Tallied(5, 1)}, unknown=Tallied(10, 4))
    assert [point.threshold for point in curve(NUMBERS, spread)] == [0.0, 3.0]
    first, last = curve(NUMBERS, spread)
    assert (first.kept, first.precision, first.recall) == (0.75, 9 / 15, pytest.approx(0.9))
    assert (last.kept, last.precision, last.recall) == (1.0, 0.5, 1.0)


def test_nothing_known_gives_no_area() -> None:
    assert curve(GROUNDED, Spread()) == []
    assert average_precision(GROUNDED, Spread()) is None
    assert roc_area(GROUNDED, Spread({1.0: Tallied(3, 3)})) is None
    assert roc_area(GROUNDED, Spread({1.0: Tallied(3, 0)})) is None


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), max_size=30))
def test_areas_are_what_comparing_every_couple_gives(pairs: list[tuple[float, bool]]) -> None:
    spread = Spread()
    for value, right in pairs:
        spread.counts.setdefault(value, Tallied()).add(Tallied(1, int(right)))
    good, bad = [v for v, right in pairs if right], [v for v, right in pairs if not right]
    couples = [1.0 if g > b else 0.5 if g == b else 0.0 for g in good for b in bad]
    found = roc_area(GROUNDED, spread)
    assert found == (pytest.approx(sum(couples) / len(couples)) if couples else None)
    precisions = [sum(v >= g for v in good) / sum(v >= g for v, _ in pairs) for g in good]
    mean = average_precision(GROUNDED, spread)
    assert mean == (pytest.approx(sum(precisions) / len(precisions)) if good else None)


def test_quartiles_and_means() -> None:
    spread = Spread({0.0: Tallied(1), 0.2: Tallied(1), 0.4: Tallied(1), 1.0: Tallied(1)}, total=1.6)
    assert [spread.quantile(share) for share in (0.25, 0.5, 0.75, 1.0)] == [0.0, 0.2, 0.4, 1.0]
    assert (spread.known, spread.mean) == (4, pytest.approx(0.4))
    assert (Spread().quantile(0.5), Spread().mean) == (None, None)


@given(shares, st.integers(0, 100))
def test_a_threshold_on_the_grid_keeps_the_same_pairs_as_by_their_values(value: float, hundredths: int) -> None:
    threshold = hundredths / 100
    for check in (GROUNDED, BY_NAME["repetition"]):
        assert check.flags(value, threshold) == check.flags(check.on_grid(value), threshold)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0.0), (-0.4, -0.4), (-0.01231, -0.013), (-0.00001, -0.0001), (-2.345, -2.4), (-13.2, -14.0), (-99.0, -20.0)],
)
def test_log_probabilities_keep_two_digits_and_never_rise(value: float, expected: float) -> None:
    assert LOGPROB.on_grid(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("check", "threshold", "expected"),
    [(GROUNDED, 0.5, ">= 0.5"), (NUMBERS, 2, "<= 2"), (LOGPROB, -0.013, ">= -0.013"), (BY_NAME["question"], 1, "true"),
     (BY_NAME["duplicate"], 0, "false")],
)  # fmt: skip
def test_conditions_are_as_mix_takes_them(check: Check, threshold: float, expected: str) -> None:
    assert condition(check, threshold) == expected


def test_pairs_are_counted_and_flagged_by_their_exact_values() -> None:
    sums = Sums()
    fine = {check.name: check.high_is_good for check in CHECKS} | {
        "grounded": 0.75, "overlap": 1.0, "thought": None, "logprob": None, "repetition": 0.0, "numbers": 0,
        "names": 0, "question_names": 0,
    }  # fmt: skip
    sums.note(fine, True, {})
    sums.note({**fine, "grounded": 0.499, "numbers": 2}, False, {})
    sums.note({**fine, "grounded": 0.7}, True, {"grounded": 0.8})
    assert (sums.whole, sums.judged, sums.kept) == (Tallied(3, 2), 3, Tallied(1, 1))
    grounded = sums.checks["grounded"]
    assert grounded.flagged == Tallied(2, 1)
    assert grounded.total == pytest.approx(0.75 + 0.499 + 0.7)
    assert grounded.counts == {0.75: Tallied(1, 1), 0.49: Tallied(1, 0), 0.7: Tallied(1, 1)}
    assert sums.checks["numbers"].flagged == Tallied(1, 0)
    assert sums.checks["logprob"].unknown == Tallied(3, 2)


@given(st.lists(st.tuples(shares, st.booleans()), max_size=12), st.integers(0, 12))
def test_sums_of_segments_add_up_and_survive_json(pairs: list[tuple[float, bool]], cut: int) -> None:
    def sums_of(found: list[tuple[float, bool]]) -> Sums:
        sums = Sums()
        for value, right in found:
            sums.note(dict.fromkeys(BY_NAME) | {"grounded": value, "duplicate": value > 0.5}, right, {})
        return sums

    whole = sums_of(pairs)
    parts = Sums.from_json(sums_of(pairs[:cut]).to_json())
    parts.add(Sums.from_json(sums_of(pairs[cut:]).to_json()))
    for name in BY_NAME:
        assert parts.checks[name].total == pytest.approx(whole.checks[name].total)
        parts.checks[name].total = whole.checks[name].total
    assert parts == whole


def test_a_long_curve_is_thinned_between_its_ends() -> None:
    points = [Point(1 - i / 1000, i / 1000, None, None) for i in range(1001)]
    chosen = thin(points, 11)
    assert (chosen[0], chosen[-1]) == (points[0], points[-1])
    assert [round(point.kept, 3) for point in chosen] == [round(i / 10, 3) for i in range(11)]
    assert thin(points[:3], 11) == points[:3]


def test_every_value_is_in_one_bar() -> None:
    for check, values in {
        GROUNDED: [i / 100 for i in range(101)], NUMBERS: [0.0, 2.0, 20.0], BY_NAME["question"]: [0.0, 1.0],
        LOGPROB: [0.0, -0.0001, -0.001, -0.5, -0.51, -1.0, -16.0, -20.0],
    }.items():  # fmt: skip
        bars = bins(check, Spread({value: Tallied(1) for value in values}))
        assert sorted(value for _, inside in bars for value in inside) == sorted(values)
        assert len({name for name, _ in bars}) == len(bars)


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_repeats_are_counted_whatever_fits_in_memory(tmp_path: Path, at_once: int) -> None:
    keys = [7] * 1 + [8] * 2 + [9] * 2 + [10] * 5 + [2**64 - 1] * 12
    paths = [str(tmp_path / f"{i}.u64") for i in range(3)]
    for number, path in enumerate(paths):
        storage.publish_bytes(path, b"".join(key.to_bytes(8, "little") for key in keys[number::3]))
    sizes = [len(keys[number::3]) for number in range(3)]
    passes = pass_paths(str(tmp_path / "repeats"), len(keys), at_once)
    assert len(passes) == -(-len(keys) // at_once)
    found = find_repeats(paths, sizes, passes)
    assert (found.pairs, found.distinct, found.again) == (22, 5, 17)
    assert found.buckets == ((1, 1), (2, 4), (1, 5), (1, 12), (0, 0))
    seen: set[int] = set()
    for number in range(3):
        expected = {place for place, key in enumerate(keys[number::3])
                    if key in seen or key in keys[number::3][:place]}  # fmt: skip
        assert read_repeated(passes, number, 3) == expected
        seen |= set(keys[number::3])


def test_a_pass_over_the_keys_is_done_once_and_by_its_own_files_alone(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path in paths:
        storage.publish_bytes(path, b"".join(key.to_bytes(8, "little") for key in (4, 5, 5)))
    passes = pass_paths(str(tmp_path / "repeats"), 6, 3)
    found = find_repeats(paths, [3, 3], passes)
    assert (found.pairs, found.distinct) == (6, 2)
    assert [read_repeated(passes, number, 2) for number in (0, 1)] == [{2}, {0, 1, 2}]
    Path(passes[1]).unlink()
    made = Path(passes[0]).stat().st_mtime_ns
    assert find_repeats(paths, [3, 3], passes) == found
    assert Path(passes[0]).stat().st_mtime_ns == made
    Path(passes[1]).unlink()
    with pytest.raises(InputError, match=r"b does not hold the keys of its segment; wanted: 16 bytes; got: 24"):
        find_repeats(paths, [3, 2], passes)
    Path(passes[0]).write_bytes(bytes(8))
    with pytest.raises(InputError, match=r"0000-of-0002\.u64 is too short"):
        read_repeated(passes, 1, 2)


def test_a_run_without_pairs_repeats_nothing(tmp_path: Path) -> None:
    storage.publish_bytes(str(tmp_path / "a"), b"")
    passes = pass_paths(str(tmp_path / "repeats"), 0, 10)
    assert find_repeats([str(tmp_path / "a")], [0], passes).pairs == 0
    assert read_repeated(passes, 0, 1) == set()


def test_fractions_on_the_grid_stay_where_they_are() -> None:
    for hundredths in range(101):
        assert GROUNDED.on_grid(float(Fraction(hundredths, 100))) == hundredths / 100
