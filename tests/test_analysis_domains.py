"""Domains of texts and pairs: coverage and overlap by hand, a judge, a classifier, scenarios by domain."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from judged import ScriptedJudge, judge, plain_row, quality_answer, synthesis_run

from ipt_stream.analysis.domain_labels import (
    DOMAINS,
    ClassifierSettings,
    pair_question,
    read_domains,
    read_labelled,
    text_question,
    train_classifier,
)
from ipt_stream.analysis.domains import DomainsSettings, Sorted, analyze_domains, tuning_domains
from ipt_stream.analysis.domains_report import PAPER_12, coverage_of, distribution
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.judging.asking import Question
from ipt_stream.analysis.part import Part, Table, read_part
from ipt_stream.analysis.quality import QualitySettings, analyze_quality
from ipt_stream.config import build
from ipt_stream.corpus.pair import Pair
from ipt_stream.corpus.selection import is_selected
from ipt_stream.errors import ConfigError, InputError, LedgerError
from ipt_stream.tuning.pairs import TuningSource

NEWS, CODE, FICTION = frozenset({"news"}), frozenset({"code"}), frozenset({"fiction"})


def said(*names: str) -> str:
    return json.dumps({domain: domain in names for domain in DOMAINS})


def table(part: Part, title: str) -> Table:
    return next(table for table in part.tables if table.title.startswith(title))


def test_coverage_and_overlap_by_hand() -> None:
    found = [
        Sorted(NEWS | CODE, (NEWS, FICTION)),  # covered 1/2, overlap 1/3
        Sorted(NEWS, (NEWS, None)),  # 1, 1
        Sorted(FICTION, (CODE,)),  # 0, 0
        Sorted(NEWS | CODE | FICTION, (NEWS | CODE, FICTION)),  # 1, 1
        Sorted(None, (NEWS,)),  # not known
        Sorted(NEWS, (None,)),  # nothing known of its pairs
    ]
    cover = coverage_of(found)
    assert cover.coverage.value == pytest.approx((0.5 + 1 + 0 + 1) / 4)
    assert cover.multi.value == pytest.approx((0.5 + 1) / 2)
    assert cover.overlap.value == pytest.approx((1 / 3 + 1 + 0 + 1) / 4)
    assert (cover.coverage.n, cover.multi.n) == (4, 2)
    assert coverage_of([]).named()["overlap"].n == 0


def test_a_text_of_several_domains_counts_for_each() -> None:
    assert distribution([NEWS | CODE, NEWS, None]) == {"news": 2, "code": 1}


def test_the_paper_s_shares_are_shares() -> None:
    assert list(PAPER_12) == list(DOMAINS)
    for row in zip(*PAPER_12.values(), strict=True):
        assert sum(row) == pytest.approx(1.0, abs=0.003)


@pytest.mark.parametrize(
    ("answer", "domains"),
    [
        (said("news"), NEWS),
        (said("news", "code"), NEWS | CODE),
        (said(), None),
        ('{"news": true}', None),
        (said("news").replace("true", '"yes"'), None),
        ("news", None),
    ],
)
def test_answers_are_read_or_not(answer: str, domains: frozenset[str] | None) -> None:
    assert read_domains(text_question("t", DOMAINS), answer) == domains


def test_a_judge_is_asked_of_a_pair_without_its_text() -> None:
    question = pair_question(Pair("who?", "the miller"), DOMAINS)
    assert "the miller" in question.user and "TEXT" not in question.user
    assert question.schema["required"] == list(DOMAINS)
    assert all(meaning in question.system for meaning in DOMAINS.values())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = [
        plain_row(
            "Today in the capital: a report.", (Pair("what?", "a report"), Pair("where?", "a tale")), "web", 0, 0
        ),
        plain_row("Once upon a time, in a program.", (Pair("when?", "a tale"),), "web", 1, 1),
    ]
    return synthesis_run(tmp_path / "run" / "segments", [[rows]])


def sorts(question: Question) -> str:
    if "category" in question.schema["properties"]:
        return quality_answer(category="Summarization" if "a report" in question.user else "Question Answering")
    names = {"report": "news", "tale": "fiction", "Once": "fiction", "program": "code"}
    return said(*(domain for word, domain in names.items() if word in question.user))


def test_a_judge_sorts_texts_and_pairs(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "domains"
    scripted = ScriptedJudge(sorts)
    settings = DomainsSettings(judge=judge(), tuning=(TuningSource(source="squad"), TuningSource(source="coqa")))
    report = analyze_domains(Inputs(synthesis=str(run)), settings, str(output), scripted)
    # The first text: news, its pairs news and fiction. The second: fiction and code, its pair fiction.
    assert report.figures["coverage"] == 0.75
    assert report.figures["coverage, multi-domain"] == 0.5
    assert report.figures["overlap"] == 0.5
    assert scripted.asked == 2 + 3
    part = read_part(str(output))
    rows = {row[0]: row for row in table(part, "Domain coverage").rows}
    assert [rows[name][-1] for name in ("coverage", "coverage, multi-domain", "overlap")] == [0.868, 0.778, 0.849]
    shares = table(part, "Distribution")
    by_domain = {row[0]: dict(zip(shares.columns, row, strict=True)) for row in shares.rows}
    assert by_domain["fiction"]["texts"] == pytest.approx(1 / 3)
    assert by_domain["fiction"]["pairs"] == pytest.approx(2 / 3)
    assert by_domain["encyclopedia"]["tuning data"] == 1.0, "coqa has several and is left out"
    assert by_domain["news"]["paper: texts"] == 0.203
    lines = [json.loads(line) for line in (output / "domains.jsonl").read_text().splitlines()]
    assert sorted((line["domains"], line["pairs"]) for line in lines) == [
        (["code", "fiction"], [["fiction"]]),
        (["news"], [["news"], ["fiction"]]),
    ]
    assert analyze_domains(Inputs(synthesis=str(run)), settings, str(output), scripted).skipped

    # A quality analysis beside it is looked at when it is there, and nothing is asked again.
    analyze_quality(
        Inputs(synthesis=str(run)), QualitySettings(judge=judge()), str(output.parent / "quality"), scripted
    )
    before = scripted.asked
    analyze_domains(Inputs(synthesis=str(run)), settings, str(output), scripted)
    assert scripted.asked == before
    found = table(read_part(str(output)), "Task categories and scenarios")
    counted = {row[0]: row[1:3] for row in found.rows}
    assert counted == {"fiction": (2, 2), "news": (1, 1), "all": (3, 2)}
    with pytest.raises(LedgerError, match="seed was 0, is 3"):
        analyze_domains(Inputs(synthesis=str(run)), settings.model_copy(update={"seed": 3}), str(output), scripted)


def labelled(path: Path, count: int = 60) -> Path:
    words = {"news": "report capital minister today", "code": "program loop variable compile"}
    lines = [
        json.dumps({"text": f"{text} {text.split()[i % 4]} {i}", "label": label})
        for i in range(count)
        for label, text in words.items()
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_classifier_learns_from_labelled_lines_and_says_how_well(run: Path, tmp_path: Path) -> None:
    file = labelled(tmp_path / "labelled.jsonl")
    settings = ClassifierSettings(labelled=str(file), features=2**12)
    made = train_classifier(settings, read_labelled(settings), seed=0)
    assert made.domains == ("code", "news")
    assert made.accuracy.value == 1.0
    assert made.trained + made.accuracy.n == 120
    assert 10 <= made.accuracy.n <= 40
    assert made.label(["the minister in the capital", "compile the loop"]) == [NEWS, CODE]
    both = "report capital minister today program loop variable compile"
    assert made.label([both]) == [NEWS | CODE], "two that are as likely"
    assert made.label([]) == []
    again = train_classifier(settings, read_labelled(settings), seed=0)
    assert again.model.coef_.tolist() == made.model.coef_.tolist()

    output = tmp_path / "domains"
    report = analyze_domains(Inputs(synthesis=str(run)), DomainsSettings(classifier=settings), str(output))
    assert report.figures["classifier_accuracy"] == 1.0
    part = read_part(str(output))
    row = table(part, "The classifier").rows[0]
    assert row[1] == made.accuracy.n and row[2] == 1.0 and row[3] < 1.0
    assert [row[0] for row in table(part, "Distribution").rows] == ["code", "news"]
    file.write_text(file.read_text() + '{"text": "more", "label": "news"}\n')
    with pytest.raises(LedgerError, match=r"classifier\.labelled"):
        analyze_domains(Inputs(synthesis=str(run)), DomainsSettings(classifier=settings), str(output))


def test_held_out_accuracy_is_counted_by_hand(tmp_path: Path) -> None:
    """Labels that the words don't tell: the accuracy is the share of the majority among those held out."""
    file = tmp_path / "labelled.jsonl"
    lines = [json.dumps({"text": f"word{i} ", "label": "a" if i % 5 else "b"}) for i in range(200)]
    file.write_text("\n".join(lines))
    settings = ClassifierSettings(labelled=str(file), features=2**16)
    made = train_classifier(settings, read_labelled(settings), seed=0)
    held = [
        label
        for text, label in read_labelled(settings)
        if is_selected(0, f"domains:{hashlib.sha256(text.strip().encode()).hexdigest()}", 0.2)
    ]
    counts = Counter(held)
    assert made.accuracy.n == len(held)
    assert made.accuracy.value == pytest.approx(counts["a"] / len(held))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is no labelled text"),
        ('{"text": "a"}', "line 2 is no labelled text.*got: 'label'"),
        ('{"text": 3, "label": "a"}', "a value that is no text"),
        ("[1]", "line 2 is no labelled text"),
    ],
)
def test_lines_of_another_form_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "labelled.jsonl"
    file.write_text('{"text": "a", "label": "b"}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        read_labelled(ClassifierSettings(labelled=str(file)))


def test_one_domain_trains_nothing(tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"t{i}", "label": "a"}) for i in range(20)))
    settings = ClassifierSettings(labelled=str(file))
    with pytest.raises(InputError, match="at least two domains"):
        train_classifier(settings, read_labelled(settings), 0)


def test_sources_are_counted_by_the_domain_that_they_state() -> None:
    sources = [TuningSource(source=name) for name in ("squad", "quac", "race", "coqa", "fever")]
    assert tuning_domains([*sources, TuningSource(path="own.jsonl")]) == {"encyclopedia": 2, "academic tests": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of judge and classifier"),
        ({"classifier": {"labelled": "x", "treshold": 0.1}}, "did you mean 'classifier.threshold'"),
        ({"classifier": {"labelled": "x"}, "domains": {"one": "all"}}, "domains"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(DomainsSettings, settings, "test")


def test_a_quality_analysis_that_is_named_must_be_there(run: Path, tmp_path: Path) -> None:
    settings = DomainsSettings(judge=judge(), quality=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no quality analysis in"):
        analyze_domains(Inputs(synthesis=str(run)), settings, str(tmp_path / "d"), ScriptedJudge(sorts))
