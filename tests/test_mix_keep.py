"""What a mixture drops by checks and leaves out by a list is counted, and everything else is there once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import checks_world
import pytest
from checks_world import WORLD, is_wrong, make_run, pairs_of
from mixture_world import make_tokenizer
from test_mix import read_mds

from ipt_stream.analysis.checks import ChecksSettings, analyze_checks
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.config import build
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.pair import Pair
from ipt_stream.corpus.world.facts import Population
from ipt_stream.corpus.world.wording import document_text
from ipt_stream.errors import ConfigError, InputError, LedgerError
from ipt_stream.mixture.keep import Keep, keep_rows
from ipt_stream.mixture.mix import MixConfig, mix
from ipt_stream.mixture.plan import load_plan
from ipt_stream.stage import StageReport
from ipt_stream.synthesis.results import examples_of, list_segments, load_rows
from ipt_stream.synthesis.segment import SegmentRow, Status

# Ray's DataContext sets fields of its own that it warns of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

DOCUMENTS = 28
NAMES = [f"people.jsonl:{position}" for position in range(DOCUMENTS)]
EMPTY = [p for p in range(DOCUMENTS) if all(is_wrong(p, n) for n in range(len(pairs_of(p))))]
KEEP = {"grounded": ">= 0.5"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with wrong pairs, its checks, and a tokenizer."""
    root = tmp_path_factory.mktemp("root")
    make_run(root, documents=DOCUMENTS)
    make_tokenizer(root)
    check(root / "segments", root / "checks")
    return root


def check(run: Path, output: Path, **settings: Any) -> None:
    analyze_checks(Inputs(synthesis=str(run)), build(ChecksSettings, {"cores": 0, **settings}, "test"), str(output))


def config_of(root: Path, output: Path, keep: dict[str, Any] | None = None, **changes: Any) -> MixConfig:
    run = {"path": str(root / "segments"), "passes": 1}
    checks = None if keep is None else {"directory": str(root / "checks"), "keep": keep}
    sources = {"augmented": {"kind": "augmented", **run, "checks": checks}, "raw": {"kind": "raw", **run}}
    made = {"output": str(output), "tokenizer": str(root / "tokenizer"), "sequence_length": 128, "cores": 0,
            "text_mds": True, "sources": sources}  # fmt: skip
    return build(MixConfig, {**made, **changes}, "test")


def pairs_in(output: Path, name: str) -> Counter[tuple[str, str]]:
    texts = read_mds(output / "text" / name)
    return Counter((p["instruction"], p["response"]) for text in texts for p in json.loads(text["pairs"]))


def texts_in(output: Path, name: str) -> dict[str, str]:
    return {text["document_id"]: text["text"] for text in read_mds(output / "text" / name)}


def text_of(position: int) -> str:
    return document_text(WORLD, Population.CORPUS.index(position))


def test_pairs_that_fail_a_check_are_dropped_and_counted_and_the_others_stay(root: Path, tmp_path: Path) -> None:
    assert EMPTY and len(EMPTY) < DOCUMENTS / 3
    report = mix(config_of(root, tmp_path, KEEP))
    every = [(p, n, pair) for p in range(DOCUMENTS) for n, pair in enumerate(pairs_of(p))]
    right = Counter((pair.instruction, pair.response) for p, n, pair in every if not is_wrong(p, n))
    assert pairs_in(tmp_path, "augmented") == right
    dropped = len(every) - right.total()
    assert (
        f"augmented: pairs {len(every)} = kept {right.total()} + dropped {dropped} "
        f"(by grounded {dropped}; a pair can fail several)"
    ) in report.lines
    assert f"augmented: {len(EMPTY)} documents have no pairs left and are raw text" in report.lines
    assert report.figures["augmented_pairs_dropped_by_grounded"] == dropped
    assert report.figures["augmented_documents_without_pairs_left"] == len(EMPTY)
    # Each document is in one of the two, once.
    raw = texts_in(tmp_path, "raw")
    assert raw == {NAMES[position]: text_of(position) for position in EMPTY}
    counts = {source.name: source.documents for source in load_plan(str(tmp_path)).sources}
    assert counts == {"augmented": DOCUMENTS - len(EMPTY), "raw": len(EMPTY)}
    whole = "\n".join(texts_in(tmp_path, "augmented").values())
    assert all((whole.count(text_of(p)) >= 1) == (p not in EMPTY) for p in range(DOCUMENTS))


def test_workers_give_the_same_and_a_finished_mixture_answers_as_before(root: Path, tmp_path: Path) -> None:
    first, second = mix(config_of(root, tmp_path / "a", KEEP)), mix(config_of(root, tmp_path / "b", KEEP, cores=2))
    assert first.lines == second.lines
    for name in ("augmented", "raw"):
        facts = [(tmp_path / place / "sources" / name / "facts.json").read_bytes() for place in "ab"]
        assert facts[0] == facts[1]
    again = mix(config_of(root, tmp_path / "a", KEEP))
    assert again.skipped and again.lines == first.lines


