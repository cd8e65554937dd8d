"""Rendered examples say what the pairs say, in one style an example, whatever the data holds."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipt_stream.corpus.pair import Pair, instruction_text, response_text
from ipt_stream.mixture import templates
from ipt_stream.mixture.render import Style, draw_style, present, render, render_shot, take_apart
from ipt_stream.mixture.templates import Answering, Layout, OptionWords, PairWords
from ipt_stream.synthesis.prompt import Shot
from ipt_stream.synthesis.results import Example

ODD = ["{}", "{question}", "%s", "\\1", "$x", '"', "'", "{", "}", "<QUE>", "\n\n", "\t", "Options:", "- a", "Ω", "(A)"]
TEXT = st.text(max_size=30) | st.sampled_from(ODD) | st.lists(st.sampled_from(ODD), max_size=4).map(" ".join)
NAME = TEXT.filter(lambda text: text.strip() != "" and "\n- " not in text and "\nOptions:" not in text)
STYLE = Style(
    layout=Layout.CLASSIC,
    words=PairWords("Q: ", "\nA: "),
    text_opening="",
    questions_opening="",
    headings=("Questions", "Answers"),
    options=OptionWords("Options:", templates.LETTERS, "(", ") ", "\n"),
    answering=Answering.BOTH,
    think="Think.",
    conclude="\nSo: ",
)


def example(shots: list[Shot], name: str = "shard:0#0") -> Example:
    return Example(name, "shard", tuple(f"shard:{i}" for i in range(len(shots))), tuple(shots))


PAIRS = st.builds(Pair, NAME, NAME)
SHOTS = st.lists(st.builds(Shot, TEXT, st.lists(PAIRS, max_size=4).map(tuple)), min_size=1, max_size=3)


@settings(max_examples=150)
@given(SHOTS, st.integers(0, 2**32))
def test_every_text_question_and_response_stands_in_the_result_in_order(shots: list[Shot], seed: int) -> None:
    rendered = render(example(shots), seed)
    place = 0
    for shot in shots:
        found = rendered.find(shot.text, place)
        assert found >= 0, "the text is there, untouched"
        place = found + len(shot.text)
        for side in ([p.instruction for p in shot.pairs], [p.response for p in shot.pairs]):
            inner = place
            for part in side:
                found = rendered.find(part, inner)
                assert found >= 0, "every part of every pair is there, in order"
                inner = found + len(part)
    assert rendered == render(example(shots), seed)


@given(st.lists(NAME, min_size=2, max_size=8, unique_by=lambda t: t.strip().casefold()), st.data())
def test_the_right_option_stays_right_however_it_is_shuffled_and_labelled(
    options: list[str], data: st.DataObject
) -> None:
    right = data.draw(st.sampled_from(options))
    labels = data.draw(st.sampled_from(templates.LABELS))
    before, after = data.draw(st.sampled_from(templates.BRACKETS))
    answering = data.draw(st.sampled_from(tuple(Answering)))
    between = "\n<next>"  # a separator that no option holds, to find them again
    style = replace(STYLE, options=OptionWords("", labels, before, after, between), answering=answering)
    pair = Pair(instruction_text("Which?", options), response_text(right))
    question, answer = present(take_apart(pair), style, random.Random(data.draw(st.integers(0, 99))))
    listed = question.removeprefix("Which?\n").split(between)
    shown = dict(zip((before + label + after for label in labels), listed, strict=False))
    texts = {label: line.removeprefix(label) for label, line in shown.items()}
    assert sorted(texts.values()) == sorted(options), "all options are there once"
    expected = next(label for label, text in texts.items() if text == right)
    alone = expected.rstrip() if before else expected.removesuffix(after)
    assert answer == {
        Answering.TEXT: right, Answering.LABEL: alone, Answering.BOTH: expected + right
    }[answering]  # fmt: skip


@pytest.mark.parametrize("options", [(), ("red", "blue")])
@pytest.mark.parametrize("thought", [None, "It is warm. {0}"])
def test_all_four_formats_are_taken_apart_and_put_together(options: tuple[str, ...], thought: str | None) -> None:
    pair = Pair(instruction_text("Which colour?", options, thought is not None), response_text("red", thought))
    asked = take_apart(pair)
    assert (asked.question, asked.options, asked.chain_of_thought) == ("Which colour?", options, thought is not None)
    assert (asked.thought, asked.answer) == (thought, "red")
    question, answer = present(asked, STYLE, random.Random(1))
    assert ("(A) " in question) == bool(options) and question.endswith("Think.") == (thought is not None)
    named = re.escape("red") if not options else r"\([AB]\) red"
    assert re.fullmatch((re.escape(thought) + "\nSo: " if thought else "") + named, answer)


def test_what_only_looks_like_a_format_is_left_alone() -> None:
    for instruction in (
        "Pick.\nOptions:",
        "Pick.\nOptions:\n- only one",
        "Options:\n- a\n- b",
        "Let's think step by step.",
    ):
        asked = take_apart(Pair(instruction, "a\nTherefore, the answer is b"))
        assert (asked.question, asked.options, asked.answer) == (instruction, (), "a\nTherefore, the answer is b")
    off = take_apart(Pair(instruction_text("Which?", ["red", "blue"]), "green"))
    assert present(off, STYLE, random.Random(0))[1] == "green", "an answer that is no option is not given a label"


@settings(max_examples=80)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_one_style_holds_through_all_shots(seed: int, shots: int) -> None:
    """The same shot, again and again in one example, is rendered the same but for the order of its options."""
    shot = Shot(
        "Some text.", (Pair("Who?", "Ann."), Pair("Why?\nLet's think step by step.", "So.\nTherefore, the answer is x"))
    )
    rendered = render(example([shot] * shots, f"e{seed}"), seed)
    first = render(example([shot], f"e{seed}"), seed)
    assert rendered == "\n\n".join([first] * shots)


def test_examples_differ_by_id_and_seed_and_styles_vary() -> None:
    shot = Shot("Some text.", (Pair("Who?", "Ann."), Pair("Where?", "Here.")))
    by_id = {render(example([shot], f"shard:{i}#0"), 0) for i in range(200)}
    by_seed = {render(example([shot]), seed) for seed in range(200)}
    assert len(by_id) > 50 and len(by_seed) > 50


def test_layouts_come_as_often_as_they_should() -> None:
    rng = random.Random(0)
    drawn = [draw_style(rng, several=True).layout for _ in range(4000)]
    assert abs(drawn.count(Layout.CLASSIC) / 4000 - 0.90) < 0.02
    assert min(drawn.count(layout) for layout in Layout) > 100
    assert all(draw_style(rng, several=False).layout is not Layout.NUMBERED for _ in range(500))


def test_a_shot_without_pairs_is_its_text_and_one_without_text_its_pairs() -> None:
    assert render_shot(Shot("Alone.", ()), STYLE, random.Random(0)) == "Alone."
    assert render_shot(Shot("", (Pair("Who?", "Ann."),)), STYLE, random.Random(0)) == "Q: Who?\nA: Ann."


GOLDEN = {
    Layout.CLASSIC: "The cat sat.\n\nQ: Who sat?\nA: The cat.\n\nQ: Where?\nOptions:\n(A) roof\n(B) mat\nA: (B) mat",
    Layout.NUMBERED: (
        "The cat sat.\n\nQuestions\n1. Who sat?\n2. Where?\nOptions:\n(A) roof\n(B) mat\n\n"
        "Answers\n1. The cat.\n2. (B) mat"
    ),
    Layout.DIALOGUE: (
        "Q: Look.\n\nThe cat sat.\n\nQ: Who sat?\nA: The cat.\n\nQ: Where?\nOptions:\n(A) roof\n(B) mat\nA: (B) mat"
    ),
}


@pytest.mark.parametrize("layout", list(Layout))
def test_golden_layouts(layout: Layout) -> None:
    shot = Shot(
        "The cat sat.", (Pair("Who sat?", "The cat."), Pair(instruction_text("Where?", ["mat", "roof"]), "mat"))
    )
    opening = "Look." if layout is Layout.DIALOGUE else ""
    style = replace(STYLE, layout=layout, text_opening=opening)
    assert render_shot(shot, style, random.Random(0)) == GOLDEN[layout]


def test_golden_rendering() -> None:
    """Rendered text is part of what a mixture's fingerprint stands for: raise `templates.VERSION` when this changes."""
    where = Pair(instruction_text("Where?", ["mat", "roof"], True), response_text("mat", "It {says} so."))
    shot = Shot("The cat sat.", (Pair("Who sat?", "The cat."), where))
    assert templates.VERSION == 1
    assert render(example([shot, shot], "shard:7#0"), 1) == (
        "The cat sat.\n\nExercise: Who sat?\nKey: The cat.\n\n"
        "Exercise: Where?\nChoose one:\nA. mat  B. roof\nThink it through before you answer.\n"
        "Key: It {says} so.\nSo the answer is A. mat\n\n"
        "The cat sat.\n\nExercise: Who sat?\nKey: The cat.\n\n"
        "Exercise: Where?\nChoose one:\nA. roof  B. mat\nThink it through before you answer.\n"
        "Key: It {says} so.\nSo the answer is B. mat"
    )


def test_an_answer_never_joins_the_last_option() -> None:
    style = replace(STYLE, words=PairWords("", " "))
    shot = Shot("", (Pair("Who?", "Ann."), Pair(instruction_text("Where?", ["mat", "roof"]), "mat")))
    assert render_shot(shot, style, random.Random(0)) == "Who? Ann.\n\nWhere?\nOptions:\n(A) roof\n(B) mat\n(B) mat"
