"""Packing drops nothing, repeats nothing and pads only the end."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ipt_stream.mixture.pack import best_fit, concat, join, padding, token_dtype

EOS, BOS = 0, 1
DOCUMENTS = st.lists(st.lists(st.integers(2, 60_000), max_size=40), max_size=30)


def joined(documents: list[list[int]], bos: int | None = None) -> np.ndarray:
    return join(documents, eos=EOS, bos=bos, dtype=np.uint16)


@given(DOCUMENTS, st.none() | st.just(BOS))
def test_documents_come_back_from_the_joined_tokens(documents: list[list[int]], bos: int | None) -> None:
    tokens = joined(documents, bos).tolist()
    found, start = [], 0
    for end in (i for i, token in enumerate(tokens) if token == EOS):
        found.append(tokens[start:end])
        start = end + 1
    begin = [] if bos is None else [bos]
    assert found == [begin + document for document in documents if document]
    assert start == len(tokens)


@given(DOCUMENTS, st.integers(2, 50), st.lists(st.integers(0, 30), max_size=5))
def test_every_token_is_packed_once_in_order_and_only_the_last_row_is_padded(
    documents: list[list[int]], length: int, cuts: list[int]
) -> None:
    whole = joined(documents)
    bounds = sorted({0, len(documents), *(cut for cut in cuts if cut < len(documents))})
    blocks = [joined(documents[a:b]) for a, b in pairwise(bounds)]
    rows = [row for block in concat(blocks, length, EOS) for row in block]
    flat = np.concatenate(rows) if rows else np.empty(0, np.uint16)
    assert all(len(row) == length for row in rows)
    assert flat[: len(whole)].tolist() == whole.tolist()
    padding = flat[len(whole) :]
    assert len(padding) < length and (padding == EOS).all()
    assert all(row.dtype == np.uint16 for row in rows)


@given(DOCUMENTS, st.integers(2, 20))
def test_packing_does_not_depend_on_the_blocks(documents: list[list[int]], length: int) -> None:
    one = [row.tolist() for block in concat([joined(documents)], length, EOS) for row in block]
    many = [row.tolist() for block in concat((joined([d]) for d in documents), length, EOS) for row in block]
    assert one == many


def test_the_docstring_example() -> None:
    ids = {letter: number for number, letter in enumerate(".abcdefghij")}
    tokens = joined([[ids[c] for c in word] for word in ("abc", "de", "fghij")])
    rows = [row for block in concat([tokens], 5, EOS) for row in block]
    assert ["".join(".abcdefghij"[token] for token in row) for row in rows] == ["abc.d", "e.fgh", "ij..."]


def test_ids_take_two_bytes_where_they_fit() -> None:
    assert token_dtype(65_536) == np.uint16  # ids 0 to 65,535
    assert token_dtype(65_537) == np.uint32
    assert join([[65_534, 65_535]], eos=EOS, bos=None, dtype=token_dtype(65_536)).tolist() == [65_534, 65_535, EOS]


# Best fit.


@given(DOCUMENTS, st.integers(2, 50), st.integers(1, 12), st.lists(st.integers(0, 30), max_size=5))
def test_best_fit_cuts_nothing_that_fits_and_loses_nothing(
    documents: list[list[int]], length: int, window: int, cuts: list[int]
) -> None:
    bounds = sorted({0, len(documents), *(cut for cut in cuts if cut < len(documents))})
    blocks = [joined(documents[a:b]) for a, b in pairwise(bounds)]
    rows = [row for block in best_fit(blocks, length, EOS, window) for row in block]
    assert all(len(row) == length and row.dtype == np.uint16 for row in rows)
    found = Counter()
    for row in rows:
        whole = row[~padding(row[None], EOS)[0]].tolist()
        start = 0
        for end in [*(i for i, token in enumerate(whole) if token == EOS), len(whole) - 1]:
            if end >= start:
                found[tuple(whole[start : end + 1])] += 1
                start = end + 1
    expected: Counter[tuple[int, ...]] = Counter()
    for document in documents:
        if document:
            full = [*document, EOS]
            pieces = [tuple(full[at : at + length]) for at in range(0, len(full), length)]
            expected.update(piece for piece in pieces if piece != (EOS,))
    assert found == expected
    once = [row.tolist() for block in best_fit([joined(documents)], length, EOS, window) for row in block]
    assert once == [row.tolist() for row in rows], "where blocks end makes no difference"


def test_best_fit_fills_well() -> None:
    rng = np.random.default_rng(0)
    documents = [[5] * n for n in np.clip(rng.lognormal(5, 1, 3000), 5, 4000).astype(int)]
    rows = np.concatenate(list(best_fit([joined(documents)], 1024, EOS)))
    assert padding(rows, EOS).mean() < 0.01


def test_the_docstring_example_of_best_fit() -> None:
    ids = {letter: number for number, letter in enumerate(".abcdefghij")}
    tokens = joined([[ids[c] for c in word] for word in ("abc", "de", "fghij")])
    rows = [row for block in best_fit([tokens], 5, EOS) for row in block]
    assert ["".join(".abcdefghij"[token] for token in row) for row in rows] == ["fghij", "abc..", "de..."]


def test_padding_is_what_stands_behind_the_last_end() -> None:
    rows = np.array([[5, 6, EOS], [5, EOS, EOS], [EOS, EOS, EOS], [EOS, 5, EOS], [EOS, EOS, 6]], np.uint16)
    assert padding(rows, EOS).sum(axis=1).tolist() == [0, 1, 2, 0, 0]
