"""The plan's arithmetic is exact and its errors can be acted on; the order keeps every promise of the plan."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipt_stream.errors import MixtureError
from ipt_stream.mixture.curves import Curve, check_curve, targets
from ipt_stream.mixture.order import changing_order, permutation, source_order, source_samples, training_order
from ipt_stream.mixture.plan import Plan, PlannedSource, load_plan, make_plan, save_plan, table
from ipt_stream.mixture.shares import Demand, Fill, Passes, Ratio, Stock, count_sequences

COUNTS = st.lists(st.integers(1, 400), min_size=1, max_size=9)


def stock(name: str, sequences: int, tokens: int | None = None) -> Stock:
    return Stock(name, sequences, sequences * 10 if tokens is None else tokens, sequences, "0" * 64)


def plan_of(
    sizes: dict[str, tuple[int, int]], seed: int = 0, shard: int = 1000, at_once: int = 16, **curves: Curve
) -> Plan:
    sources = tuple(
        PlannedSource(name, n, n * 10, n, planned, "0" * 64, shard, curves.get(name, ()))
        for name, (n, planned) in sizes.items()
    )
    return Plan(sources, 10, seed, 100, 2, at_once)


# The order.


@settings(deadline=None, max_examples=150)
@given(COUNTS)
def test_every_prefix_is_within_one_of_every_target(counts: list[int]) -> None:
    order, total = source_order(counts), sum(counts)
    seen = np.cumsum(order[:, None] == np.arange(len(counts)), axis=0)  # (prefix, source)
    error = seen * total - np.arange(1, total + 1)[:, None] * np.array(counts)  # in units of 1 / total, exactly
    assert np.abs(error).max(initial=0) < total
    assert (seen[-1] == counts).all()


@settings(deadline=None, max_examples=50)
@given(COUNTS, st.integers(0, 500))
def test_a_shorter_order_is_a_prefix(counts: list[int], limit: int) -> None:
    whole = source_order(counts)
    assert (source_order(counts, limit) == whole[:limit]).all()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 4)), min_size=1, max_size=5),
    st.integers(0, 2**40),
    st.integers(1, 50),
    st.integers(1, 4),
)
def test_each_pass_of_each_source_is_a_permutation_spread_over_its_part(
    sizes: list[tuple[int, int]], seed: int, shard: int, at_once: int
) -> None:
    plan = plan_of({f"s{i}": (n, n * passes) for i, (n, passes) in enumerate(sizes)}, seed, shard, at_once)
    order = training_order(plan)
    offset, total = 0, plan.sequences
    for n, passes in sizes:
        places = np.flatnonzero((order >= offset) & (order < offset + n))
        for number in range(passes):
            mine = places[number * n : (number + 1) * n]
            assert sorted((order[mine] - offset).tolist()) == list(range(n))
            # Pass k of P lies in the k-th P-th, but for the one sequence that the order may be off by.
            slack = total / (n * passes)
            assert mine[0] + 1 > number * total / passes - slack
            assert mine[-1] + 1 < (number + 1) * total / passes + slack
        offset += n
    assert len(order) == total and order.max() < offset


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 6), st.integers(0, 99))
def test_a_pass_reads_few_shards_at_a_time_and_each_once(size: int, shard: int, at_once: int, seed: int) -> None:
    groups = list(permutation(seed, "raw", 0, size, shard, at_once))
    assert sorted(np.concatenate(groups).tolist()) == list(range(size))
    in_group = [{sample // shard for sample in group.tolist()} for group in groups]
    assert max(map(len, in_group)) <= at_once
    assert sum(map(len, in_group)) == -(-size // shard), "no shard is in two groups"
    assert max(map(len, in_group)) - min(map(len, in_group)) <= 1, "no group shuffles much less than the others"


def test_neighbours_are_of_one_shard_as_rarely_as_the_docstring_says() -> None:
    size, shard, at_once = 20_000, 100, 16
    order = np.concatenate(list(permutation(0, "raw", 0, size, shard, at_once)))
    together = (order[1:] // shard == order[:-1] // shard).mean()
    assert abs(together - 1 / at_once) < 0.01
    again = np.concatenate(list(permutation(0, "raw", 1, size, shard, at_once)))
    first, second = (set(part[: at_once * shard] // shard) for part in (order, again))
    assert len(first & second) < at_once / 2, "other shards come together in the next pass"


def test_passes_differ_from_each_other_and_from_other_seeds() -> None:
    draws = [
        next(permutation(seed, name, number, 50, 100, 4)).tolist()
        for seed in (0, 1) for name in "ab" for number in (0, 1)
    ]  # fmt: skip
    assert len({tuple(draw) for draw in draws}) == len(draws)


def test_the_order_never_changes() -> None:
    """Golden: a training that is resumed after an update must find the order that it began with."""
    assert source_order([3, 1, 2]).tolist() == [0, 2, 0, 1, 0, 2]
    assert next(permutation(7, "raw", 1, 10, 10, 1)).tolist() == [8, 9, 1, 0, 4, 2, 7, 3, 6, 5]
    assert [g.tolist() for g in permutation(7, "raw", 1, 10, 3, 2)] == GOLDEN_GROUPS
    assert training_order(plan_of({"a": (3, 6), "b": (4, 2)}, seed=5)).tolist() == [0, 2, 1, 4, 1, 2, 0, 6]
    curved = plan_of({"a": (4, 4), "b": (8, 8)}, a=((0.5, 0.0), (0.5, 1.0)))
    assert source_of(curved).tolist() == GOLDEN_CURVED


GOLDEN_GROUPS = [[1, 2, 3, 0, 5, 4], [8, 7, 9, 6]]
GOLDEN_CURVED = [1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 1]


def source_of(plan: Plan) -> np.ndarray:
    """The source of each position."""
    ends = np.cumsum([source.sequences for source in plan.streamed])
    return np.searchsorted(ends, training_order(plan), side="right")


def test_another_source_leaves_a_source_its_permutations() -> None:
    alone = training_order(plan_of({"a": (20, 40)}))
    both = training_order(plan_of({"a": (20, 40), "b": (7, 7)}))
    assert both[both < 20].tolist() == alone.tolist()
    plan = plan_of({"a": (20, 30)})
    assert np.concatenate(list(source_samples(plan, plan.sources[0]))).tolist() == alone[:30].tolist()


# Shares that change.


def curves() -> st.SearchStrategy[Curve]:
    point = st.tuples(st.integers(0, 20).map(lambda x: x / 20), st.sampled_from([0.0, 0.3, 1.0, 2.0]))
    return st.lists(point, min_size=1, max_size=5).map(lambda points: tuple(sorted(points))).filter(is_curve)


def is_curve(curve: Curve) -> bool:
    try:
        check_curve(curve)
    except ValueError:
        return False
    return True


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 200), st.none() | curves()), min_size=1, max_size=6))
def test_every_prefix_is_within_one_of_every_changing_target(sources: list[tuple[int, Curve | None]]) -> None:
    sizes = {f"s{i}": (n, n) for i, (n, _) in enumerate(sources)}
    try:
        plan = plan_of(sizes, **{f"s{i}": curve or () for i, (_, curve) in enumerate(sources)})
        order = source_of(plan)
    except MixtureError as error:
        assert error.fix and ("than there is room for" in str(error) or "no source fills" in str(error))
        return
    total = len(order)
    seen = np.cumsum(order[:, None] == np.arange(len(sources)), axis=0).T  # (source, prefix)
    aims = exact_targets([n for n, _ in sources], [curve or () for _, curve in sources])
    assert np.abs(seen - aims).max() < 1
    assert (seen[:, -1] == [n for n, _ in sources]).all() and total == sum(n for n, _ in sources)


def exact_targets(counts: list[int], curves: list[Curve]) -> np.ndarray:
    """The targets by adding up shares in small steps, from the curves as they are drawn: (sources, prefixes)."""
    total, fine = sum(counts), 400
    middles = (np.arange(total * fine) + 0.5) / (total * fine)
    densities = np.zeros((len(counts), total * fine))
    for index, (count, curve) in enumerate(zip(counts, curves, strict=True)):
        if curve:
            xs, ys = np.array(curve).T
            xs = xs + np.linspace(0, 1e-9, len(xs))  # two points of one progress: first the one, then the other
            densities[index] = np.interp(middles, xs, ys)
            densities[index] *= count / densities[index].sum()
    rest = 1 / fine - densities.sum(axis=0)
    even = np.array([0 if curve else count for count, curve in zip(counts, curves, strict=True)], float)
    if even.sum():
        densities += rest[None] * (even / even.sum())[:, None]
    return np.cumsum(densities, axis=1)[:, fine - 1 :: fine]


def test_a_curve_says_when_and_not_how_many() -> None:
    plan = plan_of({"raw": (600, 600), "late": (200, 200), "early": (200, 200)},
                   late=((0.5, 0.0), (0.5, 1.0)), early=((0.0, 1.0), (1.0, 0.0)))  # fmt: skip
    order = source_of(plan)
    assert Counter(order.tolist()) == {0: 600, 1: 200, 2: 200}
    halves = [Counter(part.tolist()) for part in (order[:500], order[500:])]
    assert halves[0][1] <= 1 and halves[1][1] >= 199
    assert abs(halves[0][2] - 150) <= 1, "the area below a falling line: three quarters lie in its first half"


def test_without_curves_both_ways_to_an_order_agree() -> None:
    counts = [30, 7, 13, 50]
    flat = targets(["a", "b", "c", "d"], counts, [(), (), (), ((0.0, 2.0), (1.0, 2.0))])
    order = changing_order(counts, flat)
    seen = np.cumsum(order[:, None] == np.arange(4), axis=0)
    error = seen * 100 - np.arange(1, 101)[:, None] * np.array(counts)
    assert np.abs(error).max() < 100
    assert (changing_order(counts, flat, 40) == order[:40]).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a": ((0.0, 0.0), (1.0, 1.0))}, r"at 100.0% of training .* got: 160.0% for a; fix: flatten the curve of a"),
        ({"a": ((0.0, 1.0), (1.0, 1.0)), "b": ((0.0, 1.0), (0.5, 1.0), (0.5, 0.0))}, "ask for more"),
        ({"a": ((0.0, 1.0), (0.0, 1.0)), "b": ((0.0, 0.0), (0.1, 1.0))}, "than there is room for|no source fills"),
    ],
)
def test_curves_that_do_not_fit_are_refused(given: dict[str, Curve], said: str) -> None:
    with pytest.raises(MixtureError, match=said):
        training_order(plan_of({"a": (80, 80), "b": (20, 20)}, **given))


@pytest.mark.parametrize(
    "curve", [((0.5, 1.0), (0.2, 1.0)), ((0.0, -1.0),), ((0.0, 0.0),), ((0.0, 1.0), (1.5, 1.0)), ((0.5, 1.0),) * 3]
)
def test_what_is_no_curve_is_refused(curve: Curve) -> None:
    with pytest.raises(ValueError, match="curve"):
        check_curve(curve)


def test_a_source_that_is_not_seen_has_no_sample_ids() -> None:
    plan = plan_of({"a": (5, 0), "b": (4, 4)})
    assert [source.name for source in plan.streamed] == ["b"]
    assert sorted(training_order(plan)) == [0, 1, 2, 3]


def test_counts_that_have_no_order_are_refused() -> None:
    for counts in ([], [3, 0], [2_000_000_000, 2_000_000_000]):
        with pytest.raises(MixtureError, match="no order for such counts"):
            source_order(counts)


# The plan.


def test_the_docstring_example() -> None:
    stocks = [stock("raw", 100), stock("aug", 150), stock("chat", 60)]
    demands: dict[str, Demand] = {"raw": Passes(2), "aug": Fill(), "chat": Ratio("aug", 0.5)}
    assert count_sequences(stocks, demands, 500) == {"raw": 200, "aug": 200, "chat": 100}


def test_ratios_are_of_tokens_not_of_sequences() -> None:
    stocks = [stock("full", 100, tokens=1000), stock("padded", 50, tokens=250)]
    counts = count_sequences(stocks, {"full": Passes(1), "padded": Ratio("full", 0.25)}, None)
    assert counts["padded"] * 5 == counts["full"] * 10 * 0.25


def test_filling_sources_share_by_size() -> None:
    counts = count_sequences([stock("a", 30), stock("b", 10)], {"a": Fill(), "b": Fill()}, 80)
    assert counts == {"a": 60, "b": 20}


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_the_plan_gives_what_is_asked_or_a_fix_that_works(data: st.DataObject) -> None:
    """Whatever is wanted, either the counts are right, or the error's first fix and its second both lead to a plan."""
    names = ["a", "b", "c", "d"][: data.draw(st.integers(1, 4))]
    stocks = [
        stock(name, n, data.draw(st.integers(n, n * 10)) if n else 0)
        for name in names
        for n in [data.draw(st.integers(1, 300))]
    ]
    demand = st.one_of(
        st.builds(Passes, st.floats(0.01, 5).map(lambda x: round(x, 2))),
        st.builds(Ratio, st.sampled_from(names), st.floats(0.01, 3).map(lambda x: round(x, 2)), st.just(2.0)),
        st.builds(Fill, st.just(2.0)),
    )
    demands = {name: data.draw(demand) for name in names}
    total = data.draw(st.none() | st.integers(50, 2000))
    try:
        counts = count_sequences(stocks, demands, total)
    except MixtureError as error:
        assert error.fix is not None and error.got is not None
        if error.problem == "the mixture is empty":  # all counts rounded to none
            return
        for fix in re.split(r", or ", error.fix):
            changed, new_total = apply_fix(fix, demands, total)
            try:
                count_sequences(stocks, changed, new_total)
            except MixtureError as next_error:
                # One thing is mended at a time; the same complaint must not come back.
                assert next_error.problem != error.problem, (fix, str(error))
        return
    by_name = {s.name: s for s in stocks}
    assert total is None or sum(counts.values()) == total
    for name, wanted in demands.items():
        match wanted:
            case Passes(passes):
                assert counts[name] == round(Fraction(str(passes)) * by_name[name].sequences)
            case Ratio(to, tokens, _) if not isinstance(demands[to], Fill):
                per = {n: by_name[n].tokens / by_name[n].sequences for n in (name, to)}
                slack = per[name] + tokens * per[to]  # both counts are rounded to whole sequences
                assert abs(counts[name] * per[name] - tokens * counts[to] * per[to]) <= slack
            case Fill(max_passes):
                assert counts[name] <= max_passes * by_name[name].sequences


