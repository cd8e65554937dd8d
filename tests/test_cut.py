"""Cutting: pieces joined are the document, each fits the budget, and cuts fall where a reader would put them."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ipt_stream.corpus import cut as cut_module
from ipt_stream.corpus.cut import cut
from ipt_stream.errors import ConfigError

Encode = Callable[[str], Sequence[tuple[int, int]]]
ANY_TEXT = st.text(max_size=400)
PARTS = ["word ", "a ", "end. ", "\n", "\n\n", "naïve ", "日本。", "🙂", "  ", "e\u0301", "x" * 30]
PROSE = st.lists(st.sampled_from(PARTS)).map("".join)
MORE_THAN_ANY_CHARACTER = 16


def words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def offsets_of(tokenizer: Tokenizer) -> Encode:
    def encode(text: str) -> Sequence[tuple[int, int]]:
        return tokenizer.encode(text, add_special_tokens=False).offsets  # type: ignore[no-any-return]

    return encode


@pytest.fixture(scope="module")
def byte_bpe() -> Encode:
    """Byte-level BPE without merges across characters it has not seen: emoji and accents are several tokens each."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["the word ends here, and a new word starts there. "] * 50, trainer)
    return offsets_of(tokenizer)


@pytest.fixture(scope="module")
def prefix_bpe() -> Encode:
    """Llama's way: spaces become a mark, one is put in front of every text, so that counts of pieces don't add up."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(["the word ends here, and a new word starts there.\n\n"] * 50, trainer)
    return offsets_of(tokenizer)


@given(text=st.one_of(ANY_TEXT, PROSE), budget=st.integers(MORE_THAN_ANY_CHARACTER, 80))
@example(text="🙂" * 200, budget=MORE_THAN_ANY_CHARACTER)
@example(text=" " * 500 + "a", budget=20)
@example(text="", budget=16)
def test_pieces_joined_are_the_text_and_each_fits(byte_bpe: Encode, prefix_bpe: Encode, text: str, budget: int) -> None:
    for encode in (byte_bpe, prefix_bpe, words):
        pieces = cut(text, budget, encode)
        assert "".join(pieces) == text
        assert all(len(encode(piece)) <= budget for piece in pieces)
        assert all(pieces) or text == ""
        assert pieces == cut(text, budget, encode)


@given(text=st.one_of(ANY_TEXT, PROSE), budget=st.integers(1, 40))
def test_a_text_that_fits_is_left_whole_and_one_that_does_not_is_cut(text: str, budget: int) -> None:
    assert (cut(text, budget, words) == [text]) == (len(words(text)) <= budget)


@given(count=st.integers(1, 2000), budget=st.integers(2, 90))
def test_pieces_are_balanced(count: int, budget: int) -> None:
    sizes = [len(words(piece)) for piece in cut("word " * count, budget, words)]
    assert len(sizes) == -(-count // budget)
    assert max(sizes) - min(sizes) <= 1


@given(text=PROSE.map(lambda text: text * 20), budget=st.integers(1, 60))
def test_no_piece_is_too_short_to_ask_about(text: str, budget: int) -> None:
    assert all(len(words(piece)) >= budget // 4 for piece in cut(text, budget, words)) or len(words(text)) <= budget


@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=60), budget=st.integers(30, 60))
def test_cuts_fall_between_paragraphs_where_those_are_short(lengths: list[int], budget: int) -> None:
    paragraphs = ["One. Two. " * (length - 1) + "End.\n\n" for length in lengths]
    for piece in cut("".join(paragraphs), budget, words):
        assert piece.endswith("\n\n")


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("a b c d e.\n\nf g h. i j", ["e.\n\n", "j"]),
        ("a b c d. e f g h i j", ["d. ", "j"]),
        ("a b c d e\nf g. h i j", ["e\n", "j"]),
        ("a b c d e f g h i j", ["e ", "j"]),
        ("他 a b c 好。」d e f g h i", ["好。」", "i"]),
    ],
)
def test_the_best_kind_of_boundary_near_the_middle_is_taken(text: str, ends: list[str]) -> None:
    pieces = cut(text, 9, words)
    assert len(pieces) == len(ends)
    assert all(piece.endswith(end) for piece, end in zip(pieces, ends, strict=True)), pieces


def test_a_budget_that_no_piece_can_meet_is_refused(byte_bpe: Encode) -> None:
    with pytest.raises(ConfigError, match="room for one character"):
        cut("🙂🙂", 2, byte_bpe)
    with pytest.raises(ConfigError, match="at least 1"):
        cut("a b", 0, words)


@given(text=PROSE, budget=st.integers(4, 30), extra=st.integers(1, 3))
def test_a_tokenizer_whose_counts_never_add_up_is_still_obeyed(text: str, budget: int, extra: int) -> None:
    def encode(piece: str) -> list[tuple[int, int]]:
        return [(0, 0)] * extra + words(piece) if piece.strip() else []

    pieces = cut(text, budget, encode)
    assert "".join(pieces) == text
    assert all(len(encode(piece)) <= budget for piece in pieces)


def test_a_megabyte_is_tokenized_about_twice(byte_bpe: Encode) -> None:
    choose = random.Random(0)
    text = "".join(choose.choices(["the word ", "ends here. ", "new\n", "there\n\n", "🙂 "], k=180_000))
    seen = 0

    def counting(piece: str) -> Sequence[tuple[int, int]]:
        nonlocal seen
        seen += len(piece)
        return byte_bpe(piece)

    assert len(text) > 10**6
    pieces = cut(text, 2000, counting)
    assert "".join(pieces) == text
    assert seen < 2.2 * len(text)


@given(text=st.one_of(ANY_TEXT, PROSE).map(lambda text: text * 5), budget=st.integers(MORE_THAN_ANY_CHARACTER, 30))
def test_a_text_in_parts_is_still_the_text_in_pieces_that_fit(byte_bpe: Encode, text: str, budget: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut_module, "PART_CHARACTERS", 200)
        patch.setattr(cut_module, "PART_CHARACTERS_A_TOKEN", 1)
        patch.setattr(cut_module, "SEARCHED_CHARACTERS", 50)
        pieces = cut(text, budget, byte_bpe)
    assert "".join(pieces) == text
    assert all(len(byte_bpe(piece)) <= budget for piece in pieces)
    assert all(pieces) or text == ""


def test_the_parts_of_a_long_text_are_alike_and_end_with_paragraphs() -> None:
    text = "One two. Three.\n\n" * 50_000
    seen: list[str] = []

    def remembering(piece: str) -> list[tuple[int, int]]:
        seen.append(piece)
        return words(piece)

    assert "".join(cut(text, 400, remembering)) == text
    parts = [piece for piece in seen if len(piece) > 50_000]
    assert "".join(parts) == text
    assert all(part.endswith("\n\n") for part in parts)
    assert max(map(len, parts)) <= cut_module.PART_CHARACTERS < 1.4 * min(map(len, parts))


def test_cutting_takes_time_in_proportion_to_the_text_whatever_its_boundaries() -> None:
    def seconds(text: str) -> float:
        started = time.process_time()
        cut(text, 500, lambda piece: [(i, i + 1) for i in range(0, len(piece), 1)])
        return time.process_time() - started

    for unit in ("x", ".", "\n ", " ", '."', "a b. "):
        small, large = seconds(unit * (10_000 // len(unit))), seconds(unit * (200_000 // len(unit)))
        assert large < 80 * max(small, 0.002), unit