def test_what_is_kept_is_part_of_what_a_mixture_is(root: Path, tmp_path: Path) -> None:
    mix(config_of(root, tmp_path))
    with pytest.raises(LedgerError, match="made with other settings"):
        mix(config_of(root, tmp_path, KEEP))
    check(root / "segments", tmp_path / "others", ngram=2)
    run = {"path": str(root / "segments"), "passes": 1}

    def fingerprint(directory: Path, keep: dict[str, Any], **more: Any) -> str:
        source = {"kind": "augmented", **run, "checks": {"directory": str(directory), "keep": keep, **more}}
        output = tmp_path / f"{directory.name}-{len(list(tmp_path.iterdir()))}"
        mix(config_of(root, output, sources={"a": source}))
        return str(json.loads((output / "sources" / "a" / "facts.json").read_text())["made_from"])

    same = {fingerprint(root / "checks", KEEP), fingerprint(root / "checks", KEEP)}
    assert len(same) == 1
    other_line, other_rule = {"grounded": ">= 0.6"}, {"unknown": "drop"}
    made = [*same, fingerprint(root / "checks", other_line), fingerprint(root / "checks", KEEP, **other_rule)]
    made.append(fingerprint(tmp_path / "others", KEEP))
    assert len(set(made)) == len(made), "other conditions, and other checks, make another source"


def test_several_conditions_of_each_type_hold_together(root: Path, tmp_path: Path) -> None:
    keep = {"grounded": ">= 0.5", "logprob": "> -0.03", "numbers": "<= 0", "duplicate": False, "question": True}
    report = mix(config_of(root, tmp_path, keep))
    kept = [
        (pair.instruction, pair.response) for p in range(DOCUMENTS) for n, pair in enumerate(pairs_of(p))
        if not is_wrong(p, n) and checks_world.logprob(p, n) > -0.03
    ]  # fmt: skip
    assert pairs_in(tmp_path, "augmented") == Counter(kept)
    for name in keep:
        assert f"augmented_pairs_dropped_by_{name}" in report.figures
    assert report.figures["augmented_pairs_dropped_by_duplicate"] == 0


def test_a_check_that_can_not_be_computed_keeps_a_pair_unless_told_otherwise(root: Path, tmp_path: Path) -> None:
    run = {"path": str(root / "segments"), "passes": 1, "kind": "augmented"}
    found = {}
    for unknown in ("keep", "drop"):
        checks = {"directory": str(root / "checks"), "keep": {"thought": ">= 0.1"}, "unknown": unknown}
        mix(config_of(root, tmp_path / unknown, sources={"augmented": {**run, "checks": checks}}))
        found[unknown] = pairs_in(tmp_path / unknown, "augmented")
    thoughtful = Counter(
        (pair.instruction, pair.response)
        for p in range(DOCUMENTS) for pair in pairs_of(p) if "Therefore, the answer is" in pair.response
    )  # fmt: skip
    assert found["drop"] == thoughtful
    assert found["keep"].total() == sum(len(pairs_of(p)) for p in range(DOCUMENTS))


# Documents that are left out.


def left_out_file(place: Path, names: list[str]) -> str:
    lines = [{"document_id": name, "where": "raw", "example": "x", "kind": "substring"} for name in names]
    path = place / "contaminated.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_documents_of_a_list_are_in_no_source_and_counted(tmp_path: Path) -> None:
    """Two of one example, one that stayed raw, named twice: the rest of the example goes on without them."""

    def make(document: Document, start: int) -> SegmentRow:
        row = checks_world.make_row(document, start)
        return row if document.row % 5 != 4 else replace(
            row, pairs=(), status=Status.NO_PAIRS, reason="nothing_generated", response_logprobs=()
        )  # fmt: skip

    run = make_run(tmp_path, documents=20, make=make)
    make_tokenizer(tmp_path)
    names = [NAMES[number] for number in (0, 1, 4, 10, 4)]
    report = mix(config_of(tmp_path, tmp_path / "out", leave_out=left_out_file(tmp_path, names)))
    assert "augmented: 3 documents left out, of 4 that are listed" in report.lines
    assert "raw: 1 documents left out, of 4 that are listed" in report.lines
    counts = {source.name: source.documents for source in load_plan(str(tmp_path / "out")).sources}
    assert counts == {"augmented": 16 - 3, "raw": 4 - 1}
    assert set(texts_in(tmp_path / "out", "raw")) == {NAMES[number] for number in (9, 14, 19)}
    whole = "\n".join(texts_in(tmp_path / "out", "augmented").values())
    for number in range(20):
        assert (text_of(number) in whole) == (number % 5 != 4 and number not in (0, 1, 10))
    plain = mix(
        config_of(tmp_path, tmp_path / "all", sources={"d": {"kind": "documents", "path": str(run), "passes": 1}},
                  leave_out=left_out_file(tmp_path, names))
    )  # fmt: skip
    assert plain.figures["d_documents"] == 16 and plain.figures["d_documents_left_out"] == 4


