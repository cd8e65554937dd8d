"""A sample of augmented texts, drawn evenly over sources and rounds: the same texts for the same seed, on any machine.

Each source and round has as many texts in the sample as its share of all augmented texts, so that plain shares over the
sample are those of the corpus. Within them the texts with the smallest hashes are taken. Two passes over small columns,
then the chosen segments are read: memory is that of the sample and of one segment.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ipt_stream import storage
from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import InputError
from ipt_stream.synthesis.results import SegmentReference, list_segments, load_rows
from ipt_stream.synthesis.segment import Status

Stratum = tuple[str, int]
_READERS = 8


@dataclass(frozen=True, slots=True)
class SampledText:
    """One augmented text of the sample.

    Attributes:
        document_id: its document.
        source_id: the input's own id, or None.
        source: the shard's name.
        piece: which part of the document it is, from 0.
        round: the round that its pairs were made in, from 0.
        text: the raw text.
        pairs: at least one.
    """

    document_id: str
    source_id: str | None
    source: str
    piece: int
    round: int
    text: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class SampledPair:
    """One pair of the sample.

    Attributes:
        id: names it in sheets and records, by its content: `p-` and 16 hex digits.
        text: where it is from.
        number: its place among the text's pairs, from 0.
    """

    id: str
    text: SampledText
    number: int

    @property
    def pair(self) -> Pair:
        """The pair itself."""
        return self.text.pairs[self.number]


def pairs_of(texts: list[SampledText]) -> list[SampledPair]:
    """All pairs of the texts, in their order."""
    found = []
    for text in texts:
        for number, pair in enumerate(text.pairs):
            place = f"{text.document_id}\0{text.piece}\0{number}\0{pair.instruction}\0{pair.response}"
            name = "p-" + hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            found.append(SampledPair(name, text, number))
    return found


def quotas(sizes: Mapping[Stratum, int], most: int) -> dict[Stratum, int]:
    """How many texts of each stratum: `most` in all, in proportion, by largest remainders; all where there are fewer.

    {a: 50, b: 30, c: 20} of 100, most 7   ->   3.5, 2.1, 1.4   ->   a 4, b 2, c 1
    """
    total = sum(sizes.values())
    if total <= most:
        return dict(sizes)
    exact = {stratum: size * most / total for stratum, size in sizes.items()}
    given = {stratum: int(value) for stratum, value in exact.items()}
    rest = sorted(exact, key=lambda stratum: (given[stratum] - exact[stratum], stratum))
    for stratum in rest[: most - sum(given.values())]:
        given[stratum] += 1
    return given


def draw_sample(synthesis: str, texts: int, seed: int) -> list[SampledText]:
    """`texts` augmented texts of the synthesis run, in an order that has no meaning.

    Raises:
        InputError: no text is augmented, or a segment was altered.
        StorageError: there is no synthesis run.
    """
    references = list_segments(synthesis)
    sizes: Counter[Stratum] = Counter()
    for keys in _scan(references):
        sizes.update(stratum for stratum, _, _ in keys)
    if not sizes:
        raise InputError(
            f"no text in {synthesis} has pairs", wanted="a finished synthesis run with pairs", fix="run it first"
        )
    wanted = {stratum: quota for stratum, quota in quotas(sizes, texts).items() if quota}
    smallest: dict[Stratum, list[tuple[int, int, str, int]]] = defaultdict(list)  # heaps, the largest hash on top
    for number, keys in enumerate(_scan(references)):
        for stratum, document_id, piece in keys:
            if stratum not in wanted:
                continue
            entry = (-_hash(seed, document_id, piece), number, document_id, piece)
            heap = smallest[stratum]
            if len(heap) < wanted[stratum]:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                heapq.heapreplace(heap, entry)
    chosen: dict[int, set[tuple[str, int]]] = defaultdict(set)
    for _, number, document_id, piece in (entry for heap in smallest.values() for entry in heap):
        chosen[number].add((document_id, piece))
    found = [
        SampledText(row.document_id, row.source_id, row.source, row.piece, row.round, row.text, row.pairs)
        for number in sorted(chosen)
        for row in load_rows(references[number])
        if (row.document_id, row.piece) in chosen[number]
    ]
    return sorted(found, key=lambda text: _hash(seed, text.document_id, text.piece))


def _scan(references: list[SegmentReference]) -> Iterator[list[tuple[Stratum, str, int]]]:
    """The augmented texts of each segment: stratum, document and piece."""
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(references), 64 * _READERS):
            yield from pool.map(_keys, references[start : start + 64 * _READERS])


def _keys(reference: SegmentReference) -> list[tuple[Stratum, str, int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["document_id", "source", "piece", "round", "status"]
    try:
        with storage.open_read(reference.path) as file:
            table: dict[str, list[Any]] = pq.read_table(file, columns=columns).to_pydict()
    except (pa.ArrowException, KeyError) as error:
        raise InputError(f"{reference.path} is not a segment file", got=str(error), fix="restore it") from error
    rows = zip(*(table[column] for column in columns), strict=True)
    return [
        ((source, round_), document_id, piece)
        for document_id, source, piece, round_, status in rows
        if status == Status.AUGMENTED
    ]


def _hash(seed: int, document_id: str, piece: int) -> int:
    content = f"{seed}:{document_id}#{piece}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
