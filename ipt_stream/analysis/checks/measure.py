"""How well a check tells right pairs from others, and how many it keeps: sums that add up over segments.

Of each check a run keeps how many pairs, and how many right ones, have each value on its grid (listing.py). Quartiles,
yields, precision and recall at every threshold, average precision and the area under the ROC curve follow from those.
A pair for which a check can't be computed is kept at every threshold, as `mix` does.

    value   pairs  right        kept at >=   yield   precision  recall
    1.0         4      4        1.0           0.40   1.00       4/6
    0.5         4      2        0.5           0.80   0.75       1.00
    0.0         2      0        0.0           1.00   0.60       1.00
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ipt_stream.analysis.checks.listing import CHECKS, Check, Value


@dataclass(slots=True)
class Tallied:
    """Pairs, and how many of them are right (0 where nothing is known of that)."""

    pairs: int = 0
    right: int = 0

    def add(self, other: Tallied) -> None:
        """Add what `other` counts."""
        self.pairs += other.pairs
        self.right += other.right


@dataclass(slots=True)
class Spread:
    """The values of one check over many pairs.

    Attributes:
        counts: pairs by value on the check's grid.
        unknown: pairs for which it can't be computed.
        flagged: pairs beyond its threshold, by their exact values.
        total: the sum of the exact values.
    """

    counts: dict[float, Tallied] = field(default_factory=dict)
    unknown: Tallied = field(default_factory=Tallied)
    flagged: Tallied = field(default_factory=Tallied)
    total: float = 0.0

    @property
    def known(self) -> int:
        """Pairs that have a value."""
        return sum(count.pairs for count in self.counts.values())

    @property
    def mean(self) -> float | None:
        """The mean of the exact values; None without one."""
        return self.total / self.known if self.known else None

    def quantile(self, share: float) -> float | None:
        """The smallest value on the grid up to which `share` of the values lie; None without one."""
        left = share * self.known
        for value in sorted(self.counts):
            left -= self.counts[value].pairs
            if left <= 1e-9:
                return value
        return None


@dataclass(slots=True)
class Sums:
    """All that is kept of the pairs of some segments.

    Attributes:
        whole: all pairs.
        judged: pairs of which the world's truth says whether they are right.
        kept: pairs that no check flags.
        checks: the values of each check.
    """

    whole: Tallied = field(default_factory=Tallied)
    judged: int = 0
    kept: Tallied = field(default_factory=Tallied)
    checks: dict[str, Spread] = field(default_factory=lambda: {check.name: Spread() for check in CHECKS})

    def note(self, values: Mapping[str, Value], right: bool | None, thresholds: Mapping[str, float]) -> None:
        """Count one pair. `thresholds` are used in place of the checks' own."""
        one = Tallied(1, int(right is True))
        self.whole.add(one)
        self.judged += right is not None
        is_kept = True
        for check in CHECKS:
            spread, value = self.checks[check.name], values[check.name]
            if value is None:
                spread.unknown.add(one)
                continue
            spread.total += value
            spread.counts.setdefault(check.on_grid(value), Tallied()).add(one)
            if check.flags(value, thresholds.get(check.name)):
                spread.flagged.add(one)
                is_kept = False
        if is_kept:
            self.kept.add(one)

    def add(self, other: Sums) -> None:
        """Add the sums of other segments."""
        self.whole.add(other.whole)
        self.kept.add(other.kept)
        self.judged += other.judged
        for name, spread in other.checks.items():
            mine = self.checks[name]
            mine.unknown.add(spread.unknown)
            mine.flagged.add(spread.flagged)
            mine.total += spread.total
            for value, count in spread.counts.items():
                mine.counts.setdefault(value, Tallied()).add(count)

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it: `counts` as a list of [value, pairs, right]."""
        record = asdict(self)
        for name, spread in self.checks.items():
            listed = sorted(spread.counts.items())
            record["checks"][name]["counts"] = [[value, count.pairs, count.right] for value, count in listed]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Sums:
        """From what `to_json` gave."""
        checks = {
            name: Spread(
                {value: Tallied(pairs, right) for value, pairs, right in spread["counts"]},
                Tallied(**spread["unknown"]),
                Tallied(**spread["flagged"]),
                spread["total"],
            )
            for name, spread in record["checks"].items()
        }
        return cls(Tallied(**record["whole"]), record["judged"], Tallied(**record["kept"]), checks)


@dataclass(frozen=True, slots=True)
class Point:
    """What one threshold does.

    Attributes:
        threshold: the worst value that is kept.
        kept: share of all pairs that are kept.
        precision: share of right pairs among them; None where none is kept.
        recall: share of the right pairs that are kept; None where there are none.
    """

    threshold: float
    kept: float
    precision: float | None
    recall: float | None


def curve(check: Check, spread: Spread) -> list[Point]:
    """A point for every value that occurs, the strictest threshold first."""
    whole = Tallied(spread.unknown.pairs, spread.unknown.right)
    for count in spread.counts.values():
        whole.add(count)
    kept = Tallied(spread.unknown.pairs, spread.unknown.right)
    points = []
    for value, count in _best_first(check, spread):
        kept.add(count)
        precision = kept.right / kept.pairs if kept.pairs else None
        recall = kept.right / whole.right if whole.right else None
        points.append(Point(value, kept.pairs / whole.pairs, precision, recall))
    return points


def average_precision(check: Check, spread: Spread) -> float | None:
    """The mean precision over the right pairs, ranked by the check; None without right pairs that have a value.

    AP = sum over thresholds of (recall - recall before) x precision; pairs of one value come at once.
    """
    right = sum(count.right for count in spread.counts.values())
    if not right:
        return None
    kept, area = Tallied(), 0.0
    for _, count in _best_first(check, spread):
        kept.add(count)
        area += count.right / right * (kept.right / kept.pairs)
    return area


def roc_area(check: Check, spread: Spread) -> float | None:
    """The probability that a right pair has a better value than one that is not, ties counting half (ROC AUC).

    None where there are only right pairs with a value, or none.
    """
    right = sum(count.right for count in spread.counts.values())
    wrong = spread.known - right
    if not right or not wrong:
        return None
    better, area = 0, 0.0
    for _, count in _best_first(check, spread):
        here = count.pairs - count.right
        area += here * (better + count.right / 2)
        better += count.right
    return area / (right * wrong)


def _best_first(check: Check, spread: Spread) -> Iterator[tuple[float, Tallied]]:
    for value in sorted(spread.counts, reverse=check.high_is_good):
        yield value, spread.counts[value]


def thin(points: Iterable[Point], most: int) -> list[Point]:
    """At most about `most` of the points, evenly spread by what they keep; the first and the last are among them."""
    found = list(points)
    if len(found) <= most:
        return found
    chosen = [found[0]]
    step = (found[-1].kept - found[0].kept) / (most - 1)
    for point in found[1:-1]:
        if point.kept >= chosen[-1].kept + step - 1e-9:
            chosen.append(point)
    return [*chosen, found[-1]]
