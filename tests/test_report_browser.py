"""The report in a real browser, headless: it opens, filters, searches, pages and plots; nothing in the data runs.

Chromium is found by $CHROMIUM or on PATH; without it these tests skip.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from report_world import checked, evil_rows, plain_rows, plotted_part, write_checks, write_part, write_run

from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.report.publish import ReportSettings, publish_report

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SCREENSHOTS = os.environ.get("IPT_STREAM_SCREENSHOTS")
"""A folder for pictures of the whole page, to be looked at; without it only its top is taken, and thrown away."""
SHARDS = {"pubmed": [plain_rows("pubmed", 60)[:30], plain_rows("pubmed", 60)[30:]], "web": [plain_rows("web", 40)]}
ROWS = [row for segments in SHARDS.values() for rows in segments for row in rows]
EVIL = (
    "</script><script>window.hacked = 1; alert(1)</script>",
    '<img src="x" onerror="window.hacked = 1">',
    "<svg onload=window.hacked=1><!-- <script> ]]> \u2028 \u2029 & &lt; ${alert(1)} \u202e",
    "javascript:window.hacked=1",
)


@dataclass(slots=True)
class Seen:
    """What a page did that it should not."""

    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not here: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no browser: set CHROMIUM to one, or put chromium on PATH")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 50 examples of two sources, with checks and all kinds of plots."""
    folder = tmp_path_factory.mktemp("report")
    inputs = Inputs(synthesis=str(write_run(folder / "segments", SHARDS)))
    directories = {
        "checks": str(write_checks(folder / "checks", SHARDS)),
        "other": str(write_part(folder / "other", plotted_part("other"))),
    }
    publish_report(inputs, ReportSettings(file=str(folder / "page.html")), str(folder), directories)
    return folder / "page.html"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose every text is an attack."""
    folder = tmp_path_factory.mktemp("evil")
    shards = {EVIL[1]: [evil_rows(EVIL[1], EVIL)]}
    inputs = Inputs(synthesis=str(write_run(folder / "segments", shards)))
    part = plotted_part("checks", EVIL[:3])
    directories = {"checks": str(write_part(folder / "checks", part))}
    settings = ReportSettings(file=str(folder / "page.html"), title=EVIL[0])
    publish_report(inputs, settings, str(folder), directories)
    return folder / "page.html"


def opened(browser: Any, file: Path, width: int = 1280, height: int = 900, **options: Any) -> tuple[Any, Seen]:
    """A new page that shows `file`, once its first example is there."""
    page = browser.new_page(viewport={"width": width, "height": height}, **options)
    seen = Seen()
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.messages.append(str(error)))
    page.on("dialog", lambda dialog: (seen.dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(file.as_uri())
    page.set_default_timeout(120_000)
    page.wait_for_selector("html[data-ready-ms]")
    return page, seen


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    made, seen = opened(browser, report)
    yield made
    made.close()
    assert seen == Seen(requests=[report.as_uri()]), "one file, no message, no dialog"


def position(page: Any) -> str:
    return str(page.inner_text("#position"))


def fits(row: Any) -> list[dict[str, Any]]:
    return [checked(row, pair) for pair in range(len(row.pairs))]


def examples_where(holds: Any) -> int:
    """How many of the examples, of two rows each, hold for one of their rows."""
    return sum(any(map(holds, ROWS[start : start + 2])) for start in range(0, len(ROWS), 2))


def expect_count(page: Any, count: int) -> None:
    page.wait_for_function(
        "start => document.getElementById('position').textContent.startsWith(start)",
        arg="1 of 50 examples" if count == 50 else f"1 of {count} found in 50" if count else "None found in 50",
    )


def test_it_opens_with_the_first_example_beside_its_pairs(page: Any) -> None:
    assert position(page) == "1 of 50 examples"
    texts = page.locator("#example .shot .side:first-child .corpus").all_inner_texts()
    assert texts == [row.text for row in ROWS[:2]]
    pairs = page.locator("#example .pair").count()
    assert pairs == sum(len(row.pairs) for row in ROWS[:2])
    assert page.inner_text("#example .instruction >> nth=0") == ROWS[0].pairs[0].instruction
    assert "Grounding 0.01" in page.inner_text("#example .pair >> nth=1")
    # The text stands beside its pairs, not above them.
    text, beside = (page.locator(f"#example .shot:first-of-type .side >> nth={n}").bounding_box() for n in (0, 1))
    assert text["y"] == beside["y"] and text["x"] + text["width"] <= beside["x"] + 1


def test_next_previous_random_and_keys(page: Any) -> None:
    assert page.is_disabled("#previous")
    page.click("#next")
    page.wait_for_function("() => document.querySelector('#example strong').textContent === 'pubmed:2#0'")
    assert position(page) == "2 of 50 examples"
    page.focus("#example")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('#example strong').textContent === 'pubmed:6#0'")
    page.keyboard.press("ArrowLeft")
    assert position(page) == "3 of 50 examples"
    page.keyboard.press("r")
    page.wait_for_function("() => !document.getElementById('position').textContent.startsWith('3 of')")
    page.click("#random")
    assert re.match(r"\d+ of 50", position(page))
    page.fill("#search", "x")
    page.press("#search", "ArrowLeft")
    page.fill("#search", "")


def test_filters_by_source_round_and_text(page: Any) -> None:
    page.select_option("#source", label="web")
    expect_count(page, 20)
    assert page.inner_text("#example strong") == "web:0#0"
    page.select_option("#round", label="Round 2")
    expect_count(page, 20)
    page.fill("#search", "an  OTTER by")
    expect_count(page, sum(any(r.row % 3 == 0 for r in ROWS[s : s + 2]) for s in range(60, 100, 2)))
    assert page.locator("#example mark").first.inner_text() == "an otter by"
    page.fill("#search", "nothing of the (kind.*")
    expect_count(page, 0)
    assert "Clear a filter" in page.inner_text("#example")
    page.click("button[type=reset]")
    expect_count(page, 50)
    page.fill("#search", "What was seen in 37")
    expect_count(page, 2)
    page.fill("#search", "")
    expect_count(page, 50)


def test_filters_by_checks(page: Any) -> None:
    assert page.is_hidden("#flag") and page.is_hidden("#least")
    page.select_option("#check", label="Degenerate")
    page.wait_for_selector("#flag:visible")
    assert page.locator("#flag option").all_inner_texts() == ["flagged: yes", "not flagged"]
    expect_count(page, examples_where(lambda row: any(found["degenerate"] for found in fits(row))))
    assert page.locator("#example .found .chosen").first.inner_text().startswith("Degenerate yes")
    page.select_option("#check", label="Grounding")
    assert page.locator("#flag option").first.inner_text() == "flagged: < 0.25"
    expect_count(page, examples_where(lambda row: any(found["grounding"] < 0.25 for found in fits(row))))
    assert page.locator("#example .found .flagged").first.inner_text().startswith("Grounding 0")
    page.select_option("#flag", label="not flagged")
    expect_count(page, examples_where(lambda row: any(found["grounding"] >= 0.25 for found in fits(row))))
    page.select_option("#flag", label="in a range")
    page.wait_for_selector("#least:visible")
    assert page.get_attribute("#most", "placeholder") == "0.59"
    page.fill("#least", "0.5")
    expect_count(page, examples_where(lambda row: any(found["grounding"] >= 0.5 for found in fits(row))))
    page.fill("#most", "0.52")
    expect_count(page, examples_where(lambda row: any(0.5 <= found["grounding"] <= 0.52 for found in fits(row))))
    page.select_option("#check", label="Log prob")
    assert page.locator("#flag option").all_inner_texts() == ["in a range"]
    expect_count(page, 0)
    page.click("button[type=reset]")
    expect_count(page, 50)
    assert page.is_hidden("#flag") and page.is_hidden("#least")


def test_the_rendered_form_holds_texts_and_pairs(page: Any, report: Path) -> None:
    from ipt_stream.mixture.render import render
    from ipt_stream.synthesis.results import list_segments, load_examples

    (first, *_) = load_examples(list_segments(str(report.parent / "segments"))[0])
    page.click("[data-view=rendered]")
    page.wait_for_selector("#example .rendered")
    assert page.locator("#example .rendered").text_content() == render(first, 0)
    assert page.get_attribute("[data-view=rendered]", "aria-pressed") == "true"
    page.click("[data-view=pairs]")
    page.wait_for_selector("#example .shot")


def test_plots_show_values_and_series_can_be_left_out(page: Any) -> None:
    figures = page.locator("#checks .plot")
    assert figures.count() == 5
    for number in range(4):
        figure = figures.nth(number)
        figure.scroll_into_view_if_needed()
        assert figure.locator("svg").count() == 1
        box = figure.locator("svg").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.62, box["y"] + box["height"] * 0.45)
        if number < 3:
            assert figure.locator(".tip").is_visible()
    line = figures.nth(0)
    line.locator(".canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert line.locator(".tip .title").inner_text() == "threshold 0.05"
    assert line.locator("[aria-live]").text_content() == (
        "threshold 0.05: yield 99.8%, grounded 52.5% (47.5% to 57.5%)"
    )
    page.keyboard.press("Escape")
    assert line.locator(".tip").is_hidden()
    assert line.locator("polyline").count() == 2
    line.locator(".legend button").nth(1).click()
    assert line.locator("polyline").count() == 1
    assert line.locator(".legend button").nth(1).get_attribute("aria-pressed") == "false"
    point = figures.nth(3)
    point.locator(".canvas").focus()
    page.keyboard.press("ArrowRight")
    assert point.locator(".tip").inner_text().split("\n")[:2] == ["tokens 10", "a"]
    assert figures.nth(0).locator("table tr").count() == 1 + 2 * 21
    page.keyboard.press("Escape")
    shares = figures.nth(4).locator("svg text[text-anchor=end]").all_text_contents()
    ticks = [float(text.removesuffix("%")) for text in shares if text.endswith("%")]
    assert len(ticks) > 2 and max(ticks) == 100, "no share is more than all"


def test_colours_follow_the_system_and_the_switch(browser: Any, report: Path) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    page, _ = opened(browser, report, color_scheme="dark")
    dark = page.evaluate(ground)
    page.click("[data-choice=light]")
    light = page.evaluate(ground)
    assert light != dark
    assert page.get_attribute("[data-choice=light]", "aria-pressed") == "true"
    page.emulate_media(color_scheme="light")
    page.click("[data-choice=auto]")
    assert page.evaluate(ground) == light
    page.click("[data-choice=dark]")
    assert page.evaluate(ground) == dark
    page.reload()
    page.wait_for_selector("html[data-ready-ms]")
    assert page.evaluate(ground) == dark, "the choice is kept"
    page.close()


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_overflows(browser: Any, report: Path, evil: Path, width: int) -> None:
    for file in (report, evil):
        page, _ = opened(browser, file, width, 780)
        for view in ("rendered", "pairs"):
            page.click(f"[data-view={view}]")
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        wide = """() => [...document.querySelectorAll('main *')]
            .filter((it) => !it.closest('.scroll, .canvas, pre, .hidden'))
            .filter((it) => it.getBoundingClientRect().right > innerWidth + 0.5)
            .map((it) => it.outerHTML.slice(0, 120))"""
        assert page.evaluate(wide) == []
        page.close()


def test_tables_and_controls_can_be_read_without_eyes(page: Any) -> None:
    assert page.locator("table th:not([scope])").count() == 0
    assert page.locator("input:visible, select:visible").count() > 3
    unlabelled = "() => [...document.querySelectorAll('input, select')].filter((it) => !it.labels.length).length"
    assert page.evaluate(unlabelled) == 0
    assert page.locator("[role=img]:not([aria-label]), button:not([type])").count() == 0
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    paper = page.locator("#checks table").first.locator("td.paper")
    assert paper.all_inner_texts() == ["95.0%", "–", "30.0%"]
    number = page.locator("#checks td.number").first
    assert number.evaluate("it => getComputedStyle(it).textAlign") == "right"


def test_what_is_in_the_data_stays_text(browser: Any, evil: Path) -> None:
    page, seen = opened(browser, evil)
    for number in range(len(EVIL)):
        page.wait_for_function(
            "text => document.querySelector('#example .side .corpus').textContent === text", arg=EVIL[number]
        )
        page.click("[data-view=rendered]")
        page.wait_for_selector("#example .rendered")
        page.click("[data-view=pairs]")
        if number + 1 < len(EVIL):
            page.click("#next")
    page.fill("#search", EVIL[0])
    page.wait_for_selector("#example mark")
    for plot in page.locator(".plot .canvas").all():
        plot.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
    assert page.title() == EVIL[0]
    assert page.inner_text("h1") == EVIL[0]
    assert page.evaluate("() => window.hacked") is None
    assert page.locator("img, iframe, object, embed").count() == 0
    assert seen == Seen(requests=[evil.as_uri()])
    refused = page.evaluate(
        """() => { const made = document.createElement('div');
        try { made.innerHTML = '<img src=x onerror="window.hacked = 1">'; } catch (error) { return error.name; } }"""
    )
    assert refused == "TypeError", "the policy refuses strings as HTML, whoever assigns them"
    page.close()


def test_it_is_there_without_scripts_too(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert "1,234" in page.inner_text("#checks table >> nth=0")
    assert "Without scripts" in page.content()
    context.close()


def test_pictures(browser: Any, report: Path, tmp_path: Path) -> None:
    folder = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path
    for width in (1280, 390):
        pictures = {}
        for colours in ("light", "dark"):
            page, _ = opened(browser, report, width, 900, color_scheme=colours)
            file = folder / f"report-{width}-{colours}.png"
            pictures[colours] = page.screenshot(path=file, full_page=SCREENSHOTS is not None)
            page.close()
        assert pictures["light"] != pictures["dark"]
