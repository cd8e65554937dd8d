"""A mixture holds every document once, is the same however it was made, and goes on where it was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mixture_world
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mixture_world import (
    EOS,
    document_text,
    make_questions,
    make_run,
    make_tokenizer,
    make_tuning,
    pairs_of,
    sentence,
)

from ipt_stream.config import build
from ipt_stream.errors import ConfigError, InputError, LedgerError, MixtureError
from ipt_stream.mixture.mix import MixConfig, mix
from ipt_stream.mixture.plan import load_plan
from ipt_stream.mixture.presets import Preset
from ipt_stream.synthesis.results import list_segments, load_rows

# Ray's DataContext sets fields of its own that it warns of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

LENGTH = 64
DOCUMENTS = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_run(root, documents=DOCUMENTS)
    make_tuning(root)
    make_questions(root)
    make_tokenizer(root)
    return root


def config_of(world: Path, output: Path, **changes: Any) -> MixConfig:
    sources: dict[str, Any] = {
        "augmented": {"kind": "augmented", "path": str(world / "segments"), "passes": 1},
        "raw": {"kind": "raw", "path": str(world / "segments"), "fill": True},
        "tuning": {"kind": "pairs", "path": str(world / "tuning.jsonl"), "passes": 2},
        "general": {"kind": "pairs", "path": str(world / "general.jsonl"), "ratio": {"to": "raw", "tokens": 0.5}},
        "web": {"kind": "text", "path": str(world / "shard.jsonl"), "passes": 0.5},
    }
    settings = {"sources": sources, "sequences": 250, "tokenizer": str(world / "tokenizer"), "sequence_length": LENGTH}
    return build(MixConfig, {"output": str(output), "cores": 0, **settings, **changes}, "test")


@pytest.fixture(scope="module")
def mixture(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("mixture")
    mix(config_of(world, output, text_mds=True))
    return output


def read_mds(directory: Path) -> Iterator[dict[str, Any]]:
    """All samples of an MDS directory, in order, leaving it as it is."""
    from streaming.base.compression import decompress
    from streaming.base.format import reader_from_json

    for shard in json.loads((directory / "index.json").read_text())["shards"]:
        packed = (directory / shard["zip_data"]["basename"]).read_bytes()
        place = directory.parent / f".reading-{os.getpid()}"
        place.mkdir()
        (place / shard["raw_data"]["basename"]).write_bytes(decompress("zstd", packed))
        yield from reader_from_json(str(place), "", shard)
        shutil.rmtree(place)


def tokens_of(mixture: Path, name: str) -> np.ndarray:
    return np.concatenate([sample["tokens"] for sample in read_mds(mixture / "sources" / name)])


def texts_of(mixture: Path, name: str) -> list[str]:
    """The texts of a source, cut out of its packed tokens again."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(mixture / "tokenizer")
    tokens = tokens_of(mixture, name)
    texts, start = [], 0
    for end in np.flatnonzero(tokens == tokenizer.eos_token_id):
        if end > start:
            texts.append(tokenizer.decode(tokens[start:end]))
        start = end + 1
    return texts


def contents(directory: Path) -> dict[str, bytes]:
    """All that a mixture holds, but for how long it took."""
    found = {str(f.relative_to(directory)): f.read_bytes() for f in sorted(directory.rglob("*")) if f.is_file()}
    return {name: content for name, content in found.items() if name != "stage.json"}


def test_every_document_is_in_exactly_one_of_augmented_and_raw_with_all_its_pairs(mixture: Path) -> None:
    augmented, raw = texts_of(mixture, "augmented"), texts_of(mixture, "raw")
    barren = [document_text(i) for i in range(DOCUMENTS) if i % 5 == 4]
    assert sorted(raw) == sorted(barren)
    whole = "\n".join(augmented)
    seen = Counter(document_text(i) for i in range(DOCUMENTS) if i % 5 != 4)
    assert all(whole.count(text) >= count for text, count in seen.items())
    for i in range(DOCUMENTS):
        asked = [pair.instruction.split("\n")[0] for pair in pairs_of(i)]
        assert all(
            (whole.count(question + "\n") + whole.count(question + " ") > 0) == (i % 5 != 4) for question in asked
        )
    counts = {source.name: source.documents for source in load_plan(str(mixture)).sources}
    assert counts["augmented"] + counts["raw"] == counts["web"] == DOCUMENTS


