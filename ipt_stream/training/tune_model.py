"""The model that is tuned: a new one, or any causal language model, made to know where a shot begins and ends.

The synthesizer's format needs `<s>` and `</s>` as one token each. Where a base model's tokenizer has other ones, they
are added, and their embeddings begin as those of its own first and last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ipt_stream.errors import TrainingError
from ipt_stream.synthesis.prompt import BOS, EOS, format_shot
from ipt_stream.training.models import (
    base_architecture,
    build_model_on_rank,
    load_model_on_rank,
    load_tokenizer,
)
from ipt_stream.tuning.pairs import TuningExample

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ipt_stream.training.tune import TuneConfig


def tuning_tokenizer(config: TuneConfig, examples: Sequence[TuningExample]) -> PreTrainedTokenizerBase:
    """A tokenizer learned from `examples`, or the base model's own, knowing `<s>` and `</s>`.

    Raises:
        TrainingError: there is no base model, or adapters are to be tuned and its tokenizer lacks the two.
    """
    if config.base_model is None:
        from ipt_stream.tuning.sequences import shot_of
        from ipt_stream.tuning.tokenizer import train_tokenizer

        return train_tokenizer((format_shot(shot_of(item, item.pairs)) for item in examples), config.vocab_size)
    tokenizer = load_tokenizer(config.base_model, config.base_revision)
    known = len(tokenizer)
    tokenizer.add_special_tokens({"bos_token": BOS, "eos_token": EOS})
    if len(tokenizer) != known and config.lora is not None:
        raise TrainingError(
            f"the tokenizer of {config.base_model} doesn't know {BOS} and {EOS}",
            wanted="a base model whose tokenizer does: adapters leave embeddings as they are",
            got=f"{len(tokenizer) - known} new tokens",
            fix="tune without lora, or from a model of Llama 2's or Mistral's vocabulary",
        )
    return tokenizer


def tuning_model(config: TuneConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model in float32, as large as `tokenizer` needs, with the dropout that `config` asks for.

    Raises:
        TrainingError: there is no base model, it is too short, or its architecture has no such dropout.
    """
    if config.base_model is None:
        return build_model_on_rank(config.model, tokenizer, config.seed, fsdp=config.fsdp)
    if config.dropout is not None:
        _check_dropout(config.base_model, config.base_revision)
    model = load_model_on_rank(config.base_model, config.base_revision, config.dropout, fsdp=config.fsdp)
    longest = getattr(model.config, "max_position_embeddings", config.max_seq_len)
    if longest < config.max_seq_len:
        wanted, fix = f"at most {longest:,} tokens", "lower max_seq_len"
        raise TrainingError(
            f"{config.base_model} is too short", wanted=wanted, got=f"max_seq_len {config.max_seq_len:,}", fix=fix
        )
    _learn_ends(model, tokenizer, config)
    return model


def _learn_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: TuneConfig) -> None:
    """Embeddings for tokens that the model doesn't have yet; and its configuration's ends are the tokenizer's."""
    import torch

    own = load_tokenizer(str(config.base_model), config.base_revision)
    if len(tokenizer) > len(own):
        if len(tokenizer) > len(model.get_input_embeddings().weight):  # type: ignore[arg-type]
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        old_end = own.eos_token_id if own.eos_token_id is not None else own.pad_token_id
        old_start = own.bos_token_id if own.bos_token_id is not None else old_end
        layers = [model.get_input_embeddings(), model.get_output_embeddings()]  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for new, old in ((tokenizer.bos_token_id, old_start), (tokenizer.eos_token_id, old_end)):
                for weight in (layer.weight for layer in layers if layer is not None):
                    if new >= len(own):
                        weight[new] = weight[old] if old is not None else weight[: len(own)].mean(dim=0)
    for settings in (model.config, model.generation_config):
        if settings is not None:
            settings.bos_token_id, settings.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id


def _check_dropout(base: str, revision: str | None) -> None:
    """Raises `TrainingError` where the architecture has no dropout of the attention weights."""
    architecture = base_architecture(base, revision=revision)
    if not hasattr(architecture, "attention_dropout"):
        raise TrainingError(
            f"{base} has no dropout of attention weights",
            wanted="an architecture with attention_dropout, such as Mistral or Llama",
            got=architecture.model_type,
            fix="dropout=null",
        )
