"""Training with Composer: one function, for tuning the synthesizer and for pre-training alike.

    loader -> loss on the labels that are not -100 -> AdamW -> a checkpoint now and then -> the trained model

A run that was killed goes on from its newest checkpoint: weights, optimizer, schedule, random state and the place in
the data are as they were, and so every loss after it is, bit for bit on a CPU.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ipt_stream import storage
from ipt_stream.config import fingerprint
from ipt_stream.errors import TrainingError
from ipt_stream.progress import Meter, log, meter
from ipt_stream.training.fit_settings import FitSettings, Precision, Schedule, learning_rate_share, uses_bfloat16
from ipt_stream.training.ranks import PATIENCE_S, is_first, on_first
from ipt_stream.training.running import RunSettings

if TYPE_CHECKING:
    from composer import Callback
    from torch import Tensor
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

__all__ = [
    "Evaluation",
    "FitSettings",
    "FitSummary",
    "Precision",
    "Schedule",
    "count_tokens",
    "fit",
    "learning_rate_share",
]

CHECKPOINTS, METRICS, EVALUATIONS = "checkpoints", "metrics.jsonl", "evaluations.jsonl"
NO_MICROBATCHES = 1 << 30


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is measured of the model while it is trained.

    Attributes:
        every_steps: steps between two evaluations; the last step is always followed by one.
        measure: gives figures by name. It is called with the model in eval mode, under `torch.inference_mode`; whatever
            random numbers it draws, training goes on as if it had not been.
        at_start: whether the model is measured before its first step too, as step 0.
    """

    every_steps: int
    measure: Callable[[PreTrainedModel], Mapping[str, float]]
    at_start: bool = False


@dataclass(frozen=True, slots=True)
class FitSummary:
    """What a training run did.

    Attributes:
        steps: optimizer steps, those before a resume too.
        tokens: tokens that went through the model, padding not counted, those before a resume too.
        tokens_per_second: of this process, model building and start-up not counted; 0 where nothing was left to do.
        first_loss: mean loss, in nats a token, of the first `log_steps` steps.
        last_loss: the same for the last.
        resumed_from: the step of the checkpoint that this process started from; 0 for none.
        evaluations: the lines of `evaluations.jsonl`, each `step` and its figures, those before a resume too.
    """

    steps: int
    tokens: int
    tokens_per_second: float
    first_loss: float
    last_loss: float
    resumed_from: int
    evaluations: tuple[Mapping[str, float], ...] = ()


