"""What is found in one part of the corpus: by example, and by document with the place.

A document with pairs is searched once, as `text`, then each pair's `instruction response`, in order. A hit that lies in
the text is of the raw corpus; one that lies in the pairs is of the pairs; one across the border is in augmented text
alone. Augmented text holds all three.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ipt_stream.analysis.contamination.corpus import CorpusPart, SearchedDocument, documents
from ipt_stream.analysis.contamination.patterns import NGrams, Patterns
from ipt_stream.analysis.contamination.search import Hits, find_ngrams, find_patterns
from ipt_stream.analysis.folding import BORDER, codes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RAW, PAIRS, ACROSS = "raw", "pairs", "augmented"
PLACES = (RAW, PAIRS, ACROSS)
"""Where a hit lies: in the raw text, in the pairs, or across both, which augmented text alone has."""
SUBSTRING, NGRAMS = "substring", "ngrams"
KINDS = (SUBSTRING, NGRAMS)
SNIPPET_CHARACTERS = 300
BATCH_CHARACTERS = 1 << 18
"""Characters that are searched at once, a document more or less: their arrays fit in a few megabytes."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What all parts are searched for.

    Attributes:
        patterns: substrings of examples.
        ngrams: word n-grams of examples; None where they are not asked for.
        tasks: (examples,) number of each example's task.
        ignore_case: of substrings.
        ngram_share: share of its n-grams by which a document holds an example.
        examples_a_document: how many are listed of a document.
    """

    patterns: Patterns
    ngrams: NGrams | None
    tasks: NDArray[np.int32]
    ignore_case: bool
    ngram_share: float
    examples_a_document: int


@dataclass(frozen=True, slots=True)
class Place:
    """An example in a document.

    Attributes:
        document_id: the document.
        corpus: which corpus that is of.
        kind: substring or ngrams.
        where: raw, pairs or augmented.
        example: the example's number.
        offset: where the first hit begins, in characters: of the text, or of the pair's `instruction response`.
        pair: which pair that is, from 0; None in the text.
        matches: places of substrings, or different n-grams.
        share: of the example's n-grams; None for substrings.
        text: what stands there.
    """

    document_id: str
    corpus: str
    kind: str
    where: str
    example: int
    offset: int
    pair: int | None
    matches: int
    share: float | None
    text: str


@dataclass(slots=True)
class Found:
    """What documents come to.

    Attributes:
        counts: documents, those with pairs, pairs, bytes; those that hold an example, in all and by kind.
        examples: by where: those that are there by substrings.
        ngrams: by where: the n-grams that are there.
        documents: by kind: documents that hold an example, by its task.
        places: what is listed, in order.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, set[int]] = field(default_factory=lambda: {where: set() for where in PLACES})
    ngrams: dict[str, set[int]] = field(default_factory=lambda: {where: set() for where in PLACES})
    documents: dict[str, Counter[int]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    places: list[Place] = field(default_factory=list)


def scan(part: CorpusPart, sought: Sought) -> dict[str, Any]:
    """What is found in `part`, as JSON: `counts`, `examples` and `ngrams` by where, `documents` by task, `places`."""
    broken: list[str] = []
    found = search_documents(documents(part, broken), part.corpus, sought)
    return {
        "counts": dict(found.counts),
        "examples": {where: sorted(numbers) for where, numbers in found.examples.items()},
        "ngrams": {where: sorted(numbers) for where, numbers in found.ngrams.items()},
        "documents": {kind: sorted(counted.items()) for kind, counted in found.documents.items()},
        "places": [asdict(place) for place in found.places],
        "broken": broken,
    }


def search_documents(read: Iterable[SearchedDocument], corpus: str, sought: Sought) -> Found:
    """What is found in documents of `corpus`. Memory: `BATCH_CHARACTERS` and a document, and what is found."""
    found = Found()
    batch: list[_View] = []
    size = 0
    for document in read:
        view = _View(document, corpus, *joined(document))
        length = len(view.text) if view.text.isascii() else len(view.text.encode())
        found.counts.update(documents=1, pairs=len(document.pairs), bytes=length, with_pairs=bool(document.pairs))
        batch.append(view)
        size += len(view.text)
        if size >= BATCH_CHARACTERS:
            _search(batch, sought, found)
            batch, size = [], 0
    if batch:
        _search(batch, sought, found)
    return found


def _search(batch: Sequence[_View], sought: Sought, found: Found) -> None:
    text = BORDER.join(view.text for view in batch)
    text_codes = codes(text)
    by_patterns = _by_text(find_patterns(text_codes, sought.patterns, sought.ignore_case), batch)
    ngrams = sought.ngrams
    by_ngrams = {} if ngrams is None else _by_text(find_ngrams(text_codes, ngrams), batch)
    for number in sorted(by_patterns.keys() | by_ngrams.keys()):
        places: list[Place] = []
        if number in by_patterns:
            places += _substrings(batch[number], by_patterns[number], sought, found)
        if number in by_ngrams and ngrams is not None:
            places += _ngrams(batch[number], by_ngrams[number], sought, ngrams, found)
        if places:
            found.counts["contaminated"] += 1
            found.places += places


def _by_text(hits: Hits, batch: Sequence[_View]) -> dict[int, Hits]:
    """Hits by the number of the text that they are in, with their places in it. They come in the order of the texts."""
    import numpy as np

    if not hits.patterns.size:
        return {}
    begins = np.cumsum([0, *(len(view.text) + len(BORDER) for view in batch)])
    numbers = np.searchsorted(begins, hits.starts, side="right") - 1
    borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), numbers.size]
    found = {}
    for first, last in pairwise(borders):
        number = int(numbers[first])
        begin = begins[number]
        found[number] = Hits(
            hits.patterns[first:last], hits.starts[first:last] - begin, hits.stops[first:last] - begin
        )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class _View:
    """A document as it is searched: its text and pairs joined, and where in that each pair begins."""

    document: SearchedDocument
    corpus: str
    text: str
    starts: Sequence[int]

    def where(self, start: int, stop: int) -> str:
        border = len(self.document.text)
        if stop <= border:
            return RAW
        return PAIRS if start >= border else ACROSS

    def place(self, kind: str, where: str, example: int, hit: tuple[int, int], count: int, of: int | None) -> Place:
        start, stop = hit
        pair = None if where != PAIRS else bisect_right(self.starts, start) - 1
        offset = start if pair is None else start - self.starts[pair]
        share = None if of is None else round(count / of, 4)
        text = self.text[start : min(stop, start + SNIPPET_CHARACTERS)]
        return Place(self.document.document_id, self.corpus, kind, where, example, offset, pair, count, share, text)


