"""The pairs of a document: of each task first one, the rarest task first, then a second one of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ipt_stream.baselines.reading_comprehension import patterns
from ipt_stream.baselines.reading_comprehension.keywords import Keywords
from ipt_stream.baselines.reading_comprehension.passage import read
from ipt_stream.corpus.pair import Pair
from ipt_stream.draw import seeded, shuffled

VERSION = 1
"""Raise it with any change of what is found or how it is asked: a mixture made before is then another one."""
MOST_PER_TASK = 2


class Task(StrEnum):
    """What a pair asks for, the rarest first."""

    PARAPHRASE = "paraphrase"
    """A sentence in other words."""
    COMPARISON = "comparison"
    """Whether two sentences are alike or differ."""
    CAUSE = "cause"
    """The cause of an effect, or the effect of a cause."""
    INFERENCE = "inference"
    """Whether a sentence follows from another."""
    SUMMARY = "summary"
    """The title."""
    WORDS = "words"
    """A sentence with some words of the domain."""
    COMPLETION = "completion"
    """The rest of a paragraph."""


@dataclass(frozen=True, slots=True)
class Mined:
    """A pair, and the task that it is one of."""

    task: Task
    pair: Pair


def mine(text: str, keywords: Keywords | None, seed: int, document_id: str, max_pairs: int = 5) -> tuple[Pair, ...]:
    """The pairs of `mine_tasks`."""
    return tuple(mined.pair for mined in mine_tasks(text, keywords, seed, document_id, max_pairs))


def mine_tasks(
    text: str, keywords: Keywords | None, seed: int, document_id: str, max_pairs: int = 5
) -> tuple[Mined, ...]:
    """Pairs about `text`, by patterns; none where nothing matches. A pure function of its arguments.

    Args:
        text: the document; its first `sentences.READ_CHARACTERS` are read.
        keywords: what is typical of the domain; None: no sentences are asked for by their words.
        seed: of the choices, together with `document_id`.
        document_id: any text that names the document.
        max_pairs: most pairs that are given. No instruction comes twice, ignoring case, and none is about a sentence
            that another one is about, but for completions.
    """
    rng = seeded(seed, document_id)
    passage = read(text)
    found = {
        Task.PARAPHRASE: patterns.paraphrase(passage, rng),
        Task.COMPARISON: patterns.comparison(passage, rng),
        Task.CAUSE: patterns.cause(passage, rng),
        Task.INFERENCE: patterns.inference(passage, rng),
        Task.SUMMARY: patterns.summary(passage, rng),
        Task.WORDS: patterns.from_words(passage, keywords, rng) if keywords is not None else [],
        Task.COMPLETION: patterns.completion(passage, rng),
    }
    taken: list[Mined] = []
    asked: set[str] = set()
    used: set[int] = set()
    for task, candidates in list(found.items()) * MOST_PER_TASK:
        for candidate in candidates if len(taken) < max_pairs else ():
            instruction = candidate.pair.instruction.casefold()
            if instruction not in asked and used.isdisjoint(candidate.uses):
                taken.append(Mined(task, candidate.pair))
                asked.add(instruction)
                used.update(candidate.uses)
                break
    return tuple(shuffled(rng, taken))
