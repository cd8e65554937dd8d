"""The `pretrain` stage: a language model trained on a planned mixture, in its order, once through the plan.

<mixture>/plan.json + sources/ -> global batches in the planned order -> fit -> <output>/model
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.errors import TrainingError
from ipt_stream.mixture.plan import Plan, load_plan
from ipt_stream.progress import log
from ipt_stream.stage import Figure, Stage, StageReport, run_once
from ipt_stream.training.fit import FitSettings, fit
from ipt_stream.training.models import (
    ModelConfig,
    build_model,
    load_model,
    load_tokenizer,
    parameter_count,
    save_model_folder,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER = "tokenizer"


class PretrainConfig(Settings):
    """Settings of the `pretrain` stage."""

    mixture: str
    """A finished mixture: a local directory, or an object-store URL (then `cache` is needed)."""
    output: str
    """A local directory; the model goes into its `model`."""
    base_model: str | None = None
    """A Hugging Face folder or hub id to go on from (continual pre-training); null: from scratch, as `model` says."""
    model: ModelConfig = ModelConfig()
    """The architecture, where there is no `base_model`."""
    sequences_per_batch: int = Field(default=8, gt=0)
    """Sequences a step (the paper, table 14: 0.25M to 1M tokens). A rest that fills no batch is not seen."""
    steps: int | None = Field(default=None, gt=0)
    """Stop after so many steps; null: all that the plan has. The schedule ends there too."""
    loader_processes: int = Field(default=0, ge=0)
    """Processes that load data beside the training; 0 loads in between the steps."""
    cache: str | None = None
    """A local directory for the shards of a remote mixture."""
    cache_bytes: int | None = Field(default=None, gt=0)
    """The most that it may hold; null: all. Each shard is fetched once a pass where it holds what is read at a time."""
    fit: FitSettings = FitSettings(learning_rate=1e-3)
    """Optimizer, schedule, precision and checkpoints."""
    seed: int = 0
    """Of the weights; the order of the data is the plan's."""

    @field_validator("output")
    @classmethod
    def _local(cls, output: str) -> str:
        if storage.is_remote(output):
            raise ValueError(f"output must be a local directory, {output} is not; upload the model afterwards")
        return output


def pretrain(config: PretrainConfig) -> StageReport:
    """Train a model on the mixture and publish it at `<output>/model`; a killed run goes on where it was.

    Raises:
        MixtureError: there is no finished mixture, or its data is not what it was planned with.
        TrainingError: the model doesn't go with the mixture, or training fails.
        LedgerError: the output directory was made with other settings or another mixture.
    """
    plan = load_plan(config.mixture)
    settings = config.model_dump(mode="json", exclude={"output", "mixture", "cache", "cache_bytes", "loader_processes"})
    settings["plan"] = plan.fingerprint
    return run_once(config.output, "pretrain", settings, lambda stage: _pretrain(config, plan, stage))


def _pretrain(config: PretrainConfig, plan: Plan, stage: Stage) -> StageReport:
    from ipt_stream.training.stream import open_loader

    tokenizer = _tokenizer(config.mixture)
    model = load_model(config.base_model) if config.base_model else build_model(config.model, tokenizer, config.seed)
    _check(model, plan, config)
    loader = open_loader(
        config.mixture,
        global_batch_size=config.sequences_per_batch,
        start_workers=config.loader_processes,
        cache=config.cache,
        cache_bytes=config.cache_bytes,
    )
    available = plan.sequences // config.sequences_per_batch
    steps = min(config.steps or available, available)
    per_step = config.sequences_per_batch * plan.sequence_length
    log.info("pretrain: %s", f"{parameter_count(model):,} parameters, {steps:,} steps of {per_step:,} tokens")
    summary = fit(model, loader, config.fit, steps=steps, output=config.output, seed=config.seed, name="pretrain")
    save_model_folder(model, tokenizer, storage.join(config.output, "model"))
    figures: dict[str, Figure] = {
        "parameters": parameter_count(model),
        "steps": summary.steps,
        "resumed_from": summary.resumed_from,
        "tokens": summary.tokens,
        "tokens_per_second": round(summary.tokens_per_second),
        "sequences_left_over": plan.sequences - steps * config.sequences_per_batch,
        "loss_first": round(summary.first_loss, 4),
        "loss_last": round(summary.last_loss, 4),
    }
    loss = f"loss {figures['loss_first']} -> {figures['loss_last']}"
    line = f"model: {figures['parameters']:,} parameters, {summary.tokens:,} tokens, {loss}"
    return stage.finish(figures, (line,))


def _check(model: PreTrainedModel, plan: Plan, config: PretrainConfig) -> None:
    """The model must know every token of the mixture, and reach over a whole sequence."""
    vocabulary = int(model.config.vocab_size)
    if vocabulary < plan.vocabulary_size:
        got, fix = f"{vocabulary:,}", "mix with the tokenizer of the base model"
        raise TrainingError("the model lacks tokens", wanted=f"{plan.vocabulary_size:,} tokens", got=got, fix=fix)
    longest = getattr(model.config, "max_position_embeddings", plan.sequence_length)
    if longest < plan.sequence_length:
        wanted, fix = f"{plan.sequence_length:,} positions", "raise model.max_position_embeddings"
        raise TrainingError("the model's sequences are too short", wanted=wanted, got=f"{longest:,}", fix=fix)
    if config.sequences_per_batch > plan.sequences:
        wanted, fix = f"{config.sequences_per_batch:,} sequences", "lower sequences_per_batch, or mix more"
        raise TrainingError("the mixture is less than one batch", wanted=wanted, got=f"{plan.sequences:,}", fix=fix)


def _tokenizer(mixture: str) -> PreTrainedTokenizerBase:
    """The mixture's own tokenizer."""
    directory = storage.join(mixture, TOKENIZER)
    if not storage.is_remote(directory):
        return load_tokenizer(storage.local(directory))
    with tempfile.TemporaryDirectory() as copy:
        for path in storage.list_directory(directory):
            storage.publish_bytes(os.path.join(copy, os.path.basename(path)), storage.read_bytes(path))
        return load_tokenizer(copy)
