"""Each check by hand: what it says of pairs whose answer is plain to see."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt_stream.analysis.checks import form, grounding
from ipt_stream.analysis.checks.language import read_language, same_language, script_of
from ipt_stream.analysis.checks.pair_checks import check_pair
from ipt_stream.analysis.checks.parts import Parts, read_parts
from ipt_stream.analysis.checks.words import Known, content, fold, names, numbers, stem, words
from ipt_stream.corpus.pair import Pair, instruction_text, response_text

TEXT = "The Miller's 1,250 barrels were sold in Dorbel. He stopped two carts, moving slowly, and drank café."
KNOWN = Known(TEXT)
GERMAN = "Der Fluss ist lang und die Stadt liegt an der Küste, wo viele Menschen von der Fischerei leben."
FRENCH = "La rivière est longue et la ville se trouve sur la côte, où les gens vivent de la pêche dans des bateaux."
ENGLISH = "The river is long and the town lies on the coast, where many of the people live by fishing."
free_text = st.text(max_size=60)


def parts(instruction: str, response: str = "x") -> Parts:
    return read_parts(Pair(instruction, response))


# Words, numbers, names.


def test_words_are_folded_and_content_is_what_carries_meaning() -> None:
    assert words(fold("The Miller's ﬁrst CAFÉ, №1!")) == ["the", "miller", "s", "first", "café", "no1"]
    assert content(words(fold("The sold barrels were 12 in a café"))) == ["sold", "barrel", "café"]
    assert words(fold("東京は大きい city")) == ["東", "京", "は", "大", "き", "い", "city"]


@pytest.mark.parametrize(
    ("forms", "expected"),
    [("stop stops stopped stopping", "stop"), ("move moves moved moving", "mov"), ("glass", "glass"), ("bus", "bus"),
     ("box boxes", "box"), ("sing", "sing"), ("tall", "tall")],
)  # fmt: skip
def test_plain_endings_come_off(forms: str, expected: str) -> None:
    assert {stem(word) for word in forms.split()} == {expected}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,250 and 1250 and 1250.0", ["1250", "1250", "1250"]),
        ("3.50, 007, .5", ["3.5", "7", "5"]),
        ("1,2,3 of 12,34", ["1", "2", "3", "12", "34"]),
        ("the 3rd of 1999-2001, 50%", ["3", "1999", "2001", "50"]),
        ("٣ and ３", ["3", "3"]),
        ("none", []),
    ],
)
def test_numbers_have_one_form(text: str, expected: list[str]) -> None:
    assert numbers(text) == expected


def test_numbers_in_letters_are_known_too() -> None:
    assert KNOWN.numbers == {"1250", "2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dorbel.", [("dorbel",)]),
        ("In Dorbel.", [("dorbel",)]),
        ("Dorbel, Ashvel", [("dorbel",), ("ashvel",)]),
        ("Scientists found that Marie Curie met Bohr's brother.", [("marie", "curie"), ("bohr",)]),
        ("Marie Curie found it.", [("marie", "curie")]),
        ("The Miller ran. He fell.", [("miller",)]),
        ("Yes.", []),
        ("it was sold", []),
        ("NASA and ESA", [("nasa",), ("esa",)]),
    ],
)
def test_names_are_runs_of_capitals_that_no_sentence_begins(text: str, expected: list[tuple[str, ...]]) -> None:
    assert names(text) == expected


# Grounding.


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("barrels", 1.0),
        ("He sells carts in Dorbel", 2 / 3),  # sell, cart, dorbel
        ("2 stops in Paris", 2 / 3),  # stop, paris, 2
        ("Paris", 0.0),
        ("Yes", None),
        ("1250", 1.0),
        ("1,251", 0.0),
    ],
)
def test_grounded_is_the_share_of_content_words_that_the_text_holds(answer: str, expected: float | None) -> None:
    assert grounding.grounded(KNOWN, answer) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("sold in Dorbel", 1.0),
        ("barrels were sold cheaply in Dorbel", 3 / 6),
        ("in Dorbel. He", 1.0),
        ("Paris", 0.0),
        ("...", None),
    ],
)
def test_overlap_is_the_longest_common_run_of_words(answer: str, expected: float | None) -> None:
    assert grounding.overlap(KNOWN, answer) == (expected if expected is None else pytest.approx(expected))


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=8))
def test_overlap_is_what_looking_everywhere_finds(text: list[str], answer: list[str]) -> None:
    longest = max(
        (stop - start for start in range(len(answer)) for stop in range(start + 1, len(answer) + 1)
         if any(text[at : at + stop - start] == answer[start:stop] for at in range(len(text)))),
        default=0,
    )  # fmt: skip
    expected = longest / len(answer) if answer else None
    assert grounding.overlap(Known(" ".join(text)), " ".join(answer)) == expected


def test_a_thought_may_take_its_words_from_text_and_instruction() -> None:
    asked = parts(
        instruction_text("Where is the harbour?", ["Dorbel", "Paris"], chain_of_thought=True),
        response_text("Dorbel", "The harbour sells barrels near Rome."),
    )
    assert (asked.thought, asked.answer) == ("The harbour sells barrels near Rome.", "Dorbel")
    assert grounding.thought(KNOWN, asked) == pytest.approx(2 / 5)  # harbour, barrel; not sell, near, rome
    assert grounding.thought(KNOWN, parts("Where?", "Dorbel")) is None


def test_numbers_that_come_from_nowhere_are_counted_once() -> None:
    assert grounding.strange_numbers(KNOWN, "1,250 or 2", []) == 0
    assert grounding.strange_numbers(KNOWN, "7 and 7.0 and 8", []) == 2
    assert grounding.strange_numbers(KNOWN, "7 and 8", ["about 7"]) == 1


def test_names_that_come_from_nowhere_are_counted_once() -> None:
    assert grounding.strange_names(KNOWN, "the Miller of Dorbel") == 0
    assert grounding.strange_names(KNOWN, "Paris, and Paris again, or Marie Curie") == 2
    assert grounding.strange_names(KNOWN, "Paris", "Where?\nOptions:\n- Paris\n- Rome") == 0
    assert grounding.strange_names(KNOWN, "the Miller Curie") == 1, "half of it is known"


# Form.


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("Who sold it?", True),
        ("谁？", True),
        ("What is it", True),
        ("Summarize the text.", True),
        ("Based on the passage, name two towns.", True),
        ("Please write a title", True),
        ("The town is called ____.", True),
        ("The town is called", False),
        ("The river is long.", False),
        ("It is\nOptions:\n- long\n- short", True),
        ("It is long.\nLet's think step by step.", True),
    ],
)
def test_an_instruction_asks_for_something(instruction: str, expected: bool) -> None:
    assert form.asks(parts(instruction), is_english=True) is expected


def test_what_is_not_english_asks_by_its_question_mark_or_is_not_known() -> None:
    assert form.asks(parts("Wer war es?"), is_english=False) is True
    assert form.asks(parts("Nenne zwei Orte."), is_english=False) is None


def test_an_answer_is_one_of_the_options() -> None:
    asked = instruction_text("Where?", ["Dorbel", "Ashvel"], chain_of_thought=True)
    assert form.chooses(parts(asked, response_text("Ashvel", "So it is."))) is True
    assert form.chooses(parts(asked, response_text("Rome", "So it is."))) is False
    assert form.chooses(parts(instruction_text("Where?", ["Dorbel", "Dorbel"]), "Dorbel")) is False
    assert form.chooses(parts("Where?", "Dorbel")) is None


def test_repetition_is_the_share_of_ngrams_that_came_before() -> None:
    assert form.repetition("a b a b a b a b".split(), 3) == pytest.approx(4 / 6)  # noqa: SIM905
    assert form.repetition("a b c d e".split(), 3) == 0.0  # noqa: SIM905
    assert form.repetition(["a", "b"], 3) == 0.0
    assert form.repetition(["a"] * 5, 1) == pytest.approx(4 / 5)


def test_a_pair_is_the_same_whatever_its_case_and_signs_but_not_to_the_character() -> None:
    first, second = Pair("Who was it?", "The miller."), Pair("who was  it", "the Miller")
    assert form.normal_key(first) == form.normal_key(second)
    assert form.exact_key(first) != form.exact_key(second)
    assert form.normal_key(Pair("a b", "c")) != form.normal_key(Pair("a", "b c"))
    assert form.exact_key(Pair("a b", "c")) != form.exact_key(Pair("a", "b c"))


# Language.


@pytest.mark.parametrize(
    ("text", "script", "name"),
    [
        (ENGLISH, "latin", "en"), (GERMAN, "latin", "de"), (FRENCH, "latin", "fr"), ("Ok.", "latin", None),
        ("Река длинная, и город стоит на берегу, где люди живут от рыбной ловли, как и в других городах.",
         "cyrillic", "ru"),
        ("東京は大きい都市です。", "kana", None), ("北京是一个城市。", "han", None), ("123 !", None, None),
        ("서울은 큰 도시입니다.", "hangul", None),
    ],
)  # fmt: skip
def test_a_text_shows_its_script_and_language(text: str, script: str | None, name: str | None) -> None:
    found = read_language(text)
    assert (found.script, found.name) == (script, name)


def test_another_language_is_told_where_both_show_one() -> None:
    english, german = read_language(ENGLISH), read_language(GERMAN)
    assert same_language(english, read_language("What is it that the people live by, and where?")) is True
    assert same_language(german, english) is False
    assert same_language(german, read_language("Küste")) is None
    assert same_language(english, read_language("北京是一个城市。")) is False
    assert same_language(read_language("..."), english) is None


@given(st.characters())
def test_every_letter_has_one_script_or_none(letter: str) -> None:
    found = script_of(letter)
    assert found is None or found.isalpha()


# All of them.


def test_all_checks_of_a_pair() -> None:
    asked = instruction_text("Where did the Miller and Bob sell the barrels?", ["Dorbel", "Paris"], True)
    pair = Pair(asked, response_text("Paris", "The text says that 1,250 barrels were sold by Alice in 1999."))
    assert check_pair(KNOWN, read_language(TEXT), pair, ngram=2) == {
        "grounded": 0.0, "overlap": 0.0, "thought": 2 / 5, "numbers": 1, "names": 1, "question_names": 1,
        "repetition": 0.0, "question": True, "options": True, "language": True,
    }  # fmt: skip


def test_names_are_not_looked_for_where_capitals_mean_something_else() -> None:
    german = check_pair(Known(GERMAN), read_language(GERMAN), Pair("Wo liegt die Stadt?", "An der Küste"), 3)
    assert german["names"] is None and german["question_names"] is None
    chinese = "北京是一个城市。"
    assert check_pair(Known(chinese), read_language(chinese), Pair("北京是什么？", "城市"), 3) == {
        "grounded": 1.0, "overlap": 1.0, "thought": None, "numbers": 0, "names": None, "question_names": None,
        "repetition": 0.0, "question": True, "options": None, "language": True,
    } | {"language": None}  # fmt: skip


@given(free_text, free_text, free_text)
def test_any_pair_of_any_text_can_be_checked(text: str, instruction: str, response: str) -> None:
    found = check_pair(Known(text), read_language(text), Pair(instruction, response), 3)
    assert all(value is None or 0 <= value <= 1 for name, value in found.items() if not name.endswith(("s", "names")))
    itself = check_pair(Known(response), read_language(response), Pair(instruction, response), 3)
    assert itself["overlap"] in (1.0, None) and itself["numbers"] == 0 and itself["names"] in (0, None)
