"""The pretrain stage on a real mixture: the plan's order, resumed to the bit, exported as a folder that loads."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pretrain_world import BATCH, TINY, Stopped, batches, config, losses, make_mixture, records, stop_at
from pydantic import ValidationError
from test_tune import kill_after

from ipt_stream.errors import LedgerError, TrainingError
from ipt_stream.mixture.plan import load_plan
from ipt_stream.stage import finished_figures
from ipt_stream.training import running
from ipt_stream.training.pretrain import pretrain

pytestmark = [
    pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file .*mds:ResourceWarning"),  # Streaming, unpacking a shard
]

DROPOUT = 0.1
BLOCK = 32_768


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mixture(tmp_path_factory.mktemp("mixture"), rows=150)


@pytest.fixture(scope="module")
def trained(mixture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    pretrain(config(mixture, output, dropout=DROPOUT, loggers={"tensorboard": True}))
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
    assert pretrain(config(mixture, trained, dropout=DROPOUT)).skipped, "who watches changes nothing"


def test_a_run_killed_in_mid_epoch_goes_on_to_the_same_bits(mixture: Path, trained: Path, tmp_path: Path) -> None:
    import torch

    killed = tmp_path / "killed"
    settings = config(mixture, killed, dropout=DROPOUT)
    child = "import sys; from ipt_stream.training.pretrain import *\n"
    child += "pretrain(PretrainConfig.model_validate_json(sys.argv[1]))"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", child, settings.model_dump_json()], env=environment)
    kill_after(process, killed / "checkpoints" / "step-000000032.pt")
    figures = pretrain(settings).figures
    assert 32 <= int(float(str(figures["resumed_from"]))) < int(float(str(figures["steps"])))
    assert losses(killed) == losses(trained)
    assert batches(killed) == batches(trained)
    weights = [path / "model" / "model.safetensors" for path in (killed, trained)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_tensorboard_has_each_step(trained: Path) -> None:
    found: dict[str, list[tuple[int, float]]] = {}
    for file in (trained / "tensorboard").iterdir():
        for event in events(file):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    written = found["loss/train/total"]
    assert [step for step, _ in written] == list(range(len(losses(trained))))
    assert [loss for _, loss in written] == pytest.approx(losses(trained), rel=1e-6)
    assert found["throughput/tokens_per_sec"]


def events(file: Path) -> Any:
    """The events of a TensorBoard file: records of length, checksum, content, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, at = file.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += 16 + length


def test_mlflow_has_each_step_of_a_run_that_was_resumed(
    mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    where = (tmp_path / "mlflow").as_uri()
    settings = config(
        mixture, tmp_path / "out", steps=20, loggers={"mlflow": {"experiment_name": "it", "tracking_uri": where}}
    )
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(12, patch)
        pretrain(settings)
    pretrain(settings)
    client = mlflow.MlflowClient(tracking_uri=where)
    [run] = client.search_runs([client.get_experiment_by_name("it").experiment_id])
    told = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "loss/train/total")}
    assert [told[step] for step in range(20)] == pytest.approx(losses(tmp_path / "out"), rel=1e-6)


def test_weights_and_biases_has_each_step(mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    settings = {"steps": 20, "loggers": {"wandb": {"project": "it", "tags": ["toy"]}}}
    pretrain(config(mixture, tmp_path / "out", **settings))
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    told = []
    for content in wandb_records(file):
        items = {
            item.key or ".".join(item.nested_key): item.value_json for item in Record.FromString(content).history.item
        }
        if "loss/train/total" in items:
            told.append(float(items["loss/train/total"]))
    assert told == pytest.approx(losses(tmp_path / "out"), rel=1e-6)


def wandb_records(file: Path) -> Iterator[bytes]:
    """The records of an offline run: after 7 bytes, blocks as LevelDB's log has them (checksum, length, kind, content).

    Kinds: 1 whole, 2 the first part of a record, 3 one in the middle, 4 the last.
    """
    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := BLOCK - at % BLOCK) < 7:  # too few for a header: padding
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


@pytest.mark.parametrize(
    ("name", "installed", "message"),
    [
        ("wandb", {}, r"loggers.wandb needs .* pip install 'wandb>=0.26,<0.29'"),
        ("mlflow", {}, r"loggers.mlflow needs .* pip install 'mlflow-skinny>=2.14.1,<3'"),
        ("wandb", {"wandb": "0.31.0"}, r"loggers.wandb can't work with .* got: 0.31.0"),
        ("mlflow", {"mlflow": "3.1"}, r"loggers.mlflow can't work with .* got: 3.1"),
    ],
)
def test_a_logger_that_is_not_there_or_too_new_is_told_before_anything_starts(
    mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, installed: dict[str, str], message: str
) -> None:
    monkeypatch.setattr(running, "_version", installed.get)
    with pytest.raises(TrainingError, match=message):
        pretrain(config(mixture, tmp_path / "out", loggers={name: {}}))
    assert not (tmp_path / "out").exists()


