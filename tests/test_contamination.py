"""The search for evaluation examples in one text: nothing that is there is missed, and nothing else is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt_stream.analysis import folding
from ipt_stream.analysis.contamination.patterns import (
    Drawing,
    build_ngrams,
    build_patterns,
    draw_substrings,
    name_patterns,
)
from ipt_stream.analysis.contamination.search import FEW, find_in, find_ngrams
from ipt_stream.analysis.folding import codes, fold, folded, split, words

LETTERS = "abAB1é日ßİΣ"
SIGNS = " .,-\n\t'_\u0301\u200b🙂"
TEXTS = st.text(st.sampled_from(LETTERS + SIGNS), max_size=60)
PATTERNS = st.lists(st.text(st.sampled_from(LETTERS[:6]), min_size=1, max_size=9), min_size=1, max_size=8)


def naive_places(text: str, pattern: str, ignore_case: bool) -> set[tuple[int, int]]:
    """Where in `text` a pattern starts and stops, by the definition."""
    kept = [(place, folded(c, ignore_case)) for place, c in enumerate(text) if folded(c, ignore_case)]
    letters = "".join(letter for _, letter in kept)
    starts = (i for i in range(len(letters)) if letters.startswith(pattern, i))
    return {(kept[i][0], kept[i + len(pattern) - 1][0] + 1) for i in starts}


def patterns_of(texts: list[str]) -> dict[str, list[int]]:
    drawn: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        drawn.setdefault(text, []).append(number)
    return drawn


def test_folding_keeps_letters_and_digits_alone() -> None:
    assert folded("It's 5 p.m. – naïve_日本!") == "Its5pmnaïve日本"
    assert folded("It's A ǅ", ignore_case=True) == "itsaǆ"
    assert words("It's 5 p.m. – naïve_日本!") == ["it", "s", "5", "p", "m", "naïve", "日本"]


@pytest.mark.parametrize("ignore_case", [False, True])
def test_the_fast_way_folds_every_character_as_defined(ignore_case: bool) -> None:
    everything = "".join(map(chr, range(folding.CODE_POINTS)))
    assert fold(codes(everything), ignore_case).tobytes().decode("utf-32-le") == folded(everything, ignore_case)


def test_folding_twice_changes_nothing_more() -> None:
    once = folded("".join(map(chr, range(folding.CODE_POINTS))), ignore_case=True)
    assert folded(once, ignore_case=True) == once


@given(TEXTS)
def test_words_are_split_as_defined_and_equal_words_have_equal_hashes(text: str) -> None:
    found = split(codes(text))
    spans = [text[start:stop] for start, stop in zip(found.starts.tolist(), found.stops.tolist(), strict=True)]
    assert [folded(span, ignore_case=True) for span in spans] == words(text)
    by_hash: dict[int, set[str]] = {}
    for value, word in zip(found.hashes.tolist(), words(text), strict=True):
        by_hash.setdefault(value, set()).add(word)
    assert sum(map(len, by_hash.values())) == len(set(words(text))) == len(by_hash)


@given(TEXTS, PATTERNS, st.booleans(), st.data())
def test_patterns_are_found_where_they_are_and_nowhere_else(
    noise: str, patterns: list[str], ignore_case: bool, data: st.DataObject
) -> None:
    patterns = [folded(pattern, ignore_case) for pattern in patterns]
    planted = data.draw(st.lists(st.sampled_from(patterns), max_size=4))
    signs = data.draw(st.text(st.sampled_from(SIGNS), min_size=1, max_size=3))
    text = noise + "".join(signs.join(pattern) + noise[:5] for pattern in planted)
    built = build_patterns(patterns_of(patterns))
    hits = find_in(text, built, ignore_case)
    found = set(zip(*(part.tolist() for part in hits), strict=True))
    wanted = {
        (number, *place)
        for number, pattern in enumerate(dict.fromkeys(patterns))
        for place in naive_places(text, pattern, ignore_case)
    }
    assert found == wanted
    assert set(planted) <= {list(dict.fromkeys(patterns))[number] for number, *_ in found}


def test_more_hits_than_there_is_room_for_are_all_found() -> None:
    count = 3 * FEW
    hits = find_in("ab " * count, build_patterns({"ab": [0], "ba": [1]}))
    assert hits.patterns.tolist().count(0) == count and hits.patterns.tolist().count(1) == count - 1


def test_patterns_with_one_hash_are_told_apart() -> None:
    """Thue-Morse words and their complements have one polynomial hash modulo 2^64, whatever the base."""
    word = "".join("ab"[number.bit_count() & 1] for number in range(2048))
    other = word.translate(str.maketrans("ab", "ba"))
    values = []
    for text in (word, other):
        out = np.empty(1, np.uint64)
        folding.loops().windows(codes(text), len(text), np.uint64(0), out)
        values.append(int(out[0]))
    assert values[0] == values[1] and word != other
    assert not find_in(other, build_patterns({word: [0]})).patterns.size
    assert find_in(other, build_patterns({word: [0], other: [1]})).patterns.tolist() == [1]


def test_patterns_that_begin_alike_have_keys_of_their_own() -> None:
    """Questions of one form: what all share is nobody's key, so that it is not compared with all of them."""
    texts = [f"Question: what is the occupation of person number {number:05d}" for number in range(2000)]
    built = build_patterns({folded(text): [number] for number, text in enumerate(texts)})
    assert int(np.diff(built.keys.first).max()) <= 20
    assert find_in(f"... {texts[77]}?", built).patterns.tolist() == [77]


