r"""A view for people. Texts from the web are shown, never passed on: a terminal would obey what they hold.

The first two characters of a line say what it is, so that no text can pass for a border:

    `==`    an item
    `--`    a border, padding, a shot: whatever is no text
    `Q `    an instruction begins; `A `: a response
    two spaces: text, or more of the same

Control characters, escape sequences, bidirectional overrides and other invisible characters appear as `\x1b` or
`\u202e`; on a terminal in reverse video, so that they differ from a text that spells them.
"""

from __future__ import annotations

import unicodedata

from ipt_stream.view.items import Item, Kind, Part, View

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # part of how Persian, Hindi and emoji are written
_BOLD, _MARK, _PAIR, _REVERSE = "1", "36", "32", "7"


def format_view(view: View, *, colour: bool = False) -> str:
    """The lines of `view` and its items; `colour` only where a terminal shows them."""
    lines = [*view.lines]
    for number, item in enumerate(view.items, 1):
        lines += ["", _painted(f"== {number} of {len(view.items)}: {_head(item)}", _BOLD, colour)]
        for part in item.parts:
            lines += _lines(part, colour)
    return "\n".join(lines)


def escape(text: str, *, keep: str = "", colour: bool = False) -> str:
    """`text` with what a terminal would act on, or not show, spelled out, but for the characters in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character in keep or character in _JOINERS or unicodedata.category(character) not in _HIDDEN
        else _painted(character.encode("unicode_escape").decode(), _REVERSE, colour)
        for character in text
    )


def _head(item: Item) -> str:
    facts = [
        item.source,
        *([f"position {item.position:,}"] if item.position is not None else []),
        *([f"sample {item.sample:,}"] if item.sample is not None else []),
        *(
            [f"{name} {value}" for name, value in (
                ("document" if item.status != "augmented" else "example", item.name), ("shard", item.shard),
                ("status", item.status), ("segment", item.file),
            ) if value is not None]
        ),
    ]  # fmt: skip
    return ", ".join(escape(fact) for fact in facts)


def _lines(part: Part, colour: bool) -> list[str]:
    text = part.text or ""
    name = escape(text)
    match part.kind:
        case Kind.TEXT:
            lines = _indented("  ", text, colour)
        case Kind.INSTRUCTION:
            lines = _indented("Q ", text, colour)
        case Kind.RESPONSE:
            lines = _indented("A ", text, colour)
        case Kind.PAIRS:
            lines = [_mark("pairs in this text", colour), *(_indented("  ", text, colour) if text else [])]
        case Kind.BORDER:
            lines = [_mark(f"{name} (id {part.token_id}): end of a document", colour)]
        case Kind.SPECIAL:
            lines = [_mark(f"{name or 'not in the vocabulary'} (id {part.token_id})", colour)]
        case Kind.PADDING:
            lines = [_mark(f"{part.tokens:,} tokens of padding", colour)]
        case Kind.UNENDED:
            lines = [_mark("end of the sequence; its last document was cut here, or just fits", colour)]
        case Kind.SHOT:
            lines = [_mark(f"document {name}" + (", inherits" if part.inherits else ""), colour)]
    return lines + ([_mark(f"{part.left_out:,} more characters left out", colour)] if part.left_out else [])


def _indented(first: str, text: str, colour: bool) -> list[str]:
    start, *others = escape(text, keep="\n\t", colour=colour).split("\n")
    return [_painted(first, _PAIR, colour and first != "  ") + start, *("  " + line for line in others)]


def _mark(text: str, colour: bool) -> str:
    return _painted(f"-- {text}", _MARK, colour)


def _painted(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
