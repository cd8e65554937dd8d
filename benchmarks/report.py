"""How soon a report opens in a browser, and how soon it finds something in all of its examples.

    python benchmarks/report.py

Chromium, headless, found by $CHROMIUM or on PATH; the package playwright drives it. Opened is: from the request of the
file to the first example on the page. The examples have three texts of 250 words each, with five pairs and checks.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from common import documents, save

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
SHOTS, PAIRS, WORDS = 3, 5, 250
CHECKS = ("grounding", "overlap", "repetition", "log_prob", "duplicate", "no_question")


class Checks:
    """Checks made up on the spot, in the place of their files."""

    keeps: ClassVar = {"grounding": (">=", 0.5), "duplicate": ("==", 0.0)}

    def __init__(self) -> None:
        self._random = random.Random(0)

    def of(self, item: Any) -> dict[str, list[Any]]:
        """Values of all pairs of an example, by check."""
        count = sum(len(row.pairs) for row in item.rows)
        flags = {name: [self._random.random() < 0.02 for _ in range(count)] for name in CHECKS[4:]}
        return {name: [self._random.random() for _ in range(count)] for name in CHECKS[:4]} | flags


def examples(count: int) -> Iterator[Any]:
    """Examples of made-up words, as if drawn from a run."""
    from ipt_stream.analysis.report.sample import Drawn
    from ipt_stream.corpus.pair import Pair
    from ipt_stream.synthesis.segment import SegmentRow, Status

    texts = documents(count * SHOTS, WORDS)
    for number in range(count):
        rows = []
        for shot in range(SHOTS):
            text = next(iter(texts))
            words = text.split()
            pairs = [
                Pair(f"What follows {words[9 * n]} {words[9 * n + 1]} here?", " ".join(words[9 * n : 9 * n + 12]))
                for n in range(PAIRS)
            ]
            rows.append(
                SegmentRow(
                    document_id=f"web-{number % 16:02d}:{number * SHOTS + shot}", source_id=None,
                    source=f"web-{number % 16:02d}", row=number * SHOTS + shot, piece=0, chain=number, round=shot,
                    text=text, pairs=tuple(pairs), inherits=shot > 0, status=Status.AUGMENTED, reason="",
                    prompt_tokens=0, cached_tokens=0, generated_tokens=0, generation="",
                )
            )  # fmt: skip
        yield Drawn(None, tuple(rows))  # type: ignore[arg-type]


def write_page(file: Path, count: int) -> float:
    """A report of so many examples; gives the seconds that it took, without making them up."""
    from ipt_stream.analysis.report.examples import collect
    from ipt_stream.analysis.report.page import Facts, assemble
    from ipt_stream.mixture.sources import Making

    made_up = list(examples(count))
    started = time.perf_counter()
    found = collect(made_up, Making(0), Checks(), 20_000)  # type: ignore[arg-type]
    file.write_bytes(assemble([], found, Facts("A report", {}, "ipt-stream", "Made up.")))
    return time.perf_counter() - started


def measure(browser: Any, file: Path) -> dict[str, float]:
    """Milliseconds: to open, to search all texts for the first time and again, to filter by a check."""
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready-ms]", timeout=120_000)
    found = {"open": float(page.get_attribute("html", "data-ready-ms"))}

    def wait(act: str) -> float:
        started = time.perf_counter()
        before = page.inner_text("#position")
        page.evaluate(act)
        page.wait_for_function(
            "before => ![before, 'Searching …'].includes(document.getElementById('position').textContent)",
            arg=before, timeout=120_000,
        )  # fmt: skip
        return (time.perf_counter() - started) * 1000

    search = "const it = document.getElementById('search'); it.value = {}; it.dispatchEvent(new Event('input'))"
    found["search"] = wait(search.format("'follows be'"))
    found["again"] = wait(search.format("'follows st'"))
    found["clear"] = wait(search.format("''"))
    check = "const it = document.getElementById('check'); it.value = '4'; it.dispatchEvent(new Event('change'))"
    found["check"] = wait(check)
    page.close()
    return found


def main() -> None:
    """Write the page, and open it some times."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        parser.error("no browser: set CHROMIUM to one, or put chromium on PATH")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        file = Path(scratch) / "report.html"
        written = write_page(file, options.examples)
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        version = browser.version
        found = [measure(browser, file) for _ in range(options.times)]
        browser.close()
        size = file.stat().st_size
    median = {key: statistics.median(one[key] for one in found) for key in found[0]}
    save(
        "report",
        "A report in a browser",
        {
            "examples, of 3 texts of 250 words with 15 pairs": f"{options.examples:,}",
            "size of the file": f"{size / 1e6:.1f} MB",
            "s to write it": f"{written:.1f}",
            "s to open it (wanted: 3)": f"{median['open'] / 1000:.2f}",
            "s to search all texts, the first time": f"{median['search'] / 1000:.2f}",
            "s to search them again": f"{median['again'] / 1000:.2f}",
            "s to filter by a check": f"{median['check'] / 1000:.2f}",
        },
        f"Medians of {options.times} openings, each in a new page of Chromium {version}; a search waits 0.18 s for "
        "more letters.",
    )


if __name__ == "__main__":
    main()
