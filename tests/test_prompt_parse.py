"""The synthesizer's format: what is written is what is read back, and nothing in a text can break it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt_stream.corpus.pair import Pair, instruction_text, response_text
from ipt_stream.synthesis.parse import Dropped, parse
from ipt_stream.synthesis.prompt import (
    MARKERS,
    Shot,
    format_context,
    format_pairs,
    format_prompt,
    format_shot,
    neutralize,
)

plain = st.text(min_size=1).map(str.strip).filter(lambda text: text and not any(marker in text for marker in MARKERS))
pairs = st.lists(st.builds(Pair, plain, plain), unique_by=lambda pair: pair.instruction.casefold(), max_size=6)


def test_a_shot_is_written_to_the_byte() -> None:
    shot = Shot("The cat sat.", (Pair("Who sat?", "The cat."), Pair("Where?", "On a mat.")))
    assert format_shot(shot) == (
        "<s> <CON> The cat sat. </CON>\n\n"
        "<QUE> Who sat? <ANS> The cat. </END>\n\n<QUE> Where? <ANS> On a mat. </END></s>"
    )


def test_the_four_formats_follow_table_7() -> None:
    assert instruction_text("Why?") == "Why?"
    assert instruction_text("Why?", ["a", "b"]) == "Why?\nOptions:\n- a\n- b"
    assert instruction_text("Why?", chain_of_thought=True) == "Why?\nLet's think step by step."
    assert instruction_text("Why?", ["a", "b"], True) == "Why?\nOptions:\n- a\n- b\nLet's think step by step."
    assert response_text("a") == "a"
    assert response_text("a", "Because of b.") == "Because of b.\nTherefore, the answer is a"


@given(pairs)
def test_parsing_gives_back_what_was_formatted(made: list[Pair]) -> None:
    parsed = parse(format_pairs(made))
    assert list(parsed.pairs) == made
    assert parsed.dropped == {}


@given(pairs, st.integers(0, 400))
def test_a_generation_cut_anywhere_keeps_whole_pairs_and_counts_the_rest(made: list[Pair], cut: int) -> None:
    text = format_pairs(made)[:cut]
    parsed = parse(text)
    assert list(parsed.pairs) == made[: len(parsed.pairs)]
    assert len(parsed.pairs) == text.count("</END>")
    assert set(parsed.dropped) <= {Dropped.UNFINISHED}


@given(st.lists(st.sampled_from(["<QUE>", "<ANS>", "</END>", " a", "\n"]), max_size=20).map("".join))
def test_every_piece_is_a_pair_or_counted(text: str) -> None:
    parsed = parse(text)
    pieces = text.count("</END>") + (1 if text.rsplit("</END>", 1)[-1].strip() else 0)
    assert len(parsed.pairs) + sum(parsed.dropped.values()) == pieces


def test_each_reason_is_told_apart() -> None:
    def dropped(text: str) -> dict[str, int]:
        return parse(text).dropped

    assert dropped("no marker <ANS> b </END>") == {"no_instruction": 1}
    assert dropped("<QUE> a <QUE> a <ANS> b </END>") == {"no_instruction": 1}
    assert dropped("<QUE> a </END>") == {"no_response": 1}
    assert dropped("<QUE> a <ANS> b <ANS> c </END>") == {"no_response": 1}
    assert dropped("<QUE> a <ANS>  </END>") == {"empty": 1}
    assert dropped("<QUE> A? <ANS> b </END>\n\n<QUE> a? <ANS> c </END>") == {"duplicate": 1}
    assert dropped("<QUE> a <ANS> b") == {"unfinished": 1}
    assert dropped("") == {}


@given(st.lists(st.one_of(st.sampled_from(MARKERS), st.text(max_size=5)), max_size=12).map("".join))
def test_a_neutralized_text_holds_no_marker_and_loses_nothing_but_spaces(text: str) -> None:
    neutral = neutralize(text)
    assert not any(marker in neutral for marker in MARKERS)
    assert neutral.replace(" ", "") == text.replace(" ", "")
    if not any(marker in text for marker in MARKERS):
        assert neutral == text


@pytest.mark.parametrize("marker", ["||", "aa", "[X]", "<|a|>"])
@given(text=st.text(alphabet="|a[X]< >", max_size=30))
def test_any_marker_is_neutralized_even_where_it_overlaps_itself(marker: str, text: str) -> None:
    neutral = neutralize(text, [marker])
    assert marker not in neutral
    assert neutral.replace(" ", "") == text.replace(" ", "")


@given(st.lists(st.tuples(plain, pairs), max_size=3), plain)
def test_a_prompt_is_its_shots_and_the_new_context(shots: list[tuple[str, list[Pair]]], text: str) -> None:
    earlier = [Shot(context, tuple(made)) for context, made in shots]
    prompt = format_prompt(earlier, text)
    assert prompt == "".join(map(format_shot, earlier)) + format_context(text)
    assert prompt.count("<s>") == len(earlier) + 1
    assert prompt.count("</s>") == len(earlier)