def apply_fix(fix: str, demands: dict[str, Demand], total: int | None) -> tuple[dict[str, Demand], int | None]:
    if found := re.match(r"sequences=(\d+)", fix):
        return demands, int(found[1])
    if found := re.match(r"in place of sources\.(\w+)\.passes fill=true and max_passes=([\d.]+)", fix):
        return {**demands, found[1]: Fill(float(found[2]))}, total
    if found := re.search(r"sources\.(\w+)\.(passes|max_passes|ratio\.tokens)=([\d.]+)", fix):
        name, key, value = found[1], found[2], float(found[3])
        old = demands[name]
        if key == "passes":
            return {**demands, name: Passes(value)}, total
        assert not isinstance(old, Passes)
        if key == "max_passes":
            return {**demands, name: replace(old, max_passes=value)}, total
        assert isinstance(old, Ratio)
        return {**demands, name: replace(old, tokens=value)}, total
    if found := re.match(r"set sources\.(\w+)\.ratio\.to", fix):
        return {**demands, found[1]: Passes(1)}, total
    raise AssertionError(f"a fix that no one can act on: {fix}")


@pytest.mark.parametrize(
    ("demands", "total", "said"),
    [
        ({"a": Fill(1), "b": Passes(1)}, 400, ("source a is short by 250", "sequences=150", "max_passes=3.5")),
        ({"a": Fill(), "b": Passes(1)}, None, ("no total", "sequences=150")),
        ({"a": Fill(), "b": Passes(9)}, 300, ("150 sequences too many", "sequences=450", "sources.b.passes=6")),
        ({"a": Passes(1), "b": Passes(1)}, 200, ("50 sequences too few", "sequences=150", "max_passes=1.5")),
        ({"a": Ratio("b", 1), "b": Ratio("a", 1)}, None, ("leads back to itself",)),
        ({"a": Ratio("x", 1), "b": Passes(1)}, None, ("which is no source", "another source: b")),
        ({"a": Ratio("b", 30), "b": Passes(1)}, None, ("short by 1,100", "ratio.tokens=8", "max_passes=15")),
        ({"a": Passes(0), "b": Passes(0)}, None, ("the mixture is empty",)),
    ],
)
def test_what_is_impossible_says_what_is_short_and_how_to_mend_it(
    demands: dict[str, Demand], total: int | None, said: tuple[str, ...]
) -> None:
    with pytest.raises(MixtureError) as raised:
        count_sequences([stock("a", 100), stock("b", 50)], demands, total)
    assert all(part in str(raised.value) for part in said), str(raised.value)


