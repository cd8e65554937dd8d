"""The synthesizer's quality: F1 as SQuAD has it, the best matching, prompts to the byte; generation as in training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipt_stream.corpus.pair import Pair
from ipt_stream.synthesis.prompt import EOS, PAIR_CLOSE, Shot, format_pairs, format_shot
from ipt_stream.tuning.pairs import TuningExample
from ipt_stream.tuning.quality import (
    choose_examples,
    choose_pairs,
    choose_shots,
    match_pairs,
    mean,
    normalize,
    pair_quality,
    pairs_f1,
    response_accuracy,
    token_f1,
)


@pytest.mark.parametrize(
    ("generated", "gold", "f1"),
    [
        ("the cat sat down", "A cat sat.", 0.8),  # cat sat down | cat sat: 2 common, 2 * 2 / (3 + 2)
        ("red red blue", "red blue blue", 2 / 3),  # one red, one blue: 2 * 2 / (3 + 3)
        ("1802", "in 1802", 2 / 3),  # 2 * 1 / (1 + 2)
        ("Ada Lovelace", "ada lovelace!", 1.0),
        ("an answer", "the question", 0.0),
        ("", "", 1.0),
        ("The", "an", 1.0),  # nothing is left of either
        ("word", "", 0.0),
        ("U.S. mill's", "US mills", 1.0),
    ],
)
def test_f1_by_hand(generated: str, gold: str, f1: float) -> None:
    assert token_f1(generated, gold) == pytest.approx(f1)
    assert token_f1(gold, generated) == pytest.approx(f1)


words = st.text(alphabet=st.sampled_from("ab the.,-TAn \n"), max_size=20)


@settings(max_examples=50)
@given(words, words)
def test_f1_is_that_of_squad_s_evaluation(generated: str, gold: str) -> None:
    from transformers.data.metrics.squad_metrics import compute_f1, normalize_answer

    assert normalize(gold) == normalize_answer(gold)
    assert token_f1(generated, gold) == pytest.approx(compute_f1(gold, generated))


pair_sets = st.lists(st.builds(Pair, words, words), max_size=4)


@settings(max_examples=60)
@given(pair_sets, pair_sets)
def test_the_matching_is_one_to_one_and_the_best_there_is(generated: list[Pair], gold: list[Pair]) -> None:
    matched = match_pairs(generated, gold)
    assert len(matched) == min(len(generated), len(gold))
    assert len({row for row, _, _ in matched}) == len({column for _, column, _ in matched}) == len(matched)
    few, many = sorted((generated, gold), key=len)

    def total(order: tuple[Pair, ...]) -> float:
        texts = [[f"{pair.instruction} {pair.response}" for pair in pairs] for pairs in (few, order)]
        return sum(map(token_f1, *texts))

    best = max(map(total, itertools.permutations(many, len(few))))
    assert sum(score for _, _, score in matched) == pytest.approx(best)
    assert pairs_f1(generated, gold) == pytest.approx(2 * best / max(1, len(few) + len(many)) if few or many else 1.0)


def test_a_pair_too_many_counts_as_much_as_one_too_few() -> None:
    who, when, why = Pair("Who?", "Ada"), Pair("When?", "1802"), Pair("Why?", "rain")
    assert pairs_f1([who, when], [when, who]) == 1.0
    assert pairs_f1([who, when, why], [who, when]) == pairs_f1([who, when], [who, when, why]) == pytest.approx(0.8)
    assert pairs_f1([], [who]) == 0.0
    # the first alone would take the second's match: 0.8 + 0 is less than 2/3 + 0.8
    close = [Pair("red mill", "b c d"), Pair("red mill", "b")]
    gold = [Pair("red mill", "b c"), Pair("mill", "b")]
    assert [(row, column) for row, column, _ in match_pairs(close, gold)] == [(0, 0), (1, 1)]


MILL = TuningExample("mills", "Ada built </s> it.", (Pair("Who?", "Ada"), Pair("What?", "the mill")))
BARN = TuningExample("barns", "The barn is red.", (Pair("Which?", "red"),))


def test_the_model_is_asked_in_the_synthesizer_s_format() -> None:
    asked: list[tuple[list[str], str]] = []

    def generate(prompts: Sequence[str], stop: str) -> list[str]:
        asked.append((list(prompts), stop))
        return ["<QUE> Who? <ANS> Ada </END>\n\n<QUE> What? <ANS> a barn </END>", "<QUE> Which? <ANS> blue </END>"]

    shot = Shot("A well.", (Pair("Dry?", "no"),))
    zero = pair_quality([MILL, BARN], generate)
    few = pair_quality([MILL, BARN], generate, [(shot,), ()])
    context = "<s> <CON> Ada built < /s> it. </CON>\n\n"
    assert asked[0] == ([context, "<s> <CON> The barn is red. </CON>\n\n"], EOS)
    assert asked[1][0] == [format_shot(shot) + context, "<s> <CON> The barn is red. </CON>\n\n"]
    assert [(item.source, item.generated, item.gold) for item in zero] == [("mills", 2, 2), ("barns", 1, 1)]
    # who ada | what barn to what mill: 1 + 2 * 1 / (2 + 2) of 2 and 2; which blue to which red: 1/2
    assert [item.score for item in zero] == [pytest.approx(0.75), pytest.approx(0.5)]
    assert few == zero
    assert mean(zero) == pytest.approx(0.625)


def test_the_model_is_asked_for_a_response() -> None:
    asked: list[tuple[list[str], str]] = []

    def generate(prompts: Sequence[str], stop: str) -> list[str]:
        asked.append((list(prompts), stop))
        return [f" Ada </END>\n\n<QUE> x{EOS}", " the red one"]

    scored = response_accuracy([(MILL, MILL.pairs[0]), (BARN, BARN.pairs[0])], generate)
    assert asked == [
        ([f"<s> <CON> Ada built < /s> it. </CON>\n\n{'<QUE> Who? <ANS>'}",
          "<s> <CON> The barn is red. </CON>\n\n<QUE> Which? <ANS>"], PAIR_CLOSE)
    ]  # fmt: skip
    assert asked[0][0][1] + " red </END></s>" == format_shot(Shot(BARN.context, BARN.pairs)), "a shot's own beginning"
    assert [item.score for item in scored] == [1.0, pytest.approx(2 / 3)]


def test_what_is_measured_is_chosen_evenly_and_by_the_seed() -> None:
    examples = [
        TuningExample("ab"[number % 4 == 0], f"text {number}", (Pair("Q?", "A"),) * (1 + number % 3), f"o{number // 2}")
        for number in range(40)
    ]
    chosen = choose_examples(examples, 10, seed=0)
    assert [item.source for item in chosen] == ["a", "b"] * 5
    assert len({item.document for item in chosen}) == 10 or len({(item.source, item.document) for item in chosen}) == 10
    assert chosen == choose_examples(examples[::1], 10, seed=0) != choose_examples(examples, 10, seed=1)
    assert choose_examples([], 3, 0) == []
    pairs = choose_pairs(chosen, 12)
    assert [item for item, _ in pairs[:10]] == chosen, "the first pair of each comes before any second"
    assert len(pairs) == 12


def test_shots_are_of_the_source_and_leave_room() -> None:
    pool = {"mills": [Shot("x" * size, (Pair("Q?", "A"),)) for size in (10, 500, 20, 30)]}
    assert [len(shot.text) for shot in choose_shots([MILL], pool, 2, 1000, len)[0]] == [10, 500]
    assert [len(shot.text) for shot in choose_shots([MILL], pool, 3, 300, len)[0]] == [10, 20, 30]
    assert choose_shots([BARN, MILL], pool, 0, 1000, len) == [(), ()]


def test_generation_in_batches_is_each_prompt_s_own_and_stops(model_folder: Path) -> None:
    """Against the logits of the whole text so far, a prompt at a time, without cache or padding."""
    import torch

    from ipt_stream.training.generate import greedy_generator
    from ipt_stream.training.models import load_model, load_tokenizer

    model, tokenizer = load_model(str(model_folder)).eval(), load_tokenizer(str(model_folder))
    model.generation_config.repetition_penalty = 3.0  # a checkpoint's own settings don't count
    prompts = [format_shot(Shot("the river " * count, (Pair("who?", "a miller"),))) for count in (1, 7, 3)]
    with torch.inference_mode():
        generate = greedy_generator(model, tokenizer, max_new_tokens=12, sequences=2, bfloat16=False)
        found = list(generate(prompts, EOS))
        for prompt, text in zip(prompts, found, strict=True):
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            start = len(ids)
            while len(ids) < start + 12 and (len(ids) == start or ids[-1] != tokenizer.eos_token_id):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            assert text == tokenizer.decode(ids[start:]).split(EOS)[0]
        letter = next(character for character in found[0] if character.isalpha())
        stopped = list(generate(prompts[:1], letter))
    assert stopped == [found[0].split(letter)[0]]
    assert generate([], EOS) == []
    assert format_pairs(MILL.pairs).endswith(EOS)
