"""Checkpoints: all of a training's state in one file, whole or not there; on a local disk and, on request, in a store.

    <local>/step-000000400.pt       every so many steps, under a temporary name first; the newest few are kept
    <remote>/step-000000400.pt      a copy, uploaded while training goes on; and with it the figures so far

Composer's own saver writes in place and moves a link afterwards: killed in between, it can leave half a file, or no
link and so a run that starts from the beginning. And where the data keeps its own place, as Streaming's does, it
forgets to restore the random state in mid-epoch, so that dropout would differ after a resume.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pickle import UnpicklingError
from typing import Any

import numpy as np
from composer import Callback, Logger, State
from composer.utils.checkpoint import save_checkpoint
from composer.utils.reproducibility import get_rng_state, load_rng_state, seed_all
from numpy._core.multiarray import _reconstruct
from torch.serialization import safe_globals
from torch.torch_version import TorchVersion

from ipt_stream import storage
from ipt_stream.errors import StorageError, TrainingError
from ipt_stream.progress import log
from ipt_stream.training.ranks import on_each_node, on_first, rank, world_size

_NAME = re.compile(r"step-(\d{9})\.pt")
_AS_DATA = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_PLAIN: list[Any] = [timedelta, TorchVersion, np.ndarray, np.dtype, np.dtypes.UInt32DType, _reconstruct]
"""What Composer's state holds besides: wall-clock time, torch's version, the state of numpy's generator."""


class CheckpointFolder:
    """Where the checkpoints of one training are.

    Args:
        local: a directory of this machine.
        remote: an object-store URL for copies, or None.
        kept: how many of the newest stay, here and there.
        figures: local files that are copied with each checkpoint, and come back with it.
    """

    def __init__(self, local: str, remote: str | None, kept: int, figures: Sequence[str]) -> None:
        self.local, self.remote, self.kept, self.figures = local, remote, kept, figures
        self._uploader = ThreadPoolExecutor(1)
        self._upload: Future[None] | None = None

    def newest(self) -> str | None:
        """Path of the newest checkpoint, here or in the store, on this machine's disk by now; the same on all ranks.

        Raises:
            StorageError: the store can't be reached. TrainingError: a machine has no copy, and there is no store.
        """
        on_each_node(self._tidy)
        name = on_first(self._newest_name)
        if name is None:
            return None
        on_each_node(lambda: self._have(name))
        return storage.join(self.local, name)

    def publish(self, temporary: str, step: int) -> None:
        """Give the finished file `temporary` its name, remove what is old, and begin to upload it."""
        name = f"step-{step:09d}.pt"
        path = storage.join(self.local, name)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        self.wait()
        for old in _checkpoints(self.local)[: -self.kept]:
            os.unlink(storage.join(self.local, old))
        if self.remote is not None:
            there = [file for file in self.figures if storage.exists(file)]
            figures = {os.path.basename(file): storage.read_bytes(file) for file in there}
            self._upload = self._uploader.submit(self._send, path, name, figures)

    def wait(self) -> None:
        """Until nothing is being uploaded. Raises `StorageError` where that went wrong."""
        if self._upload is not None:
            upload, self._upload = self._upload, None
            upload.result()

    def temporary(self, step: int) -> str:
        """Where the checkpoint of `step` is written to."""
        return storage.join(self.local, f"{storage.TEMPORARY}{step}.pt")

    def _tidy(self) -> None:
        os.makedirs(self.local, exist_ok=True)
        storage.remove_temporaries(self.local)

    def _newest_name(self) -> str | None:
        here = _checkpoints(self.local)
        there = _checkpoints(self.remote) if self.remote is not None else []
        return max([*here, *there], default=None)

    def _have(self, name: str) -> None:
        """Fetch the checkpoint `name`, with the figures up to it, where it is not on this machine's disk."""
        path = storage.join(self.local, name)
        if os.path.exists(path):
            return
        if self.remote is None:
            raise TrainingError(
                f"a checkpoint is not on every machine: {path}",
                wanted="a directory that all of them share, or a store",
                got=f"nothing there for rank {rank()}",
                fix="set checkpoint_folder to a shared directory or to s3://BUCKET/PREFIX",
            )
        log.info("fetching %s from %s", name, self.remote)
        for figures in self.figures:
            there = storage.join(self.remote, os.path.basename(figures))
            if storage.exists(there):
                storage.publish_bytes(figures, storage.read_bytes(there))
        storage.fetch_file(storage.join(self.remote, name), path)

    def _send(self, path: str, name: str, figures: dict[str, bytes]) -> None:
        if self.remote is None:
            return
        for file, content in figures.items():  # first: what goes beyond the newest checkpoint is taken out on a resume
            storage.publish_bytes(storage.join(self.remote, file), content)
        storage.publish_file(storage.join(self.remote, name), path)
        for old in _checkpoints(self.remote)[: -self.kept]:
            storage.remove(storage.join(self.remote, old))


@contextmanager
def read_as_data(checkpoint: str | None) -> Iterator[None]:
    """Within, torch loads files as data: tensors, numbers and the few other types of a training's state, never code.

    Composer would load whatever a file says, and a checkpoint may come from a store that others write to.

    Raises:
        TrainingError: `checkpoint` holds something else.
    """
    before = os.environ.get(_AS_DATA)
    os.environ[_AS_DATA] = "1"
    try:
        with safe_globals(_PLAIN):
            yield
    except UnpicklingError as error:
        raise TrainingError(
            f"{checkpoint} is no checkpoint of a training",
            wanted="tensors, numbers and text",
            got=str(error).strip().splitlines()[0],
            fix="remove it, to go on from the one before",
        ) from error
    finally:
        if before is None:
            del os.environ[_AS_DATA]
        else:
            os.environ[_AS_DATA] = before


class Checkpoints(Callback):
    """Saves all of the training state every so many steps; every rank takes part, the first one writes."""

    def __init__(self, folder: CheckpointFolder, every: int) -> None:
        self.folder, self.every = folder, every
        self._random: list[dict[str, Any]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The random state of every generator, by rank."""
        return {"random": get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the random state until the first step begins: starting the data draws numbers too."""
        self._random = state["random"]

    def batch_start(self, state: State, logger: Logger) -> None:
        """Restore the random state before the first step after a resume.

        On another number of ranks dropout can't go on as it was: it is drawn anew, by seed, step and rank.
        """
        if self._random is None:
            return
        if len(self._random) == world_size():
            load_rng_state(self._random)
        else:
            seed_all((state.seed + int(state.timestamp.batch.value)) % 2**32)
        self._random = None

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Save, where it is time."""
        step = int(state.timestamp.batch.value)
        if step % self.every:
            return
        temporary = self.folder.temporary(step)
        save_checkpoint(state, temporary)
        on_first(lambda: self.folder.publish(temporary, step))

    def fit_end(self, state: State, logger: Logger) -> None:
        """What is being uploaded is part of the training."""
        on_first(self.folder.wait)

    def close(self, state: State, logger: Logger) -> None:
        """Where training ended early, let the last upload end too; what ended it counts more than what goes wrong."""
        try:
            self.folder.wait()
        except StorageError as error:
            log.error("the newest checkpoint is not in the store: %s", error)


def _checkpoints(directory: str) -> list[str]:
    """The names of the whole checkpoints in `directory`, oldest first."""
    names = [os.path.basename(path) for path in storage.list_directory(directory)]
    return sorted(name for name in names if _NAME.fullmatch(name))
