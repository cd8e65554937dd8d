"""Pre-training by Ray Train: one worker a rank, on a cluster or in a local session of Ray's.

Workers that die are started anew, all of them, and go on from the newest checkpoint; what was trained before is what a
single process would have trained, but for rounding.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import ConfigError, IptError, TrainingError
from ipt_stream.mixture.plan import load_plan
from ipt_stream.progress import meter
from ipt_stream.stage import StageReport, open_stage
from ipt_stream.synthesis.ray_session import check_shared, ensure_ray
from ipt_stream.training.fit import METRICS
from ipt_stream.training.pretrain import (
    VERB,
    PretrainConfig,
    check_mixture,
    count_steps,
    pretrain_on_this_rank,
    settings_of,
)
from ipt_stream.training.ranks import PATIENCE_S, joined, world_size

_TAIL_BYTES = 8192
_LOOK_S = 2.0


def pretrain_on_ray(config: PretrainConfig) -> StageReport:
    """`pretrain` with `config.workers` workers. Raises as `pretrain` does; and where workers died too often."""
    workers = config.workers or 1
    if world_size() > 1:
        raise ConfigError(
            "both a launcher and Ray Train would start ranks",
            wanted="one of them",
            got=f"{world_size()} ranks, and workers={workers}",
            fix="leave workers out, or start without the launcher",
        )
    for name in ("mixture", "output", "checkpoint_folder"):
        if path := getattr(config, name):
            check_shared(path, name)
    if config.base_model is not None and os.path.isdir(config.base_model):
        check_shared(config.base_model, "base_model")
    if config.sequences_per_batch % workers:
        raise ConfigError(
            f"a batch of {config.sequences_per_batch} sequences can't be shared by {workers} workers",
            wanted="a multiple of the workers",
            got=f"sequences_per_batch={config.sequences_per_batch}",
            fix=f"workers={_divisor(config.sequences_per_batch, workers)}",
        )
    plan = load_plan(config.mixture)
    check_mixture(config, plan)
    steps = count_steps(config, plan)
    known = open_stage(config.output, VERB, settings_of(config, plan)).finished
    if known is not None:
        return known
    # Ray Train would have each worker work in a directory of its run, where relative paths mean other places.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    ensure_ray(max(workers, os.cpu_count() or 1))
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0  # type: ignore[no-untyped-call]
    use_gpu = has_gpus if config.gpus_per_worker is None else config.gpus_per_worker
    notes = os.path.join(os.path.abspath(storage.local(config.output)), "ray_train")  # Ray Train's own, of this run
    trainer = TorchTrainer(
        _train,  # type: ignore[arg-type]
        train_loop_config={"config": config.model_dump_json(), "directory": os.getcwd()},
        torch_config=TorchConfig(timeout_s=int(PATIENCE_S)),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=VERB,
            storage_path=notes,
            failure_config=FailureConfig(max_failures=config.restarts),
        ),
    )
    try:
        with _shown(storage.join(config.output, METRICS), steps):
            result = trainer.fit()
    except TrainingFailedError as error:
        raise cause(error) from error
    shutil.rmtree(notes, ignore_errors=True)
    report: StageReport = result.return_value  # type: ignore[attr-defined]
    return report


def _train(given: Mapping[str, Any]) -> StageReport:
    """What each worker does; Ray Train has set up the process group, and tells the first worker's report."""
    if not os.environ.get("RAY_ADDRESS") and os.path.isdir(given["directory"]):
        os.chdir(given["directory"])
    config = PretrainConfig.model_validate_json(given["config"])
    with joined():
        return pretrain_on_this_rank(config)


@contextmanager
def _shown(metrics: str, steps: int) -> Iterator[None]:
    """Within, this process shows how far the workers are, by the metrics that the first of them writes."""
    done = threading.Event()

    def show() -> None:
        with meter(VERB, steps, "steps") as bar:
            while not done.wait(_LOOK_S):
                if record := _last_record(metrics):
                    shown = {str(name): record[name] for name in ("loss", "tokens/s", "rate") if name in record}
                    if int(record["done"]) != bar.done:
                        bar.update(int(record["done"]) - bar.done, shown)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _last_record(path: str) -> dict[str, Any] | None:
    """The last whole line of a file of records, or None."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    record: dict[str, Any] | None = json.loads(lines[-1]) if lines and lines[-1].startswith(b"{") else None
    return record


def _divisor(batch: int, most: int) -> int:
    return next(workers for workers in range(most, 0, -1) if batch % workers == 0)


def cause(error: Exception) -> IptError:
    """The error of ours that a worker failed with, or what Ray Train says of it."""
    seen: list[BaseException | None] = [error, *getattr(error, "worker_failures", {}).values()]
    while seen:
        found = seen.pop()
        if isinstance(found, IptError):
            return found
        if found is not None and found is not error:
            seen += [found.__cause__, getattr(found, "cause", None), getattr(found, "_base_exc", None)]
    return TrainingError(
        "the workers died too often",
        wanted="a training that ends",
        got=str(error).strip().splitlines()[-1],
        fix="look into the workers' logs (ray logs); run again to go on from the newest checkpoint",
    )
