"""The parts that `fit` hands to Composer: a model that knows its loss, progress, and the evaluation in between."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from composer import Callback, ComposerModel, Logger, State
from composer.loggers import LoggerDestination
from composer.utils.reproducibility import get_rng_state, load_rng_state
from torch import Tensor
from torch.nn import Module, functional
from transformers import PreTrainedModel

from ipt_stream.errors import TrainingError
from ipt_stream.progress import Meter
from ipt_stream.training.attention import document_attention
from ipt_stream.training.ranks import gather, is_first, on_first
from ipt_stream.training.sharding import decoder_layers, gathered, is_sharded

if TYPE_CHECKING:
    from ipt_stream.training.fit import Evaluation

PLAIN_HEADS = ("llama", "mistral", "qwen2", "qwen3")
"""Architectures whose logits are the output layer on the last hidden state, with nothing in between."""
SHOWN = ("throughput/", "time/remaining_estimate", "memory/")
"""Figures of Composer's callbacks that go into the metrics."""


class LossHead(Module):
    """A causal language model and its loss, as one module: where weights are sharded, what gathers them runs once."""

    def __init__(self, model: PreTrainedModel, bfloat16: bool) -> None:
        super().__init__()
        self.network = model
        self.mixed = bfloat16

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of `batch`, a scalar in nats a token."""
        tokens = batch["input_ids"]
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.mixed):
            return mean_loss(self.network, tokens, batch["labels"], batch.get("document_ids"))

    def fsdp_wrap_fn(self, module: Module) -> bool:
        """Composer's hook: each decoder layer is sharded, gathered and freed on its own."""
        return module in set(decoder_layers(self.network))


class LanguageModel(ComposerModel):
    """A causal language model whose output is its loss: the mean over the labels that are not -100.

    The output layer is computed only where the loss counts, which is a fifth of the time of a small model. No mask is
    passed, unless the batch says which document each token is of (attention.py): with causal attention, padding on the
    right is never seen by what stands before it.
    """

    def __init__(self, model: PreTrainedModel, bfloat16: bool) -> None:
        super().__init__()
        self.head = LossHead(model, bfloat16)
        self._flops_per_token = flops_per_token(model)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of `batch`, a scalar in nats a token."""
        loss: Tensor = self.head(batch)
        return loss

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The output is the loss."""
        return outputs

    def flops_per_batch(self, batch: Mapping[str, Tensor]) -> float:
        """Floating-point operations of a forward and a backward pass; Composer's SpeedMonitor asks for it."""
        fixed, per_position = self._flops_per_token
        tokens = batch["input_ids"]  # (sequences, length)
        return float(tokens.numel() * (fixed + per_position * tokens.shape[1]))


def flops_per_token(model: PreTrainedModel) -> tuple[float, float]:
    """Floating-point operations a token for training: of the weights, and of attention for each position it may see.

    Two for each weight that a token is multiplied with, and four for each position and unit of attention's width
    (scores, and their sum over values); the backward pass takes twice the forward's. Masked positions count too, as is
    usual (PaLM, arXiv 2204.02311, appendix B).
    """
    config = model.config.get_text_config()
    embedding: Module = model.get_input_embeddings()
    is_tied = getattr(config, "tie_word_embeddings", False)
    looked_up = 0 if is_tied else sum(parameter.numel() for parameter in embedding.parameters())
    weights = sum(parameter.numel() for parameter in model.parameters()) - looked_up
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return 6.0 * weights, 12.0 * config.num_hidden_layers * width


def mean_loss(model: PreTrainedModel, tokens: Tensor, labels: Tensor, document_ids: Tensor | None = None) -> Tensor:
    """Mean cross entropy, in nats, of the labels that count; zero where none does. All of shape (batch, length).

    With `document_ids` a token sees the tokens of its own document alone.
    """
    inside = {} if document_ids is None else document_attention(document_ids)
    targets = labels[:, 1:]
    rows, columns = (targets != -100).nonzero(as_tuple=True)  # each (counted,)
    if isinstance(model, PreTrainedModel) and model.config.model_type in PLAIN_HEADS:  # peft's wrappers are none
        hidden = model.base_model(input_ids=tokens, use_cache=False, **inside).last_hidden_state
        output_layer: Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        logits = output_layer(hidden[rows, columns])  # (counted, vocabulary)
    else:
        logits = model(input_ids=tokens, use_cache=False, **inside).logits[rows, columns]
    total = functional.cross_entropy(logits.float(), targets[rows, columns], reduction="sum")
    return total / max(1, len(rows))


