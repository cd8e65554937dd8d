"""A sentence that names a cause, split into the cause and its effect; in doubt it is left alone.

The bridge was closed because the river had risen.  ->  "because the river had risen", "The bridge was closed."
Due to the flood, the bridge was closed.            ->  "due to the flood", "The bridge was closed."
The toll is low, mainly because few pay it.         ->  None: what is left does not stand alone
"""

from __future__ import annotations

import re

from ipt_stream.baselines.reading_comprehension.phrases import CAUSE_OPENINGS
from ipt_stream.baselines.reading_comprehension.sentences import is_balanced, word_set

LEAST_WORDS = 3  # of each half

_NEVER_LAST = word_set(
    "not just only simply is was are were be been being and or but that partly part perhaps maybe even than so as "
    "it's that's this's isn't wasn't if when which who whether"
)  # nothing that stands alone ends in these, nor in "-ly", which goes with the cause: "mainly because"
_GOES_ON = re.compile(r"[;:?!]|\b(?:but|so|however|which|although|though|whereas|while|then)\b", re.IGNORECASE)
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|had|will|would|can|could|may|might|did|does|do)\b", re.IGNORECASE)


def split_cause(sentence: str) -> tuple[str, str] | None:
    """The clause or phrase of the cause, with its connective and no mark after it, and the effect as a sentence."""
    if not sentence.endswith(".") or sentence.casefold().count("because") > 1:
        return None
    opening = next(filter(sentence.startswith, CAUSE_OPENINGS), None)
    if opening is not None:
        clause, _, rest = sentence.partition(", ")
        effect = capitalized(rest)
        if not effect or "," in effect:  # a list, or the cause goes on: where it ends can't be told
            return None
    else:
        before, because, rest = sentence.rstrip(".").partition(" because ")
        last = before.rpartition(" ")[2].casefold()
        if not because or "," in rest or last in _NEVER_LAST or last.endswith("ly"):
            return None
        clause, effect = "because " + rest, before.rstrip(",") + "."
    clause = clause[0].lower() + clause[1:]
    names_a_thing = not clause.startswith("because ") or clause.startswith("because of ")
    if names_a_thing and _VERB.search(clause):  # "because of its size was": that verb is the effect's
        return None
    if any(_GOES_ON.search(half) or not is_balanced(half) for half in (clause, effect)):
        return None
    cause = clause.removeprefix("because ")
    return (clause, effect) if min(len(cause.split()), len(effect.split())) >= LEAST_WORDS else None


def capitalized(text: str) -> str:
    """`text` with a capital first, but for words such as mRNA and p53."""
    word = text.split(" ", 1)[0]
    plain = word[:1].isascii() and word[:1].islower() and not any(sign.isupper() or sign.isdigit() for sign in word)
    return text[0].upper() + text[1:] if plain else text
