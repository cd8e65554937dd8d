"""`ipt-stream run RECIPE.yaml`: stages in order, each in a process of its own, finished ones skipped.

    output: out/demo                  # other keys at the top are variables, for ${...}
    documents: 600
    stages:
      world: {verb: sample-world, output: "${output}/world", documents: "${documents}"}
      model: {verb: tune, output: "${output}/model", sources: [{path: "${output}/world/tuning/train.jsonl"}]}

A stage with a `matrix` stands for one stage for each combination of its values, which `$(key)` names, and which may
run several at once: `{matrix: {arm: [a, b], seed: [0, 1]}, at_once: 2, output: "${output}/$(arm)-$(seed)", ...}`.
Values may have settings of their own: with `arm: {a: {rounds: 2}, b: {rounds: 3}}`, `$(arm.rounds)` is 2 or 3.

Everything is checked before anything starts. A stage is finished when its output says so and its fingerprint is the
one that it was made with: its verb, its settings, and the fingerprints of the stages that it reads from. Its process
gives all memory back, a crash in it is only its own, and `output/recipe/NAME.json` has the time and the peak memory.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from ipt_stream import storage
from ipt_stream.config import Settings, build, fingerprint, load_mapping
from ipt_stream.errors import ConfigError, IptError
from ipt_stream.process import Outcome, one_at_a_time, run_children
from ipt_stream.progress import LABEL, log
from ipt_stream.stage import StageReport, finished_report
from ipt_stream.verbs import VERBS, Verb

COMMAND = (sys.executable, "-m", "ipt_stream.process")
SHOWN_SETTINGS = 72  # characters

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]


class StageFailed(IptError):
    """A stage of a recipe that ended with another exit code than 0; `exit_code` is that code."""

    def __init__(self, problem: str, exit_code: int, *, got: str | None = None, fix: str | None = None) -> None:
        super().__init__(problem, got=got, fix=fix)
        self.exit_code = exit_code


class RecipeConfig(Settings):
    """A recipe, variables left out."""

    output: str
    """Local directory of the run; `recipe/` in it holds each stage's settings, time and memory."""
    title: str = ""
    """What it is, in a line."""
    stages: dict[Name, dict[str, Any]] = Field(min_length=1)
    """Stages in order: `verb`, that verb's own settings, and `matrix` and `at_once` where one stands for several."""


@dataclass(frozen=True, slots=True)
class Step:
    """A stage of a recipe, checked.

    Attributes:
        name: its name in the recipe.
        verb: what it does.
        output: its directory.
        settings: its settings as the recipe has them, resolved.
        upstream: names of the earlier stages whose output it reads.
        fingerprint: names the verb, all settings and everything upstream.
        group: the stage's name in the file, which several of one matrix share.
        at_once: how many of the group may run at once.
    """

    name: str
    verb: str
    output: str
    settings: Mapping[str, Any]
    upstream: tuple[str, ...]
    fingerprint: str
    group: str
    at_once: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe: its title, its directory and its steps in order."""

    title: str
    output: str
    steps: tuple[Step, ...]

    def path(self, name: str) -> str:
        """The file `name` of the run's own records."""
        return storage.join(self.output, "recipe", name)


def load_recipe(path: str, overrides: Sequence[str] = (), verbs: Mapping[str, Verb] = VERBS) -> Recipe:
    """Read the recipe at `path`, with `overrides`, and check every stage of it.

    Raises:
        ConfigError: the file can't be read, an override names nothing in it, or a stage's settings are wrong (the
            message begins with the stage's name).
    """
    mapping = load_mapping(path, overrides)
    _check_overrides(path, overrides)
    known = {key: mapping[key] for key in RecipeConfig.model_fields if key in mapping}
    config = build(RecipeConfig, known, path)
    if storage.is_remote(config.output):
        raise ConfigError(f"{path}: output is remote", wanted="a local directory; stages' own may be remote")
    owner = {storage.join(config.output, "recipe"): "the recipe's records"}
    steps: dict[str, Step] = {}
    for group, stage in config.stages.items():
        for name, settings in _combinations(f"{path}: stage {group}", group, stage):
            step = _step(f"{path}: stage {name}", name, group, settings, steps, verbs)
            if step.output in owner:
                raise ConfigError(f"{path}: stage {name} has the output of {owner[step.output]}", got=step.output)
            if name in steps:
                raise ConfigError(f"{path}: two stages are called {name}", fix="rename one of them")
            owner[step.output] = f"stage {name}"
            steps[name] = step
    return Recipe(config.title, config.output, tuple(steps.values()))


def _check_overrides(path: str, overrides: Sequence[str]) -> None:
    """Any key at the top is a variable, so a misspelt one would do nothing: refuse what the file doesn't have."""
    import yaml

    known = sorted(set(yaml.safe_load(Path(path).read_text("utf-8"))) | set(RecipeConfig.model_fields))
    for override in overrides:
        key = override.partition("=")[0].partition(".")[0]
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise ConfigError(f"{path} has no '{key}'", fix=f"did you mean '{near[0]}'?" if near else None)


