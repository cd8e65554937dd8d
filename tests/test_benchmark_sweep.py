"""The benchmark verb around its trials, with scripted ones: sweeps, failures, resuming, comparing; no engine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from timeline_world import figures

from ipt_stream import storage
from ipt_stream.benchmark import trial
from ipt_stream.benchmark.benchmark import benchmark, run_in_a_process
from ipt_stream.benchmark.recorder import COUNTERS, GAUGES, TIMELINES
from ipt_stream.benchmark.settings import BenchmarkConfig, SweepSettings
from ipt_stream.benchmark.sweep import points_of, survivors, with_point
from ipt_stream.benchmark.trial import TrialSettings
from ipt_stream.config import build
from ipt_stream.errors import ConfigError, EngineError, InputError, LedgerError
from ipt_stream.synthesis.pipeline import SynthesizeConfig
from ipt_stream.synthesis.supervise import StopRequest

POINTS = {"engine.max_num_seqs": [8, 16, 32], "rounds": [2, 3]}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": f"text {row}"}) + "\n" for row in range(20)))
    return folder


def config(tmp_path: Path, shards: Path, **changes: Any) -> BenchmarkConfig:
    settings = {
        "output": str(tmp_path / "out"),
        "synthesize": {"input": {"shards": [str(shards)]}, "engine": {"model": "some/model"}, "fraction": 0.5},
        "sweep": {"points": POINTS, "rungs": [5, 20], "keep_within": 0.2},
        **changes,
    }
    return build(BenchmarkConfig, settings, "test")


class Trials:
    """Trials whose rate is a function of their settings; remembers them."""

    def __init__(self, rate: Callable[[int, int], float]) -> None:
        self.rate, self.ran = rate, list[tuple[int, int, float]]()

    def __call__(self, settings: TrialSettings, once: bool) -> dict[str, Any]:
        seqs, rounds = settings.synthesize["engine"]["max_num_seqs"], settings.synthesize["rounds"]
        self.ran.append((seqs, rounds, settings.seconds))
        return figures(self.rate(seqs, rounds))


def test_short_trials_for_all_and_long_ones_for_the_best(tmp_path: Path, shards: Path) -> None:
    trials = Trials(lambda seqs, rounds: 1e9 * (seqs if seqs < 32 else 14) * (1.0 if rounds == 3 else 0.5))
    report = benchmark(config(tmp_path, shards), trials)
    assert trials.ran[:6] == [(seqs, rounds, 5) for seqs in (8, 16, 32) for rounds in (2, 3)]
    assert trials.ran[6:] == [(16, 3, 20), (32, 3, 20)], "14 is within a fifth of 16, and 8 is not"
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    whole = build(SynthesizeConfig, best, "best")
    assert (whole.engine.max_num_seqs, whole.rounds, whole.fraction) == (16, 3, 0.5)
    assert whole.input.shards == (str(shards),), "the user's shards, not the sample"
    assert whole.engine.model == "some/model"
    assert report.figures["raw_tokens_per_gpu_day_mean"] == 16e9
    assert "best" in report.lines[1] and report.lines[1].split()[:3] == ["16", "3", "16B"]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["settings"]["synthesize"]["rounds"] == 3
    assert result["cost"]["gpu_days"]["mean"] == pytest.approx(100e9 * 0.5 / 16e9)


def test_a_point_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path, shards: Path) -> None:
    def rate(seqs: int, rounds: int) -> float:
        if seqs == 32:
            raise EngineError("vLLM can't start", got="CUDA out of memory")
        return 1e9 * seqs

    report = benchmark(config(tmp_path, shards), Trials(rate))
    assert report.figures["failed"] == 2
    states = [r["state"] for r in json.loads((tmp_path / "out" / "sweep.json").read_text())]
    assert sum("CUDA out of memory" in state for state in states) == 2
    shown = "\n".join(report.lines)
    assert shown.count("failed [1]") == 2 and shown.count("CUDA out of memory") == 1, "one reason, told once"
    with pytest.raises(EngineError, match="no point of the sweep could be measured"):
        benchmark(config(tmp_path, shards, output=str(tmp_path / "none")), Trials(lambda *_: rate(32, 0)))


def test_a_sweep_that_was_interrupted_goes_on(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials in processes of their own leave their figures; a failure counts, too, and is not tried again."""
    ran: list[str] = []

    def children(commands: Any) -> Any:
        ((command, _),) = commands
        settings = json.loads(Path(command[-1]).read_text())
        ran.append(command[-1])
        if len(ran) == 5:
            raise KeyboardInterrupt
        seqs = settings["synthesize"]["engine"]["max_num_seqs"]
        outcome = type("Outcome", (), {"interrupted_by": None, "exit_code": int(seqs == 32), "peak_memory_mb": 9})
        if seqs != 32:
            Path(command[-1]).with_name("result.json").write_text(json.dumps(figures(1e9 * seqs)))
        return iter([(0, outcome)])

    monkeypatch.setattr("ipt_stream.process.run_children", children)
    points = {"engine.max_num_seqs": [32, 8, 16], "rounds": [2, 3]}
    settings = config(tmp_path, shards, sweep={"points": points, "rungs": [5]})
    first = benchmark(settings, run_in_a_process)
    assert first.stopped and len(ran) == 5
    second = benchmark(settings, run_in_a_process)
    assert len(ran) == 5 + 2, "the fifth again, and the sixth"
    assert second.figures["raw_tokens_per_gpu_day_mean"] == 16e9
    assert second.figures["failed"] == 2
    third = benchmark(settings, run_in_a_process)
    assert third.skipped and len(ran) == 7
    assert third.lines[1:] == second.lines[1:]
    priced = settings.model_copy(update={"corpus": settings.corpus.model_copy(update={"price_per_gpu_hour": 2.0})})
    assert any("in money" in line for line in benchmark(priced, run_in_a_process).lines), "told anew, not measured anew"
    with pytest.raises(LedgerError, match="seconds was"):
        benchmark(settings.model_copy(update={"seconds": 1.0}), run_in_a_process)