def test_an_eos_in_a_text_stays_text(mixture: Path) -> None:
    assert any(f"It said {EOS} there." in text for text in texts_of(mixture, "web"))
    assert len(texts_of(mixture, "web")) == DOCUMENTS


def test_texts_are_packed_as_they_were_rendered(mixture: Path) -> None:
    for name in ("augmented", "raw", "tuning", "general", "web"):
        written = list(read_mds(mixture / "text" / name))
        assert [sample["text"] for sample in written] == texts_of(mixture, name)
        assert len({sample["document_id"] for sample in written}) == len(written)
    found = Counter(
        (pair["instruction"], pair["response"])
        for sample in read_mds(mixture / "text" / "augmented")
        for pair in json.loads(sample["pairs"])
    )
    made = Counter((p.instruction, p.response) for i in range(DOCUMENTS) if i % 5 != 4 for p in pairs_of(i))
    assert found == made, "each text names the pairs that were rendered into it"
    assert all(json.loads(sample["pairs"]) == [] for sample in read_mds(mixture / "text" / "raw"))
    assert texts_of(mixture, "general")[3].startswith("Say ") and "{3} " in texts_of(mixture, "general")[3]


def test_the_plan_counts_what_is_there_and_plans_what_was_asked(mixture: Path) -> None:
    plan = load_plan(str(mixture))
    for source in plan.sources:
        tokens = tokens_of(mixture, source.name)
        assert len(tokens) == source.sequences * LENGTH
        assert 0 <= len(tokens) - source.tokens < LENGTH, "only the last sequence is padded"
        assert tokens.dtype == np.uint16 and tokens.max() < plan.vocabulary_size
    by_name = {source.name: source for source in plan.sources}
    assert plan.sequences == 250
    assert by_name["augmented"].passes == 1 and by_name["tuning"].passes == 2
    assert by_name["web"].planned == round(by_name["web"].sequences / 2)
    wanted, got = (by_name[n].passes * by_name[n].tokens for n in ("raw", "general"))
    assert abs(got - wanted / 2) <= LENGTH


def test_the_copied_tokenizer_is_the_one_that_was_given(world: Path, mixture: Path) -> None:
    from transformers import AutoTokenizer

    given, copied = (AutoTokenizer.from_pretrained(root / "tokenizer") for root in (world, mixture))
    text = document_text(3)
    assert given(text).input_ids == copied(text).input_ids and given.eos_token_id == copied.eos_token_id


def test_samples_show_each_source(mixture: Path) -> None:
    samples = [json.loads(line) for line in (mixture / "samples.jsonl").read_text("utf-8").splitlines()]
    assert Counter(sample["source"] for sample in samples) == dict.fromkeys(
        ("augmented", "raw", "tuning", "general", "web"), 3
    )
    for sample in samples:
        assert sample["text"] in texts_of(mixture, sample["source"])


def test_asked_again_it_answers_and_does_nothing(world: Path, mixture: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in mixture.rglob("*")}
    report = mix(config_of(world, mixture, text_mds=True, cores=2))
    assert report.skipped and report.figures["sequences"] == 250
    assert {file: file.stat().st_mtime_ns for file in mixture.rglob("*")} == before
    with pytest.raises(LedgerError, match="made with other settings"):
        mix(config_of(world, mixture, text_mds=True, seed=1))


def test_ray_tasks_a_kill_and_other_units_of_work_give_the_same_bytes(
    world: Path, mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(world, tmp_path / "again", text_mds=True)
    script = (
        "import sys, os, signal, ipt_stream.mixture.mix as m\n"
        "write = m._write_source\n"
        "def killed(config, name, *rest):\n"
        "    if name == 'tuning': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return write(config, name, *rest)\n"
        "m._write_source = killed\n"
        "m.mix(m.MixConfig.model_validate_json(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, config.model_dump_json()], check=False, cwd=Path(__file__).parent.parent
    )
    assert done.returncode == -signal.SIGKILL
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "again" / "sources" / "augmented").iterdir()}
    assert kept
    with pytest.raises(MixtureError, match="no mixture in"):
        load_plan(str(tmp_path / "again"))
    monkeypatch.setattr("ipt_stream.mixture.sources.ROWS_A_UNIT", 7)
    started = time.monotonic()
    report = mix(config.model_copy(update={"cores": 2}))  # in Ray tasks
    assert time.monotonic() - started < 300 and not report.skipped
    assert kept == {file: file.stat().st_mtime_ns for file in kept}, "a finished source is not written again"
    assert contents(tmp_path / "again") == contents(mixture)


