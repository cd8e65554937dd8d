"""Faults at random moments: a few turns of `benchmarks/faults.py`, which checks itself (and is worth many more)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "faults.py"


def inject(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), *arguments, "--no-save"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def can_mount(folder: Path) -> bool:
    """Whether a small file system can be made here, to be filled."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return made and subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0


def test_a_driver_is_killed_and_told_to_stop_a_worker_is_killed_and_the_disk_is_full(tmp_path: Path) -> None:
    faults = ["sigterm", "driver", "worker", *(["disk"] if can_mount(tmp_path) else [])]
    figures = inject(*faults, "--times", str(len(faults)))
    outcomes = ["disk exit 1", "driver killed", "sigterm stopped with 0", "worker SIGKILL"]
    assert figures["outcomes"] == ", ".join(outcomes[-len(faults) :])
    assert figures["documents of a run, each in exactly one place"] == 400 * len(faults)
    if "disk" not in faults:
        pytest.skip("no file system can be mounted here, so no disk was full; all else held")


def test_vllms_own_process_is_killed_and_hangs(tmp_path: Path, model_folder: Path) -> None:
    shard = tmp_path / "shards" / "a.jsonl"
    shard.parent.mkdir()
    shard.write_text("".join(json.dumps({"text": f"the miller of town {n} was old"}) + "\n" for n in range(108)))
    engine = ["--model", str(model_folder), "--shards", str(shard.parent), "--new-tokens", "96"]
    figures = inject("engine", "hang", "--times", "2", *engine)
    assert figures["outcomes"] == "engine SIGKILL, hang SIGSTOP"
    assert figures["documents of a run, each in exactly one place"] == 108
