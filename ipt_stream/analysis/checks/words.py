"""Texts as the checks see them: words, numbers and names, read once a text and compared with every pair made from it.

    "The Miller's 1,250 barrels were sold in Dorbel."
        words      the miller s 1 250 barrels were sold in dorbel
        content    miller barrel sold dorbel           (no function words, no numbers; plain endings taken off)
        numbers    1250
        names      The Miller's -> Miller; Dorbel

Everything is compared in NFKC and without case. Scripts that set no spaces between words (Han, Kana, Thai, ...) are
read character by character. None of this knows a language but English, whose function words and endings it takes off;
in other languages more words count as content, on both sides alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ipt_stream.analysis.checks.function_words import ANSWER_WORDS, FUNCTION_WORDS, NUMBER_WORDS

_NO_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f"
)
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W_{_NO_SPACES}]+")
_NUMBER = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?")
_TOKEN = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*|[.!?…:;\n•\"“(]|,")
_ENDS = frozenset('.!?…:;\n•"“(')
_ENDINGS = ("ing", "ed", "es", "s")
_LEAST_STEM = 3
_ENGLISH = FUNCTION_WORDS["en"] | ANSWER_WORDS


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """`word` without a plain English ending, so that "sold barrels" finds "a barrel was sold".

    An ending is taken off where three letters are left, and an e or a doubled letter that it leaves behind too:
    moved, moving, moves -> mov; stopped, stops -> stop. Both sides are treated alike, so nothing hangs on it being
    the true stem.
    """
    if not (word.isascii() and word.isalpha()):
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    if len(word) > _LEAST_STEM and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > _LEAST_STEM else word


def fold(text: str) -> str:
    """`text` as it is compared: compatible characters alike (NFKC), without case."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def words(folded: str) -> list[str]:
    """The words of a folded text, in order."""
    return _WORD.findall(folded)


def content(found: Iterable[str]) -> list[str]:
    """Of folded words those that carry meaning, as stems: no function words, no single letters, no numbers."""
    return [
        stem(word)
        for word in found
        if word not in _ENGLISH and not word.isdecimal() and (len(word) > 1 or not word.isascii())
    ]


def numbers(text: str) -> list[str]:
    """The numbers written in digits in `text`, in one form each: 1,250 and 1250.0 are `1250`."""
    return [_number(found) for found in _NUMBER.findall(unicodedata.normalize("NFKC", text))]


def _number(found: str) -> str:
    digits = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in found if c != ",")
    whole, _, rest = digits.partition(".")
    rest = rest.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{rest}" if rest else "")


def names(text: str) -> list[tuple[str, ...]]:
    """The names in `text`: runs of capitalised words, folded, without the function words at their ends.

    A capital at the beginning of a sentence says nothing, so a single word there is no name, unless its sentence has no
    other words that carry meaning: `Dorbel.` and `In Dorbel.` are answers.
    """
    found: list[tuple[str, ...]] = []
    for sentence in _sentences(text):
        has_plain = any(not word[0].isupper() and fold(word) not in _ENGLISH for word in sentence if word != ",")
        runs: list[list[tuple[int, str]]] = [[]]
        for place, word in enumerate(sentence):
            if word[0].isupper():
                runs[-1].append((place, fold(word).removesuffix("'s").removesuffix("’s")))
            else:
                runs.append([])
        for run in runs:
            kept = run
            while kept and kept[0][1] in _ENGLISH:
                kept = kept[1:]
            while kept and kept[-1][1] in _ENGLISH:
                kept = kept[:-1]
            if kept and not (len(kept) == 1 and kept[0][0] == 0 and has_plain):
                found.append(tuple(word for _, word in kept))
    return found


def _sentences(text: str) -> list[list[str]]:
    """The words (and commas) of `text` by sentence, as written; numbers are left out."""
    sentences: list[list[str]] = [[]]
    for token in _TOKEN.findall(text if text.isascii() else unicodedata.normalize("NFKC", text)):
        if token[0].isalpha() or token == ",":
            sentences[-1].append(token)
        elif token in _ENDS and sentences[-1]:
            sentences.append([])
    return sentences


@dataclass(frozen=True)
class Known:
    """A text, read once: what its pairs are compared with. Whatever a check asks for is made when it is asked first.

    Attributes:
        text: as it is in the segment.
    """

    text: str

    @cached_property
    def words(self) -> list[str]:
        """All words, folded, in order."""
        return words(fold(self.text))

    @cached_property
    def word_set(self) -> frozenset[str]:
        """The words, each once."""
        return frozenset(self.words)

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of the words."""
        return frozenset(map(stem, self.word_set))

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Where each word stands, by its number among the words."""
        places: dict[str, list[int]] = {}
        for place, word in enumerate(self.words):
            places.setdefault(word, []).append(place)
        return places

    @cached_property
    def numbers(self) -> frozenset[str]:
        """The numbers, those written in letters up to a hundred too."""
        spelled = {NUMBER_WORDS[word] for word in self.word_set if word in NUMBER_WORDS}
        return frozenset(numbers(self.text)) | spelled
