"""Tables and figures as HTML: numbers as people read them, everything else escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from html import escape

from ipt_stream.analysis.part import Cell, Headline, Plot, Table

LONG_TABLE = 24
"""A table with more rows scrolls in its own box."""
WIDE_TABLE = 48
"""A table whose rows take more characters has the page's whole width; others stand side by side."""
PAPER = "paper"
NUMBER = re.compile(r"(about |[<>~≈±+-])?\d")


def table_html(table: Table, name: str) -> str:
    """`table` as a figure; `name` is its id in the page."""
    long = " long" if len(table.rows) > LONG_TABLE else ""
    wide = " wide" if _characters(table) > WIDE_TABLE else ""
    return (
        f'<figure class="block{wide}" id="{escape(name)}" aria-labelledby="{escape(name)}-title">'
        f'<h3 id="{escape(name)}-title">{escape(table.title)}</h3>'
        f'<div class="scroll{long}" role="region" tabindex="0" aria-label="{escape(table.title)}, table">'
        f"{grid_html(table)}</div>"
        f"{notes_html(table.note, table.how)}</figure>"
    )


def grid_html(table: Table) -> str:
    """The rows and columns alone. The first column names its row; the paper's columns are set apart."""
    shown = list(zip(*(column_cells(table, index) for index in range(len(table.columns))), strict=True))
    right = [_is_numeric(table, index) for index in range(len(table.columns))]
    words = [any(isinstance(row[index], str) for row in table.rows) for index in range(len(table.columns))]
    paper = [column in table.paper for column in table.columns]

    def classes(index: int) -> str:
        found = " ".join(
            name
            for name, on in (
                ("number", right[index]),
                ("words", right[index] and words[index]),
                ("paper", paper[index]),
            )
            if on
        )
        return f' class="{found}"' if found else ""

    head = "".join(
        f'<th scope="col"{classes(index)}>{escape(_column_title(column, paper[index]))}</th>'
        for index, column in enumerate(table.columns)
    )
    body = "".join(
        "<tr>" + "".join(_cell(i, text, classes(i)) for i, text in enumerate(row)) + "</tr>" for row in shown
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def plot_html(plot: Plot, number: int, name: str) -> str:
    """A place for plot `number` of the page's data, with its values as a table for those who can't see it."""
    return (
        f'<figure class="block plot" id="{escape(name)}" data-plot="{number}" aria-labelledby="{escape(name)}-title">'
        f'<h3 id="{escape(name)}-title">{escape(plot.title)}</h3>'
        f'<div class="drawing"></div>'
        f'<details class="values"><summary>Values</summary>'
        f'<div class="scroll long" role="region" tabindex="0" aria-label="{escape(plot.title)}, values">'
        f"{grid_html(plot_table(plot))}</div></details>"
        f"{notes_html(plot.note, plot.how)}</figure>"
    )


def plot_table(plot: Plot) -> Table:
    """The values of a plot, one row a point."""
    with_intervals = any(series.low for series in plot.series)
    columns = ("series", plot.x_label or "x", plot.y_label or "y", *(("low", "high") if with_intervals else ()))
    rows = []
    for series in plot.series:
        for index, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            ends: tuple[Cell, ...] = ()
            if with_intervals:
                ends = (series.low[index], series.high[index]) if series.low else (None, None)
            rows.append((series.name, x, y, *ends))
    # Two columns may share a name; what is a share follows from the place.
    percent = tuple(columns[2:]) if plot.percent else ()
    return Table(plot.title, columns, tuple(rows), percent=percent, how=plot.how)


def headline_html(headline: Headline, target: str) -> str:
    """A figure that links to its section."""
    note = f'<span class="note">{escape(headline.note)}</span>' if headline.note else ""
    label = headline.label[:1].upper() + headline.label[1:]
    return (
        f'<li><a class="figure" href="#{escape(target)}"><span class="label">{escape(label)}</span>'
        f'<span class="value">{escape(headline.value)}</span>{note}</a></li>'
    )


def notes_html(note: str, how: str) -> str:
    """What a reader must know, and, folded away, how the numbers were made."""
    shown = f'<p class="note">{escape(note)}</p>' if note else ""
    made = f'<details class="how"><summary>How it was made</summary><p>{escape(how)}</p></details>' if how else ""
    return f"<figcaption>{shown}{made}</figcaption>" if shown or made else ""


def column_cells(table: Table, index: int) -> list[str]:
    """The cells of a column as text; its fractions all with as many digits, so that they stand under each other."""
    cells = [row[index] for row in table.rows]
    percent = table.columns[index] in table.percent
    digits = _digits([cell for cell in cells if isinstance(cell, float) and math.isfinite(cell)], percent)
    return [_text(cell, percent, digits) for cell in cells]


def _digits(values: Sequence[float], percent: bool) -> int:
    """Digits after the point: three that say something of the greatest value, or what the values have."""
    greatest = max((abs(value) for value in values), default=0.0) * (100 if percent else 1)
    if percent:
        return 1 if greatest >= 1 or greatest == 0 else 2
    if all(value == round(value) for value in values):
        return 0
    enough = next((digits for digits in range(1, 4) if all(round(v, digits) == v for v in values)), 3)
    return min(enough, 0 if greatest >= 1000 else 1 if greatest >= 100 else 2 if greatest >= 10 else 3)


def _text(cell: Cell, percent: bool, digits: int) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float) and not math.isfinite(cell):
        return "–"
    if percent:
        return f"{cell:.{digits}%}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:,.{digits}f}" if cell == 0 or abs(cell) >= 10**-digits else f"{cell:.2g}"


def _characters(table: Table) -> int:
    """About how wide the table is: the longest cell of each column, and the space between them."""
    columns = [[title, *column_cells(table, index)] for index, title in enumerate(table.columns)]
    return sum(max(map(len, column)) + 3 for column in columns)


def _is_numeric(table: Table, index: int) -> bool:
    """Whether a column holds numbers, or texts that begin with one, such as `12.5 ± 0.3`."""
    cells = [row[index] for row in table.rows if row[index] is not None]
    return bool(cells) and all(not isinstance(cell, str) or NUMBER.match(cell) for cell in cells)


def _cell(index: int, text: str, classes: str) -> str:
    shown = escape(text) if text else '<span class="none" aria-label="none">–</span>'
    if index == 0:
        return f'<th scope="row"{classes}>{shown}</th>'
    return f"<td{classes}>{shown}</td>"


def _column_title(column: str, paper: bool) -> str:
    """A column of the paper's own numbers says so."""
    if not paper or PAPER in column.lower():
        return column
    return f"{column} ({PAPER})"


def methods(headlines: Sequence[Headline], tables: Sequence[Table], plots: Sequence[Plot]) -> Iterator[tuple[str, str]]:
    """What headlines, tables and plots say of how they were made, by label or title."""
    yield from (
        (headline.label[:1].upper() + headline.label[1:], headline.how) for headline in headlines if headline.how
    )
    yield from ((table.title, table.how) for table in tables if table.how)
    yield from ((plot.title, plot.how) for plot in plots if plot.how)
