"""Low-rank adapters: the base model stays as it is, and small matrices beside some of its layers are trained (peft).

The adapter is published as a folder of its own, which the engine takes beside the base model (`engine.lora`), and, on
request, merged into the weights as a model folder like any other.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.errors import TrainingError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER = "adapter"
ENGINE_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that the engine takes (vLLM 0.29)."""


class LoraSettings(Settings):
    """Train adapters and not the weights."""

    rank: int = 16
    """Width of the adapters, one that the engine takes."""
    alpha: float = Field(default=32.0, gt=0)
    """The adapters' output is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the adapters' input while training."""
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """The layers that get adapters, by the last part of their names; these are all matrices of Mistral's and Llama's
    layers."""
    merged: bool = False
    """Whether the adapters are also merged into the weights and published at `<output>/model`."""

    @field_validator("rank")
    @classmethod
    def _known(cls, rank: int) -> int:
        if rank not in ENGINE_RANKS:
            raise ValueError(f"a rank that the engine takes: {', '.join(map(str, ENGINE_RANKS))}")
        return rank


def add_adapters(model: PreTrainedModel, settings: LoraSettings, base: str, seed: int) -> PeftModel:
    """`model` with new adapters, of which only they are trained; before training they change nothing.

    Args:
        model: the base model; its layers are replaced in place.
        settings: which adapters.
        base: what the adapter's folder names as its base model.
        seed: fixes the adapters' first weights.

    Raises:
        TrainingError: the model has no such layers.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules),
        bias="none",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise TrainingError(
                "the model can't get adapters",
                wanted=f"layers named {', '.join(settings.target_modules)}",
                got=str(error),
                fix="set lora.target_modules to names of its linear layers",
            ) from error


def trained_model(adapted: PeftModel) -> PreTrainedModel:
    """The base model with the adapters in it: what is trained and measured."""
    model: Any = adapted.get_base_model()
    found: PreTrainedModel = model
    return found


def save_adapter(adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, path: str) -> None:
    """Publish the adapters as peft's folder at local `path`, whole or not at all. Raises `TrainingError`."""
    temporary = storage.temporary_directory_beside(path)
    try:
        adapted.save_pretrained(temporary, save_embedding_layers=False)
        Path(temporary, "README.md").unlink(missing_ok=True)  # peft's form, with nothing filled in
        tokenizer.save_pretrained(temporary)
        storage.publish_directory(temporary, path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise TrainingError(f"can't save the adapter at {path}", got=str(error), fix="free space there") from error


def merge(adapted: PeftModel) -> PreTrainedModel:
    """The base model with the adapters added to its weights; they are gone from it then."""
    merged: PreTrainedModel = adapted.merge_and_unload()
    return merged