def test_pre_training_goes_on_from_a_model(mixture: Path, trained: Path, tmp_path: Path) -> None:
    report = pretrain(config(mixture, tmp_path, base_model=str(trained / "model"), steps=20))
    finished = finished_figures(str(trained))
    assert finished is not None
    assert report.figures["steps"] == 20
    assert float(report.figures["loss_first"]) < float(finished["loss_first"]) - 1


def test_a_base_models_revision_is_pinned(
    mixture: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipt_stream.training import models

    pinned = {"base_model": str(trained / "model"), "base_revision": "0" * 40, "steps": 6}
    load, asked = models._load, []

    def remembered(kind: Any, path: str, revision: str | None, **settings: Any) -> Any:
        asked.append((kind.__name__, revision))
        return load(kind, path, revision, **settings)

    monkeypatch.setattr(models, "_load", remembered)
    pretrain(config(mixture, tmp_path / "out", **pinned))
    assert ("AutoModelForCausalLM", "0" * 40) in asked
    with monkeypatch.context() as patch:
        patch.setenv("RANK", "1")
        model = models.load_model_on_rank(str(pinned["base_model"]), "0" * 40, fsdp=True)
    assert asked[-1] == ("AutoConfig", "0" * 40) and model.device.type == "meta"
    told = pretrain(config(mixture, tmp_path / "dry", **pinned, dry_run=True)).lines
    assert asked[-1] == ("AutoConfig", "0" * 40) and any(f"@{'0' * 40}: hidden 64" in line for line in told)
    with pytest.raises(LedgerError, match=r"base_revision was '0+', is '1'"):
        pretrain(config(mixture, tmp_path / "out", **{**pinned, "base_revision": "1"}))
    with pytest.raises(ValidationError, match="base_revision is of a base_model"):
        config(mixture, tmp_path / "none", base_revision="1")


def test_attention_stays_inside_documents_where_the_plan_says_so(mixture: Path, tmp_path: Path) -> None:
    marked = make_mixture(tmp_path, rows=150, document_ids=True)
    assert load_plan(str(marked)).document_ids
    first = {}
    for name, source in (("across", mixture), ("inside", marked)):
        pretrain(config(source, tmp_path / name, steps=6))
        first[name] = records(tmp_path / name)
    assert [r["batch"] for r in first["inside"]] == [r["batch"] for r in first["across"]]
    assert losses(tmp_path / "inside")[0] != losses(tmp_path / "across")[0]
    assert losses(tmp_path / "inside")[0] == pytest.approx(losses(tmp_path / "across")[0], abs=0.05), "both are guesses"


def test_what_does_not_go_together_is_refused(mixture: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="max_position_embeddings"):
        pretrain(config(mixture, tmp_path / "short", model={**TINY, "max_position_embeddings": 16}))
    with pytest.raises(TrainingError, match="less than one batch"):
        pretrain(config(mixture, tmp_path / "wide", sequences_per_batch=100_000))
    with pytest.raises(TrainingError, match=r"too short; wanted: 9,999 steps.*tokens=1279872"):
        pretrain(config(mixture, tmp_path / "long", steps=9_999))
    with pytest.raises(TrainingError, match=r"another length.*sequence_length=2048"):
        pretrain(config(mixture, tmp_path / "other", sequence_length=2048))
    with pytest.raises(TrainingError, match=r"vocabulary is smaller than the tokenizer's"):
        pretrain(config(mixture, tmp_path / "few", model={**TINY, "vocab_size": 100}))
    with pytest.raises(LedgerError, match="sequences_per_batch was 4, is 2"):
        pretrain(config(mixture, trained, dropout=DROPOUT, sequences_per_batch=2))
    told = pretrain(config(mixture, tmp_path / "dry", steps=9_999, dry_run=True)).lines
    assert "refused: the mixture is too short" in told[-1] and not (tmp_path / "dry").exists()


def test_how_it_is_run_may_change_on_the_way(mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    pretrain(config(mixture, whole, steps=12))
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(10, patch)
        pretrain(config(mixture, parts, steps=12, checkpoint_folder=str(tmp_path / "kept")))
    (folder,) = (tmp_path / "kept").iterdir()
    assert folder.name.startswith("pretrain-") and not (parts / "checkpoints").exists()
    fit = {**config(mixture, parts).fit.model_dump(), "microbatch_sequences": 1, "checkpoint_steps": 100}
    figures = pretrain(config(mixture, parts, steps=12, checkpoint_folder=str(tmp_path / "kept"), fit=fit)).figures
    assert figures["resumed_from"] == 8
    assert batches(parts) == batches(whole)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)
