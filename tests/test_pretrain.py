"""The pretrain stage on a real mixture: the plan's order, resumed to the bit, exported as a folder that loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mixture_world import make_questions, make_tokenizer
from test_tune import TINY, kill_after, losses

from ipt_stream.errors import LedgerError, TrainingError
from ipt_stream.mixture.mix import MixConfig, mix
from ipt_stream.mixture.plan import load_plan
from ipt_stream.stage import finished_figures
from ipt_stream.training.pretrain import PretrainConfig, pretrain

pytestmark = [
    pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file .*mds:ResourceWarning"),  # Streaming, unpacking a shard
]

BATCH = 4


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixture")
    questions = make_questions(root, rows=300)
    sources = {"general": {"kind": "pairs", "path": str(questions), "passes": 3}}
    tokenizer = make_tokenizer(root)
    settings = {"output": str(root / "mixture"), "tokenizer": str(tokenizer), "sequence_length": 32, "sources": sources}
    mix(MixConfig.model_validate({**settings, "cores": 0}))
    return root / "mixture"


def config(mixture: Path, output: Path, **changes: Any) -> PretrainConfig:
    settings = {
        "mixture": str(mixture),
        "output": str(output),
        "model": TINY,
        "sequences_per_batch": BATCH,
        "fit": {"learning_rate": 5e-3, "warmup_steps": 5, "checkpoint_steps": 10, "log_steps": 1},
    }
    return PretrainConfig.model_validate({**settings, **changes})


@pytest.fixture(scope="module")
def trained(mixture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    pretrain(config(mixture, output))
    return output


def test_the_whole_plan_is_trained_on_and_a_folder_is_published(mixture: Path, trained: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plan, figures = load_plan(str(mixture)), finished_figures(str(trained))
    assert figures is not None
    assert figures["steps"] == plan.sequences // BATCH
    assert figures["tokens"] == plan.sequences // BATCH * BATCH * plan.sequence_length
    assert figures["sequences_left_over"] == plan.sequences % BATCH
    assert float(figures["loss_last"]) < float(figures["loss_first"]) - 1
    model = AutoModelForCausalLM.from_pretrained(trained / "model")
    tokenizer = AutoTokenizer.from_pretrained(trained / "model")
    assert model.config.vocab_size == len(tokenizer) >= plan.vocabulary_size
    assert pretrain(config(mixture, trained)).skipped


def test_a_run_killed_in_mid_epoch_goes_on_to_the_same_bits(mixture: Path, trained: Path, tmp_path: Path) -> None:
    import torch

    killed = tmp_path / "killed"
    settings = config(mixture, killed)
    child = "import sys; from ipt_stream.training.pretrain import *\n"
    child += "pretrain(PretrainConfig.model_validate_json(sys.argv[1]))"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", child, settings.model_dump_json()], env=environment)
    kill_after(process, killed / "checkpoints" / "step-000000030.pt")
    figures = pretrain(settings).figures
    assert 30 <= int(float(str(figures["resumed_from"]))) < int(float(str(figures["steps"])))
    assert losses(killed) == losses(trained)
    weights = [path / "model" / "model.safetensors" for path in (killed, trained)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_pre_training_goes_on_from_a_model(mixture: Path, trained: Path, tmp_path: Path) -> None:
    report = pretrain(config(mixture, tmp_path, base_model=str(trained / "model"), steps=20))
    finished = finished_figures(str(trained))
    assert finished is not None
    assert report.figures["steps"] == 20
    assert float(report.figures["loss_first"]) < float(finished["loss_first"]) - 1


def test_what_does_not_go_together_is_refused(mixture: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="max_position_embeddings"):
        pretrain(config(mixture, tmp_path / "short", model={**TINY, "max_position_embeddings": 16}))
    with pytest.raises(TrainingError, match="less than one batch"):
        pretrain(config(mixture, tmp_path / "wide", sequences_per_batch=100_000))
    with pytest.raises(LedgerError, match="sequences_per_batch was 4, is 2"):
        pretrain(config(mixture, trained, sequences_per_batch=2))
