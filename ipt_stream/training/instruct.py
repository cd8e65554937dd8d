"""Instruction tuning of a pre-trained model (paper, section 3.2, figure 4): loss on responses, measured on the way.

One process, or several that train together (ranks.py): each takes its part of every batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ipt_stream import storage
from ipt_stream.errors import TrainingError
from ipt_stream.progress import log
from ipt_stream.training.batches import padding_of, rank_loader
from ipt_stream.training.fit import Evaluation, FitSettings, FitSummary, fit
from ipt_stream.training.instructions import InstructionData, batch_arrays, encode, read_instructions
from ipt_stream.training.models import load_model_on_rank, load_tokenizer, parameter_count, save_model_folder
from ipt_stream.training.ranks import on_first, rank, world_size
from ipt_stream.training.running import RunSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase


class InstructionTuning(RunSettings):
    """How models are tuned on instructions; the paper gives no numbers for it."""

    data: InstructionData
    """The instructions."""
    max_seq_len: int = Field(default=1024, gt=1)
    """The longest example, in tokens; longer ones lose their beginning."""
    sequences_per_batch: int = Field(default=16, gt=0)
    """Examples a step."""
    epochs: float = Field(default=1.0, gt=0)
    """How often each example is seen; not used where `steps` is set."""
    steps: int | None = Field(default=None, gt=0)
    """Exactly so many steps instead of `epochs`; null: as `epochs` says."""
    fit: FitSettings = FitSettings(learning_rate=2e-5, schedule="cosine", final_share=0.1)
    """Optimizer, schedule, precision and checkpoints."""
    seed: int = Field(default=0, ge=0)
    """Of the order of the examples."""


def tune_on_instructions(
    settings: InstructionTuning,
    base_model: str,
    output: str,
    evaluation: Callable[[PreTrainedTokenizerBase], Evaluation],
    name: str,
) -> FitSummary:
    """Tune `base_model` and publish it at `<output>/model`; a killed run goes on where it was.

    All ranks call this together.

    Args:
        settings: what on, and how; its `checkpoint_folder` is for this model alone.
        base_model: a Hugging Face folder or hub id.
        output: a local directory.
        evaluation: makes, of the model's tokenizer, what is measured on the way.
        name: what the run is called in logs.

    Raises:
        InputError: the data is not what its layout says.
        TrainingError: no example fits, or training fails.
    """
    from ipt_stream.training.sharding import gathered_state

    tokenizer = load_tokenizer(base_model)
    examples, counts = encode(read_instructions(settings.data), tokenizer, settings.max_seq_len)
    if not examples:
        got = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "an empty file"
        raise TrainingError("no instruction to tune on", wanted="one that fits", got=got, fix="raise max_seq_len")
    for reason, count in counts.items():
        log.info("%-12s %s of the examples: %s", name, f"{count:,}", reason)
    batches = plan_batches(len(examples), settings)
    model = load_model_on_rank(base_model, fsdp=settings.fsdp)
    told = f"{parameter_count(model):,} parameters, {len(examples):,} examples, {len(batches):,} steps"
    log.info("%-12s %s", name, told)
    padding = padding_of(tokenizer)

    def arrays(batch: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        return batch_arrays([examples[index] for index in batch], padding)

    summary = fit(
        model,
        rank_loader(batches, arrays, padding, rank(), world_size()),
        settings.fit,
        steps=len(batches),
        output=output,
        seed=settings.seed,
        name=name,
        evaluation=evaluation(tokenizer),
        run=settings,
    )
    save = partial(save_model_folder, model, tokenizer, storage.join(output, "model"), gathered_state(model))
    on_first(save)
    return summary


def plan_batches(examples: int, settings: InstructionTuning) -> list[NDArray[np.int64]]:
    """Which examples each step takes: every epoch all of them in an order of its own, as if on one endless tape."""
    import numpy as np

    size = settings.sequences_per_batch
    steps = settings.steps or max(1, round(examples * settings.epochs / size))
    drawn = np.random.default_rng(settings.seed)
    epochs = -(-steps * size // examples)
    tape = np.concatenate([drawn.permutation(examples) for _ in range(epochs)])
    return [tape[step * size : (step + 1) * size] for step in range(steps)]
