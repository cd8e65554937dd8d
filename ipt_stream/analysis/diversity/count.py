"""What one segment of a synthesis run comes to: counts that add up over segments, and sets that merge."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ipt_stream.analysis.diversity.distinct import Distinct, ngram_hashes, text_hashes
from ipt_stream.analysis.diversity.openings import Opening, opening
from ipt_stream.analysis.folding import words
from ipt_stream.corpus.pair import Pair
from ipt_stream.corpus.selection import is_selected
from ipt_stream.synthesis.results import SegmentReference, load_rows
from ipt_stream.synthesis.segment import SegmentRow, Status
from ipt_stream.tuning.pairs import PairFormat

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ORDERS = (1, 2, 3)
SETS = (
    *(f"instruction {n}" for n in ORDERS), *(f"response {n}" for n in ORDERS), "instructions", "pairs",
)  # fmt: skip
"""What is told apart: n-grams of words, whole instructions, and whole pairs; case and punctuation ignored."""
LENGTHS = ("text", "instruction", "response")


@dataclass(frozen=True, slots=True)
class SegmentPart:
    """One finished segment."""

    reference: SegmentReference

    @property
    def name(self) -> str:
        """By the shard, and the first row of it."""
        return f"segment-{self.reference.shard.index:06d}-{self.reference.start_row:010d}"


@dataclass(frozen=True, slots=True)
class Counting:
    """What all segments are counted with.

    Attributes:
        tokenizer: a `tokenizer.json`; None: lengths in words.
        length_share: of the texts, how many are measured, by a hash.
        distinct_kept: distinct hashes that are held at most.
        level: from which level on they are sampled (distinct.py).
    """

    tokenizer: str | None
    length_share: float
    distinct_kept: int
    level: int


@dataclass(slots=True)
class Counts:
    """Counts of a segment, or of all.

    Attributes:
        rounds: (round, what) -> count, of texts, with_pairs, pairs and inherits.
        formats: (round, format) -> pairs.
        pairs_a_text: pairs -> texts.
        lengths: by what is measured: length -> count.
        yields: (length class, what) -> count, of texts, with_pairs and pairs; a class is named by its lower end.
        openings: of instructions.
        distinct: by what is told apart.
    """

    rounds: Counter[tuple[int, str]] = field(default_factory=Counter)
    formats: Counter[tuple[int, str]] = field(default_factory=Counter)
    pairs_a_text: Counter[int] = field(default_factory=Counter)
    lengths: dict[str, Counter[int]] = field(default_factory=lambda: {name: Counter() for name in LENGTHS})
    yields: Counter[tuple[int, str]] = field(default_factory=Counter)
    openings: Counter[Opening] = field(default_factory=Counter)
    distinct: dict[str, Distinct] = field(default_factory=dict)


def count_segment(part: SegmentPart, counting: Counting) -> dict[str, Any]:
    """The counts of one segment, as JSON. Raises `InputError` where it was altered."""
    rows = [row for row in load_rows(part.reference) if row.status is not Status.FAILED]
    return to_json(count_rows(rows, counting))


def count_rows(rows: Sequence[SegmentRow], counting: Counting) -> Counts:
    """The counts of texts with their pairs."""
    counts = Counts(distinct={name: Distinct(counting.distinct_kept, counting.level) for name in SETS})
    for row in rows:
        made = {"texts": 1, "with_pairs": int(bool(row.pairs)), "pairs": len(row.pairs)}
        counts.rounds.update({(row.round, key): value for key, value in made.items()})
        counts.rounds[row.round, "inherits"] += row.inherits
        counts.pairs_a_text[len(row.pairs)] += 1
        for pair in row.pairs:
            counts.formats[row.round, PairFormat.of(pair)] += 1
            counts.openings[opening(pair)] += 1
    pairs = [pair for row in rows for pair in row.pairs]
    _tell_apart(counts.distinct, pairs)
    measured = [row for row in rows if is_selected(0, row.document_id, counting.length_share)]
    _measure(counts, measured, counting.tokenizer)
    return counts


def length_class(length: int) -> int:
    """The lower end of the class of a length: 0, 1, 2, 4, 8, ..."""
    return 1 << (length.bit_length() - 1) if length else 0


def to_json(counts: Counts) -> dict[str, Any]:
    """The counts as JSON takes them."""
    return {
        "rounds": _listed(counts.rounds),
        "formats": _listed(counts.formats),
        "pairs_a_text": sorted(counts.pairs_a_text.items()),
        "lengths": {name: sorted(counted.items()) for name, counted in counts.lengths.items()},
        "yields": _listed(counts.yields),
        "openings": [[*key, count] for key, count in sorted(counts.openings.items())],
        "distinct": {
            name: [base64.b64encode(one.held().tobytes()).decode(), one.level, one.total]
            for name, one in counts.distinct.items()
        },
    }


def add(counts: Counts, result: Mapping[str, Any], kept: int) -> int:
    """Add what `to_json` gave to `counts`; gives how many instructions had openings that were dropped as too rare.

    Args:
        counts: what is added to.
        result: of one segment.
        kept: openings that are counted at a time.
    """
    import numpy as np

    for table, name in ((counts.rounds, "rounds"), (counts.formats, "formats"), (counts.yields, "yields")):
        for first, second, count in result[name]:
            table[first, second] += count
    for pairs, count in result["pairs_a_text"]:
        counts.pairs_a_text[pairs] += count
    for name, counted in result["lengths"].items():
        counts.lengths[name].update(dict(counted))
    for kind, first, second, count in result["openings"]:
        counts.openings[Opening(kind, first, second)] += count
    for name, (held, level, total) in result["distinct"].items():
        hashes = np.frombuffer(base64.b64decode(held), np.uint64)
        other = Distinct(counts.distinct[name].limit, level, total, [hashes])
        counts.distinct[name].merge(other)
    return _drop_rarest(counts.openings, kept) if len(counts.openings) > 2 * kept else 0


def _drop_rarest(openings: Counter[Opening], kept: int) -> int:
    """Keep the `kept` most frequent; gives how many instructions the others had."""
    before = openings.total()
    ordered = sorted(openings.items(), key=lambda item: (-item[1], item[0]))[:kept]
    openings.clear()
    openings.update(dict(ordered))
    return before - openings.total()


def _listed(counted: Counter[tuple[int, str]]) -> list[list[Any]]:
    return [[first, str(second), count] for (first, second), count in sorted(counted.items())]


def _tell_apart(distinct: Mapping[str, Distinct], pairs: Sequence[Pair]) -> None:
    instructions, responses = [pair.instruction for pair in pairs], [pair.response for pair in pairs]
    for name, texts in (("instruction", instructions), ("response", responses)):
        for n, hashes in ngram_hashes(texts, ORDERS).items():
            distinct[f"{name} {n}"].add(hashes)
    distinct["instructions"].add(text_hashes(instructions))
    distinct["pairs"].add(text_hashes([f"{pair.instruction}\n{pair.response}" for pair in pairs]))


def _measure(counts: Counts, rows: Sequence[SegmentRow], tokenizer: str | None) -> None:
    for row, length in zip(rows, _lengths([row.text for row in rows], tokenizer), strict=True):
        counts.lengths["text"][length] += 1
        made = {"texts": 1, "with_pairs": int(bool(row.pairs)), "pairs": len(row.pairs)}
        counts.yields.update({(length_class(length), key): value for key, value in made.items()})
    pairs = [pair for row in rows for pair in row.pairs]
    counts.lengths["instruction"].update(_lengths([pair.instruction for pair in pairs], tokenizer))
    counts.lengths["response"].update(_lengths([pair.response for pair in pairs], tokenizer))


def _lengths(texts: Sequence[str], tokenizer: str | None) -> list[int]:
    if tokenizer is None:
        return [len(words(text)) for text in texts]
    found = _tokenizer(tokenizer).encode_batch_fast(list(texts), add_special_tokens=False)
    return [len(encoding.ids) for encoding in found]


@lru_cache(maxsize=1)
def _tokenizer(definition: str) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(definition)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # a text's `</s>` is text
    return tokenizer
