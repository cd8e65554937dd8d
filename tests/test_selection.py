"""Selection: stable, monotone in the fraction, and about as many as were asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt_stream.corpus.document import Document
from ipt_stream.corpus.selection import is_selected, selection_key
from ipt_stream.errors import ConfigError

SEEDS = st.integers(0, 2**63)
KEYS = st.text()
FRACTIONS = st.floats(0.0, 1.0)


@given(seed=SEEDS, key=KEYS)
def test_one_selects_all_and_zero_none(seed: int, key: str) -> None:
    assert is_selected(seed, key, 1.0)
    assert not is_selected(seed, key, 0.0)


@given(seed=SEEDS, key=KEYS, fractions=st.tuples(FRACTIONS, FRACTIONS))
def test_a_larger_fraction_keeps_what_a_smaller_one_chose(seed: int, key: str, fractions: tuple[float, float]) -> None:
    assert is_selected(seed, key, min(fractions)) <= is_selected(seed, key, max(fractions))


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_share_is_the_fraction(seed: int, fraction: float) -> None:
    chosen = sum(is_selected(seed, f"shard.parquet:{row}", fraction) for row in range(20_000))
    assert abs(chosen / 20_000 - fraction) < 5 * (fraction * (1 - fraction) / 20_000) ** 0.5  # five standard deviations


def test_seeds_choose_independently() -> None:
    both = sum(is_selected(0, str(row), 0.5) and is_selected(1, str(row), 0.5) for row in range(20_000))
    assert abs(both / 20_000 - 0.25) < 0.02


def test_the_choice_never_changes_between_releases() -> None:
    assert [row for row in range(40) if is_selected(7, f"a:{row}", 0.2)] == [1, 13, 15, 28, 34, 36]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_no_other_fraction_is_taken(fraction: float) -> None:
    with pytest.raises(ConfigError, match="a share from 0 to 1"):
        is_selected(0, "a", fraction)


def test_a_document_is_chosen_by_its_own_id_where_it_has_one() -> None:
    assert selection_key(Document("a:1", "pmid", "a", 1, "text")) == "pmid"
    assert selection_key(Document("a:1", None, "a", 1, "text")) == "a:1"
