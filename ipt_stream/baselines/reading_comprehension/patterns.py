"""One finder a task: what in a passage could become a pair. Each gives its candidates in the order to take them.

Candidates name the sentences they use, so that no sentence is asked about twice. Every choice is drawn from the
generator that is passed in, of which only `random()` is used: Python promises to keep it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from ipt_stream.baselines.reading_comprehension import phrases
from ipt_stream.baselines.reading_comprehension.causes import capitalized, split_cause
from ipt_stream.baselines.reading_comprehension.keywords import Keywords, words
from ipt_stream.baselines.reading_comprehension.passage import Passage
from ipt_stream.baselines.reading_comprehension.phrases import ChoiceWording, Wording
from ipt_stream.baselines.reading_comprehension.sentences import CLOSERS, TERMINATORS, is_prose
from ipt_stream.corpus.pair import Pair, instruction_text
from ipt_stream.draw import pick, shuffled

T = TypeVar("T")

LEAST_KEYWORDS, MOST_KEYWORDS = 3, 5
LEAST_WORDS = 4  # of a sentence without the connective that opened it
GIVEN_CHARACTERS, ASKED_CHARACTERS = range(60, 601), range(40, 601)  # of a passage that is to be completed
BOUNDARIES_TRIED = 4  # in each paragraph


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair that could be taken, and the numbers of the sentences that it is about."""

    pair: Pair
    uses: tuple[int, ...] = ()


def summary(passage: Passage, rng: random.Random) -> list[Candidate]:
    """Ask for the title."""
    if passage.title is None:
        return []
    wordings = phrases.SUMMARY_OF_QUESTION if passage.title.endswith("?") else phrases.SUMMARY
    return [Candidate(Pair(_ask(rng, wordings), passage.title))]


def from_words(passage: Passage, keywords: Keywords, rng: random.Random) -> list[Candidate]:
    """Ask for a sentence with at least `LEAST_KEYWORDS` words of the domain in it."""
    candidates: list[Candidate] = []
    known: dict[str, bool] = {}
    for number in shuffled(rng, passage.whole):
        sentence = passage.sentences[number]
        by_key = {word.casefold(): word for word in words(sentence.text)}
        known |= {key: keywords.is_keyword(key) for key in by_key if key not in known}
        found = [word for key, word in by_key.items() if known[key]]
        if len(found) >= LEAST_KEYWORDS:
            chosen = ", ".join(shuffled(rng, found)[:MOST_KEYWORDS])
            verbatim = passage.text[sentence.start : sentence.end]
            candidates.append(Candidate(Pair(_ask(rng, phrases.WORDS, chosen), verbatim), (number,)))
    return candidates


def inference(passage: Passage, rng: random.Random) -> list[Candidate]:
    """Ask whether a sentence follows from the one before, where a connective tells."""
    return _choices(passage, rng, phrases.INFERENCE_OPENINGS, phrases.INFERENCE)


def comparison(passage: Passage, rng: random.Random) -> list[Candidate]:
    """Ask whether two neighbours are alike or differ, where a connective tells."""
    return _choices(passage, rng, phrases.COMPARISON_OPENINGS, phrases.COMPARISON)


def paraphrase(passage: Passage, rng: random.Random) -> list[Candidate]:
    """Ask for a sentence in other words, where the next one says that it is that."""
    return [
        Candidate(Pair(_ask(rng, phrases.PARAPHRASE, _before(passage, number)), rest), (number - 1, number))
        for _, number, rest in _joined(passage, rng, {"": phrases.PARAPHRASE_OPENINGS})
    ]


def cause(passage: Passage, rng: random.Random) -> list[Candidate]:
    """Ask for the cause of an effect or the effect of a cause: of two neighbours, or of the halves of a sentence."""
    candidates: list[Candidate] = []
    openings = {"result": phrases.RESULT_OPENINGS, "reason": phrases.REASON_OPENINGS}
    for kind, number, rest in _joined(passage, rng, openings):
        before = _before(passage, number)
        causing, effect = (before, rest) if kind == "result" else (rest, before)
        if rng.random() < 0.5:
            pair = Pair(_ask(rng, phrases.ASK_CAUSE, effect), causing)
        else:
            pair = Pair(_ask(rng, phrases.ASK_EFFECT, causing), effect)
        candidates.append(Candidate(pair, (number - 1, number)))
    for number in passage.whole:
        halves = split_cause(passage.sentences[number].text)
        if halves is None:
            continue
        clause, effect = halves
        if rng.random() < 0.5:
            pair = Pair(_ask(rng, phrases.ASK_CAUSE, effect), capitalized(clause) + ".")
        else:
            pair = Pair(_ask(rng, phrases.ASK_EFFECT_OF_CLAUSE, clause), effect)
        candidates.append(Candidate(pair, (number,)))
    return shuffled(rng, candidates)


