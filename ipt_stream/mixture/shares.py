"""Shares: how many sequences of each source training sees. Pure arithmetic, and errors that help.

A source is wanted in one of three ways: so many passes over it, a ratio of its tokens to another source's, or as much
as fills up the total. Each count is then affine in one unknown, the number `f` of sequences that fill:

    raw:   passes 2, 100 sequences             200
    aug:   fill                                      f
    chat:  ratio 0.5 tokens to aug                   f / 2   (where sequences hold equally many tokens)
    total: 500                                 200 + 3/2 f = 500, so f = 200

Everything is exact (fractions), and rounded once, so that the same plan comes out on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ipt_stream.errors import MixtureError

DEFAULT_MAX_PASSES = 4.0
"""About as many passes as repeated data stays nearly as good as new (Muennighoff et al. 2023, arXiv 2305.16264)."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What a source holds, packed: input documents, tokens without padding, sequences, and its index's SHA-256.

    `shard_sequences` is how many sequences an MDS shard of it holds; the last may hold fewer.
    """

    name: str
    documents: int
    tokens: int
    sequences: int
    index_sha256: str
    shard_sequences: int = 1


@dataclass(frozen=True, slots=True)
class Passes:
    """So many passes over the source; fractions are fine."""

    passes: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """`tokens` tokens of this source for each token of source `to`, in at most `max_passes` passes."""

    to: str
    tokens: float
    max_passes: float = DEFAULT_MAX_PASSES


@dataclass(frozen=True, slots=True)
class Fill:
    """What the others leave of the total, in at most `max_passes` passes; several fill in proportion to their size."""

    max_passes: float = DEFAULT_MAX_PASSES


Demand = Passes | Ratio | Fill


def count_sequences(stocks: Sequence[Stock], demands: Mapping[str, Demand], total: int | None) -> dict[str, int]:
    """How many sequences of each source training sees, by name, in the order of `stocks`.

    Args:
        stocks: what there is.
        demands: what is wanted of each, by name.
        total: sequences of the whole training; None: what passes and ratios add up to.

    Raises:
        MixtureError: the sources can't give what is asked; says which is short, by how much, and ways to mend it.
    """
    by_name = {stock.name: stock for stock in stocks}
    lines = _lines(by_name, demands)
    fixed, slope = _total(lines)
    filling = {stock.name: stock.sequences for stock in stocks if isinstance(demands[stock.name], Fill)}
    if not filling:
        counts = {name: round(constant) for name, (constant, _) in lines.items()}
        _check_total(total, counts, by_name, demands)
    elif total is None:
        one_pass = sum(stock.sequences for stock in stocks)
        raise _no_total(next(iter(filling)), f"sequences={one_pass} (one pass of everything)")
    elif total < fixed:
        raise _overfull(total, fixed, by_name, demands)
    else:
        f = (total - fixed) / slope
        counts = {name: round(lines[name][0] + lines[name][1] * f) for name in by_name if name not in filling}
        rest = max(total - sum(counts.values()), 0)
        if rest and not sum(filling.values()):
            raise _empty(next(iter(filling)), f"{rest:,} sequences to fill the total")
        counts |= _divide(rest, filling)
    _check_passes(counts, lines, by_name, demands)
    if not sum(counts.values()):
        raise MixtureError("the mixture is empty", wanted="at least one sequence", got="none", fix="raise its passes")
    return {name: counts[name] for name in by_name}


def check_demands(demands: Mapping[str, Demand], total: int | None) -> None:
    """What can be said of `demands` before anything is known of the sources.

    Raises:
        MixtureError: a ratio to no source, or to itself in the end; a source fills, and there is no total.
    """
    stocks = {name: Stock(name, 1, 1, 1, "") for name in demands}
    _lines(stocks, demands)
    filling = [name for name, demand in demands.items() if isinstance(demand, Fill)]
    if filling and total is None:
        raise _no_total(filling[0], "tokens=N, the length of the training")


Line = tuple[Fraction, Fraction]
"""A count as constant and slope in f."""


def _lines(stocks: Mapping[str, Stock], demands: Mapping[str, Demand]) -> dict[str, Line]:
    """The count of each source, affine in f, which the filling sources share by size."""
    filled = sum(stock.sequences for name, stock in stocks.items() if isinstance(demands[name], Fill))

    def line(name: str, on_the_way: tuple[str, ...]) -> Line:
        stock, demand = stocks[name], demands[name]
        if isinstance(demand, Passes):
            return _exact(demand.passes) * stock.sequences, Fraction(0)
        if isinstance(demand, Fill):
            return Fraction(0), Fraction(stock.sequences, filled) if filled else Fraction(1)
        if demand.to not in stocks or demand.to in (*on_the_way, name):
            raise _no_such(name, demand.to, stocks)
        constant, slope = line(demand.to, (*on_the_way, name))
        other = stocks[demand.to]
        if not other.tokens:
            return Fraction(0), Fraction(0)
        if not stock.tokens:
            raise _empty(name, f"{demand.tokens:g} tokens for each of {demand.to}")
        dense = Fraction(other.tokens, other.sequences) / Fraction(stock.tokens, stock.sequences)
        return constant * _exact(demand.tokens) * dense, slope * _exact(demand.tokens) * dense

    return {name: line(name, ()) for name in stocks}


def _total(lines: Mapping[str, Line]) -> Line:
    return sum((line[0] for line in lines.values()), Fraction(0)), sum(
        (line[1] for line in lines.values()), Fraction(0)
    )


def _exact(value: float) -> Fraction:
    """The number as it was written: 0.1 is a tenth."""
    return Fraction(str(value))


def _divide(total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """`total` divided in proportion to `sizes`, exactly; the largest remainders get what rounding leaves."""
    whole = sum(sizes.values()) or 1
    counts = {name: total * size // whole for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(total * sizes[name] % whole), name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _check_passes(
    counts: Mapping[str, int], lines: Mapping[str, Line], stocks: Mapping[str, Stock], demands: Mapping[str, Demand]
) -> None:
    """No source is repeated more than its demand allows. Raises `MixtureError`."""
    for name, stock in stocks.items():
        demand = demands[name]
        if isinstance(demand, Passes):
            continue
        possible = int(_exact(demand.max_passes) * stock.sequences)
        if counts[name] <= possible:
            continue
        constant, slope = lines[name]
        if slope and possible >= constant:
            fixed, all_slopes = _total(lines)
            rounded = sum(n != name and bool(b or a.denominator > 1) for n, (a, b) in lines.items())  # each by up to 1
            fits = math.floor(fixed + all_slopes * (possible - constant) / slope) - rounded
            fewer = f"sequences={max(fits, 1)}"
        else:
            tokens = demand.tokens if isinstance(demand, Ratio) else 0.0
            fewer = f"sources.{name}.ratio.tokens={_down(_exact(tokens) * possible / counts[name])}"
        raise MixtureError(
            f"source {name} is short by {counts[name] - possible:,} sequences",
            wanted=f"{counts[name]:,} of {sum(counts.values()):,} planned",
            got=f"{stock.sequences:,} in one pass, {possible:,} with max_passes={demand.max_passes:g}",
            fix=f"{fewer}, or sources.{name}.max_passes={_up(Fraction(counts[name], stock.sequences))}",
        )


def _passes_to_meet(
    total: int, name: str, stocks: Mapping[str, Stock], demands: Mapping[str, Demand]
) -> Fraction | None:
    """How many passes of `name` make up the total where the rest stays and nothing else fills; None: none can."""
    alone = {n: Fill() if n == name else Passes(0) if isinstance(d, Fill) else d for n, d in demands.items()}
    fixed, slope = _total(_lines(stocks, alone))
    return (total - fixed) / slope / stocks[name].sequences if total >= fixed else None


def _largest_given(stocks: Mapping[str, Stock], demands: Mapping[str, Demand]) -> str:
    """The source with the most sequences from passes."""
    sizes = {name: d.passes * stocks[name].sequences for name, d in demands.items() if isinstance(d, Passes)}
    return max(sizes, key=lambda name: (sizes[name], name))


def _check_total(
    total: int | None, counts: Mapping[str, int], stocks: Mapping[str, Stock], demands: Mapping[str, Demand]
) -> None:
    """Where nothing fills, a total that is given must be what there is. Raises `MixtureError`."""
    given = sum(counts.values())
    if total is None or total == given or not given:
        return
    name = _largest_given(stocks, demands)
    passes = _passes_to_meet(total, name, stocks, demands)
    fill = (
        f", or in place of sources.{name}.passes fill=true and max_passes={_up(passes)}" if passes is not None else ""
    )
    raise MixtureError(
        f"passes and ratios give {abs(total - given):,} sequences too {'few' if given < total else 'many'}",
        wanted=f"{total:,}, the total",
        got=f"{given:,}",
        fix=f"sequences={given}{fill}",
    )


def _overfull(total: int, fixed: Fraction, stocks: Mapping[str, Stock], demands: Mapping[str, Demand]) -> MixtureError:
    name = _largest_given(stocks, demands)
    passes = _passes_to_meet(total, name, stocks, demands)
    fewer = f", or sources.{name}.passes={_down(passes)}" if passes is not None else ""
    return MixtureError(
        f"passes and ratios alone give {math.ceil(fixed) - total:,} sequences too many",
        wanted=f"at most {total:,}, the total",
        got=f"{math.ceil(fixed):,}",
        fix=f"sequences={math.ceil(fixed)}{fewer}",
    )


def _no_total(name: str, total: str) -> MixtureError:
    return MixtureError(
        f"source {name} is to fill the mixture, but the mixture has no total",
        wanted="sequences or tokens",
        got="neither",
        fix=f"{total}, or sources.{name}.passes=1 in place of fill",
    )


def _empty(name: str, wanted: str) -> MixtureError:
    fix = f"give sources.{name} data, or leave it out"
    return MixtureError(f"source {name} is empty", wanted=wanted, got="no sequences", fix=fix)


def _no_such(name: str, to: str, stocks: Mapping[str, Stock]) -> MixtureError:
    return MixtureError(
        f"source {name} has a ratio to {to}, "
        + ("which leads back to itself" if to in stocks else "which is no source"),
        wanted=f"another source: {', '.join(other for other in stocks if other != name) or 'there is none'}",
        got=to,
        fix=f"set sources.{name}.ratio.to, or sources.{name}.passes=1 in place of the ratio",
    )


def _up(value: Fraction) -> str:
    return f"{math.ceil(value * 100) / 100:g}" if value < 10_000 else str(math.ceil(value))


def _down(value: Fraction) -> str:
    return f"{math.floor(value * 10_000) / 10_000:.4f}".rstrip("0").rstrip(".")
