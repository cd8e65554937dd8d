"""The summary: counts by round, and the truth of the sample world, told apart from what only looks right."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipt_stream import storage
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import read_part
from ipt_stream.analysis.summary import SummarySettings, analyze_summary, count_rounds
from ipt_stream.analysis.summary_part import RoundCounts
from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.corpus.pair import Pair
from ipt_stream.corpus.sample_world import document_id
from ipt_stream.corpus.world.facts import Population, World
from ipt_stream.corpus.world.pairs import pairs_for
from ipt_stream.corpus.world.wording import document_text
from ipt_stream.errors import InputError
from ipt_stream.ledger import LedgerWriter
from ipt_stream.stage import open_stage
from ipt_stream.synthesis import segment
from ipt_stream.synthesis.plan import RunPlan, save_plan, segment_id, segment_path
from ipt_stream.synthesis.read_segments import SegmentInput
from ipt_stream.synthesis.rounds import SegmentResult
from ipt_stream.synthesis.segment import SegmentRow, Status
from ipt_stream.synthesis.worker import describe

WORLD = World(0)


def row(position: int, round_: int, pairs: tuple[Pair, ...]) -> SegmentRow:
    index = Population.CORPUS.index(position)
    return SegmentRow(
        document_id=f"web:{position}",
        source_id=document_id(index),
        source="web",
        row=position,
        piece=0,
        chain=0,
        round=round_,
        text=document_text(WORLD, index),
        pairs=pairs,
        inherits=round_ > 0,
        status=Status.AUGMENTED if pairs else Status.NO_PAIRS,
        reason="" if pairs else "unfinished",
        prompt_tokens=100,
        cached_tokens=40 * round_,
        generated_tokens=10,
        generation="",
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of three documents: all right; one wrong answer among right ones; nothing made."""
    import hashlib

    right = pairs_for(WORLD, Population.CORPUS.index(0))
    second = pairs_for(WORLD, Population.CORPUS.index(1))
    wrong = Pair(second[0].instruction, "nonsense")
    rows = (row(0, 0, right), row(1, 1, (wrong, *second[1:])), row(2, 1, ()))
    output = tmp_path / "segments"
    stage = open_stage(str(output), "synthesize", {})
    save_plan(str(output), RunPlan((ShardSpec("/web", 0, "web", Format.JSONL, "text", "id", 9, 3),), 8, 2, 1.0, 0))
    content = segment.encode(rows)
    storage.publish_bytes(str(output / segment_path(0, 0)), content)
    record = describe(SegmentInput(0, 0, 0, 3, (), {}), SegmentResult(rows, 300, 80, {}))
    record |= {"path": segment_path(0, 0), "sha256": hashlib.sha256(content).hexdigest()}
    assert record["id"] == segment_id(0, 0)
    LedgerWriter(str(output)).append(record)
    stage.finish(
        {
            "documents_in": 3,
            "augmented": 2,
            "raw": 1,
            "rejected": 0,
            "generated_tokens": 30,
            "raw_tokens_per_second": 7,
        },
        ("documents in 3 = augmented 2 + raw 1 + rejected 0",),
    )
    return output


def test_rounds_are_counted_and_judged_by_hand(run: Path) -> None:
    first = len(pairs_for(WORLD, Population.CORPUS.index(0)))
    second = len(pairs_for(WORLD, Population.CORPUS.index(1)))
    assert count_rounds(str(run), WORLD) == [
        RoundCounts(texts=1, inherits=0, pairs=first, right=first, prompt_tokens=100, cached_tokens=0),
        RoundCounts(texts=2, inherits=2, pairs=second, right=second - 1, prompt_tokens=200, cached_tokens=80),
    ]
    assert [counts.right for counts in count_rounds(str(run), None)] == [0, 0]


def test_another_worlds_truth_is_another(run: Path) -> None:
    assert sum(counts.right for counts in count_rounds(str(run), World(1))) == 0


def test_the_summary_is_published_and_shows_the_counts(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "summary"
    inputs = Inputs(stages={"segments": str(run)}, synthesis=str(run))
    report = analyze_summary(inputs, SummarySettings(), str(output))
    text = (output / "summary.md").read_text()
    assert "documents in 3 = augmented 2 + raw 1 + rejected 0" in text
    assert "7 raw tokens/s" in text
    assert "right" not in text, "without a world nothing is judged"
    assert text.strip() == "\n".join(report.lines).strip()
    assert analyze_summary(inputs, SummarySettings(), str(output)).skipped


def test_the_part_has_the_counts_beside_the_papers(run: Path, tmp_path: Path) -> None:
    made = analyze_summary(Inputs(stages={"segments": str(run)}, synthesis=str(run)), SummarySettings(), str(tmp_path))
    part = read_part(str(tmp_path))
    pairs = sum(len(pairs_for(WORLD, Population.CORPUS.index(position))) for position in (0, 1))
    assert made.figures["pairs"] == pairs
    assert {headline.label: headline.value for headline in part.headlines} == {
        "Documents": "3", "Pairs": str(pairs), "Raw tokens a second": "7",
    }  # fmt: skip
    beside, rounds, stages = part.tables
    assert beside.paper == ("paper",)
    assert {row[0]: row[1] for row in beside.rows} == {
        "Rounds": 2,
        "Documents augmented": "66.7%",
        "Pairs a text": round(pairs / 3, 1),
        "Tokens a pair": round(30 / pairs, 1),
        "Raw tokens a day": f"{7 * 24 * 3600:,}",
    }
    assert [row[:2] for row in rounds.rows] == [(1, 1), (2, 2)]
    assert rounds.rows[1][rounds.columns.index("tokens cached")] == 0.4
    assert stages.rows[0][0] == "segments"


def test_a_stage_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    open_stage(str(tmp_path / "segments"), "synthesize", {})
    with pytest.raises(InputError, match="stage segments is not finished"):
        analyze_summary(Inputs(stages={"segments": str(tmp_path / "segments")}), SummarySettings(), str(tmp_path / "s"))