def test_both_at_once_and_an_empty_list(root: Path, tmp_path: Path) -> None:
    out = [EMPTY[0], next(p for p in range(DOCUMENTS) if p not in EMPTY)]
    listed = left_out_file(tmp_path, [NAMES[position] for position in out])
    report = mix(config_of(root, tmp_path / "out", KEEP, leave_out=listed))
    counts = {source.name: source.documents for source in load_plan(str(tmp_path / "out")).sources}
    assert counts == {"augmented": DOCUMENTS - len(EMPTY) - 1, "raw": len(EMPTY) - 1}
    assert report.figures["augmented_documents_left_out"] == 2
    empty = left_out_file(tmp_path, [])
    assert mix(config_of(root, tmp_path / "none", leave_out=empty)).figures["augmented_documents"] == DOCUMENTS


def test_documents_that_were_not_selected_are_left_out_too(tmp_path: Path) -> None:
    from mixture_world import make_run as make_plain_run

    run = make_plain_run(tmp_path, documents=30, rows_a_segment=10, fraction=0.5)
    make_tokenizer(tmp_path)
    names = [f"shard.jsonl:{number}" for number in range(0, 30, 2)]
    reports: dict[str, StageReport] = {}
    for kind in ("augmented", "raw", "documents"):
        source = {"kind": kind, "path": str(run), "passes": 1}
        config = config_of(tmp_path, tmp_path / kind, sources={kind: source}, leave_out=left_out_file(tmp_path, names))
        reports[kind] = mix(config)
    left = {kind: int(report.figures[f"{kind}_documents_left_out"]) for kind, report in reports.items()}
    assert left["augmented"] + left["raw"] == left["documents"] == 15
    assert set(texts_in(tmp_path / "documents", "documents")) == {f"shard.jsonl:{n}" for n in range(1, 30, 2)}


# Examples that lose some of their shots.


def chain(*inherits: bool) -> list[SegmentRow]:
    """Rows of one chain."""
    pairs = (Pair("Who?", "It."),)
    return [
        SegmentRow(
            document_id=f"s:{number}", source_id=None, source="s", row=number, piece=0, chain=0, round=number,
            text=f"text {number}", pairs=pairs, inherits=follows, status=Status.AUGMENTED, reason="", prompt_tokens=1,
            cached_tokens=0, generated_tokens=1, generation="",
        )
        for number, follows in enumerate(inherits)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ({0}, [[1], [2, 3]]),
        ({1}, [[0], [2, 3]]),
        ({2}, [[0, 1], [3]]),
        ({2, 3}, [[0, 1]]),
        ({1, 2}, [[0], [3]]),
        ({0, 1, 2, 3}, []),
    ],
)
def test_an_example_that_lost_its_beginning_begins_with_what_is_left(gone: set[int], expected: list[list[int]]) -> None:
    rows = chain(False, True, False, True)
    keep = Keep(left_out=frozenset(f"s:{number}" for number in gone))
    kept = keep_rows(rows, list_reference(), keep)
    examples = [[int(name[2:]) for name in example.document_ids] for example in examples_of(kept.rows)]
    assert examples == expected
    assert kept.counts["left_out"] == len(gone)


def list_reference() -> Any:
    """No file is read where there are no conditions."""
    return None


def test_a_document_whose_last_pairs_go_is_whole_text_again_with_what_failed(root: Path) -> None:
    """Its other piece failed at the engine; without the pairs of the first one the document would count as failed."""
    reference = list_segments(str(root / "segments"))[0]
    rows = load_rows(reference)
    keep = Keep(str(root / "checks"), build(MixConfig, {
        "output": "x", "tokenizer": "y", "sources": {"a": {"kind": "augmented", "path": "z", "passes": 1, "checks": {
            "directory": "d", "keep": KEEP}}}}, "test").sources["a"].checks.conditions)  # type: ignore[union-attr] # fmt: skip
    lost = next(row for row in rows if row.row in EMPTY)
    piece = replace(lost, piece=1, pairs=(), status=Status.FAILED, reason="failed", response_logprobs=None)
    at = rows.index(lost) + 1
    kept = keep_rows([*rows[:at], piece, *rows[at:]], reference, keep)
    found = [row for row in kept.rows if row.document_id == lost.document_id]
    assert [row.status for row in found] == [Status.NO_PAIRS, Status.NO_PAIRS]
    assert [row.text for row in found] == [lost.text, piece.text]


