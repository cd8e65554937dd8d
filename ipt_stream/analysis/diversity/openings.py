"""How an instruction begins: a plain method by rules and short lists of English words, with no model and no download.

    Describe the main causes of the war.           describe   causes
    Please write a short poem about rain.          write      poem
    Based on the text, what year did it open?      what       year
    How many people live there?                    how many   people
    Who wrote it?                                  who        wrote
    When was the old bridge built?                 when       built
    Is the statement true?                         is         true

Options and the request to think are not looked at, nor is what is put before the request up to a comma ("Based on the
text, ..."). What begins with a question word, or with a verb such as `is`, is a question: the second part is what is
asked for, or the last word of its first phrase. Else the first word is taken for a verb, and the head of the phrase
after it for its object: the last word before a preposition, a conjunction or a sign. Instructions in other languages
give their first word and whatever comes out as the second.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ipt_stream.corpus.pair import Pair
from ipt_stream.mixture.render import take_apart


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_ARTICLES = _words("a an the this that these those my your his her its our their some any each every all")
_AUXILIARIES = _words(
    "is are was were am be been do does did has have had can could will would shall should may might must"
)
_QUESTIONS = _words("what which who whom whose when where why how")
_AMOUNTS = _words("many much long old far often large big tall high fast deep wide")
_STOPS = _words(
    "about above across after against along among and around as at based because before behind below between but by"
    " during for from if in into like of off on onto or out over per so than that through to toward towards under until"
    " up upon using via when where which while who whose with within without whether not then there here"
)
_LEADS = _words("please now then next also first finally kindly so and but")
_PRONOUNS = _words("i you he she it we they me him us them")
_OPENERS = _words(
    "according after as based considering for from given if in on read reading referring using with when while"
)
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[^\w\s]")
_LONGEST_PHRASE = 6


class Opening(NamedTuple):
    """How an instruction begins.

    Attributes:
        kind: question or task; empty where there is no word at all.
        first: the question word or the verb.
        second: what is asked for, or the object; empty where there is none.
    """

    kind: str
    first: str
    second: str


def opening(pair: Pair) -> Opening:
    """How the instruction of `pair` begins, in lower case."""
    return opening_of(take_apart(pair).question)


def opening_of(question: str) -> Opening:
    """How an instruction without options begins, in lower case."""
    found = [word.lower() for word in _WORD.findall(question[:400])]
    tokens = _after_lead(found)
    if not tokens:
        return Opening("", "", "")
    first, rest = tokens[0], tokens[1:]
    if first in _QUESTIONS:
        return _question(first, rest)
    if first in _AUXILIARIES and first not in ("do", "be", "have"):
        return Opening("question", first, _last(_phrase(rest)))
    if first in ("do", "have") and rest and rest[0] in _PRONOUNS | _ARTICLES:
        return Opening("question", first, _last(_phrase(rest)))
    return Opening("task", first, _last(_phrase(rest)))


def _question(first: str, rest: list[str]) -> Opening:
    if first == "how" and rest and rest[0] in _AMOUNTS:
        first, rest = f"how {rest[0]}", rest[1:]
    if not rest or not _is_word(rest[0]):
        return Opening("question", first, "")
    if rest[0] in _AUXILIARIES:
        return Opening("question", first, _last(_phrase(rest[1:])))
    phrase = _phrase(rest, stop_at_auxiliary=True)
    ended = rest[len(phrase)] if len(phrase) < len(rest) else ""
    is_noun_phrase = first in ("what", "which", "whose") and ended in _AUXILIARIES
    return Opening("question", first, _last(phrase) if is_noun_phrase else (phrase[0] if phrase else ""))


def _after_lead(tokens: list[str]) -> list[str]:
    """The words from where the request begins: after signs, `please`, and a lead that ends with a comma."""
    if tokens and tokens[0] in _OPENERS and "," in tokens[:20]:
        after = tokens[tokens.index(",") + 1 :]
        if any(map(_is_word, after)):
            tokens = after
    at = 0
    while at < len(tokens) and (not _is_word(tokens[at]) or tokens[at] in _LEADS):
        at += 1
    return tokens[at:] or [token for token in tokens if _is_word(token)]


def _phrase(tokens: list[str], stop_at_auxiliary: bool = False) -> list[str]:
    """The words of the first phrase, without articles at its start."""
    at = 0
    while at < len(tokens) and (tokens[at] in _ARTICLES or tokens[at] in _PRONOUNS) and not stop_at_auxiliary:
        at += 1
    found: list[str] = []
    for token in tokens[at:]:
        stops = not _is_word(token) or token in _STOPS or (bool(found) and token in _ARTICLES)
        if stops or len(found) == _LONGEST_PHRASE or (token in _AUXILIARIES and (stop_at_auxiliary or bool(found))):
            break
        found.append(token)
    return found


def _last(phrase: list[str]) -> str:
    return phrase[-1] if phrase else ""


def _is_word(token: str) -> bool:
    return token[0].isalnum()
