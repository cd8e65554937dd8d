"""All checks of one pair, and of all pairs of a segment. Pure.

rows of a segment, and which of its pairs came before in the run (repeats.py) -> a record a pair
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ipt_stream.analysis.checks import form, grounding
from ipt_stream.analysis.checks.language import Language, read_language, same_language
from ipt_stream.analysis.checks.listing import Value
from ipt_stream.analysis.checks.parts import read_parts
from ipt_stream.analysis.checks.words import Known, fold, words
from ipt_stream.corpus.pair import Pair
from ipt_stream.corpus.truth import Verdict, judge
from ipt_stream.corpus.world.facts import World
from ipt_stream.synthesis.segment import SegmentRow

_WITH_CAPITALS = frozenset({"latin", "greek", "cyrillic", "armenian"})
_NOUNS_WITH_CAPITALS = "de"


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks say of one pair.

    Attributes:
        row: the raw text that it was made from.
        number: which of its pairs it is, from 0.
        pair: the pair.
        values: by check.
        right: what the world's truth says; None where there is no world.
    """

    row: SegmentRow
    number: int
    pair: Pair
    values: dict[str, Value]
    right: bool | None


def check_rows(
    rows: Sequence[SegmentRow], ngram: int, world: World | None, repeated: Collection[int]
) -> Iterator[Checked]:
    """The checks of all pairs of a segment, in its order.

    Args:
        rows: the segment's.
        ngram: of `repetition`, in words.
        world: whose truth says whether a pair is right; None: nothing does.
        repeated: the pairs that came before in the run, by their place among the segment's.

    Raises:
        InputError: with a world, a document that is none of it.
    """
    seen: set[bytes] = set()
    place = 0
    for row in rows:
        if not row.pairs:
            continue
        text, language = Known(row.text), read_language(row.text)
        for number, pair in enumerate(row.pairs):
            values = check_pair(text, language, pair, ngram)
            values["logprob"] = None if row.response_logprobs is None else row.response_logprobs[number]
            key = form.normal_key(pair)
            values["duplicate"] = key in seen
            seen.add(key)
            values["repeated"] = place in repeated
            place += 1
            right = None
            if world is not None:
                right = judge(world, row.source_id or "", row.text, pair) is Verdict.RIGHT
            yield Checked(row, number, pair, values, right)


def check_pair(text: Known, language: Language, pair: Pair, ngram: int) -> dict[str, Value]:
    """What can be said of a pair from its text alone, by check.

    Args:
        text: what the pair was made from.
        language: what that text shows of its language.
        pair: the pair.
        ngram: of `repetition`, in words.
    """
    parts = read_parts(pair)
    said = read_language(f"{pair.instruction}\n{pair.response}")
    is_english = "en" in (said.name, said.name or language.name)
    has_names = said.script in _WITH_CAPITALS and _NOUNS_WITH_CAPITALS not in (said.name, language.name)
    return {
        "grounded": grounding.grounded(text, parts.answer),
        "overlap": grounding.overlap(text, parts.answer),
        "thought": grounding.thought(text, parts),
        "numbers": grounding.strange_numbers(text, pair.response, parts.options),
        "names": grounding.strange_names(text, pair.response, pair.instruction) if has_names else None,
        "question_names": grounding.strange_names(text, parts.question) if has_names else None,
        "repetition": form.repetition(words(fold(pair.response)), ngram),
        "question": form.asks(parts, is_english),
        "options": form.chooses(parts),
        "language": same_language(language, said),
    }
