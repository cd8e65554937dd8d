"""The paper's three pre-trainings by name (table 14), and a toy one.

                     scratch-500m    scratch-1.3b    continual-8b     toy
    parameters       0.57B           1.35B           8.03B            0.4M and the embedding
    hidden           1,536           2,048           4,096            128
    intermediate     4,320           8,192           14,336           384
    positions        2,048           2,048           8,192            4,096
    heads / kv       24 / 24         32 / 8          32 / 8           4 / 4
    layers           16              20              32               2
    rope theta       10,000          10,000          500,000          10,000
    vocabulary       32,000          32,000          128,256          the tokenizer's
    steps            200K            100K            4K               50
    batch            256 x 2,048     512 x 2,048     64 x 4,096       8 sequences
    learning rate    3e-4            2e-4            1e-5             1e-3
    warm-up steps    2,000           2,000           1,000            5
    GPUs             8 A100-80GB     8 A100-80GB     4 A100-80GB      none

All: Adam 0.9, 0.95, cosine, weight decay 0.1, clipping at 1, dropout 0.1. What a configuration says itself counts more.

The table's 0.5M, 1M and 0.25M tokens a batch are taken as powers of two, which are whole sequences. What it leaves
open: the cosine ends at a tenth of the highest rate, as in the paper's model for its settings (Brown et al. 2020,
section 3.2); weight decay is decoupled (AdamW) and spares norms. Embedding and output layer are two matrices: only so
do the sizes add up to 0.57B and 1.35B, and Mistral has it so. Dropout is applied where these architectures have it, on
the attention weights; where else the paper's model had it is not told. What is set besides the table says how it is
run: sequences a forward pass for such GPUs, a checkpoint about every hour, and for 8B sharded weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Preset(StrEnum):
    """A pre-training of the paper's, or the toy one."""

    SCRATCH_500M = "scratch-500m"
    SCRATCH_1_3B = "scratch-1.3b"
    CONTINUAL_8B = "continual-8b"
    TOY = "toy"


LLAMA_3_8B = "meta-llama/Meta-Llama-3-8B"
KNOWN_ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    LLAMA_3_8B: {
        "model_type": "llama",
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
        "tie_word_embeddings": False,
        "bos_token_id": 128_000,
        "eos_token_id": 128_001,
    }
}
"""Models on the hub whose size a dry run tells without asking for them (table 14)."""

_ADAM = {"schedule": "cosine", "final_share": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1, "clip": 1.0}
_SCRATCH = {"vocab_size": 32_000, "rope_theta": 10_000.0, "max_position_embeddings": 2048, "tie_word_embeddings": False}
_PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    Preset.SCRATCH_500M: {
        "model": {
            **_SCRATCH, "hidden_size": 1536, "intermediate_size": 4320, "layers": 16, "heads": 24, "kv_heads": 24,
        },
        "sequence_length": 2048,
        "sequences_per_batch": 256,
        "steps": 200_000,
        "dropout": 0.1,
        "fit": {
            **_ADAM, "learning_rate": 3e-4, "warmup_steps": 2000, "microbatch_sequences": 16, "checkpoint_steps": 1500,
        },
    },
    Preset.SCRATCH_1_3B: {
        "model": {
            **_SCRATCH, "hidden_size": 2048, "intermediate_size": 8192, "layers": 20, "heads": 32, "kv_heads": 8,
        },
        "sequence_length": 2048,
        "sequences_per_batch": 512,
        "steps": 100_000,
        "dropout": 0.1,
        "fit": {
            **_ADAM, "learning_rate": 2e-4, "warmup_steps": 2000, "microbatch_sequences": 8, "checkpoint_steps": 500,
        },
    },
    Preset.CONTINUAL_8B: {
        "base_model": LLAMA_3_8B,
        "sequence_length": 4096,
        "sequences_per_batch": 64,
        "steps": 4000,
        "dropout": 0.1,
        "fsdp": True,
        "fit": {**_ADAM, "learning_rate": 1e-5, "warmup_steps": 1000, "microbatch_sequences": 2},
    },
    Preset.TOY: {
        "model": {"hidden_size": 128, "intermediate_size": 384, "layers": 2, "heads": 4, "kv_heads": 4},
        "sequences_per_batch": 8,
        "steps": 50,
        "dropout": 0.1,
        "fit": {**_ADAM, "learning_rate": 1e-3, "warmup_steps": 5},
    },
}  # fmt: skip


def with_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` settings over those of the preset that they name, also within `model` and `fit`."""
    if given.get("preset") not in list(Preset):
        return dict(given)
    settings = {**_PRESETS[Preset(given["preset"])]}
    for key, value in given.items():
        base = settings.get(key)
        settings[key] = {**base, **value} if isinstance(base, Mapping) and isinstance(value, Mapping) else value
    return settings


def check_name(name: Any) -> Any:
    """Raises `ValueError`, naming the nearest, where there is no preset of that name."""
    if name is None or name in list(Preset):
        return name
    near = difflib.get_close_matches(str(name), list(Preset), n=1, cutoff=0.0)[0]
    raise ValueError(f"one of {', '.join(Preset)}; did you mean '{near}'?")
