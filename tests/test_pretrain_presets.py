"""The paper's pre-trainings by name: table 14 to the letter, told before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipt_stream.cli import main
from ipt_stream.config import build
from ipt_stream.errors import ConfigError, TrainingError
from ipt_stream.training.models import base_architecture, empty_model, parameter_count
from ipt_stream.training.presets import LLAMA_3_8B
from ipt_stream.training.pretrain import PretrainConfig, pretrain

TABLE_14: dict[str, dict[str, Any]] = {
    "scratch-500m": {
        "size": "0.57B", "hidden": 1536, "intermediate": 4320, "layers": 16, "heads": 24, "kv": 24,
        "vocabulary": 32_000, "positions": 2048, "theta": 10_000, "length": 2048, "steps": 200_000, "batch": 0.5e6,
        "rate": 3e-4, "warm_up": 2000,
    },
    "scratch-1.3b": {
        "size": "1.35B", "hidden": 2048, "intermediate": 8192, "layers": 20, "heads": 32, "kv": 8, "vocabulary": 32_000,
        "positions": 2048, "theta": 10_000, "length": 2048, "steps": 100_000, "batch": 1e6, "rate": 2e-4,
        "warm_up": 2000,
    },
    "continual-8b": {
        "size": "8.03B", "hidden": 4096, "intermediate": 14_336, "layers": 32, "heads": 32, "kv": 8,
        "vocabulary": 128_256, "positions": 8192, "theta": 500_000, "length": 4096, "steps": 4000, "batch": 0.25e6,
        "rate": 1e-5, "warm_up": 1000,
    },
}  # fmt: skip


def given(preset: str, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    paths = {"mixture": str(tmp_path / "none"), "output": str(tmp_path / "out")}
    return {**paths, "preset": preset, "dry_run": True, **changes}


def by_hand(row: dict[str, Any]) -> int:
    """Parameters, counted from the table: attention, feed-forward, two norms a layer; two embeddings, a last norm."""
    hidden, head = row["hidden"], row["hidden"] // row["heads"]
    attention = 2 * hidden * hidden + 2 * hidden * head * row["kv"]
    layer = attention + 3 * hidden * row["intermediate"] + 2 * hidden
    return int(row["layers"] * layer + 2 * row["vocabulary"] * hidden + hidden)


@pytest.mark.parametrize("preset", TABLE_14)
def test_a_preset_is_the_tables_column(preset: str, tmp_path: Path) -> None:
    row = TABLE_14[preset]
    config = PretrainConfig.model_validate(given(preset, tmp_path))
    report = pretrain(config)
    assert report.stopped and not (tmp_path / "out").exists()
    figures, lines = report.figures, "\n".join(report.lines)
    assert figures["parameters"] == by_hand(row)
    assert f"({row['size']})" in lines
    per_step = float(figures["tokens_per_step"])
    assert per_step == config.sequences_per_batch * row["length"]
    assert per_step == pytest.approx(row["batch"], rel=0.05)
    assert figures["steps"] == row["steps"]
    assert figures["tokens"] == row["steps"] * per_step
    for told in (
        f"hidden {row['hidden']:,}", f"intermediate {row['intermediate']:,}", f"layers {row['layers']}",
        f"heads {row['heads']}", f"key and value heads {row['kv']}", f"positions {row['positions']:,}",
        f"vocabulary {row['vocabulary']:,}", f"rope theta {row['theta']:,}", "dropout 0.1",
        f"{row['warm_up']:,} steps up to {row['rate']:g}, then cosine", "Adam 0.9, 0.95, weight decay 0.1",
        "clipped at norm 1,", f"{int(per_step):,} tokens a step", f"{row['steps']:,} steps",
    ):  # fmt: skip
        assert told in lines


def test_what_is_said_counts_more_than_the_preset(tmp_path: Path) -> None:
    changes = {"model": {"layers": 2}, "fit": {"learning_rate": 1.0}, "steps": None, "sequence_length": 512}
    config = PretrainConfig.model_validate(given("scratch-500m", tmp_path, **changes))
    assert (config.model.layers, config.model.hidden_size) == (2, 1536)
    assert (config.fit.learning_rate, config.fit.warmup_steps) == (1.0, 2000)
    assert config.steps is None and config.sequence_length == 512
    again = PretrainConfig.model_validate_json(config.model_dump_json())
    assert again == config
    with pytest.raises(TrainingError, match="sequence_length and steps"):
        pretrain(config)


def test_an_unknown_preset_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'scratch-1\.3b'"):
        build(PretrainConfig, given("scratch_1.3B", tmp_path), "x.yaml")


def test_the_command_tells_it_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pretrain.yaml"
    file.write_text(f"mixture: {tmp_path}/none\noutput: {tmp_path}/out\npreset: toy\n")
    assert main(["pretrain", str(file), "preset=scratch-500m", "dry_run=true"]) == 0
    said = capsys.readouterr().out
    assert "567,8" in said and "(0.57B)" in said and "none in" in said
    assert [path.name for path in tmp_path.iterdir()] == ["pretrain.yaml"]


def test_a_folders_size_is_that_of_its_weights(model_folder: Path) -> None:
    from ipt_stream.training.models import load_model

    made = empty_model(base_architecture(str(model_folder)))
    assert all(parameter.is_meta for parameter in made.parameters())
    assert parameter_count(made) == parameter_count(load_model(str(model_folder)))


def test_dropout_and_attention_are_set_in_every_layer(model_folder: Path) -> None:
    from ipt_stream.training.models import load_model

    for made in (load_model(str(model_folder), dropout=0.1), empty_model(base_architecture(LLAMA_3_8B, 0.1))):
        layers = [module for module in made.modules() if hasattr(module, "attention_dropout")]
        assert len(layers) == made.config.num_hidden_layers
        assert {layer.attention_dropout for layer in layers} == {0.1}
        assert made.config._attn_implementation == "sdpa"
