"""The paper's settings for tuning the synthesizer, by name.

    synthesizer-7b   table 8: Mistral-7B-v0.1, 5 epochs, 16,384 tokens a batch, length 4,096, AdamW 0.9/0.95 at 5e-6,
                     cosine after 1,000 steps of warm-up, weight decay 0.1, clipping 1.0, dropout 0.1; the 34 sources of
                     figure 7, sequences filled with as many examples of one source as fit (appendix B)

What a configuration says itself counts more, key by key. Not in the paper, and so ours: 1% of the contexts held out to
measure quality on; contexts above 10,000 characters cut into windows, so that text and pairs fit in the length; one
sequence a forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ipt_stream.tuning.source_file import SEEN


class TunePreset(StrEnum):
    """Settings of the paper's."""

    SYNTHESIZER_7B = "synthesizer-7b"


def expanded(preset: TunePreset, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `preset`, and what `given` says in place of them; mappings are merged, all else is replaced."""
    return _merged(_settings(preset), given)


def _settings(preset: TunePreset) -> dict[str, Any]:
    match preset:
        case TunePreset.SYNTHESIZER_7B:
            return {
                "base_model": "mistralai/Mistral-7B-v0.1",
                "sources": [{"source": name} for name in SEEN],
                "held_out": 0.01,
                "max_contexts": 10_000,
                "max_context_characters": 10_000,
                "max_seq_len": 4096,
                "tokens_per_batch": 16_384,
                "phases": [{"shots": [1, None], "share": 1.0}],
                "epochs": 5.0,
                "dropout": 0.1,
                "fit": {
                    "learning_rate": 5e-6,
                    "schedule": "cosine",
                    "warmup_steps": 1000,
                    "final_share": 0.0,
                    "betas": [0.9, 0.95],
                    "weight_decay": 0.1,
                    "clip": 1.0,
                    "microbatch_sequences": 1,
                },
            }


def _merged(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in given.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