def test_what_is_asked_may_be_mended_and_the_sources_stay(world: Path, tmp_path: Path) -> None:
    sources = {"raw": {"kind": "raw", "path": str(world / "segments"), "fill": True}}
    with pytest.raises(MixtureError, match=r"source raw is short by .* sequences=(\d+)") as raised:
        mix(config_of(world, tmp_path, sources=sources, sequences=1000))
    before = (tmp_path / "sources" / "raw" / "facts.json").stat().st_mtime_ns
    possible = int(str(raised.value).split("sequences=")[1].split(",")[0])
    report = mix(config_of(world, tmp_path, sources=sources, sequences=possible))
    assert report.figures["sequences"] == possible
    assert (tmp_path / "sources" / "raw" / "facts.json").stat().st_mtime_ns == before


def test_errors_of_a_task_reach_the_caller_as_they_are(world: Path, tmp_path: Path) -> None:
    broken = make_run(tmp_path, documents=60, rows_a_segment=5)
    file = broken / "segments" / "000000-000001.parquet"  # not one that the estimate looks at
    file.write_bytes(file.read_bytes() + b"x")
    sources = {"raw": {"kind": "raw", "path": str(broken), "passes": 1}}
    for cores in (0, 1):
        with pytest.raises(InputError, match=r"^\S+000001.parquet was altered; wanted") as raised:
            mix(config_of(world, tmp_path / "out", sources=sources, sequences=None, cores=cores))
        assert type(raised.value) is InputError
    assert not list((tmp_path / "out" / "sources").iterdir())


def test_a_run_that_is_not_finished_is_refused(world: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, documents=10)
    part = next((run / "ledger").iterdir())
    part.write_text("".join(line for line in part.read_text().splitlines(True) if json.loads(line)["kind"] != "shard"))
    with pytest.raises(InputError, match=r"is not finished; wanted: all 1 shards; got: 1 that are not whole"):
        only(world, tmp_path / "out", {"kind": "raw", "path": str(run)})


def test_what_no_data_can_mend_is_said_at_once(world: Path, tmp_path: Path) -> None:
    run = {"kind": "raw", "path": str(world / "segments")}
    for sources, said in (
        ({"a": {**run, "fill": True}}, "no total"),
        ({"a": {**run, "ratio": {"to": "b"}}}, "which is no source"),
    ):
        with pytest.raises(MixtureError, match=said):
            mix(config_of(world, tmp_path / "out", sources=sources, sequences=None, dry_run=True))
    assert not (tmp_path / "out").exists()


def test_another_eos_makes_another_mixture(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "tokenizer", tmp_path / "tokenizer")
    settings = {"sources": {"raw": {"kind": "raw", "path": str(world / "segments"), "passes": 1}}, "sequences": None}
    mix(config_of(world, tmp_path / "out", **settings))
    file = tmp_path / "tokenizer" / "tokenizer_config.json"
    file.write_text(file.read_text().replace('"eos_token": "</s>"', '"eos_token": "<s>"'))
    with pytest.raises(LedgerError, match="made with other settings"):
        mix(config_of(world, tmp_path / "out", tokenizer=str(tmp_path / "tokenizer"), **settings))


def test_what_an_earlier_attempt_left_is_removed(world: Path, tmp_path: Path) -> None:
    run = {"kind": "raw", "path": str(world / "segments")}
    with pytest.raises(MixtureError, match="short by"):
        mix(config_of(world, tmp_path, sources={"old": {**run, "fill": True}}, sequences=1000, text_mds=True))
    assert (tmp_path / "sources" / "old").is_dir()
    mix(config_of(world, tmp_path, sources={"new": {**run, "passes": 1}}, sequences=None))
    assert [f.name for f in (tmp_path / "sources").iterdir()] == ["new"]
    assert not list((tmp_path / "text").iterdir())


