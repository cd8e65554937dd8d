"""The training seam and the tune stage, with the real Composer: right losses, resumable to the bit, a usable folder."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ipt_stream.config import build
from ipt_stream.errors import ConfigError, LedgerError, TrainingError
from ipt_stream.stage import finished_figures
from ipt_stream.training.fit import FitSettings, Schedule, learning_rate_share
from ipt_stream.training.models import ModelConfig
from ipt_stream.training.tune import TuneConfig, tune

pytestmark = [
    pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning"),
]

TINY = {"hidden_size": 64, "intermediate_size": 96, "layers": 1, "heads": 2, "kv_heads": 1, "dropout": 0.1}
QUALITY = {"every_steps": 60, "contexts": 6, "responses": 6, "shots": 2, "max_new_tokens": 24}
KEEPERS = ("Ada", "Ben", "Cyd", "Dov", "Eve", "Fay", "Gus", "Hal")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 texts, each with the answer to its one question in it."""
    rows = [
        {
            "source": ("mills", "bridges")[number % 2],
            "context": f"Text {number}: the keeper is {KEEPERS[number * 5 % 8]}.",
            "pairs": [{"instruction": "Who keeps it?", "response": KEEPERS[number * 5 % 8]}],
        }
        for number in range(96)
    ]
    path = tmp_path_factory.mktemp("tuning") / "examples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(examples: Path, output: Path, **changes: Any) -> TuneConfig:
    settings = {
        "sources": [{"path": str(examples)}],
        "held_out": 0.2,
        "quality": QUALITY,
        "output": str(output),
        "model": TINY,
        "vocab_size": 400,
        "max_seq_len": 256,
        "tokens_per_batch": 256,
        "steps": 150,
        "fit": {"learning_rate": 1e-2, "warmup_steps": 5, "checkpoint_steps": 10, "log_steps": 3},
    }
    return TuneConfig.model_validate({**settings, **changes})


def losses(output: Path) -> list[tuple[int, float]]:
    """The steps logged and the mean losses up to each, exactly: JSON keeps a float's bits."""
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [(record["done"], record["loss"]) for record in records]


