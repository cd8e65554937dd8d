"""Two ranks tune on instructions what one does: weights whole or shared out, going on with what one process began."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pretrain_world import batches, losses, records

from ipt_stream.evaluation.learning import InstructConfig, instruct
from ipt_stream.stage import finished_figures

pytestmark = [pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")]

BEGUN, STEPS = 3, 6
CHILD = """
import sys
from ipt_stream.evaluation.learning import InstructConfig, instruct
from ipt_stream.training.ranks import joined

with joined():
    for settings in sys.argv[1:]:
        print("lines:", len(instruct(InstructConfig.model_validate_json(settings)).lines))
"""


def config(place: Path, model_folder: Path, output: Path, **changes: Any) -> InstructConfig:
    """Batches of 5 examples, which two ranks can't share evenly."""
    people, places = ("miller", "keeper", "river", "bridge"), ("town", "mill", "old town", "old river", "a", "by")
    rows = [{"instruction": f"who was by the {where}", "output": who} for who in people for where in places]
    asked = [{"query": row["instruction"], "choices": list(people), "gold": n % 4} for n, row in enumerate(rows[:6])]
    data, questions = place / "data.jsonl", place / "questions.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions.write_text("".join(json.dumps(row) + "\n" for row in asked))
    given = {
        "output": str(output),
        "models": {"first": str(model_folder)},
        "data": {"path": str(data)},
        "sequences_per_batch": 5,
        "steps": STEPS,
        "fit": {"learning_rate": 1e-3, "checkpoint_steps": BEGUN, "log_steps": 1, "checkpoints_kept": 9},
        "evaluation": {"every_steps": 4, "tasks": {"keepers": {"path": str(questions)}}},
        **changes,
    }
    return InstructConfig.model_validate(given)


def test_two_ranks_go_on_with_what_one_began(model_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    (tmp_path / "alone").mkdir()
    kept, alone = tmp_path / "kept", tmp_path / "alone" / "first"
    instruct(config(tmp_path, model_folder, alone.parent, checkpoint_folder=str(kept)))
    (folder,) = kept.iterdir()
    assert folder.name.startswith("instruct-first-") and not (alone / "checkpoints").exists()
    settings = []
    for name in ("whole", "sharded"):
        # What a process leaves that was killed after step 3: that checkpoint, and what it had written by then.
        begun = tmp_path / name / "first"
        (begun / "checkpoints").mkdir(parents=True)
        shutil.copy(folder / f"step-{BEGUN:09}.pt", begun / "checkpoints")
        for file in ("metrics.jsonl", "evaluations.jsonl"):
            shutil.copy(alone / file, begun)
        settings.append(config(tmp_path, model_folder, tmp_path / name, fsdp=name == "sharded").model_dump_json())
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    composer = shutil.which("composer", path=Path(sys.executable).parent)
    assert composer is not None
    done = subprocess.run(
        [composer, "-n", "2", str(script), *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("lines: 4") == 2, "the first rank reports, of each"
    theirs = load_file(alone / "model" / "model.safetensors")
    curve = records(alone, "evaluations.jsonl")
    for name in ("whole", "sharded"):
        mine = tmp_path / name / "first"
        assert batches(mine) == batches(alone) and len(batches(mine)) == STEPS
        assert losses(mine) == pytest.approx(losses(alone), rel=1e-4)
        assert [point["step"] for point in records(mine, "evaluations.jsonl")] == [0, 4, 6]
        scores = [point["keepers"] for point in records(mine, "evaluations.jsonl")]
        assert scores == pytest.approx([point["keepers"] for point in curve], abs=0.17), "one of six may tip over"
        weights = load_file(mine / "model" / "model.safetensors")
        assert weights.keys() == theirs.keys()
        for key, weight in weights.items():
            assert weight.numpy() == pytest.approx(theirs[key].numpy(), abs=1e-3), key
        figures = finished_figures(str(mine))
        assert figures is not None and figures["resumed_from"] == BEGUN
        assert instruct(config(tmp_path, model_folder, mine.parent)).skipped, "how is not what"
