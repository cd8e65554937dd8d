"""What a run says while it works: a bar for people, one aligned line a unit for logs, JSON lines for machines.

Everything goes to standard error, so that standard output stays free for what a command was asked to print.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("ipt_stream")
LABEL = "IPT_STREAM_LABEL"
"""Environment variable: what this process is called in a log that several write to, in lines only."""


def set_up_logging(level: int = logging.INFO) -> None:
    """Send the package's log to standard error, one line a record. Called by the command line alone."""
    handler = logging.StreamHandler(sys.stderr)
    label = f"{os.environ[LABEL]}: ".replace("%", "%%") if LABEL in os.environ else ""
    handler.setFormatter(logging.Formatter(f"%(asctime)s  {label}%(message)s", "%H:%M:%S"))
    log.handlers = [handler]
    log.setLevel(level)
    log.propagate = False


@dataclass(slots=True)
class Meter:
    """Counts units of work against a total and shows them as a bar on a terminal, or a line now and then in a log.

    Args:
        name: what is being done, as the bar's label.
        total: how many units there are, or None where that is not known.
        unit: the noun of the units.
        every_s: seconds between two log lines where there is no terminal.
        resumed: units that were done before this run; not counted in its rate.
        metrics_path: a local file that gets one JSON line an update, with a wall-clock time, or None.
    """

    name: str
    total: int | None
    unit: str
    every_s: float = 15.0
    metrics_path: str | None = None
    resumed: int = 0
    done: int = 0
    _started: float = field(default_factory=time.monotonic)
    _last_line: float = 0.0
    _bar: Any = None
    _task: Any = None

    def __post_init__(self) -> None:
        self.done = self.resumed

    def update(
        self,
        advance: int,
        figures: Mapping[str, float | int | str] | None = None,
        more: Mapping[str, float | int | str] | None = None,
    ) -> None:
        """Count `advance` more units; `figures` are shown beside the bar and written as metrics, `more` is written."""
        self.done += advance
        shown = "  ".join(f"{key} {_short(value)}" for key, value in (figures or {}).items())
        if self._bar is not None:
            self._bar.update(self._task, advance=advance, figures=shown)
        elif time.monotonic() - self._last_line >= self.every_s or self.done == self.total:
            self._last_line = time.monotonic()
            of = f"/{self.total:,}" if self.total is not None else ""
            log.info("%-12s %12s %s  %s  eta %s", self.name, f"{self.done:,}{of}", self.unit, shown, self.eta())
        if self.metrics_path is not None:
            record = {"time": time.time(), "name": self.name, "done": self.done, "total": self.total}
            os.makedirs(os.path.dirname(self.metrics_path), exist_ok=True)
            with open(self.metrics_path, "a", encoding="utf-8") as file:
                file.write(json.dumps({**record, **(figures or {}), **(more or {})}) + "\n")

    def line(self, text: str) -> None:
        """Log a line of its own: above the bar on a terminal."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            log.info("%s", text)

    def elapsed_s(self) -> float:
        """Seconds since the meter was made."""
        return time.monotonic() - self._started

    def eta(self) -> str:
        """Time that is left at the mean rate so far, as `m:ss`; `?` before anything is done."""
        made = self.done - self.resumed
        if self.total is None or not made:
            return "?"
        left = (self.total - self.done) * self.elapsed_s() / made
        return f"{int(left) // 60}:{int(left) % 60:02d}"


@contextmanager
def meter(name: str, total: int | None, unit: str, **settings: Any) -> Iterator[Meter]:
    """A `Meter`, with a live bar where standard error is a terminal."""
    made = Meter(name, total, unit, **settings)
    if not sys.stderr.isatty() or LABEL in os.environ:
        yield made
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit)]
    columns += [TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[figures]}")]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        made._bar, made._task = bar, bar.add_task(name, total=total, completed=made.done, figures="")
        yield made


def _short(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value
