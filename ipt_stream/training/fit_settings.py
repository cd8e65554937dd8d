"""Optimizer, schedule, precision and bookkeeping of a training run."""

from __future__ import annotations

import math
from enum import StrEnum

from pydantic import Field

from ipt_stream.config import Settings


class Schedule(StrEnum):
    """How the learning rate goes down after its warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


class Precision(StrEnum):
    """What the forward and backward passes compute in; weights and optimizer are float32 always."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class FitSettings(Settings):
    """Optimizer, schedule and bookkeeping of a training run."""

    learning_rate: float = Field(default=3e-3, gt=0)
    """The highest learning rate, reached at the end of the warm-up."""
    schedule: Schedule = Schedule.COSINE
    """How the rate goes down to `final_share` of it over the steps after the warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which the rate rises linearly from zero."""
    final_share: float = Field(default=0.0, ge=0, le=1)
    """The learning rate of the last step, as a share of the highest."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's averaging coefficients."""
    weight_decay: float = Field(default=0.1, ge=0)
    """AdamW's decoupled weight decay, on matrices; norms are left alone."""
    clip: float = Field(default=1.0, gt=0)
    """Gradients of a larger norm are scaled down to it."""
    precision: Precision = Precision.AUTO
    """`auto`: bfloat16 on GPUs that compute in it, float32 on CPUs, so that what is trained there does not depend on
    whether the processor has bfloat16 too. A toy synthesizer was tuned at a half to a quarter of the speed with it."""
    microbatch_sequences: int | None = Field(default=None, gt=0)
    """Sequences a forward pass; larger batches accumulate gradients over several. Null: a whole batch at once."""
    checkpoint_steps: int = Field(default=200, gt=0)
    """Steps between two checkpoints."""
    checkpoints_kept: int = Field(default=2, gt=0)
    """How many of the newest checkpoints stay on disk."""
    log_steps: int = Field(default=20, gt=0)
    """Steps between two updates of the bar and lines in `metrics.jsonl`."""


def learning_rate_share(step: int, steps: int, settings: FitSettings) -> float:
    """The learning rate at `step` (from 0) of `steps`, as a share of the highest."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    progress = min(1.0, (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps))
    match settings.schedule:
        case Schedule.COSINE:
            down = 0.5 * (1 + math.cos(math.pi * progress))
        case Schedule.LINEAR:
            down = 1 - progress
        case Schedule.CONSTANT:
            return 1.0
    return settings.final_share + (1 - settings.final_share) * down


def uses_bfloat16(precision: Precision) -> bool:
    """Whether training computes in bfloat16 on this machine."""
    import torch

    if precision is not Precision.AUTO:
        return precision is Precision.BFLOAT16
    return torch.cuda.is_available() and bool(torch.cuda.is_bf16_supported(including_emulation=False))
