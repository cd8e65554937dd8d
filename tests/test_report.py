"""The report without a browser: which examples it holds, how they are packed, and that nothing in it can run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as how_often
from hypothesis import strategies as st
from mixture_world import make_run
from report_world import checked, evil_rows, plain_rows, plotted_part, write_checks, write_part, write_run

from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import Headline, Part, Plot, Series, Table, publish_part
from ipt_stream.analysis.report.checks import CheckColumns, read_condition
from ipt_stream.analysis.report.examples import apart, collect, compress
from ipt_stream.analysis.report.page import Facts, Section, assemble, policy, script_json
from ipt_stream.analysis.report.publish import ReportSettings, publish_report
from ipt_stream.analysis.report.sample import draw_examples, fill, in_turn
from ipt_stream.analysis.report.tables import column_cells, grid_html, plot_table
from ipt_stream.errors import InputError
from ipt_stream.mixture.render import render
from ipt_stream.mixture.sources import Making
from ipt_stream.stage import open_stage
from ipt_stream.synthesis.results import list_segments, load_examples

EVIL = (
    "</script><script>window.hacked = 1; alert(1)</script>",
    '<img src="x" onerror="window.hacked = 1">',
    "<!-- <script> ]]> \u2028 \u2029 & &lt; ${alert(1)} \x00 \x1b[31m \u202e",
)
SHARDS = {
    "pubmed": [plain_rows("pubmed", 40)[:20], plain_rows("pubmed", 40)[20:]],
    "web": [plain_rows("web", 20)],
}


class Elements(HTMLParser):
    """Tags with their attributes, and what stands in scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def opened(block: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(block)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "segments", SHARDS)


def test_quotas_by_hand() -> None:
    assert fill([10, 1, 10], 9) == [4, 1, 4]
    assert fill([2, 3], 100) == [2, 3]
    assert fill([5, 5, 5], 4) == [2, 1, 1]
    assert fill([], 4) == []


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(0, 200))
def test_quotas_are_as_equal_as_sizes_allow(sizes: list[int], number: int) -> None:
    taken = fill(sizes, number)
    assert sum(taken) == min(number, sum(sizes))
    assert all(0 <= quota <= size for quota, size in zip(taken, sizes, strict=True))
    most = max(taken, default=0)
    assert all(quota >= most - 1 for quota, size in zip(taken, sizes, strict=True) if quota < size)


def test_shards_take_turns(run: Path) -> None:
    references = list_segments(str(run))
    order = in_turn(references, 0)
    assert sorted(order) == [0, 1, 2]
    assert {references[index].shard.name for index in order[:2]} == {"pubmed", "web"}
    assert in_turn(references, 0) == order


def test_the_same_number_of_each_segment_by_seed(run: Path) -> None:
    references = list_segments(str(run))
    drawn = list(draw_examples(references, 9, 0))
    counts = [sum(item.segment == reference for item in drawn) for reference in references]
    assert counts == [3, 3, 3]
    ids = [item.rows[0].document_id for item in drawn]
    assert len(set(ids)) == 9
    assert [item.rows[0].document_id for item in draw_examples(references, 9, 0)] == ids
    assert [item.rows[0].document_id for item in draw_examples(references, 9, 1)] != ids
    everything = [item.rows[0].document_id for item in draw_examples(references, 1000, 0)]
    assert everything == [e.document_ids[0] for reference in references for e in load_examples(reference)]


def test_few_segments_are_read_of_many(tmp_path: Path) -> None:
    rows = plain_rows("web", 400)
    run = write_run(tmp_path / "segments", {"web": [rows[start : start + 40] for start in range(0, 400, 40)]})
    references = list_segments(str(run))
    drawn = list(draw_examples(references, 32, 0, least_segments=1))
    assert len(drawn) == 32
    assert len({item.segment.path for item in drawn}) == 2


def test_rendered_text_is_held_once_by_hand() -> None:
    assert apart("See: A. Q? A.", ["A."]) == ["See: ", 0, " Q? A."]
    assert apart("one\n\ntwo", ["one", "two"]) == [0, "\n\n", 1]
    assert apart("Q? A.", [""]) == ["Q? A."]


