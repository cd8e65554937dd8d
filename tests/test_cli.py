"""The command line: quick to answer, exact about mistakes, an example for every verb."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipt_stream.cli import main
from ipt_stream.config import load_mapping
from ipt_stream.verbs import VERBS

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "jobs" / "configs"


def test_help_answers_in_under_a_second() -> None:
    command = [str(Path(sys.executable).parent / "ipt-stream"), "--help"]
    times = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))
    assert all(verb in done.stdout for verb in [*VERBS, "run", "status", "view"])
    assert min(times) < 1.0, "seconds of processor time, which other work on the machine doesn't lengthen"


@pytest.mark.parametrize("verb", [*VERBS, "run", "status", "view"])
def test_each_verbs_help_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert f"example:\n  ipt-stream {verb} " in shown


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "sample-world"])
def test_a_wrong_key_names_the_nearest_right_one_and_exits_with_2(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, str(CONFIGS / f"{verb}.yaml"), "outptu=x"]) == 2
    assert "did you mean 'output'?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "sample-world"])
def test_the_configurations_that_help_names_are_valid(verb: str) -> None:
    file = CONFIGS / f"{verb}.yaml"
    kind = VERBS[verb].load_config_class()
    assert kind.model_validate(load_mapping(file)).model_dump()["output"]
    assert str(file.relative_to(ROOT)) in VERBS[verb].example


def test_bad_usage_exits_with_2(tmp_path: Path) -> None:
    assert main(["synthesize", str(tmp_path / "none.yaml")]) == 2
    with pytest.raises(SystemExit) as stopped:
        main(["no-such-verb"])
    assert stopped.value.code == 2


def test_a_failure_is_one_line_with_what_was_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 1
    shown = capsys.readouterr().err.strip()
    assert "\n" not in shown
    assert "wanted: plan.json there" in shown


@pytest.mark.parametrize("script", sorted((ROOT / "jobs").glob("*.py")), ids=lambda path: path.stem)
def test_job_scripts_take_the_verbs_arguments(script: Path) -> None:
    assert len(script.read_text().splitlines()) <= 40
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    assert f"ipt-stream {script.stem}" in done.stdout
