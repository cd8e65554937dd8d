"""A small mixture to pre-train on, and what its tests ask of a run: its figures by step, and to stop at one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mixture_world import make_questions, make_tokenizer

from ipt_stream.mixture.mix import MixConfig, mix
from ipt_stream.training.pretrain import PretrainConfig

BATCH = 4
TINY = {"hidden_size": 64, "intermediate_size": 96, "layers": 2, "heads": 2, "kv_heads": 1}


def make_mixture(root: Path, rows: int = 300, **changes: Any) -> Path:
    """Questions, three times over, in sequences of 32 tokens."""
    questions = make_questions(root, rows=rows)
    settings: dict[str, Any] = {
        "output": str(root / "mixture"),
        "tokenizer": str(make_tokenizer(root)),
        "sequence_length": 32,
        "sources": {"general": {"kind": "pairs", "path": str(questions), "passes": 3}},
        "cores": 0,
    }
    mix(MixConfig.model_validate({**settings, **changes}))
    return root / "mixture"


def settings(mixture: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return {
        "mixture": str(mixture),
        "output": str(output),
        "model": TINY,
        "sequences_per_batch": BATCH,
        "fit": {"learning_rate": 5e-3, "warmup_steps": 5, "checkpoint_steps": 4, "log_steps": 1},
        **changes,
    }


def config(mixture: Path, output: Path, **changes: Any) -> PretrainConfig:
    return PretrainConfig.model_validate(settings(mixture, output, **changes))


def records(output: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def batches(output: Path) -> list[tuple[int, str]]:
    """The steps logged, and the content of the global batch of each."""
    return [(record["done"], record["batch"]) for record in records(output)]


def losses(output: Path) -> list[float]:
    return [record["loss"] for record in records(output)]


class Stopped(Exception):
    """A run that a test ends."""


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have training end after `step`, before its checkpoint."""
    from ipt_stream.training.composer_parts import Progress

    whole = Progress.batch_end

    def batch_end(self: Any, state: Any, logger: Any) -> None:
        whole(self, state, logger)
        if int(state.timestamp.batch.value) == step:
            raise Stopped

    monkeypatch.setattr(Progress, "batch_end", batch_end)