def test_blocks_give_back_the_examples_and_what_the_mixture_renders(tmp_path: Path) -> None:
    references = list_segments(str(make_run(tmp_path)))
    drawn = list(draw_examples(references, 1000, 0))
    found = collect(drawn, Making(7), None, 20_000)
    records = [record for block in found.blocks for record in opened(block)]
    examples = [example for reference in references for example in load_examples(reference)]
    assert [record["id"] for record in records] == [example.example_id for example in examples]
    assert found.sizes == [len(opened(block)) for block in found.blocks]
    for record, example in zip(records, examples, strict=True):
        texts = [shot["text"] for shot in record["shots"]]
        assert texts == [shot.text for shot in example.shots]
        made = [(p["instruction"], p["response"]) for shot in record["shots"] for p in shot["pairs"]]
        assert made == [(pair.instruction, pair.response) for shot in example.shots for pair in shot.pairs]
        (parts,) = record["rendered"]
        assert "".join(part if isinstance(part, str) else texts[part] for part in parts) == render(example, 7)
        assert sum(isinstance(part, int) for part in parts) == len(texts)
    assert found.pairs == [sum(len(shot.pairs) for shot in example.shots) for example in examples]


def test_many_examples_are_many_blocks(tmp_path: Path) -> None:
    rows = plain_rows("web", 4)
    long = [type(row)(**{**{f: getattr(row, f) for f in row.__slots__}, "text": "x" * 200_000}) for row in rows]
    references = list_segments(str(write_run(tmp_path / "s", {"web": [long]})))
    found = collect(draw_examples(references, 9, 0), Making(0), None, 1_000_000)
    assert found.sizes == [1, 1]
    assert found.shortened == 0
    cut = collect(draw_examples(references, 9, 0), Making(0), None, 150)
    (records,) = [opened(block) for block in cut.blocks]
    assert [(len(shot["text"]), shot["left_out"]) for shot in records[0]["shots"]] == [(150, 199_850)] * 2
    assert cut.shortened == 2


def test_checks_stand_with_their_pairs_and_in_columns(run: Path, tmp_path: Path) -> None:
    checks = CheckColumns(str(write_checks(tmp_path, SHARDS)))
    drawn = list(draw_examples(list_segments(str(run)), 12, 3))
    found = collect(drawn, Making(0), checks, 20_000)
    assert found.checks == ["grounding", "degenerate", "repeats", "log_prob"]
    assert found.kinds == ["number", "flag", "number", "number"]
    assert found.keeps == [(">=", 0.25), ("==", 0.0), None, None]
    pairs = [(row, pair) for item in drawn for row in item.rows for pair in range(len(row.pairs))]
    for name, block in zip(found.checks, found.columns, strict=True):
        assert opened(block) == [checked(row, pair)[name] for row, pair in pairs]
    rows = [row.row for item in drawn for row in item.rows]
    assert found.ranges == [(min(rows) / 100, max(rows) / 100), None, (0.0, 1.0), None]
    records = [record for block in found.blocks for record in opened(block)]
    shown = [pair["checks"] for record in records for shot in record["shots"] for pair in shot["pairs"]]
    assert shown == [list(checked(row, pair).values()) for row, pair in pairs]


@pytest.mark.parametrize(
    ("text", "found"),
    [(">= 0.5", (">=", 0.5)), ("<= 1e-05", ("<=", 1e-5)), (True, ("==", 1.0)), ("false", ("==", 0.0)),
     (None, None), ("about 3", None)],
)  # fmt: skip
def test_conditions_by_hand(text: str | bool | None, found: tuple[str, float] | None) -> None:
    assert read_condition(text) == found


def test_checks_of_another_run_are_refused(run: Path, tmp_path: Path) -> None:
    other = {"pubmed": [plain_rows("other", 20)], "web": [plain_rows("web", 20)]}
    checks = CheckColumns(str(write_checks(tmp_path, other)))
    with pytest.raises(InputError, match=r"is not of this synthesis run; wanted: pair 0 of pubmed:"):
        collect(draw_examples(list_segments(str(run)), 12, 0), Making(0), checks, 20_000)


