"""The `pretrain` stage: a language model trained on a planned mixture, in its order, once through the plan.

    <mixture>/plan.json + sources/ -> global batches in the planned order -> fit -> <output>/model

One process, or several that train together (ranks.py): `composer -n 8 -m ipt_stream.cli pretrain CONFIG.yaml` on one
machine, `workers: 8` through Ray Train on a cluster. The global batches are the same for all of them, and so is a run
that was stopped on some ranks and goes on on others, but for rounding and the draws of dropout.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, field_validator, model_validator

from ipt_stream import storage
from ipt_stream.errors import TrainingError
from ipt_stream.mixture.plan import Plan, load_plan
from ipt_stream.progress import log
from ipt_stream.stage import Figure, Stage, StageReport
from ipt_stream.training.fit import FitSettings, FitSummary, fit
from ipt_stream.training.models import (
    ModelConfig,
    build_model_on_rank,
    load_model_on_rank,
    load_tokenizer,
    parameter_count,
    save_model_folder,
)
from ipt_stream.training.presets import Preset, check_name, with_preset
from ipt_stream.training.ranks import joined, on_first
from ipt_stream.training.running import HOW, RunSettings, check_loggers, run_on_ranks, with_own_checkpoints

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER = "tokenizer"
VERB = "pretrain"
_HOW: Any = {
    "output": True, "mixture": True, "cache": True, "cache_bytes": True, "loader_processes": True, "preset": True,
    "dry_run": True, "workers": True, "restarts": True, "gpus_per_worker": True, **HOW,
}  # fmt: skip
"""Settings that say where and how, but not what: a run may go on with others."""


class PretrainConfig(RunSettings):
    """Settings of the `pretrain` stage."""

    mixture: str
    """A finished mixture: a local directory, or an object-store URL (then `cache` is needed)."""
    output: str
    """A local directory; the model goes into its `model`. On a cluster all nodes share it."""
    preset: Preset | None = None
    """A pre-training of the paper's (presets.py) that the other settings start from; null: none."""
    base_model: str | None = None
    """A Hugging Face folder or hub id to go on from (continual pre-training); null: from scratch, as `model` says."""
    base_revision: str | None = None
    """Commit of a hub id; null: the newest."""
    model: ModelConfig = ModelConfig()
    """The architecture, where there is no `base_model`."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of the attention weights while training, the only one that Llama and Mistral have; null: as `model` or
    the base model says."""
    sequence_length: int | None = Field(default=None, gt=1)
    """Tokens a sequence that the mixture must have; null: whatever it has."""
    sequences_per_batch: int = Field(default=8, gt=0)
    """Sequences a step (the paper, table 14: 0.25M to 1M tokens). A rest that fills no batch is not seen."""
    steps: int | None = Field(default=None, gt=0)
    """Exactly so many steps, which the mixture must be long enough for; null: all that it has. The schedule ends there
    too."""
    loader_processes: int = Field(default=0, ge=0)
    """Processes a rank that load data beside the training; 0 loads in between the steps."""
    cache: str | None = None
    """A local directory for the shards of a remote mixture; two trainings on one machine need one each."""
    cache_bytes: int | None = Field(default=None, gt=0)
    """The most that it may hold; null: all. Each shard is fetched once a pass where it holds what is read at a time."""
    fit: FitSettings = FitSettings(learning_rate=1e-3)
    """Optimizer, schedule, precision and checkpoints."""
    seed: int = 0
    """Of the weights and of dropout; the order of the data is the plan's."""
    workers: int | None = Field(default=None, gt=0)
    """Train with so many workers of Ray Train, on the cluster that RAY_ADDRESS names or a local session; null: in this
    process, or with the ranks that Composer's launcher started."""
    gpus_per_worker: bool | None = None
    """Whether each worker gets a GPU; null: where the cluster has GPUs."""
    restarts: int = Field(default=3, ge=0)
    """How often workers that died are started anew, each time from the newest checkpoint. Ray doesn't count nodes that
    it was told are going to be taken away."""
    dry_run: bool = False
    """Only say what would be trained, and write nothing."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        return with_preset(given) if isinstance(given, dict) else given

    @field_validator("preset", mode="before")
    @classmethod
    def _known(cls, preset: Any) -> Any:
        return check_name(preset)

    @model_validator(mode="after")
    def _has_base(self) -> Self:
        if self.base_revision is not None and self.base_model is None:
            raise ValueError("base_revision is of a base_model, and there is none")
        return self

    @field_validator("output")
    @classmethod
    def _local(cls, output: str) -> str:
        if storage.is_remote(output):
            raise ValueError(f"output must be a local directory, {output} is not; upload the model afterwards")
        return output


def pretrain(config: PretrainConfig) -> StageReport:
    """Train a model on the mixture and publish it at `<output>/model`; a killed run goes on where it was.

    Raises:
        ConfigError: on a cluster, a path that each node would take for another place.
        MixtureError: there is no finished mixture, or its data is not what it was planned with.
        TrainingError: the model doesn't go with the mixture, or training fails.
        LedgerError: the output directory was made with other settings or another mixture.
    """
    check_loggers(config.loggers)
    if config.dry_run:
        from ipt_stream.training.dry_run import describe

        return describe(config)
    if config.workers is not None:
        from ipt_stream.training.on_ray import pretrain_on_ray

        return pretrain_on_ray(config)
    with joined():
        return pretrain_on_this_rank(config)


def pretrain_on_this_rank(config: PretrainConfig) -> StageReport:
    """The part of one process in `pretrain`; only the first rank's report says anything."""
    plan = load_plan(config.mixture)
    return run_on_ranks(
        config.output, VERB, lambda: settings_of(config, plan), lambda stage: _pretrain(config, plan, stage)
    )


