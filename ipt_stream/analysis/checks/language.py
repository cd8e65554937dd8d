"""Which script and language a text is in, roughly: by its letters, and by the function words in it.

No model: a pair in another script than its text, or in another language of those in function_words.py, is told; a pair
of a few words often can't be, and then nothing is said.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from ipt_stream.analysis.checks.function_words import FUNCTION_WORDS
from ipt_stream.analysis.checks.words import fold, words

LETTERS = 2_000
"""So many letters of a text are looked at, from its beginning."""
MAIN_SHARE = 0.6
"""A script that this share of the letters is of is the text's."""
LEAST_HITS = 3
"""Function words that show a language, at least."""
LEAST_SHARE = 0.1
"""And so many of all words, at least."""
MARGIN = 1.5
"""And so many times as many as of any other language."""

_RANGES = (
    (0x0041, 0x024F, "latin"), (0x0370, 0x03FF, "greek"), (0x0400, 0x052F, "cyrillic"), (0x0530, 0x058F, "armenian"),
    (0x0590, 0x05FF, "hebrew"), (0x0600, 0x077F, "arabic"), (0x0900, 0x097F, "devanagari"), (0x0980, 0x09FF, "bengali"),
    (0x0A00, 0x0A7F, "gurmukhi"), (0x0A80, 0x0AFF, "gujarati"), (0x0B80, 0x0BFF, "tamil"), (0x0C00, 0x0C7F, "telugu"),
    (0x0C80, 0x0CFF, "kannada"), (0x0D00, 0x0D7F, "malayalam"), (0x0E00, 0x0E7F, "thai"), (0x0E80, 0x0EFF, "lao"),
    (0x1000, 0x109F, "burmese"), (0x10A0, 0x10FF, "georgian"), (0x1200, 0x137F, "ethiopic"), (0x1780, 0x17FF, "khmer"),
    (0x1E00, 0x1EFF, "latin"), (0x1F00, 0x1FFF, "greek"), (0x3040, 0x30FF, "kana"), (0x3400, 0x4DBF, "han"),
    (0x4E00, 0x9FFF, "han"), (0xAC00, 0xD7AF, "hangul"), (0xFB1D, 0xFB4F, "hebrew"), (0xFB50, 0xFEFC, "arabic"),
)  # fmt: skip
_LETTER = re.compile(r"[^\W\d_]")
_NAMES = tuple(FUNCTION_WORDS)
_LANGUAGES_OF = {
    word: tuple(name for name in _NAMES if word in FUNCTION_WORDS[name])
    for word in frozenset().union(*FUNCTION_WORDS.values())
}


@dataclass(frozen=True, slots=True)
class Language:
    """What a text shows of itself.

    Attributes:
        script: the script of most of its letters; None where there is no such.
        hits: function words of each language in it; only those of the first `LETTERS` letters or so.
        words: how many words were looked at.
    """

    script: str | None
    hits: tuple[tuple[str, int], ...]
    words: int

    @property
    def name(self) -> str | None:
        """The language whose function words stand out; None where none does."""
        ranked = sorted(self.hits, key=lambda item: -item[1])
        (first, most), second = ranked[0], ranked[1][1]
        is_clear = most >= LEAST_HITS and most >= LEAST_SHARE * self.words and most >= MARGIN * second
        return first if is_clear else None


@lru_cache(maxsize=1 << 14)
def script_of(letter: str) -> str | None:
    """The script of one letter, None where it is of none that is known here."""
    code = ord(letter)
    return next((name for first, last, name in _RANGES if first <= code <= last), None)


def read_language(text: str) -> Language:
    """What `text` shows of its language."""
    start = text[: 2 * LETTERS]
    if start.isascii():
        script = "latin" if _LETTER.search(start) else None
    else:
        letters = _LETTER.findall(start)[:LETTERS]
        count = Counter(script_of(letter) for letter in letters)
        # Japanese is Kana among Han; a Japanese text without Kana can't be told from a Chinese one.
        if count["kana"]:
            count["kana"] += count.pop("han", 0)
        found, most = count.most_common(1)[0] if count else (None, 0)
        script = found if letters and most >= MAIN_SHARE * len(letters) else None
    found_words = words(fold(start))
    hits = Counter(name for word in found_words for name in _LANGUAGES_OF.get(word, ()))
    return Language(script, tuple((name, hits[name]) for name in _NAMES), len(found_words))


def same_language(text: Language, pair: Language) -> bool | None:
    """Whether a pair is in the language of its text; None where that can't be told.

    Another script is another language. Of one script, both must show a language that stands out, and the pair more
    function words of its own than of the text's.
    """
    if text.script is None or pair.script is None:
        return None
    if text.script != pair.script:
        return False
    here, there = text.name, pair.name
    if here is None or there is None:
        return None
    return here == there