# Other ways to a text.


def only(world: Path, output: Path, source: dict[str, Any], **changes: Any) -> list[str]:
    """The texts of a mixture of one source."""
    mix(config_of(world, output, sources={"it": {"passes": 1, **source}}, sequences=None, **changes))
    return texts_of(output, "it")


def test_all_documents_of_a_run_can_be_seen_as_plain_text(world: Path, tmp_path: Path) -> None:
    found = only(world, tmp_path, {"kind": "documents", "path": str(world / "segments")})
    assert found == [document_text(i) for i in range(DOCUMENTS)]


def test_documents_that_were_not_selected_are_read_once_more_and_each_is_in_one_place(tmp_path: Path) -> None:
    run = make_run(tmp_path, documents=50, rows_a_segment=5, fraction=0.5)
    make_tokenizer(tmp_path)
    counts = {}
    for kind in ("augmented", "raw", "documents"):
        only(tmp_path, tmp_path / kind, {"kind": kind, "path": str(run)})
        counts[kind] = load_plan(str(tmp_path / kind)).sources[0].documents
    assert counts["augmented"] + counts["raw"] == counts["documents"] == 50
    assert 0 < counts["augmented"] < 40
    assert texts_of(tmp_path / "documents", "it") == [document_text(i) for i in range(50)]


def test_examples_can_be_cut_to_single_shots_and_shown_without_their_texts(world: Path, tmp_path: Path) -> None:
    run = {"kind": "augmented", "path": str(world / "segments")}
    single = only(world, tmp_path / "single", {**run, "shots": 1})
    converted = [i for i in range(DOCUMENTS) if i % 5 != 4]
    assert len(single) == len(converted) > len(only(world, tmp_path / "whole", run))
    assert all(sum(document_text(i) in text for text in single) >= 1 for i in converted)
    bare = only(world, tmp_path / "bare", {**run, "with_text": False})
    assert not any(sentence(i) in text for i in converted for text in bare)
    asked = [pair.instruction.split("\n")[0] for i in converted for pair in pairs_of(i)]
    assert all(any(question in text for text in bare) for question in asked)


PROSE = (
    "The bridge at Harrow was closed in the spring of that year because the river had risen over its road. "
    "The people of the town took the ferry for some weeks. However, the ferry was too small for their carts."
)


def test_rules_find_pairs_in_the_same_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture_world, "document_text", lambda i: f"{PROSE} It was seen {i} times." if i % 2 else "Ah.")
    shard = tmp_path / "shard.jsonl"
    make_run(tmp_path, documents=20)
    make_tokenizer(tmp_path)
    found = only(tmp_path, tmp_path / "out", {"kind": "rule-based", "path": str(tmp_path / "segments")}, text_mds=True)
    texts = [json.loads(line)["text"] for line in shard.read_text().splitlines()]
    assert len(found) == len(texts)
    written = list(read_mds(tmp_path / "out" / "text" / "it"))
    with_pairs = [sample for sample in written if json.loads(sample["pairs"])]
    assert with_pairs
    for sample, text in zip(written, texts, strict=True):
        assert text in sample["text"] and (sample["text"] == text) == (json.loads(sample["pairs"]) == [])


def test_rules_can_be_kept_to_the_documents_that_the_run_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixture_world, "document_text", lambda i: f"{PROSE} It was seen {i} times.")
    run = make_run(tmp_path, documents=30, rows_a_segment=10, fraction=0.5)
    make_tokenizer(tmp_path)
    source = {"kind": "rule-based", "path": str(run), "converted_alone": True}
    only(tmp_path, tmp_path / "out", source, text_mds=True)
    written = list(read_mds(tmp_path / "out" / "text" / "it"))
    converted = {row.document_id for reference in list_segments(str(run)) for row in load_rows(reference)}
    assert 0 < len(converted) < len(written) == 30
    assert {sample["document_id"] for sample in written if json.loads(sample["pairs"])} == converted