def test_wrong_points_are_refused_before_anything_starts(tmp_path: Path, shards: Path) -> None:
    wrong = config(tmp_path, shards, sweep={"points": {"engine.max_num_seq": [8]}})
    with pytest.raises(ConfigError, match=r"did you mean 'engine\.max_num_seqs'"):
        benchmark(wrong, Trials(lambda *_: 1.0))
    with pytest.raises(ConfigError, match=r"at most 3 combinations"):
        config(tmp_path, shards, sweep={"points": POINTS, "most_points": 3})
    with pytest.raises(ConfigError, match=r"each rung at least as long"):
        config(tmp_path, shards, sweep={"points": POINTS, "rungs": [20, 5]})
    with pytest.raises(ConfigError, match=r"there is nothing to measure: synthesize has no input"):
        benchmark(config(tmp_path, shards, synthesize={"engine": {"model": "m"}}), Trials(lambda *_: 1.0))
    with pytest.raises(ConfigError, match=r"base or synthesize"):
        config(tmp_path, shards, synthesize={})


def test_the_sweep_that_the_example_shows_is_one_that_can_be_asked_for(tmp_path: Path) -> None:
    """Its comment lines as lines: every point makes settings of the stage, half of them with speculative decoding."""
    lines = (Path(__file__).parents[1] / "jobs" / "configs" / "benchmark.yaml").read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("# sweep:"))
    end = next(number for number, line in enumerate(lines) if line.startswith("# compare:"))
    text = "\n".join([*lines[:begin], *(line.removeprefix("# ") for line in lines[begin:end])])
    settings = build(BenchmarkConfig, {**yaml.safe_load(text), "output": str(tmp_path)}, "benchmark.yaml")
    assert settings.sweep is not None
    ngram = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}
    asked = []
    for point in points_of(settings.sweep):
        own = {**settings.synthesize, "input": {"shards": ["a"]}, "output": "o"}
        engine = build(
            SynthesizeConfig, with_point({**own, "engine": {**own["engine"], "model": "m"}}, point), "p"
        ).engine
        asked.append(engine.arguments.get("speculative_config"))
        assert engine.arguments["block_size"] == 32, "beside what the example has"
    assert [asked.count(None), asked.count(ngram)] == [12, 12]


