"""The question-answer pairs of a document of the sample world, in the format that its genre calls for."""

from __future__ import annotations

from ipt_stream.corpus.world.facts import POOLS, Attribute, Draws, World
from ipt_stream.corpus.world.wording import genre_of, question_text, thought_text
from ipt_stream.synthesis.prompt import Pair, instruction_text, response_text

OPTIONS = 3


def options_for(attribute: Attribute, answer: str, draws: Draws, count: int = OPTIONS) -> list[str]:
    """The answer and `count - 1` other values of its kind, in random order."""
    others = draws.sample([value for value in POOLS[attribute] if value != answer], count - 1)
    return draws.sample([answer, *others], count)


def pairs_for(world: World, index: int) -> tuple[Pair, ...]:
    """The true pairs about person `index`: four to six of them, of one format."""
    draws = Draws(world.seed, "pairs", index)
    person, genre = world.person(index), genre_of(world, index)
    pairs = []
    for attribute in genre.asks:
        answer = person.value(attribute)
        options = options_for(attribute, answer, draws) if genre.multiple_choice else []
        question = question_text(attribute, person, draws)
        thought = thought_text(attribute, person) if genre.chain_of_thought else None
        instruction = instruction_text(question, options, genre.chain_of_thought)
        pairs.append(Pair(instruction, response_text(answer, thought)))
    return tuple(pairs)
