"""What an analysis hands to the report: headline figures, tables, plots, and of each how its numbers were made.

An analysis writes its own records (JSON, Parquet) for machines and one `part.json` for the report. Cells and labels
are plain text or numbers: the report escapes them, so that they may hold text of the corpus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ipt_stream import storage

PART = "part.json"

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Headline:
    """One figure that a reader should see first.

    Attributes:
        label: what it is, in a few words.
        value: the figure as shown, with its unit ("87.2%", "1.3 B tokens").
        note: what it was measured on, in a few words.
        how: the command or the method that made it.
    """

    label: str
    value: str
    note: str = ""
    how: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the report.

    Attributes:
        title: its heading.
        columns: names of the columns.
        rows: cells by row, as many as there are columns; numbers stay numbers, None is an empty cell.
        percent: names of the columns whose numbers are shares of 1, shown as percentages.
        paper: names of the columns that hold the paper's own numbers, set apart.
        note: what a reader must know, and the paper's table or figure where there is one.
        how: the command or the method that made the numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    percent: tuple[str, ...] = ()
    paper: tuple[str, ...] = ()
    note: str = ""
    how: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Series:
    """One line or group of bars of a plot.

    Attributes:
        name: what the legend calls it.
        x: places, numbers for lines and points, names for bars.
        y: values, one a place.
        low: lower ends of the intervals; empty without intervals.
        high: upper ends.
        labels: what to show of each point on pointing at it; empty: x and y.
    """

    name: str
    x: tuple[str | float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of the report.

    Attributes:
        title: its heading.
        kind: bars side by side, lines, or points.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
        series: what it shows; those of one bar plot share their places.
        percent: whether y is a share of 1, shown as a percentage.
        note: what a reader must know.
        how: the command or the method that made the numbers.
    """

    title: str
    kind: Literal["bar", "line", "point"]
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    percent: bool = False
    note: str = ""
    how: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Part:
    """An analysis' part of the report.

    Attributes:
        name: the analysis, as in the configuration.
        title: heading of its section.
        about: one or two sentences: what was asked and how.
        headlines: figures for the top of the report, the most important first.
        tables: its tables, in order.
        plots: its plots, in order.
    """

    name: str
    title: str
    about: str
    headlines: tuple[Headline, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()


def publish_part(output: str, part: Part) -> None:
    """Write `part` to `output`/part.json.

    Raises:
        ValueError: a figure does not say how it was made, a row of a table is not as long as its columns, or a series
            has lists of other lengths.
    """
    silent = [headline.label for headline in part.headlines if not headline.how.strip()]
    silent += [table.title for table in part.tables if not table.how.strip()]
    silent += [plot.title for plot in part.plots if not plot.how.strip()]
    if silent:
        raise ValueError(f"part {part.name!r} does not say how these were made: {', '.join(silent)}")
    for table in part.tables:
        if any(len(row) != len(table.columns) for row in table.rows):
            raise ValueError(f"table {table.title!r} has rows of another length than its columns")
    for plot in part.plots:
        for series in plot.series:
            lengths = {len(series.x), len(series.y)} | {len(x) for x in (series.low, series.high, series.labels) if x}
            if len(lengths) != 1:
                raise ValueError(f"plot {plot.title!r}, series {series.name!r} has lists of other lengths")
    storage.publish_json(storage.join(output, PART), asdict(part))


def read_part(output: str) -> Part:
    """The part that an analysis wrote to `output`."""
    return from_json(storage.read_json(storage.join(output, PART)))


def from_json(record: Mapping[str, Any]) -> Part:
    """The part of what `publish_part` wrote; of before headlines said how they were made, too."""
    return Part(
        name=record["name"],
        title=record["title"],
        about=record["about"],
        headlines=tuple(Headline(**{"how": "", **headline}) for headline in record["headlines"]),
        tables=tuple(
            Table(**{**_tuples(table), "rows": tuple(tuple(row) for row in table["rows"])})
            for table in record["tables"]
        ),
        plots=tuple(
            Plot(**{**_tuples(plot), "series": tuple(Series(**_tuples(series)) for series in plot["series"])})
            for plot in record["plots"]
        ),
    )


def _tuples(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