def test_segments_that_were_not_checked_have_no_values(run: Path, tmp_path: Path) -> None:
    checks = CheckColumns(str(write_checks(tmp_path, {"pubmed": SHARDS["pubmed"]})))
    drawn = list(draw_examples(list_segments(str(run)), 12, 0))
    found = collect(drawn, Making(0), checks, 20_000)
    values = opened(found.columns[0])
    assert len(values) == sum(found.pairs)
    known = [row.source == "pubmed" for item in drawn for row in item.rows for _ in row.pairs]
    assert [value is not None for value in values] == known
    assert 0 < sum(known) < len(known)


def test_cells_as_people_read_them() -> None:
    table = Table(
        "t",
        ("n", "share", "score", "words"),
        ((1234, 0.617, 12.345, "about 5"), (5, 1.0, 3.0, None), (None, 0.0004, float("nan"), "52")),
        percent=("share",),
        paper=("words",),
        how="by hand",
    )
    assert [column_cells(table, index) for index in range(4)] == [
        ["1,234", "5", ""],
        ["61.7%", "100.0%", "0.0%"],
        ["12.35", "3.00", "–"],
        ["about 5", "", "52"],
    ]
    assert column_cells(Table("t", ("a",), ((0.0004,), (0.0,)), percent=("a",), how="by hand"), 0) == ["0.04%", "0.00%"]
    assert column_cells(Table("t", ("a",), ((2.0,), (3.0,)), how="by hand"), 0) == ["2", "3"]
    shown = grid_html(table)
    assert '<th scope="col" class="number words paper">words (paper)</th>' in shown
    assert '<th scope="row" class="number">1,234</th><td class="number">61.7%</td>' in shown


def test_a_plots_values_are_a_table_too() -> None:
    series = Series("a", (1.0, 2.0), (0.5, 0.25), (0.4, 0.2), (0.6, 0.3))
    plot = Plot("p", "line", "x", "y", (series,), percent=True, how="by hand")
    table = plot_table(plot)
    assert table.columns == ("series", "x", "y", "low", "high")
    assert table.rows == (("a", 1.0, 0.5, 0.4, 0.6), ("a", 2.0, 0.25, 0.2, 0.3))
    assert column_cells(table, 2) == ["50.0%", "25.0%"]