def completion(passage: Passage, rng: random.Random) -> list[Candidate]:
    """Ask for the rest of a paragraph from a boundary in the passage's second half; one candidate a paragraph.

    What is given and what is asked are whole sentences around the boundary, as many as the bounds allow.
    """
    boundaries: dict[int, list[int]] = {}
    for number, sentence in enumerate(passage.sentences):
        if number and _same_paragraph(passage, number - 1, number) and 2 * sentence.start >= len(passage.text):
            boundaries.setdefault(sentence.paragraph, []).append(number)
    candidates: list[Candidate] = []
    for numbers in boundaries.values():
        for number in shuffled(rng, numbers)[:BOUNDARIES_TRIED]:
            given, asked = _around(passage, number)
            if _is_used(given, GIVEN_CHARACTERS) and _is_used(asked, ASKED_CHARACTERS):
                candidates.append(Candidate(Pair(_ask(rng, phrases.COMPLETION, given), asked)))
                break
    return shuffled(rng, candidates)


def _around(passage: Passage, number: int) -> tuple[str, str]:
    """The sentences before and those from `number` on, of its paragraph; as many as fit, but one at least."""
    sentences = passage.sentences
    first, middle, last = number - 1, sentences[number].start, number
    stop = sentences[first].end
    while (
        first > 0
        and _same_paragraph(passage, first - 1, number)
        and stop - sentences[first - 1].start in range(GIVEN_CHARACTERS.stop)
    ):
        first -= 1
    while (
        last + 1 < len(sentences)
        and _same_paragraph(passage, last + 1, number)
        and sentences[last + 1].end - middle in range(ASKED_CHARACTERS.stop)
    ):
        last += 1
    if sentences[last].text.rstrip(CLOSERS)[-1:] not in {*TERMINATORS}:
        return "", ""  # a line that breaks off
    return passage.text[sentences[first].start : stop], passage.text[middle : sentences[last].end]


def _is_used(part: str, lengths: range) -> bool:
    return len(part) in lengths and is_prose(part)


def _same_paragraph(passage: Passage, number: int, other: int) -> bool:
    return passage.sentences[number].paragraph == passage.sentences[other].paragraph


def _choices(
    passage: Passage, rng: random.Random, openings: Mapping[T, Wording], wordings: Sequence[ChoiceWording[T]]
) -> list[Candidate]:
    """Neighbours that one of `openings` joins, with the kinds of openings to choose from."""
    candidates: list[Candidate] = []
    for kind, number, rest in _joined(passage, rng, openings):
        wording = pick(rng, wordings)
        question = _fill(wording.pieces, _before(passage, number), rest)
        pair = Pair(instruction_text(question, tuple(wording.options.values())), wording.options[kind])
        candidates.append(Candidate(pair, (number - 1, number)))
    return candidates


def _joined(passage: Passage, rng: random.Random, openings: Mapping[T, Wording]) -> list[tuple[T, int, str]]:
    """Neighbours that one of `openings` joins: of which kind, the second one's number, and its text without it.

    In random order, but one of a kind drawn from those found comes first: common kinds don't crowd out the others.
    """
    found: list[tuple[T, int, str]] = []
    for number in passage.neighbours:
        sentence = passage.sentences[number].text
        for kind, starts in openings.items():
            opening = next(filter(sentence.startswith, starts), None)
            if opening is not None and len(sentence.split()) >= LEAST_WORDS + len(opening.split()):
                found.append((kind, number, capitalized(sentence.removeprefix(opening))))
                break
    if not found:
        return []
    drawn = pick(rng, tuple(dict.fromkeys(kind for kind, _, _ in found)))
    return sorted(shuffled(rng, found), key=lambda hit: hit[0] != drawn)


def _before(passage: Passage, number: int) -> str:
    """The sentence before, without a connective of its own: that would point at another one."""
    sentence = passage.sentences[number - 1].text
    opening = next(filter(sentence.startswith, phrases.OPENINGS), "")
    return capitalized(sentence.removeprefix(opening))


def _ask(rng: random.Random, wordings: Sequence[Wording], *parts: str) -> str:
    return _fill(pick(rng, wordings), *parts)


def _fill(pieces: Wording, *parts: str) -> str:
    """The pieces of a wording with the parts between them."""
    return "".join(piece + part for piece, part in zip_longest(pieces, parts, fillvalue=""))
