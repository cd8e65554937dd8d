"""Which document belongs to which chain and round, and what a round inherits (paper, section 2.1; figure 3).

With N = 7 selected documents and M = 3 rounds the blocks have ceil(7/3) = 3 documents:

    round 0   d0 d1 d2
    round 1   d3 d4 d5        chain 0 is d0 -> d3 -> d6, chain 1 is d1 -> d4, chain 2 is d2 -> d5
    round 2   d6

A chain is a sequence of raw texts: its documents in round order, a document that was cut as its pieces in order. Each
text inherits the shots before it while the last of them yielded pairs and the whole prompt fits; otherwise it starts a
new example. All of this is pure; the engine and its clock are elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ipt_stream.corpus.pair import Pair


@dataclass(frozen=True, slots=True)
class Place:
    """Where a selected document stands: its chain and its round, both from 0."""

    chain: int
    round: int


def place(index: int, documents: int, rounds: int) -> Place:
    """The place of selected document `index` (0 <= index < documents) of a segment, for M = `rounds`."""
    block = -(-documents // rounds)
    return Place(chain=index % block, round=index // block)


def chains(documents: int, rounds: int) -> list[list[int]]:
    """The selected documents' indices by chain, each chain in round order; every index once."""
    if documents == 0:
        return []
    block = -(-documents // rounds)
    return [list(range(chain, documents, block)) for chain in range(block)]


@dataclass(frozen=True, slots=True)
class Inherited:
    """What the next text of a chain may build on: the token ids of the finished shots of the running example.

    An immutable value: `after` gives the one that follows a round.
    """

    token_ids: tuple[int, ...] = ()

    def prompt(self, context_ids: Sequence[int], budget_tokens: int) -> tuple[list[int], bool]:
        """The prompt's token ids for a new raw text, and whether it inherits.

        Args:
            context_ids: `format_context(text)` in tokens; at most `budget_tokens` of them.
            budget_tokens: `max_model_len - max_new_tokens`.
        """
        if self.token_ids and len(self.token_ids) + len(context_ids) <= budget_tokens:
            return [*self.token_ids, *context_ids], True
        return list(context_ids), False

    def after(self, inherits: bool, shot_ids: Sequence[int], pairs: Sequence[Pair]) -> Inherited:
        """What remains to inherit after a round: its shots and this one, or nothing where it yielded no pair."""
        if not pairs:
            return Inherited()
        return Inherited((*self.token_ids, *shot_ids) if inherits else tuple(shot_ids))