@how_often(max_examples=40)
@given(
    st.recursive(st.text() | st.floats() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_in_a_script_holds_nothing_that_looks_like_html(value: Any) -> None:
    text = script_json({"it": value, "evil": list(EVIL)})
    assert text.isascii()
    assert not set(text) & set("<>&")
    assert json.loads(text)["evil"] == list(EVIL)


def test_compressed_blocks_are_letters_alone() -> None:
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", compress(json.dumps(EVIL)))


def evil_page(tmp_path: Path) -> str:
    words = EVIL[:3]
    part = plotted_part("checks", words)
    part = Part(part.name, EVIL[0], EVIL[1], part.headlines, part.tables, part.plots)
    references = list_segments(str(write_run(tmp_path / "segments", {EVIL[1]: [evil_rows("evil", EVIL)]})))
    examples = collect(draw_examples(references, 9, 0), Making(0), None, 20_000)
    section = Section(part, EVIL[0], {EVIL[1]: EVIL[0]})
    return assemble([section], examples, Facts(EVIL[0], {EVIL[1]: EVIL[0]}, "it", EVIL[1])).decode()


def test_nothing_of_the_data_becomes_an_element(tmp_path: Path) -> None:
    elements = Elements(evil_page(tmp_path))
    assert not [
        tag for tag, _ in elements.tags if tag in ("img", "iframe", "object", "embed", "form") and tag != "form"
    ]
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    kinds = [attributes.get("type") for tag, attributes in elements.tags if tag == "script"]
    assert kinds.count(None) == 1, "one script runs"
    assert set(kinds) == {None, "application/json", "application/octet-stream"}
    data = json.loads(elements.scripts[0])
    assert data["plots"][1]["series"][0]["x"] == list(EVIL)
    assert all(re.fullmatch(r"[A-Za-z0-9+/=]+", block) for block in elements.scripts[1:-1])


def test_the_page_says_of_each_figure_how_it_was_made(tmp_path: Path) -> None:
    part = plotted_part("checks")
    facts = Facts("t", {}, "it", "")
    page = assemble([Section(part, "out", {})], None, facts).decode()
    folded = page.partition('id="methods"')[2]
    for title, how in (
        *((headline.label, headline.how) for headline in part.headlines),
        *((table.title, table.how) for table in part.tables),
        *((plot.title, plot.how) for plot in part.plots),
    ):
        assert f'<th scope="row">{escape(title)}</th><td>{escape(how)}</td>' in folded
    assert folded.count('<th scope="row">') == len(part.headlines) + len(part.tables) + len(part.plots)


@pytest.mark.parametrize("kind", ["headlines", "tables", "plots"])
def test_a_figure_that_does_not_say_how_it_was_made_is_not_published(tmp_path: Path, kind: str) -> None:
    part = plotted_part("checks")
    shown = getattr(part, kind)
    silent = replace(part, **{kind: (replace(shown[0], how=" "), *shown[1:])})
    title = getattr(shown[0], "label", None) or shown[0].title
    with pytest.raises(ValueError, match=f"does not say how these were made: {re.escape(title)}$"):
        publish_part(str(tmp_path), silent)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match="how"):
        Headline("Pairs", "12")  # type: ignore[call-arg]


def test_the_policy_names_just_the_blocks_that_are_there(tmp_path: Path) -> None:
    page = evil_page(tmp_path)
    elements = Elements(page)
    (meta,) = [a for tag, a in elements.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert meta["content"] == policy(elements.scripts[-1], style)
    rules = dict(rule.split(" ", 1) for rule in str(meta["content"]).split("; "))
    assert rules["default-src"] == "'none'"
    expected = base64.b64encode(hashlib.sha256(elements.scripts[-1].encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{expected}'"
    assert "unsafe" not in str(meta["content"])
    assert not [value for _, attributes in elements.tags for name, value in attributes.items()
                if name in ("src", "href") and not str(value).startswith(("#", "data:"))]  # fmt: skip
    assert not [attributes for _, attributes in elements.tags if "style" in attributes]


def test_the_page_is_made_anew_only_where_something_differs(run: Path, tmp_path: Path) -> None:
    inputs = Inputs(synthesis=str(run))
    directories = {"checks": str(write_checks(tmp_path / "checks", SHARDS))}
    settings = ReportSettings(examples=5, file=str(tmp_path / "page.html"))
    first = publish_report(inputs, settings, str(tmp_path), directories)
    made = (tmp_path / "page.html").read_bytes()
    assert first.figures == {"examples": 5, "bytes": len(made)}
    assert not first.skipped
    assert publish_report(inputs, settings, str(tmp_path), directories).skipped
    (tmp_path / "page.html").write_bytes(b"somebody else's")
    assert not publish_report(inputs, settings, str(tmp_path), directories).skipped
    assert (tmp_path / "page.html").read_bytes() == made, "the same again, to the byte"
    more = settings.model_copy(update={"examples": 6})
    assert publish_report(inputs, more, str(tmp_path), directories).figures["examples"] == 6
    write_part(tmp_path / "other", plotted_part("other"))
    both = publish_report(inputs, more, str(tmp_path), {**directories, "other": str(tmp_path / "other")})
    assert not both.skipped
    assert (tmp_path / "page.html").read_text().count("Checks of each pair</h2>") == 2


def test_examples_are_rendered_as_the_mixture_does(run: Path, tmp_path: Path) -> None:
    sources = {
        "raw": {"kind": "raw", "shots": None, "with_text": True},
        "one": {"kind": "augmented", "shots": 1, "with_text": True},
    }
    open_stage(str(tmp_path / "mixture"), "mix", {"seed": 5, "sources": sources}).finish({})
    inputs = Inputs(synthesis=str(run), mixture=str(tmp_path / "mixture"))
    file = tmp_path / "page.html"
    publish_report(inputs, ReportSettings(file=str(file), examples=1000), str(tmp_path), {})
    scripts = Elements(file.read_text()).scripts
    assert len(opened(scripts[1])[0]["rendered"]) == 2, "cut to one shot each"
    publish_report(Inputs(synthesis=str(run)), ReportSettings(file=str(file)), str(tmp_path), {})
    assert len(opened(Elements(file.read_text()).scripts[1])[0]["rendered"]) == 1


def test_a_run_without_segments_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "segments", {"web": [plain_rows("web", 2)]})
    for part in (run / "ledger").iterdir():
        part.unlink()
    with pytest.raises(InputError, match="no finished segments"):
        publish_report(Inputs(synthesis=str(run)), ReportSettings(), str(tmp_path), {})