# What is refused.


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ({"grounded": "0.5"}, "one of >=, <=, >, <, ==, != and a number"),
        ({"grounded": ">= a half"}, "one of >="),
        ({"grounded": 0.5}, "keep.grounded"),
        ({}, "at least 1 item"),
    ],
)
def test_a_condition_that_can_not_be_read_is_refused(
    root: Path, tmp_path: Path, keep: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        config_of(root, tmp_path, keep)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (
            {"grunded": ">= 0.5"},
            r"no check 'grunded' in .*; wanted: duplicate, grounded.*repeated.*did you mean 'grounded'",
        ),
        ({"duplicate": "<= 0"}, r"the condition on duplicate is not of its type; wanted: true or false"),
        ({"grounded": True}, r"the condition on grounded is not of its type; wanted: a comparison with a number"),
    ],
)
def test_a_condition_on_what_is_not_there_is_refused(
    root: Path, tmp_path: Path, keep: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        mix(config_of(root, tmp_path, keep))


def test_checks_are_for_augmented_sources_and_lists_for_runs(root: Path, tmp_path: Path) -> None:
    checks = {"directory": str(root / "checks"), "keep": KEEP}
    source = {"kind": "raw", "path": str(root / "segments"), "passes": 1, "checks": checks}
    with pytest.raises(ConfigError, match="checks is for sources of kind augmented"):
        config_of(root, tmp_path, sources={"raw": source})
    text = {"t": {"kind": "text", "path": str(root / "people.jsonl"), "passes": 1}}
    with pytest.raises(ConfigError, match=r"leave_out, and no source that is made from a synthesis run; wanted"):
        mix(config_of(root, tmp_path, sources=text, leave_out="x"))


def test_raw_texts_can_not_follow_two_kinds_of_checks(root: Path, tmp_path: Path) -> None:
    run = {"path": str(root / "segments"), "passes": 1}
    checks = {"directory": str(root / "checks"), "keep": KEEP}
    sources = {"a": {"kind": "augmented", **run, "checks": checks}, "b": {"kind": "augmented", **run},
               "raw": {"kind": "raw", **run}}  # fmt: skip
    with pytest.raises(ConfigError, match=r"source raw can't hold what .* leave over; wanted: the same checks"):
        mix(config_of(root, tmp_path, sources=sources))


def test_checks_of_another_run_or_of_none_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no finished checks in .*; wanted: checks.json; .*fix: run ipt-stream analyze"
    ):
        mix(config_of(root, tmp_path / "out", sources=one_source(root / "segments", tmp_path)))
    other = make_run(tmp_path / "other", documents=5)
    with pytest.raises(InputError, match=r"are of another synthesis run; wanted: those of .*; got: \w+; fix: run"):
        mix(config_of(root, tmp_path / "out", sources=one_source(other, root / "checks")))
    check(other, tmp_path / "checks")
    foreign = sorted((root / "checks").glob("segment-*"))[1]
    (tmp_path / "checks" / "segment-000000-000000.parquet").write_bytes(foreign.read_bytes())
    with pytest.raises(InputError, match=r"does not hold the checks of .*; wanted: those of sha256 \w+; got: of \w+"):
        mix(config_of(root, tmp_path / "out", sources=one_source(other, tmp_path / "checks")))


def test_a_check_without_any_value_is_refused(root: Path, tmp_path: Path) -> None:
    def old(document: Document, start: int) -> SegmentRow:
        return replace(checks_world.make_row(document, start), response_logprobs=None)

    run = make_run(tmp_path / "run", documents=5, make=old)
    check(run, tmp_path / "checks")
    with pytest.raises(InputError, match=r"'logprob' .* has no value for any pair.*engine.response_logprobs"):
        mix(config_of(root, tmp_path / "out", sources=one_source(run, tmp_path / "checks", {"logprob": ">= -1"})))


def one_source(run: Path, checks: Path, keep: dict[str, Any] | None = None) -> dict[str, Any]:
    named = {"directory": str(checks), "keep": keep or KEEP}
    return {"a": {"kind": "augmented", "path": str(run), "passes": 1, "checks": named}}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"document": "people.jsonl:1"}', "line 2 names no document"),
        ("no json", "line 2 names no document"),
        ('{"document_id": "others.jsonl:1"}', r"line 2 names a document that is not mixed; .*got: 'others.jsonl:1'"),
        ('{"document_id": 7}', "line 2 names a document that is not mixed"),
    ],
)
def test_a_list_of_something_else_is_refused(root: Path, tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text('{"document_id": "people.jsonl:1"}\n' + line + "\n")
    with pytest.raises(InputError, match=said):
        mix(config_of(root, tmp_path / "out", leave_out=str(path)))
    with pytest.raises(InputError, match="no file"):
        mix(config_of(root, tmp_path / "out", leave_out=str(tmp_path / "nothing")))