class Figures(LoggerDestination):
    """Keeps the last figures of Composer's own callbacks: throughput, utilisation, time that is left."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Take what is of interest."""
        self.last |= {name: float(value) for name, value in metrics.items() if name.startswith(SHOWN)}


class Progress(Callback):
    """Keeps the bar and the metrics: mean loss since the last update, tokens per second, learning rate."""

    def __init__(self, bar: Meter, every: int, steps: int, figures: Figures) -> None:
        self.bar, self.every, self.steps, self.figures = bar, every, steps, figures
        self.start = 0
        self.paused_s = 0.0
        self._sum, self._count, self._last = 0.0, 0, 0
        self._done = self._tokens = 0
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
        self._seconds = time.perf_counter() - self._clock - self.paused_s
        self._done = int(state.timestamp.token.value) - self._tokens
        if step % self.every and step != self.steps:
            return
        rate = state.optimizers[0].param_groups[0]["lr"]
        figures = {"loss": self._sum / self._count, "tokens/s": round(self.tokens_per_second()), "rate": rate}
        batch = batch_name(state.batch["input_ids"], state.batch.get("attention_mask"))
        if is_first():
            self.bar.update(step - self._last, figures, {"batch": batch, **self.figures.last})
        self._sum, self._count, self._last = 0.0, 0, step

    def tokens_per_second(self) -> float:
        """Tokens a second since this process began to train, without evaluation; 0 where it had nothing to do."""
        return self._done / self._seconds if self._seconds else 0.0


def batch_name(tokens: Tensor, mask: Tensor | None = None) -> str:
    """Names the sequences of a global batch, in their order, by content: the same for any number of ranks.

    Args:
        tokens: this rank's part of it, (sequences, length) int64; ranks follow one another in the batch.
        mask: which tokens are real, of the same shape; sequences without any are there to fill up, and not named.
    """
    rows = tokens if mask is None else tokens[mask.any(dim=1)]
    checksums = [zlib.crc32(row.numpy().tobytes()) for row in rows.cpu()]
    every = [checksum for part in gather(checksums) for checksum in part]
    return f"{zlib.crc32(b''.join(checksum.to_bytes(4, 'little') for checksum in every)):08x}"


class Measure(Callback):
    """Has the model measured every so many steps and after the last, and writes the figures, a line a time.

    It comes before the checkpoint of the same step: what a checkpoint goes on from has been measured. Rank 0 measures,
    and the others wait; where the weights are sharded, all of them do, for each holds a part.
    """

    def __init__(self, evaluation: Evaluation, path: str, steps: int, progress: Progress) -> None:
        self.evaluation, self.path, self.steps, self.progress = evaluation, path, steps, progress

    def fit_start(self, state: State, logger: Logger) -> None:
        """Measure the model as it was given."""
        if self.evaluation.at_start and not int(state.timestamp.batch.value):
            self._measure(state, logger, 0)

    def batch_end(self, state: State, logger: Logger) -> None:
        """Measure, where it is time."""
        step = int(state.timestamp.batch.value)
        if step % self.evaluation.every_steps == 0 or step == self.steps:
            self._measure(state, logger, step)

    def _measure(self, state: State, logger: Logger, step: int) -> None:
        started = time.perf_counter()
        head = unwrapped(state.model).head
        random = get_rng_state()
        head.eval()
        try:
            if is_sharded(head):
                # What is gathered stays allocated for training, so it must not be of inference mode.
                with torch.no_grad(), gathered(head, state.device):
                    figures = self._figures(head.network)
            else:
                with torch.inference_mode():
                    figures = on_first(lambda: self._figures(head.network))
        finally:
            head.train()
            load_rng_state(random)
        if is_first():
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **figures}) + "\n")
        logger.log_metrics({f"evaluation/{name}": value for name, value in figures.items()})
        self.progress.paused_s += time.perf_counter() - started

    def _figures(self, model: PreTrainedModel) -> dict[str, float]:
        return {name: float(value) for name, value in self.evaluation.measure(model).items()}


def unwrapped(model: Module) -> LanguageModel:
    """The model itself, without what distributes it."""
    inner = getattr(model, "module", model)
    if not isinstance(inner, LanguageModel):
        raise TypeError(f"{type(inner).__name__} is not a LanguageModel")
    return inner