def test_an_empty_source_that_must_give_is_named() -> None:
    for demand, total in ((Fill(), 20), (Ratio("b", 1.0), None)):
        with pytest.raises(MixtureError, match="source a is empty"):
            count_sequences([stock("a", 0), stock("b", 10)], {"a": demand, "b": Passes(1)}, total)
    assert count_sequences([stock("a", 0), stock("b", 10)], {"a": Passes(1), "b": Passes(1)}, None) == {"a": 0, "b": 10}


def example_plan(seed: int = 3) -> Plan:
    stocks = [stock("raw", 100), stock("aug", 40)]
    demands: dict[str, Demand] = {"raw": Passes(1), "aug": Passes(2.5)}
    return make_plan(
        stocks, demands, total=None, sequence_length=10, seed=seed, vocabulary_size=1000, eos_token_id=1,
        shuffle_shards=4, curves={"aug": ((0.0, 1.0), (1.0, 2.0))},
    )  # fmt: skip


def test_a_plan_is_read_back_as_it_was(tmp_path) -> None:  # type: ignore[no-untyped-def]
    plan = example_plan()
    save_plan(str(tmp_path), plan)
    assert load_plan(str(tmp_path)) == plan
    assert plan.fingerprint != example_plan(seed=4).fingerprint


def test_a_plan_that_was_changed_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    save_plan(str(tmp_path), example_plan())
    file = tmp_path / "plan.json"
    file.write_text(file.read_text().replace('"planned": 100', '"planned": 90', 1))
    with pytest.raises(MixtureError, match="was changed"):
        load_plan(str(tmp_path))
    with pytest.raises(MixtureError, match="no mixture in"):
        load_plan(str(tmp_path / "elsewhere"))


def test_the_table_adds_up() -> None:
    lines = table(example_plan(), sequences_per_batch=8)
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[1].split() == ["raw", "100", "1,000", "100", "1.00", "100", "50.0%"]
    assert lines[2].split() == ["aug", "40", "400", "40", "2.50", "100", "50.0%"]
    assert Counter(lines[3].split())["200"] == 1
    assert lines[4] == "training: 25 steps of 8 sequences, 200 sequences of 10 tokens, 2,000 tokens"
    assert lines[5] == "aug comes along a curve: 0% 1, 100% 2"
    assert all("~" not in line for line in lines) and "~1,000" in table(example_plan(), about=True)[1]
