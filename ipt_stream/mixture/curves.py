"""Shares that change over training: a source's curve, and from all curves the targets that the order keeps.

A curve is points of (progress, weight), straight between, level before the first and behind the last; two points of
one progress are a jump. It says when a source's sequences come, and not how many there are: weights count only
against each other. What the sources with a curve leave of each moment goes to those without one, by their size:

    chat   100 of 400, curve (0, 0) (1, 1)    share 0   at the start, 1/2 at the end
    raw    300 of 400, no curve               share 1                 1/2

Shares are straight lines between borders, so targets are parabolas there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ipt_stream.errors import MixtureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Curve = tuple[tuple[float, float], ...]
_TOLERANCE = 1e-12
"""Of a moment, for rounding: a hundredth of a sequence in all of the largest training."""


@dataclass(frozen=True, slots=True)
class Targets:
    """How many sequences of each source are due by each position.

    Attributes:
        borders: (pieces + 1,) positions, from 0 to the number of all sequences.
        starts: (sources, pieces) the share at the start of each piece.
        slopes: (sources, pieces) by how much it grows a position.
        reached: (sources, pieces + 1) the target at each border.
    """

    borders: NDArray[np.float64]
    starts: NDArray[np.float64]
    slopes: NDArray[np.float64]
    reached: NDArray[np.float64]

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """The targets after so many positions: (sources, positions)."""
        import numpy as np

        pieces = np.clip(np.searchsorted(self.borders, positions, side="left") - 1, 0, len(self.borders) - 2)
        inside = positions - self.borders[pieces]
        found: NDArray[np.float64] = (
            self.reached[:, pieces] + (self.starts[:, pieces] + self.slopes[:, pieces] * inside / 2) * inside
        )
        return found


def check_curve(curve: Curve) -> None:
    """Raises `ValueError` where `curve` is none: progress runs from 0 to 1, weights are not negative, some positive."""
    if not all(math.isfinite(number) for point in curve for number in point):
        raise ValueError("a curve is points of two finite numbers")
    progress = [point[0] for point in curve]
    if not curve or progress != sorted(progress) or progress[0] < 0 or progress[-1] > 1:
        raise ValueError("a curve is points [progress, weight] with progress rising from 0 to 1")
    if any(weight < 0 for _, weight in curve):
        raise ValueError("the weights of a curve are 0 or more")
    if max(progress.count(one) for one in progress) > 2:
        raise ValueError("at most two points of a curve have one progress: what it jumps from, and to")
    if not _area(curve):
        raise ValueError("a curve has some weight")


def targets(names: Sequence[str], counts: Sequence[int], curves: Sequence[Curve]) -> Targets:
    """The targets of sources with such `counts` and `curves`, `()` for none; they are in full at the end.

    Raises:
        MixtureError: the curves ask for more than all of some moment, or leave a part of it that no source fills.
    """
    import numpy as np

    total = sum(counts)
    borders = sorted({0.0, 1.0, *(progress for curve in curves for progress, _ in curve)})
    lengths = np.diff(borders)
    ends = np.zeros((len(counts), len(lengths), 2))  # the share at the start and at the end of each piece
    for index, (count, curve) in enumerate(zip(counts, curves, strict=True)):
        if curve:
            heights = [_heights(curve, start, stop) for start, stop in pairwise(borders)]
            ends[index] = np.array(heights) * (count / total / _area(curve))
    left = 1 - ends.sum(axis=0)
    even = np.array([0 if curve else count for count, curve in zip(counts, curves, strict=True)], np.float64)
    _check(names, counts, curves, borders, left, bool(even.sum()))
    if even.sum():
        ends += np.clip(left, 0, None)[None] * (even / even.sum())[:, None, None]
    sizes = lengths * total
    gains = ends.mean(axis=2) * sizes
    reached = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(gains, axis=1)], axis=1)
    return Targets(np.array(borders) * total, ends[:, :, 0].copy(), (ends[:, :, 1] - ends[:, :, 0]) / sizes, reached)


def _check(
    names: Sequence[str], counts: Sequence[int], curves: Sequence[Curve], borders: Sequence[float],
    left: NDArray[np.float64], filled: bool,
) -> None:  # fmt: skip
    """Raises `MixtureError` where what is left of a moment is less than nothing, or nobody's."""
    curved = [name for name, curve in zip(names, curves, strict=True) if curve]
    piece, end = divmod(int(left.argmin()), 2)
    if left[piece, end] < -_TOLERANCE:
        largest = max(curved, key=lambda name: (counts[list(names).index(name)], name))
        raise MixtureError(
            f"at {borders[piece + end]:.1%} of training the curves ask for more than there is room for",
            wanted="at most 100% of that moment",
            got=f"{1 - left[piece, end]:.1%} for {', '.join(curved)}",
            fix=f"flatten the curve of {largest} (with all weights alike it fits), or plan less of it",
        )
    if not filled and left.max() > _TOLERANCE:
        piece, end = divmod(int(left.argmax()), 2)
        raise MixtureError(
            f"at {borders[piece + end]:.1%} of training the curves leave room that no source fills",
            wanted="100% of every moment, or a source without a curve",
            got=f"{1 - left[piece, end]:.1%}",
            fix=f"leave out the curve of one of {', '.join(curved)}, or make it the others' complement",
        )


def _heights(curve: Curve, start: float, stop: float) -> tuple[float, float]:
    """The curve just behind `start` and just before `stop`, between which it has no point."""
    before = [point for point in curve if point[0] <= start]
    behind = [point for point in curve if point[0] >= stop]
    if not before or not behind:
        level = behind[0][1] if behind else before[-1][1]
        return level, level
    (x0, y0), (x1, y1) = before[-1], behind[0]
    rise = (y1 - y0) / (x1 - x0)
    return y0 + rise * (start - x0), y0 + rise * (stop - x0)


def _area(curve: Curve) -> float:
    """The curve's integral over training."""
    borders = sorted({0.0, 1.0, *(progress for progress, _ in curve)})
    pieces = pairwise(borders)
    return sum(sum(_heights(curve, start, stop)) / 2 * (stop - start) for start, stop in pieces)
