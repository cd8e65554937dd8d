"""What a tuning would be, before anything is trained: the paper's settings, counts per source, one example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_tuning_source_files import make_published

from ipt_stream.cli import main
from ipt_stream.config import build, load_config
from ipt_stream.errors import ConfigError, InputError
from ipt_stream.training.tune import TuneConfig, tune
from ipt_stream.training.tune_report import settings_lines
from ipt_stream.tuning.sequences import Phase
from ipt_stream.tuning.source_file import SEEN

ROOT = Path(__file__).parents[1]


def test_the_preset_is_table_8() -> None:
    config = build(TuneConfig, {"preset": "synthesizer-7b", "output": "out"}, "here")
    assert [[line[:24].strip(), line[24:]] for line in settings_lines(config)] == [
        ["base model", "mistralai/Mistral-7B-v0.1"],
        ["trained", "all weights"],
        ["epochs", "5"],
        ["batch size", "16,384 tokens"],
        ["max sequence length", "4,096"],
        ["max learning rate", "5e-06"],
        ["optimizer", "AdamW"],
        ["beta weights", "0.9, 0.95"],
        ["learning rate scheduler", "cosine, down to 0 of the highest"],
        ["weight decay", "0.1"],
        ["warm-up steps", "1,000"],
        ["gradient clipping", "1"],
        ["dropout", "0.1"],
    ]  # fmt: skip
    assert [source.source for source in config.sources] == list(SEEN)
    assert config.phases == (Phase(shots=(1, None)),), "as many examples as fit (appendix B)"
    assert (config.max_contexts, config.steps, config.lora) == (10_000, None, None)


def test_what_a_configuration_says_itself_counts_more_than_its_preset(tmp_path: Path) -> None:
    file = tmp_path / "tune.yaml"
    file.write_text("preset: synthesizer-7b\noutput: out\nfit: {checkpoint_steps: 50}\nsources: [squad]\n")
    config = load_config(TuneConfig, file, ["fit.learning_rate=1e-5", "lora.rank=8", "epochs=1"])
    assert (config.fit.learning_rate, config.fit.warmup_steps, config.fit.checkpoint_steps) == (1e-5, 1000, 50)
    assert config.lora is not None and config.lora.rank == 8
    assert (config.epochs, [source.label for source in config.sources]) == (1.0, ["squad"])
    with pytest.raises(ConfigError, match="Input should be 'synthesizer-7b'"):
        load_config(TuneConfig, file, ["preset=synthesizer-8b"])
    with pytest.raises(ConfigError, match=r"'fit\.learning_rte'; did you mean 'fit\.learning_rate'"):
        load_config(TuneConfig, file, ["fit.learning_rte=1"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": {}}, "lora and dropout are for a base_model"),
        ({"base_model": "x", "lora": {"rank": 12}}, "a rank that the engine takes"),
        ({"quality": {}}, "set held_out, or validation"),
        ({"quality": {"max_new_tokens": 1024}, "held_out": 0.1}, "must leave room in max_seq_len 1024"),
        ({"held_out": 1.0}, "less than 1"),
        ({"quality": {"every": 3}, "held_out": 0.1}, r"quality\.every'; did you mean 'quality\.every_steps"),
    ],
)
def test_settings_that_can_t_be_used_together_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(TuneConfig, {"sources": ["squad"], "output": "out", **changes}, "tune.yaml")


def test_the_recipes_read_their_sources_in_the_new_form() -> None:
    for name in ("tune", "tune_7b", "demo", "shared_data"):
        loaded = yaml.safe_load((ROOT / "jobs" / "configs" / f"{name}.yaml").read_text())
        settings = (
            loaded
            if name.startswith("tune")
            else {k: v for k, v in loaded["stages"]["synthesizer"].items() if k != "verb"}
        )
        config = build(TuneConfig, settings, name)
        assert config.sources
    assert {source.source for source in config.sources} == {
        f"published/{folder}" for folder in ("squad", "covid_qa", "pubmedqa", "aqua_rat", "cos_e")
    }


@pytest.fixture
def world(tmp_path: Path) -> dict[str, Any]:
    """Settings of a tuning on two published sources and one of examples, in `tmp_path`."""
    data = tmp_path / "data"
    data.mkdir()
    make_published(data)
    rows = [
        {"source": "own", "context": f"Text {number} of Ada.", "pairs": [
            {"instruction": "Who?", "response": "Ada"}, {"instruction": "WHO?", "response": "Ada"}]}
        for number in range(40)
    ]  # fmt: skip
    (data / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [
        {"source": "published/squad", "path": str(data / "squad")},
        {"source": "published/cos_e", "path": str(data / "cos_e"), "thought_share": 1.0},
        {"path": str(data / "own.jsonl")},
    ]
    return {"sources": sources, "output": str(tmp_path / "out"), "held_out": 0.2, "vocab_size": 300, "steps": 6,
            "phases": [{"shots": [1, 2]}], "tokens_per_batch": 1024}  # fmt: skip


def test_a_dry_run_says_what_would_be_and_writes_nothing(
    world: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tune.yaml"
    file.write_text(json.dumps(world))
    before = sorted(tmp_path.rglob("*"))
    assert main(["tune", str(file), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert main(["tune", str(file), "dry_run=true", "seed=0"]) == 0
    assert capsys.readouterr().out == said
    assert sorted(tmp_path.rglob("*")) == before
    lines = said.splitlines()
    table = {line.split()[0]: line for line in lines[:5]}
    assert " ".join(table["source"].split()) == (
        "source contexts pairs free-form choice free, CoT choice, CoT held out cut or left out"
    )
    assert table["squad"].split()[:7] == ["squad", "1", "1", "1", "0", "0", "0"]
    assert table["squad"].endswith("1 filtered_rows")
    assert table["cos_e"].split()[:7] == ["cos_e", "2", "2", "0", "1", "0", "1"]
    assert table["own.jsonl"].split()[:7] == ["own.jsonl", "40", "40", "40", "0", "0", "0"]
    assert table["own.jsonl"].endswith("40 duplicate_pairs")
    assert table["all"].split()[:7] == ["all", "43", "43", "41", "1", "0", "1"]
    held = int(table["all"].split()[7])
    assert held == sum(int(table[name].split()[7]) for name in ("squad", "cos_e", "own.jsonl"))
    assert 2 <= held <= 16
    assert f"{43 - held} shots of at most 1,024 tokens, seen" in said
    assert "6 steps of at most 1,024 tokens" in said
    assert "from scratch: 2 layers of width 128" in said
    example = said[said.index("<s> <CON> ") :]
    assert example.rstrip().endswith("</END></s>") and "<QUE> " in example


def test_adapters_are_not_shared_out(world: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="fsdp is for all weights"):
        build(TuneConfig, {**world, "base_model": "there", "lora": {}, "fsdp": True}, "here")


def test_a_dry_run_of_a_source_that_is_not_there_fails(world: dict[str, Any], tmp_path: Path) -> None:
    sources = [{"source": "published/squad", "path": str(tmp_path / "nowhere")}]
    with pytest.raises(InputError, match="nowhere"):
        tune(build(TuneConfig, {**world, "sources": sources, "dry_run": True}, "here"))
    assert not (tmp_path / "out").exists()
