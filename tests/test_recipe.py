"""run: recipes of small stages in real processes, killed and interrupted for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipt_stream.errors import ConfigError, LedgerError
from ipt_stream.process import one_at_a_time
from ipt_stream.recipe import Recipe, StageFailed, format_plan, load_recipe, run_recipe
from ipt_stream.verbs import Verb

STAGES = '''
"""Verbs as small as they get: one writes a number, one adds numbers, one fails, one holds memory, one waits."""

import os, signal, sys, time
from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.errors import InputError, RejectionLimitExceeded
from ipt_stream.process import main
from ipt_stream.stage import StageReport, run_once
from ipt_stream.verbs import Verb


class Number(Settings):
    output: str
    value: int = 1
    how: str = "well"


def number(config):
    def work(stage):
        with open(config.output + "/runs", "a") as file:
            file.write("x")
        if config.how == "badly":
            raise InputError("no number here", fix="take another")
        if config.how == "rejects":
            raise RejectionLimitExceeded("too many rejects")
        if config.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if config.how == "lightly":
            time.sleep(1.2)
        if config.how == "together":
            meeting = os.path.dirname(config.output) + "/here"
            with open(meeting, "a") as file:
                file.write("x")
            while os.path.getsize(meeting) < 2:
                time.sleep(0.05)
            storage.publish_bytes(config.output + "/threads", os.environ["OMP_NUM_THREADS"].encode())
        if config.how == "heavily":
            held = b"x" * (200 << 20)
            time.sleep(1.2)
        if config.how == "slowly":
            storage.publish_bytes(config.output + "/started", str(os.getpid()).encode())
            try:
                time.sleep(60)
            finally:
                storage.publish_bytes(config.output + "/cleaned", b"")
        return stage.finish({"value": config.value}, (f"it is {config.value}",))

    return run_once(config.output, "number", {"value": config.value}, work)


class Add(Settings):
    output: str
    parts: list[str]


def add(config):
    values = [storage.read_json(part + "/stage.json")["figures"]["value"] for part in config.parts]

    def work(stage):
        return stage.finish({"value": sum(values)}, (f"sum {sum(values)}",))

    return run_once(config.output, "add", {"values": values}, work)


VERBS = {
    "number": Verb("recipe_stages", "Number", "number", "", ""),
    "add": Verb("recipe_stages", "Add", "add", "", ""),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], VERBS))
'''

RECIPE = """
title: two numbers and their sum
output: {folder}/out
start: 2
stages:
  one: {{verb: number, output: "${{output}}/one", value: "${{start}}"}}
  two: {{verb: number, output: "${{output}}/two", value: 40}}
  sum: {{verb: add, output: "${{output}}/sum", parts: ["${{output}}/one", "${{output}}/two"]}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A folder with the recipe, and the program that knows its verbs."""
    (tmp_path / "recipe_stages.py").write_text(STAGES, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])]))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(folder=tmp_path), "utf-8")
    verbs: Mapping[str, Verb] = {
        name: Verb("recipe_stages", name.capitalize(), name, "", "") for name in ("number", "add")
    }

    def load(*overrides: str) -> Recipe:
        sys.modules.pop("recipe_stages", None)
        return load_recipe(str(tmp_path / "recipe.yaml"), overrides, verbs)

    command = [sys.executable, str(tmp_path / "recipe_stages.py")]
    return SimpleNamespace(folder=tmp_path, out=tmp_path / "out", load=load, command=command)


def runs(place: Any, stage: str) -> int:
    return len((place.out / stage / "runs").read_text("utf-8"))


def test_stages_run_in_order_once_and_what_is_finished_is_skipped(place: Any) -> None:
    first = run_recipe(place.load(), place.command)
    assert [(name, report.figures["value"], report.skipped) for name, report in first] == [
        ("one", 2, False),
        ("two", 40, False),
        ("sum", 42, False),
    ]
    assert first[-1][1].lines == ("sum 42",)
    record = json.loads((place.out / "recipe" / "sum.json").read_text("utf-8"))
    assert record["verb"] == "add" and record["wall_seconds"] > 0 and record["peak_memory_mb"] > 0
    started = time.monotonic()
    again = run_recipe(place.load(), ["no", "process", "is", "started"])
    assert time.monotonic() - started < 20
    assert [(name, report.lines, report.skipped) for name, report in again] == [
        (name, report.lines, True) for name, report in first
    ]
    assert runs(place, "one") == runs(place, "two") == 1


def test_the_plan_shows_what_is_done_pending_and_changed(place: Any) -> None:
    plan = format_plan(place.load())
    assert plan.splitlines()[0] == "two numbers and their sum"
    rows = [line.split() for line in plan.splitlines()[3:]]
    assert rows == [
        ["one", "number", f"{place.out}/one", "pending", "value=2"],
        ["two", "number", f"{place.out}/two", "pending", "value=40"],
        ["sum", "add", f"{place.out}/sum", "pending"],
    ]
    run_recipe(place.load(), place.command)
    assert [line.split()[3] for line in format_plan(place.load()).splitlines()[3:]] == ["done", "done", "done"]
    changed = format_plan(place.load("stages.two.value=41"))
    assert [line.split()[3] for line in changed.splitlines()[3:]] == ["done", "changed", "changed"]


def test_a_finished_stage_with_other_settings_is_refused_by_its_own_directory(
    place: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    run_recipe(place.load(), place.command)
    with pytest.raises(StageFailed, match="stage two failed") as caught:
        run_recipe(place.load("stages.two.value=41"), place.command)
    assert caught.value.exit_code == 1
    assert "was made with other settings; wanted: the same settings (value was 40, is 41)" in capfd.readouterr().err


def test_a_stage_that_lost_its_output_runs_again_and_those_after_it_do_not(place: Any) -> None:
    import shutil

    run_recipe(place.load(), place.command)
    shutil.rmtree(place.out / "one")
    assert [report.skipped for _, report in run_recipe(place.load(), place.command)] == [False, True, True]


@pytest.mark.parametrize(("how", "code", "message"), [("badly", 1, "no number here"), ("rejects", 3, "too many")])
def test_a_failure_stops_the_recipe_with_its_exit_code_and_the_next_run_goes_on(
    place: Any, capfd: pytest.CaptureFixture[str], how: str, code: int, message: str
) -> None:
    with pytest.raises(StageFailed) as caught:
        run_recipe(place.load(f"stages.two.how={how}"), place.command)
    assert caught.value.exit_code == code
    assert message in capfd.readouterr().err
    assert not (place.out / "sum").exists()
    assert [report.skipped for _, report in run_recipe(place.load(), place.command)] == [True, False, False]


def test_a_stage_that_dies_is_named_with_the_signal(place: Any) -> None:
    with pytest.raises(StageFailed, match="stage two died; got: killed by signal 9"):
        run_recipe(place.load("stages.two.how=killed"), place.command)


def test_peak_memory_is_that_of_the_stages_own_process(place: Any) -> None:
    run_recipe(place.load("stages.one.how=lightly", "stages.two.how=heavily"), place.command)
    light, heavy = (
        json.loads((place.out / "recipe" / f"{name}.json").read_text("utf-8"))["peak_memory_mb"]
        for name in ("one", "two")
    )
    assert light < 200 <= heavy
    assert 150 < heavy - light < 250


def start_slow_run(place: Any) -> tuple[subprocess.Popen[str], int]:
    """A recipe running in its own process, inside stage two; and the process id of that stage."""
    (place.folder / "runner.py").write_text(
        "import sys\nfrom ipt_stream.errors import IptError\n"
        "from ipt_stream.recipe import load_recipe, run_recipe\nfrom recipe_stages import VERBS\n"
        "try:\n    run_recipe(load_recipe(sys.argv[1], ['stages.two.how=slowly'], VERBS), sys.argv[2:])\n"
        "except IptError as error:\n    print(error)\n    sys.exit(error.exit_code)\n",
        "utf-8",
    )
    command = [sys.executable, str(place.folder / "runner.py"), str(place.folder / "recipe.yaml"), *place.command]
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    started = place.out / "two" / "started"
    deadline = time.monotonic() + 300
    while not started.exists():
        assert runner.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return runner, int(started.read_text("utf-8"))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on_and_the_stage_is_waited_for(place: Any, number: signal.Signals) -> None:
    runner, stage = start_slow_run(place)
    runner.send_signal(number)
    said, _ = runner.communicate(timeout=300)
    assert runner.returncode == 128 + number
    assert "interrupted in stage two" in said
    assert (place.out / "two" / "cleaned").exists()
    assert not is_alive(stage)
    assert [report.skipped for _, report in run_recipe(place.load(), place.command)] == [True, False, False]


def test_a_stage_ends_with_its_runner(place: Any) -> None:
    runner, stage = start_slow_run(place)
    with pytest.raises(LedgerError, match="another run is at work"):
        run_recipe(place.load(), place.command)
    runner.kill()
    runner.communicate(timeout=300)
    deadline = time.monotonic() + 300
    while is_alive(stage):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_lock_is_free_again_after_use(tmp_path: Path) -> None:
    for _ in range(2):
        with one_at_a_time(str(tmp_path / "recipe" / "lock")):
            assert (tmp_path / "recipe" / "lock").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.two.valeu=3", "stage two: unknown key 'valeu'; did you mean 'value'?"),
        ("stages.two.value=many", "stage two: wrong value for 'value'"),
        ("stages.two.verb=nmber", "stage two has no verb; wanted: one of number, add; got: 'nmber'"),
        ("stages.sum.output=${output}/one", "stage sum has the output of stage one"),
        ("stages.sum.output=${output}/recipe", "stage sum has the output of the recipe's records"),
        ("strat=3", "has no 'strat'; fix: did you mean 'start'?"),
        ("output=s3://bucket/run", "output is remote"),
        ("stages.two.value=${missing}", "can't be read"),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_starts(place: Any, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        place.load(override)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
    assert not place.out.exists()


def test_a_fingerprint_follows_what_a_stage_reads_and_nothing_else(place: Any) -> None:
    before = {step.name: step for step in place.load().steps}
    after = {step.name: step for step in place.load("start=3", "title=another").steps}
    assert before["sum"].upstream == ("one", "two") and before["two"].upstream == ()
    changed = {name for name in before if before[name].fingerprint != after[name].fingerprint}
    assert changed == {"one", "sum"}


def test_settings_reach_the_stage_as_they_were_resolved(place: Any) -> None:
    run_recipe(place.load(), place.command)
    text = (place.out / "recipe" / "sum.yaml").read_text("utf-8")
    assert text == f"output: {place.out}/sum\nparts:\n- {place.out}/one\n- {place.out}/two\n"


MATRIX = """
output: {folder}/out
seeds: [0, 1]
stages:
  one:
    matrix: {{arm: [a, b], seed: "${{seeds}}"}}
    verb: number
    output: ${{output}}/$(arm)-$(seed)
    value: $(seed)
  sum: {{verb: add, output: "${{output}}/sum", parts: ["${{output}}/a-1", "${{output}}/b-1"]}}
"""


def test_a_matrix_stands_for_a_stage_each_combination(place: Any) -> None:
    (place.folder / "recipe.yaml").write_text(MATRIX.format(folder=place.folder), "utf-8")
    recipe = place.load()
    assert [step.name for step in recipe.steps] == ["one-a-0", "one-a-1", "one-b-0", "one-b-1", "sum"]
    assert recipe.steps[-1].upstream == ("one-a-1", "one-b-1")
    reports = run_recipe(recipe, place.command)
    assert [(name, report.figures["value"]) for name, report in reports][1:] == [
        ("one-a-1", 1), ("one-b-0", 0), ("one-b-1", 1), ("sum", 2),
    ]  # fmt: skip
    more = run_recipe(place.load("seeds=[0, 1, 2]"), place.command)
    assert [report.skipped for _, report in more] == [True, True, False, True, True, False, True]


def test_the_values_of_a_matrix_may_have_settings_of_their_own(place: Any) -> None:
    text = MATRIX.format(folder=place.folder).replace("[a, b]", "{a: {number: 20}, b: {number: 30}}")
    (place.folder / "recipe.yaml").write_text(text.replace("value: $(seed)", "value: $(arm.number)"), "utf-8")
    reports = dict(run_recipe(place.load(), place.command))
    assert [reports[name].figures["value"] for name in ("one-a-1", "one-b-0", "sum")] == [20, 30, 50]
    with pytest.raises(ConfigError, match=r"\$\(arm.size\) stands for nothing; wanted: one of arm, arm.number, seed"):
        place.load("stages.one.value=$(arm.size)")
    with pytest.raises(ConfigError, match="an override is of another kind"):
        place.load("stages.one.matrix.arm=[a, b]")


def test_stages_of_a_matrix_run_at_once_and_share_the_cores(place: Any, capfd: pytest.CaptureFixture[str]) -> None:
    (place.folder / "recipe.yaml").write_text(MATRIX.format(folder=place.folder), "utf-8")
    both = ("stages.one.matrix.arm=[a]", "stages.one.how=together", "stages.one.at_once=2", "stages.sum.parts=[]")
    run_recipe(place.load(*both), place.command)  # neither ends before both have begun
    threads = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert [(place.out / name / "threads").read_text("utf-8") for name in ("a-0", "a-1")] == [threads, threads]


def test_after_a_failure_no_more_of_a_matrix_are_started(place: Any) -> None:
    (place.folder / "recipe.yaml").write_text(MATRIX.format(folder=place.folder), "utf-8")
    with pytest.raises(StageFailed, match="stage one-a-0 failed"):
        run_recipe(place.load("stages.one.how=badly"), place.command)
    assert (place.out / "a-0").exists() and not (place.out / "a-1").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.one.matrix.arm=[]", "stage one has no usable matrix"),
        ("stages.one.matrix=3", "stage one has no usable matrix"),
        ("stages.one.value=$(sed)", r"one-a-0: \$\(sed\) stands for nothing; wanted: one of arm, seed"),
        ("stages.one.matrix.arm=[a/b]", "stage one can't be named"),
        ("stages.one.matrix.arm=[a, a]", r"stage one-a-0 has the output of stage one-a-0|two stages are called"),
        ("stages.one.at_once=0", "wrong value for 'at_once'"),
        ("stages.one.output=${output}/same", "stage one-a-1 has the output of stage one-a-0"),
    ],
)
def test_a_matrix_that_says_nothing_clear_is_refused(place: Any, override: str, message: str) -> None:
    (place.folder / "recipe.yaml").write_text(MATRIX.format(folder=place.folder), "utf-8")
    with pytest.raises(ConfigError, match=message):
        place.load(override)


SHIPPED = {"demo": 7, "shared_data": 7, "experiment": 50}
CONFIGS = Path(__file__).parents[1] / "jobs" / "configs"


@pytest.mark.parametrize("name", SHIPPED)
def test_the_recipes_that_are_shipped_are_valid(name: str) -> None:
    import yaml

    file = CONFIGS / f"{name}.yaml"
    recipe = load_recipe(str(file))
    assert {step.group for step in recipe.steps} == set(yaml.safe_load(file.read_text())["stages"])
    assert len(recipe.steps) >= SHIPPED[name]


def test_a_misspelt_key_of_a_shipped_recipe_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "recipe.yaml"
    wrong.write_text((CONFIGS / "shared_data.yaml").read_text().replace("sequences_per_batch", "sequences_a_batch"))
    with pytest.raises(ConfigError, match=r"stage model: unknown key 'sequences_a_batch'; did you mean 'sequences_per"):
        load_recipe(str(wrong))
    wrong.write_text((CONFIGS / "shared_data.yaml").read_text().replace("      usmle:", "      usmel:"))
    with pytest.raises(ConfigError, match=r"stage questions: wrong value for 'files\.usmel"):
        load_recipe(str(wrong))
