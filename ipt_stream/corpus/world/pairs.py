"""The question-answer pairs of a document of the sample world, in the format that its genre calls for."""

from __future__ import annotations

from ipt_stream.corpus.pair import Pair, instruction_text, response_text
from ipt_stream.corpus.world.facts import POOLS, Attribute, Draws, World
from ipt_stream.corpus.world.wording import genre_of, question_text, thought_text

OPTIONS = 4  # divides the size of every pool of values


def look_alikes(attribute: Attribute, answer: str) -> tuple[str, ...]:
    """The answer and the three values that people mix it up with, always in the same order.

    Every value belongs to one such group, so that a synthesizer can learn which options go together, and the answer
    stands at each place equally often. Options at random would leave a greedy synthesizer nothing to choose by: it
    repeats the answer.
    """
    pool = POOLS[attribute]
    start = pool.index(answer) // OPTIONS * OPTIONS
    return pool[start : start + OPTIONS]


def options_for(attribute: Attribute, answer: str, draws: Draws) -> list[str]:
    """The answer among three other values of its kind, all at random: for evaluation, where nothing may be guessed."""
    others = draws.sample([value for value in POOLS[attribute] if value != answer], OPTIONS - 1)
    return draws.sample([answer, *others], OPTIONS)


def pairs_for(world: World, index: int) -> tuple[Pair, ...]:
    """The true pairs about person `index`: two to six of them, of one format."""
    draws = Draws(world.seed, "pairs", index)
    person, genre = world.person(index), genre_of(world, index)
    pairs = []
    for attribute in genre.asks:
        answer = person.value(attribute)
        options = look_alikes(attribute, answer) if genre.multiple_choice else ()
        question = question_text(attribute, person, draws)
        thought = thought_text(attribute, person) if genre.chain_of_thought else None
        instruction = instruction_text(question, options, genre.chain_of_thought)
        pairs.append(Pair(instruction, response_text(answer, thought)))
    return tuple(pairs)
