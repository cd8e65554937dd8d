"""How a training is run: on what, watched by whom, saved where. Nothing here changes what comes out but by rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from pydantic import Field

from ipt_stream import storage
from ipt_stream.config import Settings, fingerprint
from ipt_stream.errors import TrainingError
from ipt_stream.stage import Stage, StageReport, open_stage
from ipt_stream.training.ranks import is_first, on_first


class WandbSettings(Settings):
    """Weights & Biases; its API key is in the environment (WANDB_API_KEY), or `wandb login` has kept it."""

    project: str | None = None
    """The project; null: W&B's own default."""
    entity: str | None = None
    """The team; null: the user."""
    group: str | None = None
    """Runs of one group are shown together."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""


class MlflowSettings(Settings):
    """MLflow."""

    experiment_name: str | None = None
    """The experiment; null: as MLFLOW_EXPERIMENT_NAME says, or MLflow's own default."""
    tracking_uri: str | None = None
    """Where its server is, or a directory; null: as MLFLOW_TRACKING_URI says."""


class LoggerSettings(Settings):
    """Where figures go besides `metrics.jsonl`: each step's loss, throughput, utilisation, evaluation."""

    tensorboard: bool = False
    """Write event files under `<output>/tensorboard`."""
    wandb: WandbSettings | None = None
    """Send to Weights & Biases; `{}` takes its defaults, null sends nothing."""
    mlflow: MlflowSettings | None = None
    """Send to MLflow; `{}` takes its defaults, null sends nothing."""


class RunSettings(Settings):
    """How a training is run."""

    fsdp: bool = False
    """Shard weights, gradients and Adam's state over the ranks (FSDP 2), where a model doesn't fit on one GPU. Rank 0
    loads the model, the others get their parts of it; checkpoints are whole, and are gathered in rank 0's main memory
    (12 bytes a parameter), so that they can be resumed on any number of ranks."""
    compile: bool = False
    """Compile each decoder layer with `torch.compile`: once, as all are alike. It takes a minute at each start."""
    checkpoint_folder: str | None = None
    """Where checkpoints are kept: a local directory, or an object-store URL, to which each is copied and from which it
    is fetched where the local disk has no newer one; null: `<output>/checkpoints` alone."""
    device_flops: float | None = Field(default=None, gt=0)
    """The most floating-point operations a second of one device, to tell its utilisation (`throughput/device/mfu`);
    null: as Composer knows the GPU. Devices that it doesn't know, CPUs among them, have no utilisation then."""
    loggers: LoggerSettings = LoggerSettings()
    """Where figures go besides `metrics.jsonl`."""


HOW: Any = {
    "fit": {"microbatch_sequences", "checkpoint_steps", "checkpoints_kept"},
    **dict.fromkeys(RunSettings.model_fields, True),
}
"""Settings of a trained stage that say how, but not what: a run may go on with others."""

Run = TypeVar("Run", bound=RunSettings)


def with_own_checkpoints(run: Run, name: str, settings: Mapping[str, Any]) -> Run:
    """`run`, its checkpoint folder one for `settings` alone: checkpoints of one training are never another's."""
    if run.checkpoint_folder is None:
        return run
    folder = storage.join(run.checkpoint_folder, f"{name}-{fingerprint(settings)}")
    return run.model_copy(update={"checkpoint_folder": folder})


def run_on_ranks(
    output: str, verb: str, settings: Callable[[], Mapping[str, Any]], work: Callable[[Stage], StageReport]
) -> StageReport:
    """`work(stage)` on all ranks, or its report from before; only the first rank's report says anything.

    Args:
        output: the stage's directory.
        verb: what it does.
        settings: makes, on the first rank, all that decides what comes out.
        work: the part of one rank, which ends with `on_first(stage.finish)`.

    Raises:
        LedgerError: the directory holds another stage, or this one with other settings.
    """
    stage = on_first(lambda: open_stage(output, verb, settings()))
    report = stage.finished or work(stage)
    return report if is_first() else StageReport({}, skipped=report.skipped)


_PACKAGES = {
    "tensorboard": (("tensorboardX",), ""),
    "wandb": (("wandb",), ">=0.26,<0.29"),
    "mlflow": (("mlflow", "mlflow-skinny"), ">=2.14.1,<3"),
}
"""Of each logger, the packages that bring it, and the versions that Composer's logger works with."""


def check_loggers(settings: LoggerSettings) -> None:
    """Raises `TrainingError`, before anything starts, where a logger that is asked for is not installed, or in a
    version that Composer's doesn't know."""
    from packaging.specifiers import SpecifierSet

    for name, (packages, versions) in _PACKAGES.items():
        if getattr(settings, name) in (None, False):
            continue
        found = next((known for package in packages if (known := _version(package)) is not None), None)
        if found is None or not SpecifierSet(versions).contains(found, prereleases=True):
            raise TrainingError(
                f"loggers.{name} needs a package that is not installed"
                if found is None
                else f"loggers.{name} can't work with this version of {name}",
                wanted=f"{packages[-1]}{versions}",
                got=found or "nothing by that name",
                fix=f"pip install '{packages[-1]}{versions}', or leave loggers.{name} out",
            )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
