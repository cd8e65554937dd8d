"""Whether a pair is well made, whatever its text says: it asks for something, chooses among its options, and doesn't
say the same thing over and over."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from ipt_stream.analysis.checks.parts import Parts
from ipt_stream.analysis.checks.words import fold, words
from ipt_stream.corpus.pair import Pair

_ASKING = re.compile(r"[?？؟՞፧]")
_BLANK = re.compile(r"_{2,}|\[(?:mask|blank|unused)\w*\]|\.{3,}\s*$|…\s*$|:\s*$", re.IGNORECASE)
_CLAUSE = re.compile(r"(?:^|[.!:;,\n(]|\b(?:and|please|then|now)\b)\s*[\"'“]?\s*(?=([a-z]+))", re.IGNORECASE)
_REQUESTS = (
    "what when where which who whom whose why how "
    "add analyze answer arrange assess assign assume break calculate categorize change check choose cite classify "
    "combine compare complete compose compute consider construct continue convert correct count create decide deduce "
    "define describe design detect determine develop differentiate discuss distinguish divide do draw edit elaborate "
    "enumerate estimate evaluate examine explain express extract fill find finish fix follow form format formulate "
    "generate give guess identify illustrate imagine indicate infer insert judge justify label let list look locate "
    "make mark match mention modify name note order organize outline paraphrase pick point predict prepare produce "
    "propose prove provide put quote rank rate read rearrange recall recommend recount relate remove rephrase replace "
    "reply report respond restate revise rewrite say score select separate share show simplify solve sort speak "
    "specify split state suggest sum summarise summarize supply suppose take tell think transform translate try turn "
    "use verify write"
)
_ASKING_WORDS = frozenset(_REQUESTS.split())


def asks(parts: Parts, is_english: bool) -> bool | None:
    """Whether the instruction holds a question or a request.

    A question mark, options, a blank to fill, a text to go on with, or, in English, a clause that begins with a word
    that asks (which, summarize). None: there is none of the former, and it is not English.
    """
    question = parts.question
    if parts.options or parts.asks_thought or _ASKING.search(question) or _BLANK.search(question):
        return True
    if not is_english:
        return None
    return any(word.lower() in _ASKING_WORDS for word in _CLAUSE.findall(question))


def chooses(parts: Parts) -> bool | None:
    """Whether the final answer is one of the options, and no option comes twice. None without options."""
    if not parts.options:
        return None
    return parts.answer in parts.options and len(set(parts.options)) == len(parts.options)


def repetition(found: Sequence[str], ngram: int) -> float:
    """The share of a response's n-grams of words that came before in it: 0 where all differ, near 1 where it loops.

    Args:
        found: its words, in order.
        ngram: n; what has fewer words repeats nothing.
    """
    made = Counter(tuple(found[start : start + ngram]) for start in range(len(found) - ngram + 1))
    total = sum(made.values())
    return (total - len(made)) / total if total else 0.0


def normal_key(pair: Pair) -> bytes:
    """8 bytes that name a pair by its words: case, spaces and punctuation aside."""
    asked, said = (" ".join(words(fold(text))) for text in (pair.instruction, pair.response))
    return _digest(asked, said)


def exact_key(pair: Pair) -> bytes:
    """8 bytes that name a pair by every character. Of 200 million pairs two different ones agree once in a thousand."""
    return _digest(pair.instruction, pair.response)


def _digest(asked: str, said: str) -> bytes:
    content = f"{len(asked)} {asked} {said}".encode(errors="surrogatepass")
    return hashlib.blake2b(content, digest_size=8).digest()