def settings_of(config: PretrainConfig, plan: Plan) -> dict[str, Any]:
    """All that decides what is trained."""
    return {**config.model_dump(mode="json", exclude=_HOW), "plan": plan.fingerprint}


def count_steps(config: PretrainConfig, plan: Plan) -> int:
    """How many steps are trained. Raises `TrainingError` where the mixture has fewer than are asked for."""
    available = plan.sequences // config.sequences_per_batch
    if not available:
        wanted, fix = f"{config.sequences_per_batch:,} sequences", "lower sequences_per_batch, or mix more"
        raise TrainingError("the mixture is less than one batch", wanted=wanted, got=f"{plan.sequences:,}", fix=fix)
    if config.steps is not None and config.steps > available:
        needed = config.steps * config.sequences_per_batch * plan.sequence_length
        raise TrainingError(
            "the mixture is too short",
            wanted=f"{config.steps:,} steps of {config.sequences_per_batch:,} sequences",
            got=f"{available:,}",
            fix=f"mix with tokens={needed}, or train with steps=null, which takes all there are",
        )
    return config.steps or available


def check_mixture(config: PretrainConfig, plan: Plan) -> None:
    """Raises `TrainingError` where the mixture's sequences are of another length than the settings say."""
    if config.sequence_length not in (None, plan.sequence_length):
        wanted, got = f"{config.sequence_length:,} tokens a sequence", f"{plan.sequence_length:,}"
        fix = f"mix with sequence_length={config.sequence_length}"
        raise TrainingError("the mixture has sequences of another length", wanted=wanted, got=got, fix=fix)


def _pretrain(config: PretrainConfig, plan: Plan, stage: Stage) -> StageReport:
    from ipt_stream.training.sharding import gathered_state
    from ipt_stream.training.stream import open_loader

    check_mixture(config, plan)
    steps = count_steps(config, plan)
    tokenizer = mixture_tokenizer(config.mixture)
    model = _model(config, tokenizer)
    _check(model, plan)
    loader = open_loader(
        config.mixture,
        global_batch_size=config.sequences_per_batch,
        start_workers=config.loader_processes,
        cache=config.cache,
        cache_bytes=config.cache_bytes,
    )
    per_step = config.sequences_per_batch * plan.sequence_length
    log.info("pretrain: %s", f"{parameter_count(model):,} parameters, {steps:,} steps of {per_step:,} tokens")
    run = with_own_checkpoints(config, VERB, stage.settings)
    summary = fit(
        model, loader, config.fit, steps=steps, output=config.output, seed=config.seed, name=VERB, run=run
    )  # fmt: skip
    parameters = parameter_count(model)
    state = gathered_state(model)
    return on_first(lambda: _finish(config, plan, stage, model, tokenizer, state, parameters, summary))


def _finish(
    config: PretrainConfig,
    plan: Plan,
    stage: Stage,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    state: Any,
    parameters: int,
    summary: FitSummary,
) -> StageReport:
    save_model_folder(model, tokenizer, storage.join(config.output, "model"), state)
    figures: dict[str, Figure] = {
        "parameters": parameters,
        "steps": summary.steps,
        "resumed_from": summary.resumed_from,
        "tokens": summary.tokens,
        "tokens_per_second": round(summary.tokens_per_second),
        "sequences_left_over": plan.sequences - summary.steps * config.sequences_per_batch,
        "loss_first": round(summary.first_loss, 4),
        "loss_last": round(summary.last_loss, 4),
    }
    loss = f"loss {figures['loss_first']} -> {figures['loss_last']}"
    return stage.finish(figures, (f"model: {parameters:,} parameters, {summary.tokens:,} tokens, {loss}",))


def _model(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model to train; where it is shared out among ranks, others than the first need no weights yet."""
    if config.base_model is not None:
        return load_model_on_rank(config.base_model, config.base_revision, config.dropout, fsdp=config.fsdp)
    new = config.model if config.dropout is None else config.model.model_copy(update={"dropout": config.dropout})
    return build_model_on_rank(new, tokenizer, config.seed, fsdp=config.fsdp)


def _check(model: PreTrainedModel, plan: Plan) -> None:
    """The model must know every token of the mixture, and reach over a whole sequence."""
    vocabulary = int(model.config.vocab_size)
    if vocabulary < plan.vocabulary_size:
        got, fix = f"{vocabulary:,}", "mix with the tokenizer of the base model"
        raise TrainingError("the model lacks tokens", wanted=f"{plan.vocabulary_size:,} tokens", got=got, fix=fix)
    longest = getattr(model.config, "max_position_embeddings", plan.sequence_length)
    if longest < plan.sequence_length:
        wanted, fix = f"{plan.sequence_length:,} positions", "raise model.max_position_embeddings"
        raise TrainingError("the model's sequences are too short", wanted=wanted, got=f"{longest:,}", fix=fix)
    window = getattr(model.config, "sliding_window", None)
    if plan.document_ids and window is not None and window < plan.sequence_length:
        got, fix = f"a sliding window of {window:,}", f"mix with sequence_length={window}, or without document_ids"
        wanted = "attention over a whole sequence"
        raise TrainingError("attention can't be kept inside documents here", wanted=wanted, got=got, fix=fix)


def mixture_tokenizer(mixture: str) -> PreTrainedTokenizerBase:
    """The mixture's own tokenizer."""
    directory = storage.join(mixture, TOKENIZER)
    if not storage.is_remote(directory):
        return load_tokenizer(storage.local(directory))
    with tempfile.TemporaryDirectory() as copy:
        for path in storage.list_directory(directory):
            storage.publish_bytes(os.path.join(copy, os.path.basename(path)), storage.read_bytes(path))
        return load_tokenizer(copy)
