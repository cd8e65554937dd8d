"""Whether a response follows from its text: its words, its numbers and its names.

What counts as known differs by check. A final answer must be in the text itself: among the options of a multiple-choice
question only the right one is. Numbers and names only must not come out of nowhere, so the options are known there too
(an option that is a label, `Politics`, is no invented name), and for names the question as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from ipt_stream.analysis.checks.parts import Parts
from ipt_stream.analysis.checks.words import Known, content, fold, names, numbers, words


def grounded(text: Known, answer: str) -> float | None:
    """The share of the answer's content words that the text holds; a number counts as a word, held or not.

    None: the answer has neither content words nor numbers (`Yes`).
    """
    return _share(content(words(fold(answer))), numbers(answer), text, frozenset())


def thought(text: Known, parts: Parts) -> float | None:
    """The share of the content words of the chain of thought that text or instruction hold. None without a thought."""
    asked = Known(" ".join((parts.question, *parts.options)))
    return _share(content(words(fold(parts.thought))), [], text, asked.stems)


def _share(stems: list[str], values: list[str], text: Known, known: frozenset[str]) -> float | None:
    count = len(stems) + len(values)
    if not count:
        return None
    held = sum(word in text.stems or word in known for word in stems) + sum(value in text.numbers for value in values)
    return held / count


def overlap(text: Known, answer: str) -> float | None:
    """The longest run of words that the answer has in common with the text, over the answer's words.

    1.0: the answer stands in the text as it is. Time: the answer's words times their occurrences in the text.
    None: the answer has no words.
    """
    wanted = words(fold(answer))
    if not wanted:
        return None
    longest = 0
    running: dict[int, int] = {}
    for word in wanted:
        running = {place: running.get(place - 1, 0) + 1 for place in text.places.get(word, ())}
        longest = max(longest, max(running.values(), default=0))
    return longest / len(wanted)


def strange_numbers(text: Known, response: str, options: Sequence[str]) -> int:
    """How many numbers in the response (each once) neither the text nor an option holds."""
    held = {value for option in options for value in numbers(option)}
    return sum(value not in text.numbers and value not in held for value in set(numbers(response)))


def strange_names(text: Known, response: str, instruction: str = "") -> int:
    """How many names in the response (each once) neither text nor instruction holds: a word of them is in neither."""
    asked = frozenset(words(fold(instruction)))
    return sum(
        any(word not in text.word_set and word not in asked for part in name for word in words(part))
        for name in set(names(response))
    )
