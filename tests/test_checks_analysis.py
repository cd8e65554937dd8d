"""The analysis over a finished run: a file a segment, the truth's curves, resumed where it was killed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import checks_world
import pyarrow.parquet as pq
import pytest
from checks_world import is_wrong, logprob, make_run, make_world, pairs_of

from ipt_stream.analysis.checks import ChecksSettings, analyze_checks
from ipt_stream.analysis.checks import analyze as module
from ipt_stream.analysis.checks.listing import CHECKS
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import read_part
from ipt_stream.config import build
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import ConfigError, InputError, LedgerError
from ipt_stream.mixture.keep import ChecksConfig, keep_rows, open_keep
from ipt_stream.synthesis.results import list_segments, load_rows
from ipt_stream.synthesis.segment import SegmentRow

# Ray's DataContext sets fields of its own that it warns of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

DOCUMENTS = 28
WHERE = [(position, number) for position in range(DOCUMENTS) for number in range(len(pairs_of(position)))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), documents=DOCUMENTS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def checked(run: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("checks")
    analyze(run, output, world=str(world))
    return output


def analyze(run: Path, output: Path, world: str | None = None, **settings: Any) -> Any:
    inputs = Inputs(synthesis=str(run), world=world)
    return analyze_checks(inputs, build(ChecksSettings, {"cores": 0, **settings}, "test"), str(output))


def rows_of(output: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(output.glob("segment-*.parquet")):
        yield from pq.read_table(path).to_pylist()


def test_every_pair_has_a_row_in_its_segments_file(checked: Path) -> None:
    assert [path.name for path in sorted(checked.glob("segment-*"))] == [
        f"segment-000000-{number:06d}.parquet" for number in range(4)
    ]
    rows = list(rows_of(checked))
    assert [(int(row["document_id"].rsplit(":", 1)[1]), row["pair"]) for row in rows] == WHERE
    for row, (position, number) in zip(rows, WHERE, strict=True):
        pair = pairs_of(position)[number]
        assert (row["instruction"], row["response"]) == (pair.instruction, pair.response)
        assert (row["round"], row["chain"], row["piece"]) == (position % 7 % 2, position % 7 // 2, 0)
        assert row["logprob"] == pytest.approx(logprob(position, number))
        assert row["right"] is not is_wrong(position, number)
        assert row["grounded"] == (0.0 if is_wrong(position, number) else 1.0)
    assert [name for name in rows[0] if name in {check.name for check in CHECKS}] == [check.name for check in CHECKS]


def test_the_truth_measures_each_check(checked: Path) -> None:
    found = json.loads((checked / "measured.json").read_text())
    right = sum(not is_wrong(*where) for where in WHERE)
    assert found["sums"]["whole"] == {"pairs": len(WHERE), "right": right}
    assert found["checks"]["grounded"]["roc_auc"] == 1.0 == found["checks"]["grounded"]["average_precision"]
    couples = [
        1.0 if logprob(*good) > logprob(*bad) else 0.5 if logprob(*good) == logprob(*bad) else 0.0
        for good in WHERE for bad in WHERE if not is_wrong(*good) and is_wrong(*bad)
    ]  # fmt: skip
    assert found["checks"]["logprob"]["roc_auc"] == pytest.approx(sum(couples) / len(couples))
    strictest = found["checks"]["logprob"]["curve"][0]
    best = [where for where in WHERE if logprob(*where) == 0.0]
    assert strictest["kept"] == pytest.approx(len(best) / len(WHERE))
    assert strictest["precision"] == pytest.approx(sum(not is_wrong(*where) for where in best) / len(best))
    assert strictest["recall"] == pytest.approx(sum(not is_wrong(*where) for where in best) / right)


def test_the_part_shows_headlines_tables_and_curves(checked: Path) -> None:
    part = read_part(str(checked))
    right = sum(not is_wrong(*where) for where in WHERE) / len(WHERE)
    assert part.headlines[0].value == f"{right:.1%} to 100.0%"
    checks, thresholds, repeats = part.tables
    by_name = {row[0]: dict(zip(checks.columns, row, strict=True)) for row in checks.rows}
    assert list(by_name) == [*(check.name for check in CHECKS), "all together"]
    assert by_name["grounded"]["flagged"] == pytest.approx(1 - right, abs=1e-4)
    assert by_name["grounded"]["right, if not flagged"] == 1.0 and by_name["grounded"]["right, if flagged"] == 0.0
    assert by_name["thought"]["known"] == sum("step by step" in pairs_of(p)[n].instruction for p, n in WHERE)
    assert {row[0] for row in thresholds.rows} >= {"grounded", "logprob"}
    assert sum(int(row[2] or 0) for row in repeats.rows) == len(WHERE)
    titles = [plot.title for plot in part.plots]
    assert titles[:2] == ["Precision and recall of each check", "What accuracy costs in yield"]
    assert "Values of grounded" in titles
    (grounded,) = (series for series in part.plots[0].series if series.name == "grounded")
    assert grounded.x[0] == 1.0 and grounded.y[0] == 1.0, "all right pairs, and no other"
    bars = next(plot for plot in part.plots if plot.title == "Values of logprob")
    assert sum(sum(series.y) for series in bars.series) == len(WHERE)


def test_without_a_world_there_is_yield_alone(run: Path, tmp_path: Path) -> None:
    report = analyze(run, tmp_path, thresholds={"grounded": 0.9})
    assert "right_share" not in report.figures and report.figures["pairs"] == len(WHERE)
    part = read_part(str(tmp_path))
    assert all("right" not in column for table in part.tables for column in table.columns)
    assert part.plots[0].title == "Pairs kept by a threshold on a share"
    assert ">= 0.9" in [row[1] for row in part.tables[0].rows]
    assert all(row["right"] is None for row in rows_of(tmp_path))


def test_asked_again_it_answers_and_other_settings_or_runs_are_refused(run: Path, world: Path, checked: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in checked.rglob("*")}
    assert analyze(run, checked, world=str(world), cores=2).skipped
    assert {path: path.stat().st_mtime_ns for path in checked.rglob("*")} == before
    with pytest.raises(LedgerError, match="ngram was 3, is 4"):
        analyze(run, checked, world=str(world), ngram=4)
    with pytest.raises(LedgerError, match="world was 0, is None"):
        analyze(run, checked)


def test_what_was_done_is_not_done_again_and_workers_give_the_same(
    run: Path, world: Path, checked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after two of four segments, then finished by Ray tasks: the same files, byte by byte."""
    done: list[str] = []
    whole = module.check_segment

    def stopping(reference: Any, number: int, job: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(reference.path)
        return whole(reference, number, job)

    monkeypatch.setattr(module, "check_segment", stopping)
    with pytest.raises(KeyboardInterrupt):
        analyze(run, tmp_path, world=str(world))
    monkeypatch.undo()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("segment-*")}
    kept |= {path: path.stat().st_mtime_ns for part in ("keys", "repeats") for path in (tmp_path / part).iterdir()}
    assert len(kept) == 2 + 4 + 1 and not (tmp_path / "checks.json").exists()
    analyze(run, tmp_path, world=str(world), cores=2)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for path in checked.rglob("*"):
        if path.is_file() and path.name != "stage.json":
            assert (tmp_path / path.relative_to(checked)).read_bytes() == path.read_bytes(), path


