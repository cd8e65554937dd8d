"""Several ranks train what one does: by Composer's launcher, sharded, by Ray Train; and go on with what one began."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from pathlib import Path

import psutil
import pytest
from pretrain_world import Stopped, batches, config, losses, make_mixture, settings, stop_at

from ipt_stream.errors import ConfigError, MixtureError, TrainingError
from ipt_stream.training.pretrain import pretrain

pytestmark = [
    pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file .*mds:ResourceWarning"),  # Streaming, unpacking a shard
]

STEPS = 40


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mixture(tmp_path_factory.mktemp("mixture"), rows=100)


@pytest.fixture(scope="module")
def alone(mixture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("alone")
    pretrain(config(mixture, output, steps=STEPS))
    return output


def check(output: Path, alone: Path) -> None:
    """What was trained is what one process trains."""
    from safetensors.torch import load_file

    assert batches(output) == batches(alone), "the same global batches, in the same order"
    assert losses(output) == pytest.approx(losses(alone), rel=1e-4)
    mine, theirs = (load_file(path / "model" / "model.safetensors") for path in (output, alone))
    assert mine.keys() == theirs.keys()
    for name, weight in mine.items():
        assert weight.numpy() == pytest.approx(theirs[name].numpy(), abs=2e-3), name


def begin(mixture: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process trains up to step 10, and its newest checkpoint is that of step 8."""
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(10, patch)
        pretrain(config(mixture, output, steps=STEPS))


def test_two_ranks_of_composers_launcher_go_on_with_what_one_process_began(
    mixture: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, file = tmp_path / "out", tmp_path / "pretrain.json"
    begin(mixture, output, monkeypatch)
    file.write_text(json.dumps(settings(mixture, output, steps=STEPS)))
    composer = shutil.which("composer", path=Path(sys.executable).parent)
    assert composer is not None
    done = subprocess.run(
        [composer, "-n", "2", "-m", "ipt_stream.cli", "pretrain", str(file)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model: ") == 1, "one rank reports"
    assert done.stderr.count("goes on from step 8") == 1, done.stderr
    check(output, alone)
    stage = json.loads((output / "stage.json").read_text())
    assert stage["finished"] and stage["figures"]["resumed_from"] == 8
    assert sorted(path.name for path in output.iterdir()) == ["checkpoints", "metrics.jsonl", "model", "stage.json"]


SHARDED = """
import json, sys
import torch
from ipt_stream.training.fit import Evaluation, FitSettings, fit
from ipt_stream.training.models import load_model
from ipt_stream.training.pretrain import PretrainConfig, pretrain
from ipt_stream.training.ranks import joined
from ipt_stream.training.running import RunSettings

def measure(model):
    with torch.no_grad():
        return {"logit": model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits[0, 3, 9]}

batches = [{"input_ids": torch.arange(12).reshape(2, 6), "labels": torch.arange(12).reshape(2, 6)}] * 4
is_sharded = len(sys.argv) > 3
with joined():
    if is_sharded:
        pretrain(PretrainConfig.model_validate_json(sys.argv[3]))
    summary = fit(
        load_model(sys.argv[1]), batches, FitSettings(), steps=4, output=sys.argv[2], seed=0,
        evaluation=Evaluation(2, measure, at_start=True), run=RunSettings(fsdp=is_sharded),
    )
print(json.dumps(list(summary.evaluations)))
"""


def test_weights_may_be_shared_out_on_the_way_and_be_whole_again(
    mixture: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process, then two that hold half of the weights each, then one again; and they can be measured in between."""
    output = tmp_path / "out"
    begin(mixture, output, monkeypatch)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = json.dumps({**settings(mixture, output, steps=STEPS), "fsdp": True})
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SHARDED, str(alone / "model"), str(tmp_path / "measured"), given],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [rank.communicate(timeout=300) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    check(output, alone)
    measured, same = (json.loads(out) for out, _ in said)
    assert measured == same

    again = tmp_path / "again"
    monkeypatch.setattr("sys.argv", ["", str(alone / "model"), str(tmp_path / "whole")])
    with redirect_stdout(io.StringIO()) as printed:
        exec(SHARDED, {})  # the same, in one process
    whole = json.loads(printed.getvalue())
    assert [point["step"] for point in measured] == [point["step"] for point in whole] == [0, 2, 4]
    assert [p["logit"] for p in measured] == pytest.approx([p["logit"] for p in whole], rel=1e-4)

    (again / "checkpoints").mkdir(parents=True)
    shutil.copy(output / "checkpoints" / "step-000000036.pt", again / "checkpoints")
    shutil.copy(output / "metrics.jsonl", again)
    assert pretrain(config(mixture, again, steps=STEPS)).figures["resumed_from"] == 36
    check(again, alone)


def kill_a_worker(checkpoint: Path) -> None:
    """SIGKILL to one of Ray Train's workers as soon as `checkpoint` is there."""
    until = time.monotonic() + 300
    while not checkpoint.exists():
        assert time.monotonic() < until
        time.sleep(0.002)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # others end meanwhile
            if "RayTrainWorker" in " ".join(process.cmdline()):
                return process.kill()
    raise AssertionError("no worker was found")


def test_two_workers_of_ray_train_train_what_one_process_does_though_one_is_killed(
    mixture: Path, alone: Path, tmp_path: Path
) -> None:
    import ray

    output = tmp_path / "out"
    try:
        with ThreadPoolExecutor(1) as beside:
            killed = beside.submit(kill_a_worker, output / "checkpoints" / "step-000000004.pt")
            report = pretrain(config(mixture, output, steps=STEPS, workers=2))
            killed.result()
        assert not report.skipped and report.figures["steps"] == STEPS
        assert int(float(str(report.figures["resumed_from"]))) >= 4
        check(output, alone)
        assert sorted(path.name for path in output.iterdir()) == ["checkpoints", "metrics.jsonl", "model", "stage.json"]
        assert pretrain(config(mixture, output, steps=STEPS, workers=2)).skipped
        assert pretrain(config(mixture, output, steps=STEPS)).skipped, "by whom it was trained is no part of what it is"
    finally:
        ray.shutdown()


def test_an_error_of_a_worker_is_told_as_if_it_were_this_process() -> None:
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    from ipt_stream.training.on_ray import cause

    said = MixtureError("the data is not what it was", fix="mix again")
    failed = WorkerGroupError("1 worker failed", {1: UserExceptionWithTraceback(said, "Traceback ...")})
    assert cause(failed) is said
    assert "died too often; wanted: a training that ends; got: 1 worker" in str(cause(WorkerGroupError("1 worker", {})))


def test_workers_that_can_not_share_a_batch_are_refused(mixture: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't be shared by 3 workers.*workers=2"):
        pretrain(config(mixture, tmp_path / "out", workers=3))


def test_ranks_are_started_once(mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="both a launcher and Ray Train"):
        pretrain(config(mixture, tmp_path / "out", workers=2))


def test_a_rank_without_the_others_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from ipt_stream.training.ranks import world_size

    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(TrainingError, match="WORLD_SIZE in the environment is no number"):
        world_size()