def _combinations(where: str, group: str, stage: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The stages that a stage of the file stands for: itself, or one for each combination of its `matrix`."""
    settings = {key: value for key, value in stage.items() if key != "matrix"}
    if "matrix" not in stage:
        yield group, settings
        return
    matrix = stage["matrix"]
    if not isinstance(matrix, Mapping) or not matrix or not all(map(_is_axis, matrix.values())):
        wanted = "{key: [value, ...]} or {key: {value: {setting: ...}}}"
        raise ConfigError(f"{where} has no usable matrix", wanted=wanted, got=repr(matrix))
    for values in product(*matrix.values()):
        name = "-".join([group, *map(str, values)])
        if not re.fullmatch(NAME, name):
            raise ConfigError(f"{where} can't be named", wanted="values of letters, digits, . _ -", got=repr(name))
        chosen: dict[str, Any] = {}
        for (key, axis), value in zip(matrix.items(), values, strict=True):
            chosen[key] = value
            if isinstance(axis, Mapping):
                chosen |= {f"{key}.{setting}": inner for setting, inner in axis[value].items()}
        yield name, _filled(f"{where}, {name}", settings, chosen)


def _is_axis(axis: Any) -> bool:
    """Whether these are values of a matrix: a list, or names with settings of their own."""
    if isinstance(axis, Mapping):
        return bool(axis) and all(isinstance(inner, Mapping) for inner in axis.values())
    return isinstance(axis, list) and bool(axis)


def _filled(where: str, value: Any, chosen: Mapping[str, Any]) -> Any:
    """`value` with `$(key)` replaced, however deep; a text that is nothing else becomes the chosen value itself."""
    if isinstance(value, Mapping):
        return {key: _filled(where, inner, chosen) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(where, inner, chosen) for inner in value]
    if not isinstance(value, str):
        return value
    names = re.findall(r"\$\(([\w.-]+)\)", value)
    for name in names:
        if name not in chosen:
            raise ConfigError(f"{where}: $({name}) stands for nothing", wanted=f"one of {', '.join(chosen)}")
    if len(names) == 1 and value == f"$({names[0]})":
        return chosen[names[0]]
    for name in names:
        value = value.replace(f"$({name})", str(chosen[name]))
    return value


def _step(
    where: str, name: str, group: str, stage: Mapping[str, Any], earlier: Mapping[str, Step], verbs: Mapping[str, Verb]
) -> Step:
    verb = stage.get("verb")
    if not isinstance(verb, str) or verb not in verbs:
        raise ConfigError(f"{where} has no verb", wanted=f"one of {', '.join(verbs)}", got=repr(verb))
    at_once = stage.get("at_once", 1)
    if not isinstance(at_once, int) or at_once < 1:
        raise ConfigError(f"{where}: wrong value for 'at_once'", wanted="a whole number from 1", got=repr(at_once))
    settings = {key: value for key, value in stage.items() if key not in ("verb", "at_once")}
    config = build(verbs[verb].load_config_class(), settings, where)
    output = str(config.model_dump()["output"]).rstrip("/")
    read = set(_texts(settings))
    upstream = [step for step in earlier.values() if any(_reads(text, step.output) for text in read)]
    content = [verb, config.model_dump(mode="json"), [step.fingerprint for step in upstream]]
    above = tuple(step.name for step in upstream)
    return Step(name, verb, output, settings, above, fingerprint(content), group, at_once)


def _texts(value: Any) -> Iterator[str]:
    """Every string in `value`, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)


def _reads(path: str, directory: str) -> bool:
    """Whether `path` lies in `directory`, or with anything in place of `{name}` and `*` would."""
    pattern = re.sub(r"\\\{\w+\\\}|\\\*+", "[^/]*", re.escape(path))
    return _is_within(path, directory) or bool(re.fullmatch(pattern, directory))


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


def format_plan(recipe: Recipe) -> str:
    """The stages as a table: what each does, where, whether it is done, and with which settings."""
    rows = [("stage", "verb", "output", "state", "settings")]
    rows += [(step.name, step.verb, step.output, _state(recipe, step), _shown(recipe, step)) for step in recipe.steps]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
    return "\n".join([*([recipe.title, ""] if recipe.title else []), *(line.rstrip() for line in lines)])


def _state(recipe: Recipe, step: Step) -> str:
    if finished_report(step.output) is None:
        return "pending"
    return "done" if _finished(recipe, step) is not None else "changed"


def _shown(recipe: Recipe, step: Step) -> str:
    """The settings that say something: neither paths within the run nor the output."""
    parts = [
        f"{key}={value}"
        for key, value in _leaves({key: value for key, value in step.settings.items() if key != "output"})
        if not (isinstance(value, str) and _is_within(value, recipe.output))
    ]
    text = " ".join(parts)
    return text if len(text) <= SHOWN_SETTINGS else text[: SHOWN_SETTINGS - 3] + "..."


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{prefix}[{number}]")
    else:
        yield prefix, value