def fit(
    model: PreTrainedModel,
    loader: Iterable[Mapping[str, Tensor]],
    settings: FitSettings,
    *,
    steps: int,
    output: str,
    seed: int,
    name: str = "train",
    evaluation: Evaluation | None = None,
    run: RunSettings | None = None,
) -> FitSummary:
    """Train `model` in place for `steps` batches of `loader`; checkpoints and metrics go into local `output`.

    A batch holds `input_ids` and `labels`, int64 of shape (sequences, length), labels unshifted and -100 where the loss
    doesn't count; sequences are padded on the right, and an `attention_mask`, where there is one, says how many tokens
    are real; `document_ids`, where there are some, keep attention inside documents. The loss is the mean over all
    tokens of the batch that count.

    Metrics are lines of `metrics.jsonl`: loss, rate, throughput, and `batch`, which names the global batch's content.
    What `evaluation` measures goes into `evaluations.jsonl`, a line each: `{"step": 40, ...}`.

    Several ranks (ranks.py) call this together, each with its part of the batches; the first one writes. With
    `run.fsdp` the model is left shared out among them (`sharding.gathered_state`).

    Raises:
        TrainingError: the schedule doesn't fit in `steps`, a loss is not finite, or `run` asks for what is not there.
    """
    import torch
    from composer import DataSpec, Trainer
    from composer.algorithms import GradientClipping
    from torch.optim.lr_scheduler import LambdaLR

    from ipt_stream.training.checkpoints import CheckpointFolder, Checkpoints, read_as_data
    from ipt_stream.training.composer_parts import Figures, LanguageModel, Measure, Progress
    from ipt_stream.training.loggers import make_loggers
    from ipt_stream.training.sharding import compile_layers, is_sharded, parallelism

    run = run or RunSettings()
    if settings.warmup_steps >= steps:
        got, fix = f"{settings.warmup_steps} of {steps}", "fewer warmup_steps, or more to train on"
        raise TrainingError("the warm-up is as long as the training", wanted="fewer steps", got=got, fix=fix)
    sharding = parallelism(run.fsdp)
    bfloat16 = uses_bfloat16(settings.precision)
    if run.compile:
        compile_layers(model)
    optimizer = _optimizer(model, settings)
    metrics, evaluations = storage.join(output, METRICS), storage.join(output, EVALUATIONS)
    here, there = _places(output, run.checkpoint_folder)
    folder = CheckpointFolder(here, there, settings.checkpoints_kept, [metrics, evaluations])
    checkpoint = folder.newest()
    run_id = fingerprint([name, there or os.path.abspath(output)])
    silent = nullcontext(Meter(name, steps, "steps"))
    with meter(name, steps, "steps", metrics_path=metrics) if is_first() else silent as bar:
        whole, figures = LanguageModel(model, bfloat16), Figures()
        progress = Progress(bar, settings.log_steps, steps, figures)
        monitors = _monitors(settings, run)
        measure = [] if evaluation is None else [Measure(evaluation, evaluations, steps, progress)]
        with read_as_data(checkpoint):
            trainer = Trainer(
                model=whole,
                train_dataloader=DataSpec(loader, split_batch=split_batch, get_num_tokens_in_batch=count_tokens),
                max_duration=f"{steps}ba",
                optimizers=optimizer,
                schedulers=LambdaLR(optimizer, lambda step: learning_rate_share(step, steps, settings)),
                step_schedulers_every_batch=True,
                algorithms=[GradientClipping(clipping_type="norm", clipping_threshold=settings.clip)],
                callbacks=[*monitors, progress, *measure, Checkpoints(folder, settings.checkpoint_steps)],
                loggers=[figures, *make_loggers(run.loggers, output, name, run_id)],
                device_train_microbatch_size=settings.microbatch_sequences or NO_MICROBATCHES,
                accumulate_train_batch_on_tokens=True,
                load_path=checkpoint,
                load_progress_bar=False,
                # The model casts for itself, as Composer has no mixed precision on CPUs; on GPUs it must know too: what
                # sharded weights are gathered in, and what utilisation is measured by.
                precision="amp_bf16" if bfloat16 and torch.cuda.is_available() else "fp32",
                parallelism_config=sharding,
                progress_bar=False,
                run_name=name,
                seed=seed,
                dist_timeout=PATIENCE_S,
            )
        try:
            start = int(trainer.state.timestamp.batch.value)
            if start:
                log.info("%-12s goes on from step %s", name, f"{start:,}")
            on_first(partial(_rewind, metrics, "done", start))
            on_first(partial(_rewind, evaluations, "step", start))
            progress.start = bar.resumed = bar.done = start
            if start < steps:
                trainer.fit()
            done, tokens = int(trainer.state.timestamp.batch.value), int(trainer.state.timestamp.token.value)
        finally:
            trainer.close()  # type: ignore[no-untyped-call]
    if not is_sharded(whole.head):
        model.cpu()
    if done < steps:
        got, fix = f"{done} batches", "check that the data is as long as its plan says"
        raise TrainingError("the data ended early", wanted=f"{steps} batches", got=got, fix=fix)
    lines, measured = on_first(lambda: (_records(metrics), _records(evaluations) if evaluation is not None else []))
    losses = [record["loss"] for record in lines]
    return FitSummary(done, tokens, progress.tokens_per_second(), losses[0], losses[-1], start, tuple(measured))


def _places(output: str, folder: str | None) -> tuple[str, str | None]:
    """Where checkpoints are on this machine, and in which store."""
    here = storage.join(output, CHECKPOINTS)
    if folder is None:
        return here, None
    return (here, folder) if storage.is_remote(folder) else (storage.local(folder), None)


def _monitors(settings: FitSettings, run: RunSettings) -> list[Callback]:
    """Composer's own callbacks: throughput and utilisation over `log_steps`, the time that is left, a GPU's memory."""
    import torch
    from composer.callbacks import MemoryMonitor, RuntimeEstimator, SpeedMonitor

    found: list[Callback] = [
        SpeedMonitor(settings.log_steps, run.device_flops, "seconds"),
        RuntimeEstimator(1, "seconds"),
    ]
    return [*found, MemoryMonitor()] if torch.cuda.is_available() else found


def count_tokens(batch: Mapping[str, Tensor]) -> dict[str, int]:
    """How many tokens of a batch are real, and how many the loss counts (`total`, `loss_generating`)."""
    mask = batch.get("attention_mask")
    total = batch["input_ids"].numel() if mask is None else int(mask.sum())
    return {"total": total, "loss_generating": int((batch["labels"][:, 1:] != -100).sum())}


def split_batch(batch: Mapping[str, Tensor], sequences: int | float) -> list[Mapping[str, Tensor]]:
    """The batch in parts of at most so many sequences."""
    sequences = int(sequences)
    count = len(batch["input_ids"])
    if count <= sequences:
        return [batch]
    return [{key: value[at : at + sequences] for key, value in batch.items()} for at in range(0, count, sequences)]


def _optimizer(model: PreTrainedModel, settings: FitSettings) -> Optimizer:
    """AdamW with weight decay on matrices alone."""
    from torch.optim import AdamW

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)


def _rewind(path: str, key: str, step: int) -> None:
    """Take out of a file of records what a killed run wrote after `step`, so that no step is there twice."""
    if storage.exists(path):
        kept = [record for record in _records(path) if record[key] <= step and (step or record[key])]
        storage.publish_bytes(path, "".join(json.dumps(record) + "\n" for record in kept).encode())


def _records(path: str) -> list[dict[str, Any]]:
    """The records so far; a last line that was cut off by a kill is left out."""
    if not storage.exists(path):
        return []
    lines = storage.read_bytes(path).decode().split("\n")[:-1]
    return [json.loads(line) for line in lines]
