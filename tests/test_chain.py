"""Chains and rounds: every document once, in the blocks of the paper, inheriting only what fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipt_stream.corpus.pair import Pair
from ipt_stream.synthesis.chain import Inherited, chains, place

A_PAIR = (Pair("q", "a"),)


@given(st.integers(0, 300), st.integers(1, 8))
def test_every_document_is_in_one_chain_and_rounds_are_consecutive_blocks(documents: int, rounds: int) -> None:
    made = chains(documents, rounds)
    assert sorted(index for chain in made for index in chain) == list(range(documents))
    block = -(-documents // rounds)
    for number, chain in enumerate(made):
        for depth, index in enumerate(chain):
            assert index == depth * block + number
            assert place(index, documents, rounds).chain == number
            assert place(index, documents, rounds).round == depth
    assert all(len(chain) <= rounds for chain in made)


def test_seven_documents_in_three_rounds() -> None:
    assert chains(7, 3) == [[0, 3, 6], [1, 4], [2, 5]]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20), st.booleans()), max_size=12),
    st.integers(30, 80),
)
def test_a_prompt_never_exceeds_the_budget_and_holds_whole_shots(
    steps: list[tuple[int, int, bool]], budget: int
) -> None:
    inherited = Inherited()
    example: list[int] = []
    for number, (context_length, generated_length, has_pairs) in enumerate(steps):
        context = [number] * context_length
        prompt, inherits = inherited.prompt(context, budget)
        assert len(prompt) <= budget
        assert prompt == ([*example, *context] if inherits else context)
        assert inherits == bool(example and len(example) + context_length <= budget)
        shot = [*context, *([number] * generated_length)]
        pairs = A_PAIR if has_pairs else ()
        inherited = inherited.after(inherits, shot, pairs)
        example = ([*example, *shot] if inherits else shot) if has_pairs else []
        assert list(inherited.token_ids) == example


def test_a_round_without_pairs_ends_the_example() -> None:
    first = Inherited().after(False, [1, 2], A_PAIR)
    assert first.prompt([3], 10) == ([1, 2, 3], True)
    assert first.after(True, [3], ()).prompt([4], 10) == ([4], False)
