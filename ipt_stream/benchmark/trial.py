"""One measurement: the synthesis stage on a sample, stopped after a set time, in a process of its own.

    python -m ipt_stream.benchmark.trial TRIAL.json

The process is its own so that whatever an engine leaves behind (memory of a GPU, a Ray session, a crash) is gone when
the next one starts. It writes `result.json` beside its settings, or `failed.json` with the reason.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ipt_stream import storage
from ipt_stream.benchmark.settings import DummySettings
from ipt_stream.config import Settings, build
from ipt_stream.errors import EngineError, IptError
from ipt_stream.process import die_with_parent
from ipt_stream.progress import log, set_up_logging
from ipt_stream.synthesis.pipeline import SynthesizeConfig, synthesize
from ipt_stream.synthesis.supervise import StopRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from ipt_stream.synthesis.worker import EngineFactory

TRIAL, RESULT, FAILED = "trial.json", "result.json", "failed.json"
LOOK_SECONDS = 0.5
REMOVE_SECONDS = 30.0
"""For workers that still write, at most."""
LOOKS_AT_NOTHING = 3
"""In a row, before a run directory counts as removed."""


class TrialSettings(Settings):
    """What one trial does."""

    output: str
    """Its directory."""
    synthesize: dict[str, Any]
    """The whole of the stage's settings; `output` is the trial's."""
    dummy: DummySettings | None
    """Where there is no model: its weights and answers."""
    seconds: float
    """Steady state, after the warm-up; longer where an engine has not answered anything in it."""
    warm_up_seconds: float
    """From the moment that all engines are up, and longer until each has answered something."""
    tail_seconds: float
    """For the segments in flight, after that."""
    windows: int
    """Parts of the steady state."""
    ceilings: str
    """File with the device's ceilings; measured and written where it is not there."""
    keep_run: bool = False
    """Keep what the stage wrote."""


def run_trial(settings: TrialSettings, make_engine: EngineFactory | None = None) -> dict[str, Any]:
    """Measure; gives the figures (`figures.measure`), and `stage`, what the stage itself said at its end.

    Args:
        settings: what to do.
        make_engine: makes the engine that is measured; None: vLLM's, with dummy weights where `dummy` says so.

    Raises:
        EngineError: the engine can't start with these settings, or died.
        InputError: the sample was done before there was a steady state.
        KeyboardInterrupt: a signal told it to stop.
    """
    import ray

    from ipt_stream.benchmark.figures import measure
    from ipt_stream.benchmark.floor import shape_of
    from ipt_stream.benchmark.recorder import Recorder
    from ipt_stream.benchmark.timelines import load_timelines
    from ipt_stream.synthesis.ray_session import ensure_ray

    run = storage.join(settings.output, f"run-{int(time.time())}")
    config = build(SynthesizeConfig, {**settings.synthesize, "output": run}, "synthesize")
    ensure_ray()
    model = model_config(config.engine.model, config.engine.revision)
    ceilings = device_ceilings(settings.ceilings, config.engine.gpus)
    engine = make_engine or _engine(settings.dummy, model)
    least = config.engine.replicas if isinstance(config.engine.replicas, int) else config.engine.replicas[0]
    stop, begun = StopRequest(), time.time()
    clock = _Clock(run, least, config.engine.most_replicas(), settings, stop)
    with clock.running():
        report = synthesize(config, Recorder(engine, run), stop)
    if report.stopped and clock.stopped is None:
        raise KeyboardInterrupt
    lines = load_timelines(run)
    if clock.died or len(lines) > config.engine.most_replicas():
        raise EngineError(
            "an engine died during the measurement and was started again",
            wanted="engines that live",
            got=f"{len(lines)} starts of {config.engine.most_replicas()} engines",
            fix="see the workers' logs for the reason (memory?), or lower engine.max_num_seqs",
        )
    found = measure(
        lines,
        begun=begun,
        least=least,
        warm_up=settings.warm_up_seconds,
        stopped=clock.stopped,
        windows=settings.windows,
        model=model,
        shape=shape_of(model),
        ceilings=ceilings,
    )
    found["stage"] = {name: report.figures[name] for name in sorted(report.figures)}
    if not settings.keep_run:
        ray.shutdown()  # and with it the workers
        _remove(run)
    return found


def _engine(dummy: DummySettings | None, model: Mapping[str, Any]) -> EngineFactory:
    from ipt_stream.benchmark.dummy import DummyWeights
    from ipt_stream.synthesis.engine import VllmEngine

    return VllmEngine if dummy is None else DummyWeights(dummy, int(model["vocab_size"]))


