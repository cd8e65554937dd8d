"""Composer's loggers as settings ask for them: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import warnings
from typing import Any

from composer import Logger, State
from composer.loggers import LoggerDestination, MLFlowLogger, TensorboardLogger, WandBLogger

from ipt_stream import storage
from ipt_stream.training.ranks import is_first
from ipt_stream.training.running import LoggerSettings


def make_loggers(settings: LoggerSettings, output: str, name: str, run_id: str) -> list[LoggerDestination]:
    """The loggers that `settings` ask for.

    Args:
        settings: which ones; their packages have been looked for (running.check_loggers).
        output: the training's local directory.
        name: what the run is called.
        run_id: names it for good, so that a resumed run goes on in the same place.
    """
    made: list[LoggerDestination] = []
    if settings.tensorboard:
        made.append(TensorBoard(storage.join(output, "tensorboard")))
    if settings.wandb is not None:
        given = settings.wandb
        resumable = {"id": run_id, "resume": "allow"}
        tags = list(given.tags)
        made.append(WandBLogger(given.project, given.group, name, given.entity, tags, init_kwargs=resumable))
    if settings.mlflow is not None:
        where = settings.mlflow
        made.append(
            MLFlowLogger(where.experiment_name, f"{name}-{run_id}", tracking_uri=where.tracking_uri, resume=True)
        )
    return made


class TensorBoard(TensorboardLogger):
    """Composer's TensorBoard logger, writing through tensorboardX, which needs no TensorBoard to be installed.

    The file is opened when training begins, and says from which step on: what a killed run wrote after its last
    checkpoint is hidden by what comes now.
    """

    def __init__(self, directory: str) -> None:
        self.log_dir = directory
        self.rank_zero_only = True
        self.writer: Any = None
        self.current_metrics: dict[str, Any] = {}
        self.hyperparameters: dict[str, Any] = {}

    def init(self, state: State, logger: Logger) -> None:
        """Nothing yet: it is not known where training goes on."""

    def fit_start(self, state: State, logger: Logger) -> None:
        """Open the file."""
        if is_first():
            with warnings.catch_warnings():  # it also looks for the drivers of stores
                warnings.simplefilter("ignore", ImportWarning)
                from tensorboardX import SummaryWriter
            self.writer = SummaryWriter(self.log_dir, purge_step=int(state.timestamp.batch.value) or None)

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Write numbers; what comes before training begins is no figure of it."""
        if self.writer is not None:
            super().log_metrics(metrics, step)

    def batch_end(self, state: State, logger: Logger) -> None:
        """The file is flushed by its writer, every two minutes."""

    def epoch_end(self, state: State, logger: Logger) -> None:
        """As `batch_end`."""

    def eval_end(self, state: State, logger: Logger) -> None:
        """As `batch_end`."""

    def fit_end(self, state: State, logger: Logger) -> None:
        """Flush."""
        if self.writer is not None:
            self.writer.flush()

    def close(self, state: State, logger: Logger) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None
