"""The domain tasks' metrics: against scikit-learn, and against cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from ipt_stream.errors import EvaluationError
from ipt_stream.evaluation.metrics import (
    Likelihood,
    bootstrap_stderr,
    choose,
    entities,
    entity_f1,
    exact_f1,
    guess_score,
    mean_class_f1,
    micro_f1,
    numbers,
    numbers_match,
    score_accuracy,
    score_class_f1,
    score_entities,
    score_number,
    weighted_f1,
)

ROWS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=60)


@settings(max_examples=40)
@given(ROWS)
def test_f1_is_that_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    gold, predicted = zip(*rows, strict=True)
    assert micro_f1(rows) == pytest.approx(f1_score(gold, predicted, average="micro", zero_division=0))
    assert micro_f1(rows) == pytest.approx(accuracy_score(gold, predicted)), "each question has one answer"
    assert weighted_f1(rows) == pytest.approx(f1_score(gold, predicted, average="weighted", zero_division=0))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 8)), min_size=1, max_size=80))
def test_the_mean_over_classes_is_that_of_scikit_learn(rows: list[tuple[int, int, int]]) -> None:
    by_class: dict[int, list[tuple[int, int]]] = {}
    for gold, predicted, number in rows:
        by_class.setdefault(number, []).append((gold, predicted))
    found = [f1_score(*zip(*part, strict=True), average="weighted", zero_division=0) for part in by_class.values()]
    assert mean_class_f1(rows) == pytest.approx(sum(found) / len(found))


@settings(max_examples=40)
@given(st.lists(st.sampled_from("abc"), max_size=4), st.lists(st.sampled_from("abc"), max_size=4))
def test_exact_entities_are_the_f1_of_sets(gold: list[str], predicted: list[str]) -> None:
    pairs = [tuple(dict.fromkeys((name, "X") for name in names)) for names in (gold, predicted)]
    truth, guess = [[float(name in names) for name in "abc"] for names in (gold, predicted)]
    assert exact_f1(*pairs) == pytest.approx(f1_score([truth], [guess], average="samples", zero_division=0))


def test_f1_by_hand() -> None:
    # gold 0 0 0 1, predicted 0 0 1 1: class 0 has precision 1, recall 2/3, F1 4/5; class 1 has 1/2, 1, 2/3.
    rows = [(0, 0), (0, 0), (0, 1), (1, 1)]
    assert micro_f1(rows) == pytest.approx(3 / 4)
    assert weighted_f1(rows) == pytest.approx((3 * 4 / 5 + 1 * 2 / 3) / 4)
    # Class 2 is right, class 5 is what is above: their plain mean.
    assert mean_class_f1([(1, 1, 2), *((*row, 5) for row in rows)]) == pytest.approx((1 + (2.4 + 2 / 3) / 4) / 2)
    assert score_class_f1(
        {"gold_index": 1, "class_id": 5}, [Likelihood(-1.0, True, 1), Likelihood(-3.0, False, 1)]
    ) == {"mean_class_f1": (1, 0, 5)}


def test_options_are_compared_by_their_likelihood_a_token() -> None:
    short, long = Likelihood(-3.0, False, 1), Likelihood(-4.0, False, 2)  # -3 and -2 a token
    assert choose([short, long]) == 1
    assert choose([long, Likelihood(-2.0, True, 1)]) == 0, "of equals the first"
    assert score_accuracy({"gold_index": 1}, [short, long]) == {"accuracy": 1.0}
    assert tuple(long) == (-4.0, False), "lm-eval takes it apart as any pair"
    with pytest.raises(EvaluationError, match=r"can't be scored a token; .* got: tuple; fix: evaluate with ipt-stream"):
        choose([(-1.0, True), (-2.0, False)])


def test_entities_by_hand() -> None:
    text = "Silicium de Provence SAS (ORG), HERBERT SMITH (PER), Smith\t (PER) and SAS (ORG) (x)"
    assert entities(text) == (("SAS", "ORG"), ("SMITH", "PER"), ("Smith", "PER")), "the last word; none twice"
    assert entities("none") == ()
    gold = entities("Bank (ORG), Smith (PER)")
    assert entity_f1(gold, gold) == exact_f1(gold, gold) == 1.0
    # Bank counts 2, Smith 1 for its type: 3 points of 4 found and of 4 wanted.
    assert entity_f1(gold, entities("Bank (ORG), Jones (PER)")) == pytest.approx(
        2 * (3 / 4) * (3 / 4) / (3 / 4 + 3 / 4)
    )
    assert exact_f1(gold, entities("Bank (ORG), Jones (PER)")) == pytest.approx(1 / 2)
    # Each gold entity stops at the first that shares anything: both meet Jones, for its type and not at all.
    assert entity_f1(gold, entities("Jones (PER)")) == pytest.approx(1 / 3)
    assert entity_f1(gold, ()) == entity_f1((), gold) == entity_f1((), ()) == 0.0
    assert score_entities({"label": ["Bank (ORG)"]}, [" Bank (ORG)"]) == {"entity_f1": 1.0, "exact_f1": 1.0}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("60.9", [60.9]),
        ("$ 1,234.5 million and -7", [1234.5, -7.0]),
        ("12.5%", [0.125]),
        (".5 then 3e2", [0.5, 300.0]),
        ("007", [7.0]),
        ("1e999", []),
        ("9%%", [0.0009]),
        ("\n5", []),
        ("4\n5", [4.0]),
        ("none", []),
        ("%" * 9 + "1" + "%" * 900, [0.0]),
    ],
)
def test_numbers_of_the_first_line(text: str, found: list[float]) -> None:
    assert numbers(text) == pytest.approx(found)


@pytest.mark.parametrize(
    ("label", "answer", "right"),
    [
        ("60.9", "it was 60.905", True),
        ("60.9", "60.92", False),
        ("12.5%", "0.13", True),
        ("5", "from 3 to 5 percent", True),
        ("5", "6\n5", False),
        ("no", "5", False),
        ("5", "no", False),
        ("1e12", "1000000000000.5", True),
    ],
)
def test_a_number_within_a_hundredth_is_the_same_answer(label: str, answer: str, right: bool) -> None:
    assert numbers_match(label, answer) is right
    assert score_number({"label": label}, [answer]) == {"numeric_match": float(right)}


def test_bootstrapped_errors_agree_with_the_formula_and_come_out_the_same() -> None:
    generator = np.random.default_rng(5)
    gold = generator.integers(0, 4, 400)
    predicted = np.where(generator.random(400) < 0.7, gold, (gold + 1) % 4)
    rows = np.stack([gold, predicted], axis=1)
    share = micro_f1(rows)
    found = bootstrap_stderr(micro_f1, rows, seed=1)
    assert found == pytest.approx(math.sqrt(share * (1 - share) / 400), rel=0.1)
    assert found == bootstrap_stderr(micro_f1, [tuple(row) for row in rows], seed=1)
    assert found != bootstrap_stderr(micro_f1, rows, seed=2)
    assert bootstrap_stderr(micro_f1, rows[:1], seed=1) is None


def test_what_guessing_scores() -> None:
    generator = np.random.default_rng(0)
    gold = (generator.random(2000) < 0.2).astype(int)  # a fifth are 1
    rows = np.stack([gold, gold], axis=1)
    options = [2] * len(rows)
    assert guess_score(micro_f1, rows, options, seed=0) == pytest.approx(0.5, abs=0.01)
    # Of class c, a share w, half is found, and half of all is taken for it: F1 = 2 w 1/2 / (w + 1/2).
    share = 1 - gold.mean()
    expected = sum(w * w / (w + 0.5) for w in (share, 1 - share))
    assert guess_score(weighted_f1, rows, options, seed=0) == pytest.approx(expected, abs=0.01)
    assert (rows[:, 1] == gold).all(), "what was predicted is left alone"