@pytest.mark.parametrize("layout", ["saved", "hub"])
def test_the_folder_of_a_data_set_is_a_source(world: Path, tmp_path: Path, layout: str) -> None:
    import datasets

    rows = {name: [f"{name} {sentence(i)}" for i in range(n)] for name, n in (("train", 30), ("test", 4))}
    folder = tmp_path / "data_set"
    if layout == "saved":
        splits = {name: datasets.Dataset.from_dict({"text": texts}) for name, texts in rows.items()}
        datasets.DatasetDict(splits).save_to_disk(str(folder), num_shards={"train": 3, "test": 1})
    else:
        (folder / "data").mkdir(parents=True)
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
        for name, texts in rows.items():
            table = pa.table({"text": texts, "url": texts})
            pq.write_table(table, folder / "data" / f"{name}-00000-of-00001.parquet", row_group_size=7)
    assert only(world, tmp_path / "out", {"kind": "text", "path": str(folder)}) == rows["train"]
    test = only(world, tmp_path / "test", {"kind": "text", "path": str(folder), "split": "test"})
    assert test == rows["test"]
    with pytest.raises(InputError, match="no split validation; wanted: test, train"):
        only(world, tmp_path / "dev", {"kind": "text", "path": str(folder), "split": "dev"})


def test_rows_that_are_no_documents_are_counted(world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shard = tmp_path / "web.jsonl"
    shard.write_text('{"text": "a river"}\n{"text": ""}\n{"text": null}\nno json\n{"text": "a stone"}\n')
    with caplog.at_level("INFO", logger="ipt_stream"):
        assert only(world, tmp_path / "out", {"kind": "text", "path": str(shard)}) == ["a river", "a stone"]
    assert "it: 3 rows are no documents and are left out" in caplog.text


def test_best_fit_cuts_no_document_that_fits(world: Path, tmp_path: Path) -> None:
    source = {"kind": "documents", "path": str(world / "segments")}
    texts = only(world, tmp_path, source, packing="best-fit", sequence_length=128)
    assert Counter(texts) == Counter(document_text(i) for i in range(DOCUMENTS))
    tokens = tokens_of(tmp_path, "it").reshape(-1, 128)
    plan = load_plan(str(tmp_path))
    assert plan.sources[0].tokens < tokens.size
    report = mix(config_of(world, tmp_path, sources={"it": {"passes": 1, **source}}, sequences=None,
                           packing="best-fit", sequence_length=128))  # fmt: skip
    assert report.skipped and report.figures["it_padding"] == round(1 - plan.sources[0].tokens / tokens.size, 5)


def test_a_document_that_the_ledger_tells_of_and_no_source_holds_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path, documents=10, rows_a_segment=5)
    make_tokenizer(tmp_path)
    part = next((run / "ledger").iterdir())
    records = [json.loads(line) for line in part.read_text().splitlines()]
    records[0]["raw"] += 1
    part.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(LedgerError, match=r"source it does not hold the raw documents .* wanted: 3, .* got: 2"):
        only(tmp_path, tmp_path / "out", {"kind": "raw", "path": str(run)})
    assert not (tmp_path / "out" / "plan.json").exists()


# What is said before anything is written.


def test_a_dry_run_says_about_what_will_be_and_writes_nothing(world: Path, mixture: Path, tmp_path: Path) -> None:
    report = mix(config_of(world, tmp_path / "out", dry_run=True, sequences_per_batch=10))
    assert not (tmp_path / "out").exists()
    about = {line.split()[0]: line.split() for line in report.lines}
    assert "~25 steps of 10 sequences, ~250 sequences" in report.lines[-1]
    for source in load_plan(str(mixture)).sources:
        tokens = int(about[source.name][2].lstrip("~").replace(",", ""))
        assert 0.5 < tokens / source.tokens < 2, "a sample tells the order of magnitude at least"


