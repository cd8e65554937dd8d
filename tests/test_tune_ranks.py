"""Several ranks tune what one does: weights whole or shared out, going on with what one process began."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tune import evaluations, losses

from ipt_stream.stage import finished_figures
from ipt_stream.training.batches import batch_loader
from ipt_stream.training.tune import TuneConfig, tune
from ipt_stream.tuning.sequences import EncodedShot

pytestmark = [pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")]

STEPS = 12


def settings(place: Path, model_folder: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Full tuning of a base model, its batches of 3 sequences and fewer: two ranks can't share them evenly."""
    rows = [
        {"source": "mills", "context": f"the old {what} by the river {number} " + "of a town " * (number % 5),
         "pairs": [{"instruction": "what?", "response": what}]}
        for number, what in enumerate(["bridge", "miller", "keeper", "town"] * 8)
    ]  # fmt: skip
    examples = place / "examples.jsonl"
    examples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "sources": [{"path": str(examples)}],
        "output": str(output),
        "base_model": str(model_folder),
        "held_out": 0.2,
        "quality": {"every_steps": 6, "contexts": 2, "responses": 2, "shots": 1, "max_new_tokens": 8},
        "max_seq_len": 64,
        "tokens_per_batch": 160,
        "steps": STEPS,
        "dropout": 0.0,
        "fit": {"learning_rate": 1e-3, "warmup_steps": 2, "checkpoint_steps": 4, "log_steps": 1, "checkpoints_kept": 9},
        **changes,
    }


def batches(output: Path) -> list[str]:
    return [json.loads(line)["batch"] for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("alone")
    tune(TuneConfig.model_validate(settings(place, model_folder, place / "out")))
    return place / "out"


CHILD = """
import sys
from ipt_stream.cli import main
from ipt_stream.training.ranks import joined

with joined():
    sys.exit(max(main(["tune", file]) for file in sys.argv[1:]))
"""


def test_two_ranks_go_on_with_what_one_began(alone: Path, model_folder: Path, tmp_path: Path) -> None:
    """Started once, for weights that each rank holds whole, and for shared ones: what takes long is the start."""
    files = []
    for name in ("whole", "sharded"):
        # What a process leaves that was killed after step 4: its claim, that checkpoint, and what it had written.
        output = tmp_path / name
        (output / "checkpoints").mkdir(parents=True)
        shutil.copy(alone / "checkpoints" / "step-000000004.pt", output / "checkpoints")
        for left in ("metrics.jsonl", "evaluations.jsonl"):
            shutil.copy(alone / left, output)
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(settings(alone.parent, model_folder, output, fsdp=name == "sharded")))
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    composer = shutil.which("composer", path=Path(sys.executable).parent)
    assert composer is not None
    done = subprocess.run(
        [composer, "-n", "2", str(script), *map(str, files)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("synthesizer: ") == 2, "one rank reports, of each"
    assert done.stderr.count("goes on from step 4") == 2, done.stderr
    for name in ("whole", "sharded"):
        check(tmp_path / name, alone)
        assert tune(TuneConfig.model_validate(settings(alone.parent, model_folder, tmp_path / name))).skipped, (
            "how is not what"
        )


def check(output: Path, alone: Path) -> None:
    """What was tuned is what one process tunes."""
    from safetensors.torch import load_file

    assert batches(output) == batches(alone)
    assert [loss for _, loss in losses(output)] == pytest.approx([loss for _, loss in losses(alone)], rel=1e-4)
    assert (
        [point["step"] for point in evaluations(output)] == [point["step"] for point in evaluations(alone)] == [6, 12]
    )
    for mine, single in zip(evaluations(output), evaluations(alone), strict=True):
        assert mine["loss_validation"] == pytest.approx(single["loss_validation"], rel=1e-3)
    mine, theirs = (load_file(path / "model" / "model.safetensors") for path in (output, alone))
    assert mine.keys() == theirs.keys()
    for name, weight in mine.items():
        assert weight.numpy() == pytest.approx(theirs[name].numpy(), abs=1e-3), name
    figures = finished_figures(str(output))
    assert figures is not None and figures["resumed_from"] == 4


def test_ranks_get_as_many_sequences_each_and_nothing_is_lost() -> None:
    shots = [EncodedShot("mills", n, np.arange(10 * n, 10 * n + 4, dtype=np.int32), 1) for n in range(5)]
    parts = [next(iter(batch_loader([[(n,) for n in range(5)]], shots, 99, rank, 3))) for rank in range(3)]
    assert [part["input_ids"].shape for part in parts] == [(2, 4)] * 3
    rows = [row for part in parts for row in part["input_ids"].tolist()]
    assert rows == [*([10 * n, 10 * n + 1, 10 * n + 2, 10 * n + 3] for n in range(5)), [99] * 4]
    assert not parts[2]["attention_mask"][1].any() and (parts[2]["labels"][1] == -100).all()
    assert sum(int((part["labels"] != -100).sum()) for part in parts) == 15
