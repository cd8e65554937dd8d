"""The checks by name: what each measures, which way is better, and where its line is drawn by default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

Value = float | int | bool | None
"""What a check says of a pair; None where it can't be computed."""
MOST = 20
"""Counts are told apart up to here."""
LEAST_LOGPROB = -20.0


class Scale(Enum):
    """What kind of number a check gives."""

    SHARE = "share"
    LOGPROB = "log-probability"
    COUNT = "count"
    TRUTH = "truth"


_TYPES = {Scale.SHARE: "float", Scale.LOGPROB: "float", Scale.COUNT: "int", Scale.TRUTH: "bool"}


@dataclass(frozen=True, slots=True)
class Check:
    """A check.

    Attributes:
        name: its column.
        scale: what kind of number it gives.
        high_is_good: whether more of it speaks for a pair; of a yes or no, whether yes does.
        threshold: a pair is flagged beyond it: below where high is good, above where it is not.
        about: what it says of a pair, in a line.
    """

    name: str
    scale: Scale
    high_is_good: bool
    threshold: float
    about: str

    @property
    def type(self) -> str:
        """Its column's type: float, int or bool."""
        return _TYPES[self.scale]

    @property
    def keeps(self) -> str:
        """The condition under which a pair is kept, as `mix` takes it."""
        return condition(self, self.threshold)

    def flags(self, value: Value, threshold: float | None = None) -> bool:
        """Whether `value` is beyond the threshold; what can't be computed never is."""
        limit = self.threshold if threshold is None else threshold
        return value is not None and (value < limit if self.high_is_good else value > limit)

    def on_grid(self, value: float) -> float:
        """`value` on a grid so coarse that a run of any size has few: shares in hundredths, log-probabilities in two
        digits, counts up to `MOST`.

        It is moved towards the worse, so that for a threshold on the grid the same pairs are kept as by their values.
        """
        match self.scale:
            case Scale.TRUTH:
                return float(value)
            case Scale.COUNT:
                return float(min(value, MOST))
            case Scale.SHARE:
                hundredths = value * 100
                whole = math.floor(hundredths + 1e-9) if self.high_is_good else math.ceil(hundredths - 1e-9)
                return whole / 100
            case Scale.LOGPROB:
                if value >= 0:
                    return 0.0
                size = min(max(-value, 1e-4), -LEAST_LOGPROB)
                places = 1 - math.floor(math.log10(size))
                return -round(math.ceil(size * 10.0**places - 1e-9) / 10.0**places, max(places, 0))


def condition(check: Check, threshold: float) -> str:
    """What `mix` takes for keeping the pairs that `threshold` does not flag."""
    if check.scale is Scale.TRUTH:
        return "true" if check.high_is_good else "false"
    return f"{'>=' if check.high_is_good else '<='} {threshold:g}"


CHECKS = (
    Check("grounded", Scale.SHARE, True, 0.5, "share of the final answer's content words and numbers in the text"),
    Check("overlap", Scale.SHARE, True, 0.2, "longest run of words of the final answer in the text, over its words"),
    Check("thought", Scale.SHARE, True, 0.5, "share of a chain of thought's content words in text or instruction"),
    Check("numbers", Scale.COUNT, False, 0, "numbers in the response that neither text nor options hold"),
    Check("names", Scale.COUNT, False, 0, "names in the response that neither text nor instruction holds"),
    Check("question_names", Scale.COUNT, False, 0, "names in the question that the text doesn't hold"),
    Check("logprob", Scale.LOGPROB, True, -0.5, "mean log-probability of the response's tokens, by the synthesizer"),
    Check(
        "duplicate", Scale.TRUTH, False, 0, "the same pair, but for case and punctuation, came before in the segment"
    ),
    Check("repeated", Scale.TRUTH, False, 0, "the same pair, to the character, came before anywhere in the run"),
    Check("repetition", Scale.SHARE, False, 0.3, "share of the response's word n-grams that came before in it"),
    Check("question", Scale.TRUTH, True, 1, "the instruction holds a question or a request"),
    Check("options", Scale.TRUTH, True, 1, "the final answer is one of the options, none of which comes twice"),
    Check("language", Scale.TRUTH, True, 1, "the pair is in the language of its text"),
)
