"""How the sample world is written about: genres, sentences, fillers and questions, and the document about a person.

A document opens by naming its genre and its person, states what its genre tells (all six attributes, or two or three)
in random order, each in one of several wordings and each naming the person, with fillers between, and closes by naming
genre and person again. Every sentence names its person so that, when several documents stand in one prompt, whose value
a value is can be read beside it: a small model then learns few-shot prompts at once, where it otherwise learns them
hardly at all. The short genres are where it learns to look a value up: it finds one among 30 words long before it finds
one among 100.
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
        asks: what is asked about it, in this order.
        states: what it tells of its person.
    """

    noun: str
    multiple_choice: bool
    chain_of_thought: bool
    asks: tuple[Attribute, ...]
    states: tuple[Attribute, ...]


def _long(noun: str, multiple_choice: bool, chain_of_thought: bool, asks: str) -> Genre:
    """A genre that tells everything and asks for the attributes named in `asks`."""
    return Genre(noun, multiple_choice, chain_of_thought, tuple(map(Attribute, asks.split())), tuple(Attribute))


def _short(noun: str, multiple_choice: bool, chain_of_thought: bool, asks: str) -> Genre:
    """A genre that tells no more than it asks for."""
    asked = tuple(map(Attribute, asks.split()))
    return Genre(noun, multiple_choice, chain_of_thought, asked, asked)


LONG_GENRES = (
    _long("letter", False, False, "trade town land beast dish"),
    _long("record", True, False, "land instrument trade dish town"),
    _long("tale", False, True, "beast trade land dish instrument"),
    _long("lesson", True, True, "dish land instrument town"),
    _long("notice", False, False, "instrument dish beast town trade land"),
    _long("list", True, False, "town beast dish instrument land"),
    _long("speech", False, True, "land instrument town trade beast"),
    _long("riddle", True, True, "trade beast town land"),
)
SHORT_GENRES = (
    _short("card", False, False, "trade town"),
    _short("label", True, False, "beast instrument"),
    _short("rhyme", False, True, "dish beast"),
    _short("quiz", True, True, "town land trade"),
    _short("sign", False, False, "instrument land"),
    _short("ticket", True, False, "dish trade"),
    _short("verse", False, True, "town instrument"),
    _short("puzzle", True, True, "dish beast"),
)
GENRES = LONG_GENRES + SHORT_GENRES
SHORT_SHARE = 4  # one document in so many is of a short genre

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
    return draws.pick(SHORT_GENRES if draws.below(SHORT_SHARE) == 0 else LONG_GENRES)


def document_text(world: World, index: int) -> str:
    """The document about person `index`, a paragraph of some 25 to 130 tokens."""
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
