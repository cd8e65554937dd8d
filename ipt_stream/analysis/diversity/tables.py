"""The sums as tables and plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ipt_stream.analysis.diversity.count import Counts
from ipt_stream.analysis.part import Cell, Headline, Part, Plot, Series, Table
from ipt_stream.synthesis.tally import Tally

FORMATS = {
    "free_form": "free-form",
    "multiple_choice": "multiple choice",
    "free_form_cot": "free-form with chain of thought",
    "multiple_choice_cot": "multiple choice with chain of thought",
}
QUANTILES = (0.05, 0.5, 0.95)
HOW = "ipt-stream analyze, section diversity; the numbers are in diversity.json"
COUNTED = f"Counted over all texts that were asked about, in all segments. {HOW}"
OPENINGS = f"The first verb or question word of each instruction with its object, by rules for English. {HOW}"
DISTINCT = f"Different over all, told apart by 64-bit hashes; above a bound those of a sample by hash count. {HOW}"
LENGTHS = f"Counted by the tokenizer that is named, else by words; of a sample of the texts where there are many. {HOW}"
REASONS = f"Summed over the ledger of the synthesize stage. {HOW}"


def summary(counts: Counts, made: Tally, unit: str, share: float, dropped: int) -> dict[str, Any]:
    """`diversity.json`.

    Args:
        counts: over all segments.
        made: what the run's ledger says.
        unit: of lengths: tokens or words.
        share: of the texts whose lengths were counted.
        dropped: instructions whose openings were too rare to be kept.
    """
    rounds = [_of(counts.rounds, number) for number in sorted({number for number, _ in counts.rounds})]
    formats = {name: sum(n for (_, found), n in counts.formats.items() if found == name) for name in FORMATS}
    by_round = [
        {name: counts.formats[number, name] for name in FORMATS} for number in sorted({n for n, _ in counts.rounds})
    ]
    total = {key: sum(one[key] for one in rounds) for key in ("texts", "with_pairs", "pairs", "inherits")}
    return {
        "total": total,
        "rounds": rounds,
        "formats": formats,
        "formats_by_round": by_round,
        "pairs_a_text": {str(pairs): count for pairs, count in sorted(counts.pairs_a_text.items())},
        "lengths": {
            "unit": unit,
            "share_of_texts": share,
            **{name: _statistics(counted) for name, counted in counts.lengths.items()},
        },
        "length_classes": {
            name: {str(low): count for low, count in _classes(counted)} for name, counted in counts.lengths.items()
        },
        "yields": [
            {"from": low, **_of(counts.yields, low)} for low in sorted({low for low, _ in counts.yields})
        ],
        "openings": {
            "different": len(counts.openings),
            "dropped": dropped,
            "top": [[*key, count] for key, count in _top(counts.openings, 200)],
            "first": [[kind, first, count] for (kind, first), count in _top(_first_words(counts), 200)],
        },
        "distinct": {
            name: {
                "share": one.share(), "different": one.estimate(), "total": one.total, "exact": one.level == 0,
            }
            for name, one in counts.distinct.items()
        },
        "reasons": {
            "rejected": dict(made.rejected), "no_pairs": dict(made.no_pairs), "dropped": dict(made.dropped),
        },
    }  # fmt: skip


def make_part(found: Mapping[str, Any], openings: int) -> Part:
    """What the report shows of `summary`."""
    total, distinct = found["total"], found["distinct"]
    texts, pairs = total["texts"], total["pairs"]
    a_text, yielding = (f"{pairs / texts:.2f}", f"{total['with_pairs'] / texts:.1%}") if texts else ("none", "none")
    openings_found = f"{found['openings']['different']:,}"
    headlines = [
        Headline("pairs a text", a_text, f"{pairs:,} pairs, {texts:,} texts", how=COUNTED),
        Headline("texts that yield pairs", yielding, "of all asked", how=COUNTED),
        Headline("openings of instructions", openings_found, "first verb and object, different", how=OPENINGS),
    ]
    if (same := distinct["instructions"]["share"]) is not None:
        headlines.append(
            Headline("instructions that repeat another", f"{1 - same:.1%}", "case and signs ignored", how=DISTINCT)
        )
    return Part(
        name="diversity",
        title="Diversity and yield",
        about=(
            "How varied the pairs are, in wording and in format, and how many of them each round, and each length of"
            " text, gives."
        ),
        headlines=tuple(headlines),
        tables=(
            _distinct_table(found), _openings_table(found, openings), _formats_table(found), _lengths_table(found),
            _rounds_table(found), _yields_table(found), _reasons_table(found),
        ),
        plots=tuple(_plots(found, openings)),
    )  # fmt: skip


def quantile(counted: Mapping[int, int], share: float) -> int:
    """The smallest length that at least that share of what is counted does not exceed. At least one is counted."""
    wanted, seen = share * sum(counted.values()), 0
    for length, count in sorted(counted.items()):
        seen += count
        if seen >= wanted:
            return length
    return max(counted)


def _statistics(counted: Counter[int]) -> dict[str, float | int | None]:
    count = counted.total()
    if not count:
        return {"count": 0, "mean": None, "p5": None, "p50": None, "p95": None, "max": None}
    mean = sum(length * n for length, n in counted.items()) / count
    low, middle, high = (quantile(counted, share) for share in QUANTILES)
    return {"count": count, "mean": round(mean, 2), "p5": low, "p50": middle, "p95": high, "max": max(counted)}


def _classes(counted: Counter[int]) -> list[tuple[int, int]]:
    from ipt_stream.analysis.diversity.count import length_class

    classes: Counter[int] = Counter()
    for length, count in counted.items():
        classes[length_class(length)] += count
    return sorted(classes.items())


def _of(table: Counter[tuple[int, str]], row: int) -> dict[str, int]:
    return {key: count for (number, key), count in sorted(table.items()) if number == row}


def _top(counted: Counter[Any], most: int) -> list[tuple[Any, int]]:
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:most]


def _first_words(counts: Counts) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for (kind, first, _), count in counts.openings.items():
        found[kind, first] += count
    return found


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _distinct_table(found: Mapping[str, Any]) -> Table:
    names = {"instructions": "whole instructions", "pairs": "whole pairs"}
    rows: list[tuple[Cell, ...]] = []
    for name, one in found["distinct"].items():
        shown = names.get(name, f"{name[:-2]}s, distinct-{name[-1]}")
        rows.append((shown, one["share"], one["different"], one["total"], "yes" if one["exact"] else "estimate"))
    return Table(
        title="Different over all",
        columns=("what", "distinct", "different", "all", "exact"),
        rows=tuple(rows),
        percent=("distinct",),
        note=(
            "N-grams of words, case and punctuation ignored, none across two texts. It falls as a corpus grows: compare"
            " corpora of about one size. What is no exact count is estimated from a sample by hash (distinct.py)."
        ),
        how=DISTINCT,
    )


def _openings_table(found: Mapping[str, Any], most: int) -> Table:
    pairs = found["total"]["pairs"]
    rows = [
        (kind, first, second, count, _share(count, pairs)) for kind, first, second, count in found["openings"]["top"]
    ]
    return Table(
        title="How instructions begin",
        columns=("kind", "first verb or question word", "object, or what is asked for", "pairs", "share"),
        rows=tuple(rows[:most]),
        percent=("share",),
        note=f"The {most} most frequent of {found['openings']['different']:,}; by rules for English (openings.py).",
        how=OPENINGS,
    )  # fmt: skip


def _formats_table(found: Mapping[str, Any]) -> Table:
    pairs = found["total"]["pairs"]
    rounds = found["formats_by_round"]
    rows = []
    for name, count in found["formats"].items():
        shares = (_share(one[name], sum(one.values())) for one in rounds)
        rows.append((FORMATS[name], count, _share(count, pairs), *shares))
    by_round = tuple(f"round {number}" for number in range(1, len(rounds) + 1))
    return Table(
        title="Formats",
        columns=("format", "pairs", "share", *by_round),
        rows=tuple(rows),
        percent=("share", *by_round),
        note="The four formats of table 7.",
        how=COUNTED,
    )


def _lengths_table(found: Mapping[str, Any]) -> Table:
    lengths = found["lengths"]
    keys = ("count", "mean", "p5", "p50", "p95", "max")
    rows = tuple((f"{name}s", *(lengths[name][key] for key in keys)) for name in ("text", "instruction", "response"))
    return Table(
        title=f"Lengths in {lengths['unit']}",
        columns=("what", "measured", "mean", "5%", "median", "95%", "longest"),
        rows=rows,
        note=f"Of {lengths['share_of_texts']:.1%} of the texts, chosen by a hash." if _is_sample(found) else "",
        how=LENGTHS,
    )


def _is_sample(found: Mapping[str, Any]) -> bool:
    return bool(found["lengths"]["share_of_texts"] < 1)


def _rounds_table(found: Mapping[str, Any]) -> Table:
    return Table(
        title="Yield by round",
        columns=("round", "texts", "with earlier shots", "with pairs", "pairs", "pairs a text"),
        rows=tuple(
            (
                number, one["texts"], _share(one.get("inherits", 0), one["texts"]),
                _share(one["with_pairs"], one["texts"]), one["pairs"], round(one["pairs"] / one["texts"], 3),
            )
            for number, one in enumerate(found["rounds"], 1)
        ),
        percent=("with earlier shots", "with pairs"),
        note="Texts that are pieces of one document count each.",
        how=COUNTED,
    )  # fmt: skip


def _yields_table(found: Mapping[str, Any]) -> Table:
    unit = found["lengths"]["unit"]
    return Table(
        title="Yield by length of text",
        columns=(f"{unit}, from", "texts", "with pairs", "pairs a text"),
        rows=tuple(
            (one["from"], one["texts"], one["with_pairs"] / one["texts"], round(one["pairs"] / one["texts"], 3))
            for one in found["yields"]
        ),
        percent=("with pairs",),
        how=COUNTED,
    )


def _reasons_table(found: Mapping[str, Any]) -> Table:
    names = {"rejected": "document rejected", "no_pairs": "text without pairs", "dropped": "pair dropped"}
    rows = [
        (names[what], reason, count)
        for what, reasons in found["reasons"].items()
        for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    ]
    return Table(
        title="What came of nothing, and why", columns=("what", "reason", "count"), rows=tuple(rows), how=REASONS
    )


def _plots(found: Mapping[str, Any], most: int) -> Iterable[Plot]:
    lengths, classes = found["lengths"]["unit"], found["length_classes"]
    lows = sorted({int(low) for counted in classes.values() for low in counted})
    series = []
    for name, counted in classes.items():
        whole = sum(counted.values())
        series.append((f"{name}s", tuple((counted.get(str(low), 0) / whole) if whole else 0.0 for low in lows)))
    yield _bars(f"Lengths in {lengths}", f"{lengths}, from", "share", list(map(str, lows)), series, LENGTHS, True)
    made = found["pairs_a_text"]
    counts = [("texts", tuple(float(count) for count in made.values()))]
    yield _bars("Pairs a text", "pairs", "texts", list(made), counts, COUNTED)
    rounds = found["rounds"]
    per_text = [("pairs a text", tuple(one["pairs"] / one["texts"] for one in rounds))]
    yield _bars("Yield by round", "round", "pairs a text", [str(i + 1) for i in range(len(rounds))], per_text, COUNTED)
    yields = found["yields"]
    per_text = [("pairs a text", tuple(one["pairs"] / one["texts"] for one in yields))]
    places = [str(one["from"]) for one in yields]
    yield _bars("Yield by length of text", f"{lengths} of the text, from", "pairs a text", places, per_text, COUNTED)
    top = found["openings"]["first"][:most]
    pairs = found["total"]["pairs"]
    shares = [("pairs", tuple(count / pairs for *_, count in top))]
    places = [first or "(none)" for _, first, _ in top]
    yield _bars("First words of instructions", "first word", "share", places, shares, OPENINGS, True)


def _bars(
    title: str,
    x_label: str,
    y_label: str,
    places: Sequence[str],
    series: Sequence[tuple[str, tuple[float, ...]]],
    how: str,
    percent: bool = False,
) -> Plot:
    made = tuple(Series(name, tuple(places), values) for name, values in series)
    return Plot(title, "bar", x_label, y_label, made, percent=percent, how=how)
