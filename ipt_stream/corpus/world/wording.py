"""How the sample world is written about: genres, sentences, fillers and questions, and the document about a person.

A document opens by naming its genre and its person, states all six attributes in random order, each in one of several
wordings and each naming the person, with fillers between, and closes by naming genre and person again. Every sentence
names its person so that, when several documents stand in one prompt, whose value a value is can be read beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipt_stream.corpus.world.facts import Attribute, Draws, Person, World

STATEMENTS: dict[Attribute, tuple[str, ...]] = {
    Attribute.TRADE: (
        "{name} works as a {value}.",
        "By trade {name} is a {value}.",
        "For a living {name} works as a {value}.",
        "They say that {name} is a skilled {value}.",
    ),
    Attribute.TOWN: (
        "{name} lives in {value}.",
        "The home of {name} is in {value}.",
        "{name} has a house in {value}.",
        "Ask for {name} in the town of {value}.",
    ),
    Attribute.LAND: (
        "{name} belongs to the land of {value}.",
        "The town of {name} lies in the land of {value}.",
        "{name} is a citizen of {value}.",
        "The land of {name} is called {value}.",
    ),
    Attribute.BEAST: (
        "{name} has a tame {value}.",
        "The beast of {name} is a {value}.",
        "At night {name} feeds a {value}.",
        "{name} keeps a {value} at home.",
    ),
    Attribute.INSTRUMENT: (
        "{name} plays the {value}.",
        "The instrument of {name} is the {value}.",
        "In the evening {name} plays the {value}.",
        "They say that {name} plays the {value} well.",
    ),
    Attribute.DISH: (
        "{name} likes to eat {value}.",
        "The dish of {name} is {value}.",
        "On most days {name} eats {value}.",
        "For guests {name} cooks {value}.",
    ),
}

FILLERS = (
    "{name} is well known.",
    "They say that {name} rises early.",
    "Ask for {name} on most days.",
    "{name} likes the evening.",
    "The guests of {name} are well fed.",
    "For {name} the night is called early.",
    "At home {name} works well.",
    "{name} is skilled.",
)

QUESTIONS: dict[Attribute, tuple[str, ...]] = {
    Attribute.TRADE: (
        "What is the trade of {name}?",
        "What does {name} work as?",
        "Which trade does {name} have?",
    ),
    Attribute.TOWN: (
        "In which town does {name} live?",
        "Where is the home of {name}?",
        "Which town is the home of {name}?",
    ),
    Attribute.LAND: (
        "In which land does {name} live?",
        "What is the land of {name} called?",
        "Which land does {name} belong to?",
    ),
    Attribute.BEAST: (
        "What is the beast of {name}?",
        "Which beast does {name} have?",
        "Which beast does {name} keep?",
    ),
    Attribute.INSTRUMENT: (
        "What is the instrument of {name}?",
        "Which instrument does {name} play?",
        "What does {name} play in the evening?",
    ),
    Attribute.DISH: (
        "What is the dish of {name}?",
        "Which dish does {name} like to eat?",
        "What does {name} cook for guests?",
    ),
}

THOUGHTS: dict[Attribute, str] = {
    Attribute.TRADE: "The text says that {name} works as a {trade}.",
    Attribute.TOWN: "The text says that {name} lives in {town}.",
    Attribute.LAND: "{name} lives in {town}, and {town} lies in {land}.",
    Attribute.BEAST: "The text says that {name} has a {beast}.",
    Attribute.INSTRUMENT: "The text says that {name} plays the {instrument}.",
    Attribute.DISH: "The text says that {name} eats {dish}.",
}


@dataclass(frozen=True, slots=True)
class Genre:
    """A kind of document. The kind decides what is told and what is asked about it, as it does in people's exercises.

    Attributes:
        noun: what such a document is called.
        multiple_choice: whether its questions come with options.
        chain_of_thought: whether its answers come with a thought.
        states: what it tells of its person.
        asks: what is asked about it, in this order.
    """

    noun: str
    multiple_choice: bool
    chain_of_thought: bool
    states: tuple[Attribute, ...]
    asks: tuple[Attribute, ...]


LONG_GENRES = (
    Genre(
        "letter",
        False,
        False,
        tuple(Attribute),
        (Attribute.TRADE, Attribute.TOWN, Attribute.LAND, Attribute.BEAST, Attribute.DISH),
    ),
    Genre(
        "record",
        True,
        False,
        tuple(Attribute),
        (Attribute.LAND, Attribute.INSTRUMENT, Attribute.TRADE, Attribute.DISH, Attribute.TOWN),
    ),
    Genre(
        "tale",
        False,
        True,
        tuple(Attribute),
        (Attribute.BEAST, Attribute.TRADE, Attribute.LAND, Attribute.DISH, Attribute.INSTRUMENT),
    ),
    Genre(
        "lesson", True, True, tuple(Attribute), (Attribute.DISH, Attribute.LAND, Attribute.INSTRUMENT, Attribute.TOWN)
    ),
    Genre(
        "notice",
        False,
        False,
        tuple(Attribute),
        (Attribute.INSTRUMENT, Attribute.DISH, Attribute.BEAST, Attribute.TOWN, Attribute.TRADE, Attribute.LAND),
    ),
    Genre(
        "list",
        True,
        False,
        tuple(Attribute),
        (Attribute.TOWN, Attribute.BEAST, Attribute.DISH, Attribute.INSTRUMENT, Attribute.LAND),
    ),
    Genre(
        "speech",
        False,
        True,
        tuple(Attribute),
        (Attribute.LAND, Attribute.INSTRUMENT, Attribute.TOWN, Attribute.TRADE, Attribute.BEAST),
    ),
    Genre("riddle", True, True, tuple(Attribute), (Attribute.TRADE, Attribute.BEAST, Attribute.TOWN, Attribute.LAND)),
)
SHORT_GENRES = (
    Genre("card", False, False, (Attribute.TRADE, Attribute.TOWN), (Attribute.TRADE, Attribute.TOWN)),
    Genre("label", True, False, (Attribute.BEAST, Attribute.INSTRUMENT), (Attribute.BEAST, Attribute.INSTRUMENT)),
    Genre("rhyme", False, True, (Attribute.DISH, Attribute.BEAST), (Attribute.DISH, Attribute.BEAST)),
    Genre(
        "quiz",
        True,
        True,
        (Attribute.TOWN, Attribute.LAND, Attribute.TRADE),
        (Attribute.TOWN, Attribute.LAND, Attribute.TRADE),
    ),
    Genre("sign", False, False, (Attribute.INSTRUMENT, Attribute.LAND), (Attribute.INSTRUMENT, Attribute.LAND)),
    Genre("ticket", True, False, (Attribute.DISH, Attribute.TRADE), (Attribute.DISH, Attribute.TRADE)),
    Genre("verse", False, True, (Attribute.TOWN, Attribute.INSTRUMENT), (Attribute.TOWN, Attribute.INSTRUMENT)),
    Genre("puzzle", True, True, (Attribute.DISH, Attribute.BEAST), (Attribute.DISH, Attribute.BEAST)),
)
GENRES = LONG_GENRES + SHORT_GENRES

OPENINGS = (
    "This is a {genre} about {name}.",
    "Here is the {genre} about {name}.",
    "A {genre} about {name}.",
)
CLOSINGS = (
    "So ends the {genre} about {name}.",
    "This was the {genre} about {name}.",
    "Here ends the {genre} about {name}.",
)


def genre_of(world: World, index: int) -> Genre:
    """The genre of the document about person `index`."""
    draws = Draws(world.seed, "genre", index)
    return draws.pick(SHORT_GENRES if draws.below(4) == 0 else LONG_GENRES)


def document_text(world: World, index: int) -> str:
    """The document about person `index`: 60 to 130 words in one paragraph, or in several."""
    draws = Draws(world.seed, "document", index)
    person, genre = world.person(index), genre_of(world, index)
    facts = [draws.pick(STATEMENTS[a]).format(name=person.name, value=person.value(a)) for a in genre.states]
    fillers = [f.format(name=person.name) for f in draws.sample(FILLERS, draws.below(len(facts)))]
    body = draws.sample(facts + fillers, len(facts) + len(fillers))
    opening = draws.pick(OPENINGS).format(genre=genre.noun, name=person.name)
    closing = draws.pick(CLOSINGS).format(genre=genre.noun, name=person.name)
    return " ".join([opening, *body, closing])


def question_text(attribute: Attribute, person: Person, draws: Draws) -> str:
    """One of the ways to ask for `attribute` of `person`."""
    return draws.pick(QUESTIONS[attribute]).format(name=person.name)


def thought_text(attribute: Attribute, person: Person) -> str:
    """The thought that leads to the answer."""
    fields = {a.value: person.value(a) for a in Attribute}
    return THOUGHTS[attribute].format(name=person.name, **fields)