def test_a_plan_that_can_not_be_is_said_before_the_work(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = {"raw": {"kind": "raw", "path": str(world / "segments"), "fill": True}}
    with caplog.at_level("INFO", logger="ipt_stream"):
        report = mix(config_of(world, tmp_path, sources=sources, sequences=100_000, dry_run=True))
    assert "source raw is short by" in report.lines[-1] and "max_passes" in report.lines[-1]


# Presets.


@pytest.mark.parametrize("preset", list(Preset))
def test_presets_have_equal_budgets_and_the_papers_content(world: Path, tmp_path: Path, preset: Preset) -> None:
    data = {"synthesis": str(world / "segments"), "tuning": str(world / "tuning.jsonl"),
            "general": str(world / "general.jsonl")}  # fmt: skip
    made = {"output": str(tmp_path), "cores": 0, "tokenizer": str(world / "tokenizer"), "sequence_length": LENGTH}
    mix(build(MixConfig, {**made, "preset": str(preset), **data, "tokens": 600 * LENGTH}, "test"))
    plan = load_plan(str(tmp_path))
    names = {source.name: source for source in plan.sources}
    assert plan.sequences == 600
    wanted = {
        Preset.VANILLA: {"documents"}, Preset.MIX: {"documents", "tuning"},
        Preset.INSTRUCT: {"augmented", "raw", "tuning"}, Preset.INSTRUCT_DOMAIN: {"augmented", "general", "raw"},
        Preset.ONE_SHOT: {"augmented", "general", "raw"}, Preset.NO_CORPORA: {"augmented", "general"},
        Preset.RULE_BASED: {"rules", "general"},
    }  # fmt: skip
    assert set(names) == wanted[preset]
    if "tuning" in names:
        assert names["tuning"].passes == 4
    if "general" in names:
        first = next(iter(names.values()))
        per = {s.name: s.planned * s.tokens / s.sequences for s in (first, names["general"])}
        assert abs(per[first.name] - per["general"]) <= 2 * LENGTH, "one to one by tokens"
    if {"augmented", "raw"} <= set(names) and preset is Preset.INSTRUCT:
        assert abs(names["augmented"].passes - names["raw"].passes) < 0.2, "all documents are seen equally often"


def test_a_preset_can_be_changed_and_says_what_it_needs(world: Path, tmp_path: Path) -> None:
    base = {"output": str(tmp_path), "tokenizer": "t", "preset": "mix", "synthesis": "run", "tokens": 100}
    changed = build(MixConfig, {**base, "tuning": "t.jsonl", "sources": {"tuning": {"passes": 2}}}, "test")
    assert changed.sources["tuning"].passes == 2 and changed.sources["documents"].fill
    with pytest.raises(ConfigError, match="preset mix needs tuning"):
        build(MixConfig, base, "test")
    with pytest.raises(ConfigError, match="preset"):
        build(MixConfig, {**base, "preset": "instrct"}, "test")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sources": {"a": {"kind": "text", "path": "x", "passes": 1, "shots": 1}}}, "shots is for sources of kind"),
        ({"sources": {"a": {"kind": "raw", "path": "x", "passes": 1, "with_text": False}}}, "with_text=false is for"),
        ({"sources": {"a": {"kind": "raw", "path": "x", "passes": 1, "curve": [[0, 0]]}}}, "a curve has some weight"),
        ({"packing": "tight"}, "packing"),
        ({"sources": {"a": {"kind": "raw", "path": "x"}}}, "exactly one of passes, ratio and fill"),
        ({"sources": {"a": {"kind": "raw", "path": "x", "passes": 1, "fill": True}}}, "exactly one of"),
        ({"sources": {"a": {"kind": "raw", "path": ["x", "y"], "passes": 1}}}, "takes one path"),
        ({"sources": {"a/b": {"kind": "raw", "path": "x", "passes": 1}}}, "source names of letters"),
        ({"sources": {"a": {"kind": "raw", "path": "x", "pases": 1}}}, "did you mean 'sources.a.passes'"),
    ],
)
def test_a_config_that_can_not_be_is_refused(world: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_of(world, tmp_path, **changes)


def test_what_is_not_there_is_named(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tokenizer in"):
        mix(config_of(world, tmp_path, tokenizer=str(tmp_path)))
    with pytest.raises(ConfigError, match="both sequences and tokens"):
        mix(config_of(world, tmp_path, tokens=5))
    with pytest.raises(InputError, match="no input matches"):
        mix(config_of(world, tmp_path, sources={"a": {"kind": "pairs", "path": str(tmp_path / "x"), "passes": 1}}))
