"""What a pre-training would be, before anything is written: size, batches, steps, schedule, memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ipt_stream import storage
from ipt_stream.errors import IptError, TrainingError
from ipt_stream.mixture.plan import PLAN_FILE, Plan, load_plan
from ipt_stream.stage import Figure, StageReport
from ipt_stream.training.fit import FitSettings, learning_rate_share
from ipt_stream.training.models import architecture, base_architecture, empty_model, parameter_count

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from ipt_stream.training.pretrain import PretrainConfig

SHAPE = {
    "hidden_size": "hidden",
    "intermediate_size": "intermediate",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "key and value heads",
}
DETAILS = {
    "vocab_size": "vocabulary",
    "max_position_embeddings": "positions",
    "rope_parameters": "rope theta",
    "attention_dropout": "dropout",
}
"""What an architecture is told by: Transformers' names, and a person's."""
BYTES_PER_PARAMETER = 16
"""A weight, its gradient and Adam's two averages, in float32 each."""


def describe(config: PretrainConfig) -> StageReport:
    """Say what `config` would train; the mixture may not be there yet. Nothing is written, nothing is downloaded that
    isn't needed to know the size: a hub id that presets.py doesn't know has its `config.json` read.

    Raises:
        TrainingError: the base model is not there; or there is no mixture, and the settings don't say what it will be.
    """
    from ipt_stream.training.pretrain import check_mixture, count_steps

    plan = load_plan(config.mixture) if storage.exists(storage.join(config.mixture, PLAN_FILE)) else None
    model = _architecture(config, plan)
    parameters = parameter_count(empty_model(model))
    length = config.sequence_length or (plan.sequence_length if plan else None)
    steps = config.steps or (count_steps(config, plan) if plan else None)
    if length is None or steps is None:
        raise TrainingError(
            "it can't be told how much would be trained",
            wanted="a mixture, or sequence_length and steps",
            got=f"no mixture in {config.mixture}",
            fix="run ipt-stream mix first, or set both, or take a preset of the paper's",
        )
    per_step = config.sequences_per_batch * length
    figures: dict[str, Figure] = {
        "parameters": parameters,
        "tokens_per_step": per_step,
        "steps": steps,
        "tokens": steps * per_step,
    }
    memory = parameters * BYTES_PER_PARAMETER / 1e9
    lines = [
        f"preset      {config.preset or 'none'}",
        f"model       {_name(config)}: {_told(model, SHAPE)}",
        f"            {_told(model, DETAILS)}",
        f"attention   PyTorch's SDPA, causal{', inside documents' if plan is not None and plan.document_ids else ''}",
        f"parameters  {parameters:,} ({parameters / 1e9:.2f}B)",
        f"batch       {config.sequences_per_batch:,} sequences of {length:,} tokens: {per_step:,} tokens a step",
        f"training    {steps:,} steps, {steps * per_step:,} tokens ({steps * per_step / 1e9:.3g}B)",
        f"schedule    {_schedule(config.fit, steps)}",
        f"optimizer   {_optimizer(config.fit)}",
        f"memory      {memory:.3g} GB of weights, gradients and Adam's averages"
        + (", shared out among the ranks (fsdp)" if config.fsdp else " on each device"),
    ]
    if plan is None:
        lines.append(f"mixture     none in {config.mixture} yet")
    else:
        lines.append(f"mixture     {plan.sequences:,} sequences of {plan.sequence_length:,} tokens in {config.mixture}")
        try:
            check_mixture(config, plan)
            count_steps(config, plan)
        except IptError as error:
            lines.append(f"            refused: {error}")
    return StageReport(figures, tuple(lines), stopped=True)


def _architecture(config: PretrainConfig, plan: Plan | None) -> PreTrainedConfig:
    from ipt_stream.training.pretrain import mixture_tokenizer

    if config.base_model is not None:
        return base_architecture(config.base_model, config.dropout, config.base_revision)
    new = config.model if config.dropout is None else config.model.model_copy(update={"dropout": config.dropout})
    vocabulary = len(mixture_tokenizer(config.mixture)) if plan else new.vocab_size
    if vocabulary is None:
        wanted, got = "a mixture, or model.vocab_size", f"no mixture in {config.mixture}"
        raise TrainingError("the vocabulary is not known", wanted=wanted, got=got, fix="run ipt-stream mix first")
    return architecture(new, vocabulary)


def _name(config: PretrainConfig) -> str:
    revision = f"@{config.base_revision}" if config.base_revision else ""
    return f"{config.base_model}{revision}" if config.base_model else "new"


def _told(model: PreTrainedConfig, names: Mapping[str, str]) -> str:
    rope = getattr(model, "rope_parameters", None) or {}
    values = {told: getattr(model, name, None) for name, told in names.items()}
    if "rope theta" in values:
        values["rope theta"] = rope.get("rope_theta")
    numbers = {told: float(value) for told, value in values.items() if value is not None}
    return ", ".join(f"{told} {value:,.10g}" for told, value in numbers.items())


def _schedule(fit: FitSettings, steps: int) -> str:
    last = fit.learning_rate * learning_rate_share(steps, steps, fit)
    return f"{fit.warmup_steps:,} steps up to {fit.learning_rate:g}, then {fit.schedule} to {last:g}"


def _optimizer(fit: FitSettings) -> str:
    betas = ", ".join(f"{beta:g}" for beta in fit.betas)
    return f"Adam {betas}, weight decay {fit.weight_decay:g}, gradients clipped at norm {fit.clip:g}, {fit.precision}"
