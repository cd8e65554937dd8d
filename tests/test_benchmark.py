"""The benchmark verb on the real engine: dummy weights of the small shape, a few seconds of steady state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipt_stream.cli import main

CONFIG = Path(__file__).parents[1] / "jobs" / "configs" / "benchmark.yaml"


def test_tokens_per_gpu_day_of_dummy_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = [
        f"output={tmp_path / 'out'}", "seconds=8", "warm_up_seconds=4", "tail_seconds=0", "windows=3",
        "sample.documents=1500", "dummy.texts.mean_tokens=60", "dummy.responses={pairs: 2, pair_tokens: 16}",
        "synthesize.engine.max_new_tokens=64", "synthesize.engine.max_num_seqs=8", "synthesize.segment_documents=16",
        "synthesize.engine.max_model_len=512", "synthesize.engine.max_num_batched_tokens=512",
        "corpus={raw_tokens: 1.0e+9, price_per_gpu_hour: 2}",
    ]  # fmt: skip
    assert main(["benchmark", str(CONFIG), *changes]) == 0
    shown = capsys.readouterr().out
    assert "raw tokens a day and machine" in shown
    assert "GPU-days" in shown
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    total, (engine,) = result["total"], result["engines"]
    counts = total["counts"]
    assert result["stopped"] and 8 <= result["seconds"]["steady"] < 60, "a busy machine looks late"
    assert counts["failed"] == 0
    requests = counts["requests"]
    assert requests > 0
    for name, mean in (("pairs", 2), ("generated_tokens", 2 * 16), ("raw_tokens", 60)):
        # Drawn at random, so a machine that makes few requests in this time shows a rougher mean.
        assert counts[name] == pytest.approx(mean * requests, abs=mean * (0.2 * requests + 3 * requests**0.5)), name
    # Of two rounds, one has the other's text and answer before its own: all but whole blocks' ends is cached.
    assert counts["cached_tokens"] > 0.5 * (60 + 32) * (requests / 2 - requests**0.5)
    assert 0.2 < engine["occupancy"] <= 1
    assert engine["dtype"] in ("float32", "bfloat16")
    assert 0 < engine["utilisation"] < 1
    assert 0 < engine["floor_share"] < 1.5
    assert result["cost"]["gpu_days"]["low"] < result["cost"]["gpu_days"]["mean"]
    assert not list((tmp_path / "out" / "trial").glob("run-*/segments"))
    assert main(["benchmark", str(CONFIG), *changes]) == 0, "measured once"