def test_substrings_are_drawn_as_the_report_says() -> None:
    assert draw_substrings("x" * 49, 3, 50, 0, "a") == ("x" * 49,)
    assert draw_substrings("x" * 50, 3, 50, 0, "a") == ("x" * 50,)
    assert draw_substrings("abcd", 3, 2, 0, "a") == ("ab", "bc", "cd")
    text = "".join(chr(0x4E00 + i) for i in range(300))
    drawn = draw_substrings(text, 3, 50, 0, "a")
    assert len(set(drawn)) == 3 and all(len(part) == 50 and part in text for part in drawn)
    assert drawn == draw_substrings(text, 3, 50, 0, "a") != draw_substrings(text, 3, 50, 1, "a")


def test_too_short_examples_give_no_pattern() -> None:
    drawing = Drawing(count=3, length=50, minimum=20, seed=0, ignore_case=False)
    drawn = name_patterns(["x" * 19, "y" * 20, "y" * 20], ["a:0", "a:1", "a:2"], drawing)
    assert drawn == {"y" * 20: [1, 2]}


@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS, st.integers(1, 4))
def test_ngrams_are_found_where_they_are_and_nowhere_else(examples: list[str], noise: str, n: int) -> None:
    text = f"{noise} {examples[0].upper()}, {noise} {examples[-1]}"
    ngrams = build_ngrams(examples, n)
    grams = [{tuple(found[i : i + n]) for i in range(len(found) - n + 1)} for found in map(words, examples)]
    assert ngrams.totals.tolist() == [len(one) for one in grams]
    assert ngrams.count == len(set().union(*grams))
    hits = find_ngrams(codes(text), ngrams)
    spans = split(codes(text))
    seen = words(text)
    wanted = [
        (seen[i : i + n], int(spans.starts[i]), int(spans.stops[i + n - 1]))
        for i in range(len(seen) - n + 1)
        if tuple(seen[i : i + n]) in set().union(*grams)
    ]
    found = list(zip(*(part.tolist() for part in hits), strict=True))
    assert [(words(text[start:stop]), start, stop) for _, start, stop in found] == wanted
    for number, start, stop in found:
        holders = [example for example, one in enumerate(grams) if tuple(words(text[start:stop])) in one]
        assert ngrams.owners.of(number).tolist() == holders


def test_nothing_to_search_for_finds_nothing() -> None:
    assert find_in("some text", build_patterns({})).patterns.size == 0
    assert find_ngrams(codes("some text"), build_ngrams([], 13)).patterns.size == 0
    assert find_in("", build_patterns({"some": [0]})).patterns.size == 0