@pytest.fixture(scope="module")
def tuned(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    tune(config(examples, output))
    return output


def test_tuning_learns_and_publishes_a_folder_that_loads(tuned: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    figures = finished_figures(str(tuned))
    assert figures is not None
    assert figures["steps"] == 150
    counts = [int(figures[name]) for name in ("examples_mills", "examples_bridges", "held_out", "pairs")]
    assert counts[0] + counts[1] == counts[3] == 96 - counts[2]
    assert 10 <= counts[2] <= 30
    assert float(figures["loss_last"]) < float(figures["loss_first"]) / 3
    assert float(figures["loss_validation"]) < float(figures["loss_first"]) / 3
    tokenizer = AutoTokenizer.from_pretrained(tuned / "model")
    model = AutoModelForCausalLM.from_pretrained(tuned / "model")
    assert sum(p.numel() for p in model.parameters()) == figures["parameters"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert model.config.vocab_size == len(tokenizer)
    assert [step for step, _ in losses(tuned)] == list(range(3, 151, 3))
    assert len(list((tuned / "checkpoints").iterdir())) == 2


def evaluations(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "evaluations.jsonl").read_text().splitlines()]


def test_loss_and_quality_on_held_out_contexts_are_followed(tuned: Path) -> None:
    found = evaluations(tuned)
    assert [record["step"] for record in found] == [60, 120, 150]
    names = {"loss_validation", "response_f1", "pair_f1", "pair_f1_few", "pairs_a_text"}
    assert all(record.keys() == {"step", *names} for record in found)
    assert all(0 <= record[name] <= 1 for record in found for name in ("response_f1", "pair_f1", "pair_f1_few"))
    assert found[-1]["loss_validation"] < found[0]["loss_validation"]
    assert found[-1]["pair_f1"] >= 0.5, "its one question is always the same; the answer is half of the pair"
    figures = finished_figures(str(tuned))
    assert figures is not None
    assert {name: figures[name] for name in names} == {name: round(found[-1][name], 4) for name in names}


def test_the_examples_are_kept_apart_as_they_were_tuned_and_measured_on(tuned: Path, examples: Path) -> None:
    from ipt_stream.tuning.pairs import read_examples

    train, held = (read_examples(str(tuned / "examples" / f"{part}.jsonl")) for part in ("train", "held_out"))
    figures = finished_figures(str(tuned))
    assert figures is not None
    assert [len(train), len(held)] == [figures["pairs"], figures["held_out"]]
    assert sorted(map(str, train + held)) == sorted(map(str, read_examples(str(examples))))


def test_asked_again_it_skips_and_with_other_settings_it_refuses(examples: Path, tuned: Path) -> None:
    before = (tuned / "model" / "model.safetensors").stat().st_mtime_ns
    assert tune(config(examples, tuned)).skipped
    assert (tuned / "model" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(LedgerError, match="seed was 0, is 1"):
        tune(config(examples, tuned, seed=1))


def test_a_run_killed_at_any_moment_goes_on_to_the_same_bits(
    examples: Path, tuned: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    killed = tmp_path / "killed"
    settings = config(examples, killed)
    child = "import sys; from ipt_stream.training.tune import *; tune(TuneConfig.model_validate_json(sys.argv[1]))"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", child, settings.model_dump_json()], env=environment)
    kill_after(process, killed / "checkpoints" / "step-000000040.pt")
    assert not (killed / "model").exists()
    capfd.readouterr()
    figures = tune(settings).figures
    resumed = int(float(str(figures["resumed_from"])))
    assert 40 <= resumed < 150
    assert losses(killed) == losses(tuned)
    assert evaluations(killed) == evaluations(tuned)
    weights = [path / "model" / "model.safetensors" for path in (killed, tuned)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert capfd.readouterr().out == ""


def kill_after(process: subprocess.Popen[bytes], path: Path) -> None:
    """SIGKILL as soon as `path` is there."""
    until = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < until, f"no {path.name} in time"
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -9


def test_accumulating_over_microbatches_gives_the_same_losses(examples: Path, tuned: Path, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-2, "warmup_steps": 5, "log_steps": 1, "microbatch_sequences": 2}
    plain = {key: value for key, value in settings.items() if key != "microbatch_sequences"}
    model = {**TINY, "dropout": 0.0}
    for name, fit in (("whole", plain), ("parts", settings)):
        tune(config(examples, tmp_path / name, model=model, steps=10, held_out=0, quality=None, fit=fit))
    for (_, whole), (_, parts) in zip(losses(tmp_path / "whole"), losses(tmp_path / "parts"), strict=True):
        assert parts == pytest.approx(whole, rel=1e-4)


def test_the_loss_is_the_model_s_own_and_padding_changes_nothing(model_folder: Path) -> None:
    import torch

    from ipt_stream.training.composer_parts import mean_loss
    from ipt_stream.training.models import load_model

    model = load_model(str(model_folder)).eval()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 300, (3, 40), generator=generator)
    labels = tokens.masked_fill(torch.rand(3, 40, generator=generator) < 0.5, -100)
    own = model(input_ids=tokens, labels=labels).loss
    assert torch.allclose(mean_loss(model, tokens, labels), own, atol=1e-5)
    padded = torch.nn.functional.pad(tokens, (0, 9), value=1), torch.nn.functional.pad(labels, (0, 9), value=-100)
    assert torch.allclose(mean_loss(model, *padded), own, atol=1e-5)


@pytest.mark.parametrize("schedule", list(Schedule))
def test_the_rate_rises_to_its_top_and_never_again(schedule: Schedule) -> None:
    settings = FitSettings(schedule=schedule, warmup_steps=10, final_share=0.1)
    shares = [learning_rate_share(step, 100, settings) for step in range(101)]
    assert shares[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert all(a >= b for a, b in itertools.pairwise(shares[9:]))
    assert shares[100] == pytest.approx(1.0 if schedule is Schedule.CONSTANT else 0.1)


def test_a_warm_up_longer_than_the_training_is_refused(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="warm-up"):
        tune(config(examples, tmp_path, steps=5))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hidden_size": 96, "heads": 4}, "96 / 4 = 24"),
        ({"hidden_size": 100, "heads": 3}, "100 / 3 = 33.3"),
        ({"heads": 4, "kv_heads": 3}, "3 does not divide 4"),
        ({"hiden_size": 96}, "did you mean 'hidden_size'"),
    ],
)
def test_an_architecture_that_the_engine_can_t_run_is_refused(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(ModelConfig, wrong, "model.yaml")


def test_configurations_import_nothing_heavy() -> None:
    code = "import sys, ipt_stream.training.tune, ipt_stream.training.pretrain; print(sorted({'torch', 'numpy', "
    code += "'transformers', 'composer', 'streaming'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
