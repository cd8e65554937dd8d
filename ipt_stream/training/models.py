"""Models: a Mistral from a configuration, or any causal language model from a folder; and the way to save one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.errors import TrainingError
from ipt_stream.training.ranks import is_first

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ATTENTION = "sdpa"
"""Attention as PyTorch computes it, with the fastest kernel that the device has for it."""
HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Head sizes that the engine's attention has on a CPU (vLLM 0.29); GPUs take these and more."""


class ModelConfig(Settings):
    """A Mistral architecture to train from scratch (paper, table 14, has the sizes for 500M and 1.3B parameters)."""

    vocab_size: int | None = Field(default=None, gt=0)
    """Size of the vocabulary, at least the tokenizer's; null: as the tokenizer has it."""
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
    """Dropout of the attention weights while training; Mistral's architecture has no other."""
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


def architecture(config: ModelConfig, vocab_size: int, **tokens: int | None) -> PreTrainedConfig:
    """`config` as Transformers has it, for a tokenizer with `vocab_size` tokens; `tokens` are its `bos_token_id` etc.

    Raises:
        TrainingError: the configuration's vocabulary is smaller than the tokenizer's.
    """
    from transformers import MistralConfig

    if config.vocab_size is not None and config.vocab_size < vocab_size:
        wanted, got = f"at least {vocab_size:,}, as the tokenizer has", f"{config.vocab_size:,}"
        fix = "another tokenizer for the mixture, or model.vocab_size=null"
        raise TrainingError("the model's vocabulary is smaller than the tokenizer's", wanted=wanted, got=got, fix=fix)
    given: dict[str, Any] = {**tokens, "attn_implementation": ATTENTION}
    return MistralConfig(
        vocab_size=config.vocab_size or vocab_size,
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
        **given,
    )


def build_model(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A new `MistralForCausalLM` in float32, its vocabulary the tokenizer's, its weights fixed by `seed`."""
    import torch
    from transformers import MistralForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MistralForCausalLM(_for_tokenizer(config, tokenizer))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(config.residual_scale)
    return model


def empty_model(architecture: PreTrainedConfig) -> PreTrainedModel:
    """The model of `architecture`, float32, without memory for its weights (on torch's meta device)."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        settings = {"dtype": torch.float32, "attn_implementation": ATTENTION, "trust_remote_code": False}
        model: PreTrainedModel = AutoModelForCausalLM.from_config(architecture, **settings)  # type: ignore[no-untyped-call]
    return model


def empty_twin(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """What `build_model` builds, without its weights: they come from another rank."""
    return empty_model(_for_tokenizer(config, tokenizer))


def build_model_on_rank(
    config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int, *, fsdp: bool
) -> PreTrainedModel:
    """The model of `build_model`; where it is to be shared out among ranks (`fsdp`), only the first has its weights."""
    return build_model(config, tokenizer, seed) if is_first() or not fsdp else empty_twin(config, tokenizer)


def base_architecture(path: str, dropout: float | None = None, revision: str | None = None) -> PreTrainedConfig:
    """The architecture of a Hugging Face folder or hub id; of those that presets.py knows, without asking the hub.

    Raises:
        TrainingError: there is no such model.
    """
    from transformers import AutoConfig

    from ipt_stream.training.presets import KNOWN_ARCHITECTURES

    changed = _dropped(dropout)
    if path in KNOWN_ARCHITECTURES:
        values = dict(KNOWN_ARCHITECTURES[path])
        known: PreTrainedConfig = AutoConfig.for_model(values.pop("model_type"), **values, **changed)
        return known
    loaded: PreTrainedConfig = _load(AutoConfig, path, revision, **changed)
    return loaded


def load_model(path: str, revision: str | None = None, dropout: float | None = None) -> PreTrainedModel:
    """The causal language model of a Hugging Face folder or hub id, in float32.

    Args:
        path: the folder or id.
        revision: of the id: a commit, a tag or a branch; None: the newest.
        dropout: of the attention weights while training, the only one that Llama and Mistral have; None: its own.

    Raises:
        TrainingError: there is no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    settings = {"dtype": torch.float32, "attn_implementation": ATTENTION, **_dropped(dropout)}
    loaded: PreTrainedModel = _load(AutoModelForCausalLM, path, revision, **settings)
    return loaded


def load_model_on_rank(
    path: str, revision: str | None = None, dropout: float | None = None, *, fsdp: bool
) -> PreTrainedModel:
    """The model of `load_model`; where it is to be shared out among ranks (`fsdp`), only the first has its weights."""
    if is_first() or not fsdp:
        return load_model(path, revision, dropout)
    return empty_model(base_architecture(path, dropout, revision))


def load_tokenizer(path: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder or hub id. Raises `TrainingError` where there is none."""
    from transformers import AutoTokenizer

    loaded: PreTrainedTokenizerBase = _load(AutoTokenizer, path, revision)
    return loaded


def _for_tokenizer(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return architecture(config, len(tokenizer), **tokens)


def _dropped(dropout: float | None) -> dict[str, float]:
    return {} if dropout is None else {"attention_dropout": dropout}


def _load(kind: Any, path: str, revision: str | None, **settings: Any) -> Any:
    try:
        return kind.from_pretrained(path, revision=revision, trust_remote_code=False, **settings)
    except (OSError, ValueError) as error:
        wanted = "a Hugging Face folder or hub id"
        raise TrainingError(f"can't load {path}", wanted=wanted, got=str(error), fix="check the path") from error


def parameter_count(model: PreTrainedModel) -> int:
    """Number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def save_model_folder(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: str,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Publish the model and its tokenizer as a Hugging Face folder at local `path`, whole or not at all.

    Args:
        model: what to save.
        tokenizer: its tokenizer.
        path: the folder, which is replaced where it exists.
        state: the model's weights by name, where it doesn't hold all of them itself (`sharding.gathered_state`).

    Raises:
        TrainingError: it can't be written.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    temporary = storage.temporary_directory_beside(path)
    try:
        model.save_pretrained(temporary, state_dict=None if state is None else dict(state))
        tokenizer.save_pretrained(temporary)
        storage.publish_directory(temporary, path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise TrainingError(f"can't save the model at {path}", got=str(error), fix="free space there") from error
