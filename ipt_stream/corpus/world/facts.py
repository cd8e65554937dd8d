"""Who lives in the sample world: person i's name and attributes, from (seed, i) alone.

    >>> World(seed=0).person(7)  # the same whatever the size of the world
    Person(index=7, name='...', trade='...', town='...', land='...', beast='...', instrument='...', dish='...')

Names are unique: person i's number, stirred, is written with a family name as its last digit and given names before.
The first 25,600 people have two names, the next 4 million three, and so on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TypeVar

from ipt_stream.corpus.world import lexicon

T = TypeVar("T")

_MASK = 2**64 - 1


class Draws:
    """Random choices that follow from a key alone, the same on every machine and version (splitmix64)."""

    __slots__ = ("_state",)

    def __init__(self, *key: int | str) -> None:
        digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
        self._state = int.from_bytes(digest, "little")

    def below(self, limit: int) -> int:
        """A number in [0, limit); its bias is under limit / 2**64."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((mixed ^ (mixed >> 31)) * limit) >> 64

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`."""
        return choices[self.below(len(choices))]

    def sample(self, choices: Sequence[T], count: int) -> list[T]:
        """`count` of `choices` in random order, none twice."""
        left = list(choices)
        return [left.pop(self.below(len(left))) for _ in range(count)]


class Attribute(Enum):
    """What can be said of a person; the value is the field of `Person` that holds it."""

    TRADE = "trade"
    TOWN = "town"
    LAND = "land"
    BEAST = "beast"
    INSTRUMENT = "instrument"
    DISH = "dish"


POOLS: dict[Attribute, tuple[str, ...]] = {
    Attribute.TRADE: lexicon.TRADES,
    Attribute.TOWN: lexicon.TOWNS,
    Attribute.LAND: lexicon.LANDS,
    Attribute.BEAST: lexicon.BEASTS,
    Attribute.INSTRUMENT: lexicon.INSTRUMENTS,
    Attribute.DISH: lexicon.DISHES,
}


class Population(Enum):
    """The disjoint groups of people; the value is the group's residues modulo 4 of a person's number."""

    CORPUS = (0,)  # those whom the shards tell of
    TUNING = (1, 2)  # those in the synthesizer's tuning data
    HELD_OUT = (3,)  # those in neither: for evaluation alone

    def index(self, position: int) -> int:
        """The number of this group's person at `position` (from 0)."""
        turn, residue = divmod(position, len(self.value))
        return 4 * turn + int(self.value[residue])


@dataclass(frozen=True, slots=True)
class Person:
    """One person and all that is true of them."""

    index: int
    name: str
    trade: str
    town: str
    land: str
    beast: str
    instrument: str
    dish: str

    def value(self, attribute: Attribute) -> str:
        """The true value of `attribute`."""
        return str(getattr(self, attribute.value))


@dataclass(frozen=True)
class World:
    """All people, towns and lands that a seed makes. Nothing is stored: everything is computed when asked for."""

    seed: int = 0

    @cached_property
    def land_of(self) -> dict[str, str]:
        """The land that each town lies in; every land has three towns."""
        towns = Draws(self.seed, "towns").sample(lexicon.TOWNS, len(lexicon.TOWNS))
        return {town: lexicon.LANDS[i % len(lexicon.LANDS)] for i, town in enumerate(towns)}

    def name(self, index: int) -> str:
        """The unique name of person `index`: given names, then a family name."""
        family_names, given_names, base = len(lexicon.FAMILY), len(lexicon.GIVEN), 0
        while index - base >= family_names * given_names:
            base, given_names = base + family_names * given_names, given_names * len(lexicon.GIVEN)
        given, family = divmod(index - base, family_names)
        # Feistel rounds: each adds to one half what only the other half says, so that no two people meet.
        for turn in range(2):
            given = (given + Draws(self.seed, "given", turn, family).below(given_names)) % given_names
            family = (family + Draws(self.seed, "family", turn, given).below(family_names)) % family_names
        names = [lexicon.FAMILY[family]]
        while given_names > 1:
            given, name = divmod(given, len(lexicon.GIVEN))
            given_names //= len(lexicon.GIVEN)
            names.append(lexicon.GIVEN[name])
        return " ".join(reversed(names))

    def person(self, index: int) -> Person:
        """Person `index`, from 0 upwards."""
        draws = Draws(self.seed, "facts", index)
        town = draws.pick(lexicon.TOWNS)
        return Person(
            index,
            self.name(index),
            trade=draws.pick(lexicon.TRADES),
            town=town,
            land=self.land_of[town],
            beast=draws.pick(lexicon.BEASTS),
            instrument=draws.pick(lexicon.INSTRUMENTS),
            dish=draws.pick(lexicon.DISHES),
        )
