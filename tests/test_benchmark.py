"""The benchmark verb on the real engine: dummy weights of the small shape, a few seconds of steady state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

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


def test_a_sweep_on_a_real_model_and_the_users_own_shards(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, base, out = tmp_path / "shards.jsonl", tmp_path / "synthesize.yaml", tmp_path / "out"
    words = ["the", "river", "of", "a", "bridge", "by", "an", "old", "town", "that", "was", "built", "long", "ago"]
    texts = [" ".join(words[(number + at) % len(words)] for at in range(30)) for number in range(4000)]
    shards.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    base.write_text(yaml.safe_dump({
        "input": {"shards": [str(shards)]}, "output": str(tmp_path / "segments"), "rounds": 2,
        "engine": {"model": str(model_folder), "dtype": "float32"},
    }))  # fmt: skip
    changes = [
        f"output={out}", f"base={base}", "dummy=null", "warm_up_seconds=2", "tail_seconds=0", "windows=3",
        "synthesize.engine.max_new_tokens=16", "synthesize.segment_documents=16",
        "synthesize.engine.max_model_len=512", "synthesize.engine.max_num_batched_tokens=512",
        "sweep={points: {engine.arguments.quantization: [fp8, null]}, rungs: [5, 6]}",
    ]  # fmt: skip
    assert main(["benchmark", str(CONFIG), *changes]) == 0
    shown = capsys.readouterr().out
    failed, measured = json.loads((out / "sweep.json").read_text())
    assert failed["state"].startswith("failed: ") and "float32 is not supported" in failed["state"], "what vLLM says"
    assert (measured["state"], measured["rung"]) == ("measured", 0), "nothing is left to be compared with"
    result = json.loads((out / "result.json").read_text())
    assert result["total"]["raw_tokens_per_gpu_day"]["mean"] == measured["rate"]["mean"] > 0
    counts = result["total"]["counts"]
    assert counts["requests"] > 0 and counts["failed"] == 0
    assert result["engines"][0]["dtype"] == "float32"
    best = yaml.safe_load((out / "best.yaml").read_text())
    assert best["engine"]["model"] == str(model_folder) and "quantization" not in best["engine"].get("arguments", {})
    assert best["input"] == {"shards": [str(shards)]} and best["output"] == str(tmp_path / "segments")
    assert "failed [1]" in shown and "float32 is not supported" in shown
    assert not (tmp_path / "segments").exists(), "the user's own run is not begun"
