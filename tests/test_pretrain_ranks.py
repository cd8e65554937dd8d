"""Several ranks train what one does: by Composer's launcher, sharded, by Ray Train; and go on with what one began."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pretrain_world import Stopped, batches, config, losses, make_mixture, settings, stop_at

from ipt_stream.errors import ConfigError, TrainingError
from ipt_stream.training.pretrain import pretrain

pytestmark = [
    pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file .*mds:ResourceWarning"),  # Streaming, unpacking a shard
]

STEPS = 16


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mixture(tmp_path_factory.mktemp("mixture"), rows=60)


@pytest.fixture(scope="module")
def alone(mixture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("alone")
    pretrain(config(mixture, output, steps=STEPS))
    return output


def launch(file: Path, given: dict[str, Any], *overrides: str) -> subprocess.Popen[str]:
    """`composer -n 2 -m ipt_stream.cli pretrain ...`, as the README has it."""
    file.write_text(json.dumps(given))
    composer = shutil.which("composer", path=Path(sys.executable).parent)
    assert composer is not None
    command = [composer, "-n", "2", "-m", "ipt_stream.cli", "pretrain", str(file), *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def check(output: Path, alone: Path) -> None:
    """What was trained is what one process trains."""
    from safetensors.torch import load_file

    assert batches(output) == batches(alone), "the same global batches, in the same order"
    assert losses(output) == pytest.approx(losses(alone), rel=1e-4)
    mine, theirs = (load_file(path / "model" / "model.safetensors") for path in (output, alone))
    assert mine.keys() == theirs.keys()
    for name, weight in mine.items():
        assert weight.numpy() == pytest.approx(theirs[name].numpy(), abs=2e-3), name


def test_two_ranks_of_composers_launcher_go_on_with_what_one_process_began(
    mixture: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(10, patch)
        pretrain(config(mixture, output, steps=STEPS))
    process = launch(tmp_path / "pretrain.json", settings(mixture, output, steps=STEPS))
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert said.count("model: ") == 1, "one rank reports"
    assert errors.count("goes on from step 8") == 1, errors
    check(output, alone)
    stage = json.loads((output / "stage.json").read_text())
    assert stage["finished"] and stage["figures"]["resumed_from"] == 8
    assert sorted(path.name for path in output.iterdir()) == ["checkpoints", "metrics.jsonl", "model", "stage.json"]


def test_a_sharded_run_that_is_killed_is_finished_by_one_process(mixture: Path, alone: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    given = settings(mixture, output, steps=STEPS)
    process = launch(tmp_path / "pretrain.json", given, "fsdp=true")
    until = time.monotonic() + 300
    while not (output / "checkpoints" / "step-000000008.pt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    figures = pretrain(config(mixture, output, steps=STEPS)).figures
    assert int(float(str(figures["resumed_from"]))) >= 8
    check(output, alone)


def test_a_sharded_run_goes_on_sharded_and_is_measured_and_exported_whole(
    mixture: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(6, patch)
        pretrain(config(mixture, output, steps=STEPS))
    process = launch(tmp_path / "pretrain.json", settings(mixture, output, steps=STEPS), "fsdp=true")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert errors.count("goes on from step 4") == 1, errors
    check(output, alone)


def test_two_workers_of_ray_train_train_what_one_process_does(mixture: Path, alone: Path, tmp_path: Path) -> None:
    import ray

    output = tmp_path / "out"
    try:
        report = pretrain(config(mixture, output, steps=STEPS, workers=2))
    finally:
        ray.shutdown()
    assert not report.skipped and report.figures["steps"] == STEPS
    check(output, alone)
    assert pretrain(config(mixture, output, steps=STEPS, workers=2)).skipped
    assert pretrain(config(mixture, output, steps=STEPS)).skipped, "by whom it was trained is no part of what it is"


def test_workers_that_can_not_share_a_batch_are_refused(mixture: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't be shared by 3 workers.*workers=2"):
        pretrain(config(mixture, tmp_path / "out", workers=3))


def test_a_rank_without_the_others_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from ipt_stream.training.ranks import world_size

    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(TrainingError, match="WORLD_SIZE in the environment is no number"):
        world_size()
