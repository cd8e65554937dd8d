"""How far a measured share or mean may be off, and how far two raters agree. Pure functions of numbers and labels."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

Z = 1.959963984540054
"""The normal distribution's 97.5% point: of 95% intervals."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share or a mean with its 95% interval.

    Attributes:
        value: the share or the mean; not a number where nothing was measured.
        low: lower end of the interval.
        high: upper end.
        n: of how many measurements.
    """

    value: float
    low: float
    high: float
    n: int

    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2


def share(part: int, whole: int) -> Estimate:
    """`part` of `whole`, with Wilson's score interval (Wilson 1927): it stays within 0 and 1, and holds at 0 and 1.

    With p = part / whole and z = 1.96 its ends are (p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n).

    Raises:
        ValueError: `part` is below 0 or above `whole`.
    """
    if not 0 <= part <= whole:
        raise ValueError(f"{part} is no part of {whole}")
    if not whole:
        return Estimate(math.nan, math.nan, math.nan, 0)
    p, squared = part / whole, Z * Z / whole
    middle = p + squared / 2
    half = Z * math.sqrt(p * (1 - p) / whole + squared / (4 * whole))
    low, high = (middle - half) / (1 + squared), (middle + half) / (1 + squared)
    # At its ends it is exact but for rounding.
    return Estimate(p, 0.0 if part == 0 else low, 1.0 if part == whole else high, whole)


def mean(values: Sequence[float]) -> Estimate:
    """The mean of `values`, with the normal interval, mean ± 1.96 s / sqrt(n); of one value it is everything."""
    if not values:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = statistics.fmean(values)
    if len(values) == 1:
        return Estimate(value, -math.inf, math.inf, 1)
    half = Z * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(value, value - half, value + half, len(values))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two raters agree.

    Attributes:
        n: what both of them rated.
        observed: the share on which they say the same; not a number where n is 0.
        kappa: Cohen's kappa; None where it is not defined: nothing rated, or each says one thing only, the same.
    """

    n: int
    observed: float
    kappa: float | None


def agreement(pairs: Sequence[tuple[Hashable, Hashable]]) -> Agreement:
    """What two raters say of the same things, compared by Cohen's kappa (Cohen 1960).

    kappa = (observed - chance) / (1 - chance), chance being the agreement of two that say each thing as often, but
    independently of each other: 20 x yes/yes, 5 x yes/no, 10 x no/yes, 15 x no/no agree on 0.7; chance is 0.5 * 0.6 +
    0.5 * 0.4 = 0.5; kappa is 0.4.
    """
    n = len(pairs)
    if not n:
        return Agreement(0, math.nan, None)
    same = sum(one == other for one, other in pairs)
    ours, theirs = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    by_chance = sum(count * theirs[label] for label, count in ours.items())  # times n²
    kappa = None if by_chance == n * n else (same * n - by_chance) / (n * n - by_chance)
    return Agreement(n, same / n, kappa)