def test_a_run_of_before_there_were_log_probabilities_has_none(tmp_path: Path) -> None:
    def old(document: Document, start: int) -> SegmentRow:
        return replace(checks_world.make_row(document, start), response_logprobs=None)

    run = make_run(tmp_path / "run", documents=6, make=old)
    analyze(run, tmp_path / "out")
    assert all(row["logprob"] is None for row in rows_of(tmp_path / "out"))
    columns = json.loads((tmp_path / "out" / "checks.json").read_text())["columns"]
    assert columns["logprob"] == {"type": "float", "known": 0, "keeps": ">= -0.5"}
    assert columns["numbers"]["type"] == "int" and columns["duplicate"]["type"] == "bool"


def test_duplicates_are_told_within_a_segment_and_over_the_run_and_mix_leaves_them_out(tmp_path: Path) -> None:
    same = (Pair("Who was it?", "The miller."), Pair("Who was it", "the miller!"))

    def make(document: Document, start: int) -> SegmentRow:
        return replace(checks_world.make_row(document, start), pairs=same, response_logprobs=None)

    run = make_run(tmp_path / "run", documents=4, rows_a_segment=2, make=make)
    report = analyze(run, tmp_path / "out", keys_at_once=3)
    assert [row["duplicate"] for row in rows_of(tmp_path / "out")] == [False, True, True, True] * 2
    assert [row["repeated"] for row in rows_of(tmp_path / "out")] == [False, False, *[True] * 6]
    assert report.figures["pairs_again"] == report.figures["repeated_flagged"] == 8 - 2
    references = list_segments(str(run))
    keep = open_keep(
        ChecksConfig(directory=str(tmp_path / "out"), keep={"repeated": False}), references, str(run), frozenset()
    )
    kept = [keep_rows(load_rows(reference), reference, keep) for reference in references]
    assert [[row.pairs for row in found.rows] for found in kept] == [[same, ()], [(), ()]]
    assert [found.counts["dropped.repeated"] for found in kept] == [2, 4]


def test_what_can_not_be_checked_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="checks need a synthesis run"):
        analyze_checks(Inputs(), ChecksSettings(), str(tmp_path))
    with pytest.raises(ConfigError, match=r"thresholds of grounded, .*got 'grundet'"):
        build(ChecksSettings, {"thresholds": {"grundet": 1}}, "test")
    broken = tmp_path / "segments"
    shutil.copytree(run, broken)
    file = broken / "segments" / "000000-000001.parquet"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"000001\.parquet was altered"):
        analyze(broken, tmp_path / "out")
    (tmp_path / "other" / "out").mkdir(parents=True)
    (tmp_path / "other" / "out" / "segment-000000-000000.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="does not hold the checks of"):
        analyze(run, tmp_path / "other" / "out")


def test_a_document_that_is_none_of_the_world_is_an_error(world: Path, tmp_path: Path) -> None:
    def nameless(document: Document, start: int) -> SegmentRow:
        return replace(checks_world.make_row(document, start), source_id=None)

    with pytest.raises(InputError, match="no document of the sample world"):
        analyze(make_run(tmp_path / "run", documents=3, make=nameless), tmp_path / "out", world=str(world))
