"""Models: a small Mistral from a configuration, or any causal language model from a folder; and the way to save one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Head sizes that the engine's attention has on a CPU (vLLM 0.29); GPUs take these and more."""


class ModelConfig(Settings):
    """A Mistral architecture to train from scratch (paper, table 14, has the sizes for 500M and 1.3B parameters)."""

    hidden_size: int = Field(default=128, gt=0)
    """Width of the model."""
    intermediate_size: int = Field(default=384, gt=0)
    """Width of the feed-forward layers."""
    layers: int = Field(default=2, gt=0)
    """Number of layers."""
    heads: int = Field(default=4, gt=0)
    """Attention heads; the hidden size is divided among them."""
    kv_heads: int = Field(default=4, gt=0)
    """Key and value heads; fewer than `heads` is grouped-query attention."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary position embedding."""
    max_position_embeddings: int = Field(default=4096, gt=0)
    """The longest sequence, in tokens, that the model may be used for."""
    tie_word_embeddings: bool = True
    """Whether the output layer shares the input embedding."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the attention weights while training; the architecture has no other."""
    initializer_range: float = Field(default=0.02, gt=0)
    """Standard deviation of the new weights."""
    residual_scale: float = Field(default=1.0, gt=0)
    """What the new weights of the layers that write into the residual stream are multiplied by. Models of little width
    learn to look things up sooner from larger weights (0.08) and small first steps into the stream (0.15)."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % self.heads or self.hidden_size // self.heads not in HEAD_SIZES:
            sizes = ", ".join(map(str, HEAD_SIZES))
            got = f"{self.hidden_size} / {self.heads} = {self.hidden_size / self.heads:g}"
            raise ValueError(f"hidden_size / heads must be a head size that the engine has ({sizes}), it is {got}")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide heads, and {self.kv_heads} does not divide {self.heads}")
        return self


def build_model(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A new `MistralForCausalLM` in float32, its vocabulary the tokenizer's, its weights fixed by `seed`."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    architecture = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        max_position_embeddings=config.max_position_embeddings,
        tie_word_embeddings=config.tie_word_embeddings,
        attention_dropout=config.dropout,
        initializer_range=config.initializer_range,
        sliding_window=None,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MistralForCausalLM(architecture)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(config.residual_scale)
    return model


def load_model(path: str, revision: str | None = None) -> PreTrainedModel:
    """The causal language model of a Hugging Face folder or hub id, in float32.

    Raises:
        TrainingError: there is no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    loaded: PreTrainedModel = _load(AutoModelForCausalLM, path, revision, dtype=torch.float32)
    return loaded


def load_tokenizer(path: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder or hub id. Raises `TrainingError` where there is none."""
    from transformers import AutoTokenizer

    loaded: PreTrainedTokenizerBase = _load(AutoTokenizer, path, revision)
    return loaded


def _load(kind: Any, path: str, revision: str | None, **settings: Any) -> Any:
    try:
        return kind.from_pretrained(path, revision=revision, trust_remote_code=False, **settings)
    except (OSError, ValueError) as error:
        wanted = "a Hugging Face folder or hub id"
        raise TrainingError(f"can't load {path}", wanted=wanted, got=str(error), fix="check the path") from error


def parameter_count(model: PreTrainedModel) -> int:
    """Number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def save_model_folder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str) -> None:
    """Publish the model and its tokenizer as a Hugging Face folder at local `path`, whole or not at all.

    Raises:
        TrainingError: it can't be written.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    temporary = storage.temporary_directory_beside(path)
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        storage.publish_directory(temporary, path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise TrainingError(f"can't save the model at {path}", got=str(error), fix="free space there") from error
