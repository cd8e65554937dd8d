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

import numpy as np
import pytest
from mixture_world import (
    EOS,
    document_text,
    make_questions,
    make_run,
    make_tokenizer,
    make_tuning,
    pairs_of,
)

from ipt_stream.config import build
from ipt_stream.errors import ConfigError, InputError, LedgerError, MixtureError
from ipt_stream.mixture.mix import MixConfig, mix
from ipt_stream.mixture.plan import load_plan

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
    broken = make_run(tmp_path, documents=10)
    file = next((broken / "segments").iterdir())
    file.write_bytes(file.read_bytes() + b"x")
    sources = {"raw": {"kind": "raw", "path": str(broken), "passes": 1}}
    for cores in (0, 1):
        with pytest.raises(InputError, match="was altered") as raised:
            mix(config_of(world, tmp_path / "out", sources=sources, sequences=None, cores=cores))
        assert type(raised.value) is InputError
    assert not list((tmp_path / "out" / "sources").iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
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
