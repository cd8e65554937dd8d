"""Views of a synthesis run, finished or not: examples with their pairs, and texts that stay raw."""

from __future__ import annotations

import posixpath
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ipt_stream.errors import InputError
from ipt_stream.view.items import Item, Kind, Part, View
from ipt_stream.view.mixtures import unknown_source
from ipt_stream.view.show import escape

if TYPE_CHECKING:
    from ipt_stream.synthesis.results import Example, RawText, SegmentReference

AUGMENTED, RAW = "augmented", "raw"


def view_run(directory: str, *, source: str | None, number: int, seed: int) -> View:
    """Random examples and raw texts of the run in `directory`, from as many segments as there are items, or all.

    Reads the ledger and those segments; where `source` is rare, more of them. Documents that were not selected for
    conversion are raw too, but lie in the input alone, and are not shown.

    Raises:
        ConfigError: `source` is neither `augmented` nor `raw`.
        InputError: no segment is finished, or one was altered.
    """
    from ipt_stream.synthesis.results import list_segments

    if source not in (None, AUGMENTED, RAW):
        raise unknown_source(directory, source, [AUGMENTED, RAW])
    segments = list_segments(directory)
    if not segments:
        raise InputError(
            f"nothing to show in {directory}",
            wanted="a finished segment",
            got="none so far",
            fix=f"wait for one: ipt-stream status {directory}",
        )
    items = list(_draw(segments, source, number, random.Random(seed)))
    of = "examples and raw texts" if source is None else "examples" if source == AUGMENTED else "raw texts"
    lines = [
        f"{escape(directory)}: {len(segments):,} finished segments of about "
        f"{sum(segment.rows for segment in segments):,} documents",
        f"{len(items):,} {of} drawn with seed {seed}; each shot inherits those before it",
    ]
    if source != AUGMENTED and segments[0].plan.fraction < 1:
        lines.append(f"of the documents {1 - segments[0].plan.fraction:.0%} stayed raw unasked: they are not shown")
    return View(tuple(lines), tuple(items))


def _draw(segments: Sequence[SegmentReference], source: str | None, number: int, rng: random.Random) -> Iterator[Item]:
    """One item of each segment, in random order; then, where those are too few, another of each, and so on."""
    unread = deque(rng.sample(segments, len(segments)))
    opened: deque[list[Item]] = deque()
    while number and (unread or opened):
        if unread:
            items = [item for item in _items(unread.popleft()) if source in (None, item.source)]
            rng.shuffle(items)
        else:
            items = opened.popleft()
        if items:
            yield items.pop()
            number -= 1
            opened.append(items)


def _items(segment: SegmentReference) -> Iterator[Item]:
    """All examples and raw texts of a segment's file."""
    from ipt_stream.synthesis.results import load_segment

    # With a fraction of 1 no document is looked for in the input.
    content = load_segment(replace(segment, plan=replace(segment.plan, fraction=1.0)))
    yield from (_example(example, segment) for example in content.examples)
    yield from (_raw(text, segment) for text in content.raw)


def _example(example: Example, segment: SegmentReference) -> Item:
    parts = []
    for number, (shot, document) in enumerate(zip(example.shots, example.document_ids, strict=True)):
        parts += [Part(Kind.SHOT, document, inherits=number > 0), Part(Kind.TEXT, shot.text)]
        for pair in shot.pairs:
            parts += [Part(Kind.INSTRUCTION, pair.instruction), Part(Kind.RESPONSE, pair.response)]
    return Item(
        AUGMENTED,
        tuple(parts),
        name=example.example_id,
        shard=example.source,
        status="augmented",
        file=posixpath.basename(segment.path),
    )


def _raw(text: RawText, segment: SegmentReference) -> Item:
    return Item(
        RAW,
        (Part(Kind.TEXT, text.text),),
        name=text.document_id,
        shard=text.source,
        status="no_pairs",
        file=posixpath.basename(segment.path),
    )
