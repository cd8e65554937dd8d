"""The page: document, style, scripts and data in one file, and the policy that lets nothing else run or load."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from ipt_stream.analysis.part import Part
from ipt_stream.analysis.report.examples import Examples
from ipt_stream.analysis.report.tables import headline_html, methods, plot_html, table_html

SCRIPTS = ("dom.js", "plots.js", "examples.js", "browser.js", "page.js")
"""In the order in which they are joined: one script, of one hash."""
STYLES = ("page.css", "parts.css")
DOCUMENT, BROWSER = "page.html", "browser.html"
HEADLINES, MOST_HEADLINES = 2, {"summary": 4}
"""How many figures of an analysis stand at the top; the first ones are the most important."""


@dataclass(frozen=True, slots=True)
class Section:
    """An analysis as the page shows it: its part, where it lies, and the settings that it was made with."""

    part: Part
    directory: str
    settings: Mapping[str, Any]
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page says of itself: its title, what was looked at by name, the version, how examples were chosen."""

    title: str
    places: Mapping[str, str]
    version: str
    examples: str


def assets() -> dict[str, str]:
    """The page's own files by name."""
    folder = files("ipt_stream.analysis.report")
    return {name: folder.joinpath(name).read_text("utf-8") for name in (DOCUMENT, BROWSER, *STYLES, *SCRIPTS)}


def assemble(sections: Sequence[Section], examples: Examples | None, facts: Facts) -> bytes:
    """The whole file. The same arguments give the same bytes."""
    known = assets()
    style = "\n".join(known[name] for name in STYLES)
    script = "(() => {\n'use strict';\n" + "\n".join(known[name] for name in SCRIPTS) + "\n})();\n"
    plots = [plot for section in sections for plot in section.part.plots]
    data = {"plots": [asdict(plot) for plot in plots], "examples": examples.index() if examples else None}
    filled = Template(known[DOCUMENT]).substitute(
        policy=escape(policy(script, style)),
        title=escape(facts.title),
        places="".join(_place(name, path) for name, path in facts.places.items()),
        navigation="".join(_links(sections, examples)),
        headlines="".join(
            headline_html(headline, section.part.name)
            for section in sections
            for headline in section.part.headlines[: MOST_HEADLINES.get(section.part.name, HEADLINES)]
        ),
        sections="".join(_sections(sections)),
        browser=Template(known[BROWSER]).substitute(about=escape(facts.examples)) if examples else "",
        methods="".join(_methods(section) for section in sections),
        version=escape(facts.version),
        style=style,
        data=script_json(data),
        blocks="".join(_blocks(examples)),
        script=script,
    )
    # A lone surrogate has no UTF-8: as a reference it is what a browser shows for broken text.
    return filled.encode("utf-8", "xmlcharrefreplace")


def policy(script: str, style: str) -> str:
    """The content security policy that lets just `script` and `style` be used, and nothing be loaded."""
    rules = (
        "default-src 'none'",
        f"script-src '{digest(script)}'",
        f"style-src '{digest(style)}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return "; ".join(rules)


def digest(text: str) -> str:
    """How a policy names an inline block."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def script_json(value: Any) -> str:
    """`value` as JSON that may stand in a `<script>`: ASCII, and nothing in it looks like HTML. NaN becomes null."""
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)  # escapes what is not ASCII: U+2028 too
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    """`value` without numbers that JSON hasn't."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value


def _links(sections: Sequence[Section], examples: Examples | None) -> Iterator[str]:
    for section in sections:
        yield f'<li><a href="#{escape(section.part.name)}">{escape(section.part.title)}</a></li>'
    if examples is not None:
        yield '<li><a href="#examples">Examples</a></li>'
    yield '<li><a href="#methods">How each number was made</a></li>'


def _sections(sections: Sequence[Section]) -> Iterator[str]:
    number = 0
    for section in sections:
        part = section.part
        name = escape(part.name)
        yield f'<section id="{name}" aria-labelledby="{name}-heading"><h2 id="{name}-heading">{escape(part.title)}</h2>'
        yield f'<p class="about">{escape(part.about)}</p><div class="blocks tables">'
        for index, table in enumerate(part.tables):
            yield table_html(table, f"{part.name}-table-{index}")
        yield '</div><div class="blocks plots">'
        for index, plot in enumerate(part.plots):
            yield plot_html(plot, number, f"{part.name}-plot-{index}")
            number += 1
        yield "</div></section>"


def _place(name: str, path: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(path)}</dd></div>"


def _methods(section: Section) -> str:
    part = section.part
    rows = "".join(
        f'<tr><th scope="row">{escape(title)}</th><td>{escape(how)}</td></tr>'
        for title, how in methods(part.headlines, part.tables, part.plots)
    )
    made = (
        '<div class="scroll" role="region" tabindex="0" '
        f'aria-label="{escape(part.title)}, how its numbers were made"><table class="text"><thead><tr>'
        '<th scope="col">Figure</th><th scope="col">How it was made</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    took = "" if section.seconds is None else f", in {section.seconds:,.0f} s"
    settings = json.dumps(_finite(section.settings), indent=2, sort_keys=True, ensure_ascii=False)
    return (
        f'<article class="block method"><h3>{escape(part.title)}</h3>'
        f'<p class="note">Analysis <code>{escape(part.name)}</code> in <code>{escape(section.directory)}</code>{took}; '
        "its records for machines lie there.</p>"
        + (made if rows else "")
        + f"<details><summary>Settings and inputs</summary><pre>{escape(settings)}</pre></details></article>"
    )


def _blocks(examples: Examples | None) -> Iterator[str]:
    """The compressed blocks: base64 alone, which no browser runs or takes for HTML."""
    if examples is None:
        return
    for kind, blocks in (("examples", examples.blocks), ("checks", examples.columns)):
        for number, block in enumerate(blocks):
            yield f'<script type="application/octet-stream" id="{kind}-{number}">{block}</script>\n'
