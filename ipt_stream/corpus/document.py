"""The one record that a raw text travels in, from the shard that holds it to the segment it ends up in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """One input document.

    Attributes:
        document_id: `shard:row`, unique by construction.
        source_id: the input's own id, or None; inputs repeat ids, so nothing relies on it being unique.
        source: the shard's file name, as the input listing has it.
        row: which row of the shard it is, from 0; rejected rows count too.
        text: the text, as read.
    """

    document_id: str
    source_id: str | None
    source: str
    row: int
    text: str