def test_points_and_what_they_change() -> None:
    settings = SweepSettings(points={"engine.gpus": [1, 2], "engine.arguments.quantization": [None, "fp8"]})
    assert points_of(settings)[1] == {"engine.gpus": 1, "engine.arguments.quantization": "fp8"}
    base = {"engine": {"gpus": 4}}
    assert with_point(base, points_of(settings)[0]) == {"engine": {"gpus": 1}}
    assert with_point(base, points_of(settings)[3]) == {"engine": {"gpus": 2, "arguments": {"quantization": "fp8"}}}
    assert base == {"engine": {"gpus": 4}}


def test_a_point_goes_on_where_its_range_reaches_the_best() -> None:
    def record(mean: float, high: float) -> dict[str, Any]:
        return {"point": {}, "state": "measured", "rate": {"mean": mean, "low": 0.0, "high": high}}

    slow, unsure, best = record(50, 60), record(70, 95), record(100, 101)
    failed = {"point": {}, "state": "failed: x"}
    assert survivors([slow, failed, unsure, best], keep_within=0.1) == [best, unsure]


def test_results_side_by_side(tmp_path: Path) -> None:
    paths = []
    for name, rate in (("slow", 1e9), ("fast", 2e9)):
        (tmp_path / name).mkdir()
        paths.append(tmp_path / name / "result.json")
        paths[-1].write_text(json.dumps(figures(rate, synthesize={"rounds": 2 if name == "slow" else 3})))
    settings = BenchmarkConfig(output=str(tmp_path / "both"), compare=tuple(map(str, paths)))
    lines = benchmark(settings).lines
    assert lines[0].split() == ["slow", "fast"]
    assert "2B (2.00x)" in lines[1]
    assert lines[-1].split() == ["synthesize.rounds", "2", "3"]
    assert json.loads((tmp_path / "both" / "comparison.json").read_text())["differences"] == {
        "synthesize.rounds": [2, 3]
    }
    with pytest.raises(InputError, match=r"is no result of a benchmark"):
        benchmark(BenchmarkConfig(output=str(tmp_path / "both"), compare=(str(paths[0]), str(tmp_path / "none"))))
    with pytest.raises(ConfigError, match="at least two"):
        build(BenchmarkConfig, {"output": "x", "compare": ["one"]}, "test")


def test_a_measurement_lasts_until_there_are_answers_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither warm-up nor steady state end without one, whatever time they were given."""
    monkeypatch.setattr(trial, "LOOK_SECONDS", 0.01)
    begun = time.time() - 100

    def publish(*answers: tuple[float, int]) -> None:
        zeros = [0] * (len(COUNTERS) - 1 + len(GAUGES))
        storage.publish_json(str(tmp_path / TIMELINES / "engine.json"), {
            "name": "engine", "host": "h", "pid": 1, "gpus": 0.0, "max_num_seqs": 8, "begun": begun, "ready": begun,
            "facts": {}, "columns": ["time", *COUNTERS, *GAUGES],
            "rows": [[begun + at, answered, *zeros] for at, answered in answers],
        })  # fmt: skip

    settings = TrialSettings(
        output=str(tmp_path), synthesize={}, dummy=None, seconds=5, warm_up_seconds=2, tail_seconds=0, windows=3,
        ceilings="none",
    )  # fmt: skip
    stop = StopRequest()
    clock = trial._Clock(str(tmp_path), least=1, most=1, settings=settings, stop=stop)
    with clock.running():
        for answers in ([], [(1.0, 0), (9.0, 0)], [(1.0, 0), (9.0, 0), (10.0, 8)]):
            publish(*answers)
            time.sleep(0.2)
            assert not stop.signals
        publish((1.0, 0), (9.0, 0), (10.0, 8), (30.0, 9))
        clock._thread.join(60)
        assert stop.signals and clock.stopped is not None and not clock.died


def test_what_a_worker_still_writes_is_removed_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / TIMELINES).mkdir(parents=True)
    (run / TIMELINES / "engine.json").write_text("{}")

    def write() -> None:
        for number in range(12):
            with suppress(FileNotFoundError):  # removed between the two
                (run / "segments").mkdir(exist_ok=True)
                (run / "segments" / f"{number}.parquet").write_text("the last segment")
            time.sleep(0.1)

    worker = threading.Thread(target=write)
    worker.start()
    trial._remove(str(run))
    assert not worker.is_alive(), "it was looked at until nothing came back"
    assert [path.name for path in run.iterdir()] == [TIMELINES], "what the figures are made of stays"