def joined(document: SearchedDocument) -> tuple[str, list[int]]:
    """The text with the pairs after it, and where each pair begins."""
    if not document.pairs:
        return _without_borders(document.text), []
    parts, starts, at = [document.text], [], len(document.text)
    for pair in document.pairs:
        part = f"{pair.instruction} {pair.response}"
        starts.append(at + 2)
        parts.append(part)
        at += 2 + len(part)
    return _without_borders("\n\n".join(parts)), starts


def _without_borders(text: str) -> str:
    return text.replace(BORDER, " ") if BORDER in text else text


def _substrings(view: _View, hits: Hits, sought: Sought, found: Found) -> Iterator[Place]:
    first: dict[tuple[int, str], tuple[int, int]] = {}
    counted: Counter[tuple[int, str]] = Counter()
    for pattern, start, stop in zip(*(part.tolist() for part in hits), strict=True):
        where = view.where(start, stop)
        for example in sought.patterns.owners.of(pattern).tolist():
            key = (example, where)
            counted[key] += 1
            first[key] = min(first.get(key, (start, stop)), (start, stop))
    for example, where in counted:
        found.examples[where].add(example)
    held = sorted({example for example, _ in counted})
    _count(found, SUBSTRING, sought, held)
    listed = set(held[: sought.examples_a_document])
    for key in sorted(counted, key=lambda key: (key[0], PLACES.index(key[1]))):
        if key[0] in listed:
            yield view.place(SUBSTRING, key[1], key[0], first[key], counted[key], None)


def _ngrams(view: _View, hits: Hits, sought: Sought, ngrams: NGrams, found: Found) -> Iterator[Place]:
    first: dict[int, tuple[int, int]] = {}
    at: dict[str, dict[int, tuple[int, int]]] = {where: {} for where in PLACES}
    for ngram, start, stop in zip(*(part.tolist() for part in hits), strict=True):
        first.setdefault(ngram, (start, stop))
        at[view.where(start, stop)].setdefault(ngram, (start, stop))
    for where, numbers in at.items():
        found.ngrams[where].update(numbers)
    places: dict[int, list[Place]] = {}
    reached: set[int] = set()
    for where, numbers in ((RAW, at[RAW]), (PAIRS, at[PAIRS]), (ACROSS, first)):
        for example, count in _reached(numbers, ngrams, sought.ngram_share):
            if where == ACROSS and example in reached:
                continue
            reached.add(example)
            hit = min(spot for ngram, spot in numbers.items() if example in ngrams.owners.of(ngram))
            total = int(ngrams.totals[example])
            places.setdefault(example, []).append(view.place(NGRAMS, where, example, hit, count, total))
    _count(found, NGRAMS, sought, sorted(reached))
    for example in sorted(places)[: sought.examples_a_document]:
        yield from places[example]


def _reached(numbers: dict[int, tuple[int, int]], ngrams: NGrams, share: float) -> list[tuple[int, int]]:
    """The examples of whose n-grams at least that share are among `numbers`, and how many are."""
    import numpy as np

    if not numbers:
        return []
    owners = np.concatenate([ngrams.owners.of(ngram) for ngram in numbers])
    examples, counts = np.unique(owners, return_counts=True)
    enough = counts / ngrams.totals[examples] >= share
    return list(zip(examples[enough].tolist(), counts[enough].tolist(), strict=True))


def _count(found: Found, kind: str, sought: Sought, examples: Sequence[int]) -> None:
    """Count a document once for each task whose examples it holds."""
    if examples:
        found.counts[kind] += 1
        found.documents[kind].update(set(sought.tasks[list(examples)].tolist()))