def model_config(model: str, revision: str | None) -> dict[str, Any]:
    """The `config.json` of a model folder, an object-store URL or a hub id; nothing else of it is read."""
    if storage.is_remote(model) or Path(model).is_dir():
        found = storage.read_json(storage.join(model, "config.json"))
    else:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            found = storage.read_json(hf_hub_download(model, "config.json", revision=revision))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            raise EngineError(f"no model {model} to measure", wanted="its config.json", got=str(error)) from error
    text: dict[str, Any] = found.get("text_config") or found
    return text


def device_ceilings(path: str, gpus: float | None) -> dict[str, Any]:
    """What one device reaches in a product and in a copy: from `path`, or measured where an engine would be, and kept
    there."""
    import ray

    from ipt_stream.benchmark.devices import measure_ceilings

    if storage.exists(path):
        known: dict[str, Any] = storage.read_json(path)
        return known
    if gpus is None:
        gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0  # type: ignore[no-untyped-call]
    task = ray.remote(measure_ceilings).options(num_cpus=0, num_gpus=min(gpus, 1.0), max_retries=0)
    found: dict[str, Any] = ray.get(task.remote())
    storage.publish_json(path, found)
    return found


class _Clock:
    """Asks the stage to stop when the engines have been at work for long enough, or one has died.

    Long enough is the warm-up and the steady state, and as much longer as it takes until each engine that is waited for
    has answered something in the one and in the other: a measurement without an answer measures nothing.
    """

    def __init__(self, run: str, least: int, most: int, settings: TrialSettings, stop: StopRequest) -> None:
        self._run, self._least, self._most, self._settings, self._stop = run, least, most, settings, stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="clock", daemon=True)
        self.stopped: float | None = None
        self.died = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within, it runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def _watch(self) -> None:
        from ipt_stream.benchmark.recorder import TIMELINES
        from ipt_stream.benchmark.timelines import Timeline, read_timeline, steady_from

        folder = storage.join(self._run, TIMELINES)
        lines: dict[str, Timeline] = {}
        start: float | None = None
        while not self._over.wait(LOOK_SECONDS):
            for path in storage.list_directory(folder):
                line = lines.get(path)
                if line is None or line.first_answer() is None or (start and not line.answered_after(start)):
                    lines[path] = read_timeline(storage.read_json(path))
            self.died = len(lines) > self._most
            counted = sorted(lines.values(), key=lambda line: line.ready)[: self._least]
            start = steady_from(counted, self._settings.warm_up_seconds) if len(counted) == self._least else None
            measured = start is not None and all(line.answered_after(start) for line in counted)
            is_time = start is not None and time.time() >= start + self._settings.seconds
            if (is_time and measured) or self.died:
                self.stopped = time.time()
                self._stop.ask()
                return


def _remove(run: str) -> None:
    """Remove a run directory, but for its timelines. Its workers were told to end, and may still be writing what they
    had in flight: looked at until nothing comes back."""
    deadline = time.monotonic() + REMOVE_SECONDS
    gone = 0
    while gone < LOOKS_AT_NOTHING:
        gone = 0 if _removed_some(run) else gone + 1
        if time.monotonic() > deadline:
            log.warning("%s could not be removed: something still writes there; remove it by hand", run)
            return
        time.sleep(LOOK_SECONDS)


def _removed_some(run: str) -> bool:
    """Whether there was anything to remove."""
    import shutil

    from ipt_stream.benchmark.recorder import TIMELINES

    if storage.is_remote(run):
        names = [entry.name for entry in storage.list_objects(run) if not entry.name.startswith(f"{TIMELINES}/")]
        for name in names:
            storage.remove(storage.join(run, name))
        return bool(names)
    paths = [path for path in Path(storage.local(run)).iterdir() if path.name != TIMELINES]
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)  # what is written meanwhile is removed with the next look
        else:
            path.unlink(missing_ok=True)
    return bool(paths)


def main(arguments: Sequence[str]) -> int:
    """Run the trial that a settings file describes; gives the exit code, as the command line's."""
    (path,) = arguments
    die_with_parent()
    signal.signal(signal.SIGTERM, _interrupt)
    set_up_logging()
    # What Ray's core would print of workers that a trial leaves behind; what matters is raised.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    settings = build(TrialSettings, storage.read_json(path), path)
    try:
        found = run_trial(settings)
    except IptError as error:
        failed = {"error": str(error), "kind": type(error).__name__, "exit_code": error.exit_code}
        storage.publish_json(storage.join(settings.output, FAILED), failed)
        log.error("the trial failed: %s", error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("the trial was interrupted")
        return 1
    storage.publish_json(storage.join(settings.output, RESULT), found)
    log.info("%s", json.dumps(found["total"]["raw_tokens_per_gpu_day"]))
    return 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
