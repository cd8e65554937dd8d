"""What `view` shows, whatever it is read from: items, each a source, a place and its parts in order."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a part of an item is."""

    TEXT = "text"
    """Text, as it is."""
    BORDER = "border"
    """The EOS that ends a document."""
    SPECIAL = "special"
    """Another id that stands for no text: BOS, or one that the vocabulary hasn't."""
    PADDING = "padding"
    """EOS at the end of a sequence that no loss is taken on."""
    UNENDED = "unended"
    """The end of a sequence whose last document has no EOS here: it was cut, or fills the sequence to its end."""
    SHOT = "shot"
    """Here a shot begins; the text is its document's id."""
    INSTRUCTION = "instruction"
    RESPONSE = "response"
    PAIRS = "pairs"
    """Here the pairs begin that were rendered into the text above; with a text: pairs of another form, as stored."""


TEXTS = (Kind.TEXT, Kind.INSTRUCTION, Kind.RESPONSE, Kind.PAIRS)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an item.

    Attributes:
        kind: what it is.
        text: its text; of a special id or a border, how the tokenizer writes it.
        tokens: how many of the sequence's tokens it takes; the parts of a sequence add up to its length.
        token_id: the id of a special token or a border.
        inherits: of a shot, whether its prompt held those before it.
        left_out: characters at the end of the text that are not shown.
    """

    kind: Kind
    text: str | None = None
    tokens: int | None = None
    token_id: int | None = None
    inherits: bool | None = None
    left_out: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A sequence, a text or an example.

    Attributes:
        source: of the mixture; of a synthesis run, `augmented` or `raw`.
        parts: its content, in order.
        position: of a sequence in the training order, from 0.
        sample: its number in its MDS directory, from 0.
        name: id of the document or the example.
        shard: the shard of the input that it came from.
        status: how it came out of synthesis.
        file: the segment that it was read from.
    """

    source: str
    parts: tuple[Part, ...]
    position: int | None = None
    sample: int | None = None
    name: str | None = None
    shard: str | None = None
    status: str | None = None
    file: str | None = None

    def record(self) -> dict[str, Any]:
        """As JSON values, without what isn't known."""
        known: dict[str, Any] = asdict(self, dict_factory=_known)
        return {**{key: value for key, value in known.items() if key != "parts"}, "parts": list(known["parts"])}

    def shortened(self, characters: int) -> Item:
        """The same with at most so many characters of each text."""
        return replace(self, parts=tuple(_shortened(part, characters) for part in self.parts))


@dataclass(frozen=True, slots=True)
class View:
    """What was found in a directory, in lines for people, and the items drawn from it."""

    lines: tuple[str, ...]
    items: tuple[Item, ...]


def _known(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in fields if value is not None}


def _shortened(part: Part, characters: int) -> Part:
    if part.kind not in TEXTS or part.text is None or len(part.text) <= characters:
        return part
    return replace(part, text=part.text[:characters], left_out=len(part.text) - characters)