def run_recipe(recipe: Recipe, command: Sequence[str] = COMMAND) -> list[tuple[str, StageReport]]:
    """Run what is not finished, in order; gives each stage's report.

    Args:
        recipe: what to run.
        command: the program that is given a verb and a settings file; in tests one with verbs of its own.

    Raises:
        StageFailed: a stage ended with another exit code than 0 (3: finished, with too many rejects). Its own message
            went to standard error; nothing after it is run.
        LedgerError: another run of this recipe is at work there.
    """
    reports: dict[str, StageReport] = {}
    order = {step.name: f"stage {number} of {len(recipe.steps)}" for number, step in enumerate(recipe.steps, start=1)}
    with one_at_a_time(recipe.path("lock")):
        for _, group in groupby(recipe.steps, key=lambda step: step.group):
            missing = []
            for step in group:
                report = _finished(recipe, step)
                if report is None:
                    missing.append(step)
                else:
                    log.info("%s: %s is done already", order[step.name], step.name)
                    reports[step.name] = report
            for step in missing:
                log.info("%s: %s (%s) -> %s", order[step.name], step.name, step.verb, step.output)
            reports |= _run(recipe, missing, command)
    return [(step.name, reports[step.name]) for step in recipe.steps]


def _finished(recipe: Recipe, step: Step) -> StageReport | None:
    """The report of a stage that nothing has to be done for: finished, by this very step."""
    record = recipe.path(f"{step.name}.json")
    if not storage.exists(record) or storage.read_json(record)["fingerprint"] != step.fingerprint:
        return None
    return finished_report(step.output)


def _run(recipe: Recipe, steps: Sequence[Step], command: Sequence[str]) -> dict[str, StageReport]:
    """Run `steps` of one group, as many at once as it allows; gives their reports by name."""
    at_once = min(steps[0].at_once, len(steps)) if steps else 1
    commands = []
    for step in steps:
        more: dict[str, str] = {}
        if at_once > 1:
            threads = max(1, len(os.sched_getaffinity(0)) // at_once)
            more = {LABEL: step.name, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        commands.append(([*command, step.verb, _write_settings(recipe, step)], more))
    were_finished = [finished_report(step.output) is not None for step in steps]
    reports, failures = dict[str, StageReport](), list[StageFailed]()
    for number, outcome in run_children(commands, at_once):
        step = steps[number]
        if outcome.exit_code == 0 and (report := finished_report(step.output)) is not None:
            _record(recipe, step, outcome)
            reports[step.name] = replace(report, skipped=were_finished[number])
        if step.name not in reports or outcome.interrupted_by is not None:
            failures.append(_failure(step, outcome))
    if failures:
        raise failures[0]
    return reports


def _write_settings(recipe: Recipe, step: Step) -> str:
    """The settings file of a stage's process."""
    import yaml

    path = recipe.path(f"{step.name}.yaml")
    text = yaml.safe_dump(dict(step.settings), sort_keys=False, allow_unicode=True)
    storage.publish_bytes(path, text.replace("${", "\\${").encode())  # nothing is left to be resolved
    return path


def _record(recipe: Recipe, step: Step, outcome: Outcome) -> None:
    record = {"verb": step.verb, "fingerprint": step.fingerprint}
    figures = {"wall_seconds": round(outcome.wall_s, 1), "peak_memory_mb": outcome.peak_memory_mb}
    storage.publish_json(recipe.path(f"{step.name}.json"), record | figures)
    log.info("stage %s: %.1f s, at most %s MB", step.name, outcome.wall_s, f"{outcome.peak_memory_mb:,}")


def _failure(step: Step, outcome: Outcome) -> StageFailed:
    again = "see its message above, then run the same command again to go on"
    if outcome.interrupted_by is not None:
        return StageFailed(f"interrupted in stage {step.name}", 128 + outcome.interrupted_by, fix=again)
    if outcome.exit_code == 0:
        return StageFailed(f"stage {step.name} ended, but {step.output} is not finished", 1, fix="run it again")
    if outcome.exit_code < 0:
        got = f"killed by signal {-outcome.exit_code}, at {outcome.peak_memory_mb:,} MB"
        return StageFailed(f"stage {step.name} died", 1, got=got, fix="run the same command again to go on")
    return StageFailed(f"stage {step.name} failed", outcome.exit_code, got=f"exit code {outcome.exit_code}", fix=again)


def run_recipe_file(path: str, overrides: Sequence[str] = ()) -> int:
    """The `run` verb: print the plan, run it, print what the last stage has to say. Gives the exit code."""
    recipe = load_recipe(path, overrides)
    _say(format_plan(recipe) + "\n")
    reports = run_recipe(recipe)
    _say("\n".join(reports[-1][1].lines))
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
