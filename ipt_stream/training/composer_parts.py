"""The parts that `fit` hands to Composer: a model that knows its loss, progress, evaluation, and checkpoints."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from composer import Callback, ComposerModel, Logger, State
from composer.utils.checkpoint import save_checkpoint
from composer.utils.reproducibility import get_rng_state, load_rng_state
from torch import Tensor
from torch.nn import Module, functional
from transformers import PreTrainedModel

from ipt_stream import storage
from ipt_stream.errors import TrainingError
from ipt_stream.progress import Meter

if TYPE_CHECKING:
    from ipt_stream.training.fit import Evaluation

PLAIN_HEADS = ("llama", "mistral", "qwen2", "qwen3")
"""Architectures whose logits are the output layer on the last hidden state, with nothing in between."""
PREFIX, SUFFIX = "step-", ".pt"


class LanguageModel(ComposerModel):
    """A causal language model whose output is its loss: the mean over the labels that are not -100.

    The output layer is computed only where the loss counts, which is a fifth of the time of a small model. No attention
    mask is passed: with causal attention, padding on the right is never seen by what stands before it.
    """

    def __init__(self, model: PreTrainedModel, bfloat16: bool) -> None:
        super().__init__()
        self.model = model
        self.mixed = bfloat16

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of `batch`, a scalar in nats a token."""
        tokens = batch["input_ids"]
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.mixed):
            return mean_loss(self.model, tokens, batch["labels"])

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The output is the loss."""
        return outputs


def mean_loss(model: PreTrainedModel, tokens: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy, in nats, of the labels that count; zero where none does. Both of shape (batch, length)."""
    targets = labels[:, 1:]
    rows, columns = (targets != -100).nonzero(as_tuple=True)  # each (counted,)
    if isinstance(model, PreTrainedModel) and model.config.model_type in PLAIN_HEADS:  # peft's wrappers are none
        hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state  # (batch, length, width)
        output_layer: Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        logits = output_layer(hidden[rows, columns])  # (counted, vocabulary)
    else:
        logits = model(input_ids=tokens, use_cache=False).logits[rows, columns]
    total = functional.cross_entropy(logits.float(), targets[rows, columns], reduction="sum")
    return total / max(1, len(rows))


class Progress(Callback):
    """Keeps the bar and the metrics: mean loss since the last update, tokens per second, learning rate."""

    def __init__(self, bar: Meter, every: int, steps: int) -> None:
        self.bar, self.every, self.steps = bar, every, steps
        self.start = 0
        self._sum, self._count, self._last = 0.0, 0, 0
        self._tokens = 0
        self._seconds = 0.0
        self._clock = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The mean since the last update goes on after a resume."""
        return {"sum": self._sum, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the mean where the checkpoint left it."""
        self._sum, self._count = state["sum"], state["count"]

    def fit_start(self, state: State, logger: Logger) -> None:
        """Start the clock."""
        self._last = int(state.timestamp.batch.value)
        self._tokens = int(state.timestamp.token.value)
        self._clock = time.perf_counter()

    def batch_end(self, state: State, logger: Logger) -> None:
        """Count a step; every so many, and at the last, say how it goes."""
        step = int(state.timestamp.batch.value)
        loss = float(state.total_loss_dict["loss/train/total"])
        if not math.isfinite(loss):
            fix = "a lower learning_rate, or a longer warm-up; remove the checkpoints to start anew"
            raise TrainingError(f"the loss of step {step} is not finite", got=str(loss), fix=fix)
        self._sum += loss
        self._count += 1
        self._seconds = time.perf_counter() - self._clock
        self._done = int(state.timestamp.token.value) - self._tokens
        if step % self.every and step != self.steps:
            return
        rate = state.optimizers[0].param_groups[0]["lr"]
        figures = {"loss": self._sum / self._count, "tokens/s": round(self.tokens_per_second()), "rate": rate}
        self.bar.update(step - self._last, figures)
        self._sum, self._count, self._last = 0.0, 0, step

    def tokens_per_second(self) -> float:
        """Tokens a second since this process began to train; 0 where it had nothing to do."""
        return self._done / self._seconds if self._seconds else 0.0


class Measure(Callback):
    """Has the model measured every so many steps and after the last, and writes the figures, a line a time.

    It comes before the checkpoint of the same step: what a checkpoint goes on from has been measured.
    """

    def __init__(self, evaluation: Evaluation, path: str, steps: int) -> None:
        self.evaluation, self.path, self.steps = evaluation, path, steps

    def fit_start(self, state: State, logger: Logger) -> None:
        """Measure the model as it was given."""
        if self.evaluation.at_start and not int(state.timestamp.batch.value):
            self._measure(state, 0)

    def batch_end(self, state: State, logger: Logger) -> None:
        """Measure, where it is time."""
        step = int(state.timestamp.batch.value)
        if step % self.evaluation.every_steps == 0 or step == self.steps:
            self._measure(state, step)

    def _measure(self, state: State, step: int) -> None:
        model: PreTrainedModel = unwrapped(state.model).model
        random = get_rng_state()
        model.eval()  # type: ignore[no-untyped-call]
        try:
            with torch.inference_mode():
                figures = {name: float(value) for name, value in self.evaluation.measure(model).items()}
        finally:
            model.train()
            load_rng_state(random)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")


def unwrapped(model: Module) -> LanguageModel:
    """The model itself, without what distributes it."""
    inner = getattr(model, "module", model)
    if not isinstance(inner, LanguageModel):
        raise TypeError(f"{type(inner).__name__} is not a LanguageModel")
    return inner


class Checkpoints(Callback):
    """Saves all of the training state every so many steps, under a temporary name that is then renamed.

    (Composer's own saver writes in place and moves a link afterwards: killed in between, it can leave half a file, or
    no link and so a run that starts from the beginning. And where the data keeps its own place, as Streaming's does,
    it forgets to restore the random state in mid-epoch, so that dropout would differ after a resume.)
    """

    def __init__(self, directory: str, every: int, kept: int) -> None:
        self.directory, self.every, self.kept = directory, every, kept
        self._random: list[dict[str, Any]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The random state of every generator."""
        return {"random": get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the random state until the first step begins: starting the data draws numbers too."""
        self._random = state["random"]

    def batch_start(self, state: State, logger: Logger) -> None:
        """Restore the random state before the first step after a resume."""
        if self._random is not None:
            load_rng_state(self._random)
            self._random = None

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Save, then remove the oldest."""
        step = int(state.timestamp.batch.value)
        if step % self.every:
            return
        path = storage.join(self.directory, f"{PREFIX}{step:09d}{SUFFIX}")
        temporary = storage.join(self.directory, f"{storage.TEMPORARY}{step}{SUFFIX}")
        save_checkpoint(state, temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        for old in checkpoints(self.directory)[: -self.kept]:
            os.unlink(old)


def checkpoints(directory: str) -> list[str]:
    """The whole checkpoints in `directory`, oldest first."""
    names = storage.list_directory(directory)
    return [name for name in names if os.path.basename(name).startswith(PREFIX) and name.endswith(SUFFIX)]


def newest_checkpoint(directory: str) -> str | None:
    """The newest whole checkpoint in `directory`, or None."""
    found = checkpoints(directory)
    return found[-1] if found else None
