"""Choices that follow one context become branches of one sequence, so that the context is computed once.

    context   B  A  C        inputs     B A C | x | y y      branch     0 0 0 | 1 | 2 2
    choice 1  x  X           predicted        X |   |        position   0 1 2 | 3 | 3 4
    choice 2  y  y  Y                         y | . |  Y

A branch sees the context and itself, and its positions go on from the context's, so its likelihood is what it is
alone. The last token of a choice is never an input: choices of one token add nothing. With four choices and five
shots this is about a quarter of the work. Pure functions of token ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tree:
    """A context and the continuations scored after it.

    Attributes:
        context: its tokens, at least one.
        choices: each continuation's tokens, at least one.
        requests: the index of the request that each choice answers.
    """

    context: list[int]
    choices: list[list[int]] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)

    def inputs(self) -> list[int]:
        """The tokens that go into the model."""
        return [*self.context, *(token for choice in self.choices for token in choice[:-1])]

    def branches(self) -> list[int]:
        """For each input, 0 for the context and i for the i-th choice, from 1."""
        return [0] * len(self.context) + [i for i, c in enumerate(self.choices, start=1) for _ in c[:-1]]

    def positions(self) -> list[int]:
        """For each input, its position in context + choice."""
        length = len(self.context)
        return [*range(length), *(length + i for choice in self.choices for i in range(len(choice) - 1))]

    def predictors(self) -> list[list[int]]:
        """For each choice, the indices of the inputs whose logits predict its tokens."""
        found, start = [], len(self.context)
        for choice in self.choices:
            found.append([len(self.context) - 1, *range(start, start + len(choice) - 1)])
            start += len(choice) - 1
        return found

    def width(self) -> int:
        """Number of inputs."""
        return len(self.context) + sum(len(choice) - 1 for choice in self.choices)


def grow(requests: Sequence[tuple[list[int], list[int]]], shared: bool) -> list[Tree]:
    """Trees for (context, continuation) pairs of token ids; one tree a pair unless contexts are `shared`."""
    trees: dict[object, Tree] = {}
    for index, (context, continuation) in enumerate(requests):
        tree = trees.setdefault(tuple(context) if shared else index, Tree(context))
        tree.choices.append(continuation)
        tree.requests.append(index)
    return list(trees.values())


def batches(trees: Sequence[Tree], most_trees: int, most_tokens: int) -> Iterator[list[Tree]]:
    """`trees`, widest first, in batches of at most so many trees and tokens, padding included."""
    batch: list[Tree] = []
    for tree in sorted(trees, key=Tree.width, reverse=True):
        if batch and (len(batch) == most_trees or (len(batch) + 1) * batch[0].width() > most_tokens):
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch
