"""The real engine behind its seam: one start, with weights made up by vLLM and a LoRA adapter."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from ipt_stream.config import build
from ipt_stream.errors import ConfigError
from ipt_stream.progress import log
from ipt_stream.synthesis.engine import (
    NO_COMPILER,
    ONE_PROCESS,
    EngineConfig,
    VllmEngine,
    _check_arguments,
    _engine_arguments,
    _lora_rank,
    compiling,
    request_seed,
)

PROMPT = [5, 6, 7, 8, 9, 10, 11, 12] * 20


def config(**settings: Any) -> EngineConfig:
    return build(EngineConfig, {"model": "m", **settings}, "test")


@pytest.fixture(scope="module")
def adapter(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of rank 8, as `tune` publishes it, that changes the attention's output a lot."""
    import torch

    from ipt_stream.training.lora import LoraSettings, add_adapters, save_adapter
    from ipt_stream.training.models import load_model, load_tokenizer

    adapters = LoraSettings(rank=8, alpha=64, target_modules=("o_proj",))
    adapted = add_adapters(load_model(str(model_folder)), adapters, str(model_folder), seed=1)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    save_adapter(adapted, load_tokenizer(str(model_folder)), str(folder))
    return folder


@contextmanager
def two_starts_fail(log: Path) -> Iterator[dict[int, dict[str, str]]]:
    """`kill -9` ends the first process of an engine as soon as it is there, and SIGSTOP halts the second; errors go to
    `log`, as under Ray. Gives the environments of the two by their process ids."""
    signals = [signal.SIGKILL, signal.SIGSTOP]
    failed: dict[int, dict[str, str]] = {}
    over = threading.Event()

    def watch() -> None:
        while signals and not over.wait(0.05):
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    if "--multiprocessing-fork" in child.cmdline() and child.pid not in failed:
                        failed[child.pid] = child.environ()
                        child.send_signal(signals.pop(0))

    before = os.dup(2)
    watcher = threading.Thread(target=watch)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
        watcher.start()
        yield failed
    finally:
        over.set()
        watcher.join()
        os.dup2(before, 2)
        os.close(before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what vLLM imports warns of itself
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_failed_starts_sampling_adapters_priorities_and_made_up_weights(
    model_folder: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(
        model=str(model_folder), lora=str(adapter), max_model_len=512, max_new_tokens=12, max_num_seqs=4,
        max_num_batched_tokens=512, stall_seconds=10, sampling={"temperature": 1.0, "seed": 3, "min_tokens": 12},
        arguments={"load_format": "dummy", "num_gpu_blocks_override": 64},
    )  # fmt: skip

    told: list[str] = []
    monkeypatch.setattr(log, "warning", lambda text, *values: told.append(text % values))

    async def work() -> None:
        with two_starts_fail(tmp_path / "log") as failed:
            other = subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**5))"])
            try:
                engine = VllmEngine(settings, 0.0, eos_token_id=2)
                assert other.poll() is None, "what was there before is left alone"
            finally:
                other.kill()
                other.wait()
        assert told == [f"the engine {how} while it started: it is started again" for how in ("was killed", "hung")]
        assert not [pid for pid in failed if psutil.pid_exists(pid)], "nothing of them is left"
        assert [environment.get(NO_COMPILER) for environment in failed.values()] == ["1"] * 2, "nothing is compiled"
        assert NO_COMPILER not in os.environ, "which holds for the engine's processes alone"
        try:
            first, again, other = await asyncio.gather(
                engine.generate("a", PROMPT, 2), engine.generate("a", PROMPT, 1), engine.generate("b", PROMPT, 0)
            )
            assert len(first.token_ids) == 12, "min_tokens keeps the end away"
            assert first.token_ids == again.token_ids, "a request's seed is its own"
            assert first.token_ids != other.token_ids
            assert (await engine.generate("c", PROMPT, 0)).cached_tokens > 0
            assert first.logprobs is not None
            assert len(first.logprobs) == 12, "one for each token"
            assert first.logprobs == pytest.approx(again.logprobs, abs=1e-3)
            assert all(value <= 0.0 for value in first.logprobs)
            facts = engine.facts()
            assert facts["arguments"]["enable_lora"] is True
            assert facts["arguments"]["max_lora_rank"] == 8
            assert facts["kv_cache_blocks"] == 64
            assert engine.pulse().steps >= 12
        finally:
            engine.shutdown()

    asyncio.run(work())


def test_defaults_are_for_throughput_and_the_users_arguments_win() -> None:
    arguments = _engine_arguments(config(arguments={"quantization": "fp8", "enforce_eager": True}), 2.0)
    assert arguments["tensor_parallel_size"] == 2
    assert arguments["quantization"] == "fp8"
    assert arguments["enforce_eager"] is True
    assert arguments["scheduling_policy"] == "priority"
    assert arguments["enable_prefix_caching"] is True
    assert (arguments["max_num_seqs"], arguments["max_num_batched_tokens"]) == (512, 16384)
    assert "gpu_memory_utilization" not in arguments
    assert _engine_arguments(config(), 0.5)["gpu_memory_utilization"] == pytest.approx(0.45)
    assert _engine_arguments(config(), 0.5)["tensor_parallel_size"] == 1


def test_engines_that_compile_their_model_compile_all_else_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "0"):
        if before is not None:
            monkeypatch.setenv(NO_COMPILER, before)
        with compiling(True):
            assert os.environ.get(NO_COMPILER) == before
        with compiling(False):
            assert os.environ[NO_COMPILER] == "1"
        assert os.environ.get(NO_COMPILER) == before


def test_threads_are_bound_to_cores_where_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only vLLM's own executor binds them; the one that spares a process would pass over the setting in silence."""
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    assert _engine_arguments(config(), 0.0)["distributed_executor_backend"] == ONE_PROCESS
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-3")
    assert "distributed_executor_backend" not in _engine_arguments(config(), 0.0)


def test_a_misspelt_argument_of_the_engine_is_named() -> None:
    known = {"max_num_seqs", "quantization"}
    with pytest.raises(ConfigError, match=r"no argument 'quantisation'.*did you mean 'quantization'"):
        _check_arguments({"quantisation": "fp8"}, known)
    _check_arguments({"quantization": "fp8"}, known)


def test_enough_is_always_queued() -> None:
    engine = config(max_num_seqs=512)
    assert engine.chains_at_once() == 768
    assert engine.segments_at_once(683) == 3
    assert engine.segments_at_once(10) == 64
    assert config(open_chains=5, segments_in_flight=7).chains_at_once() == 5
    assert config(segments_in_flight=7).segments_at_once(10) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replicas": [4, 2]}, "the least and the most"),
        ({"replicas": 0}, "a number of engines from 1"),
        ({"gpus": 1.5}, "a whole number of GPUs"),
        ({"sampling": {"temperature": -1}}, "sampling.temperature"),
        ({"sampling": {"temprature": 1}}, "did you mean 'sampling.temperature'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**settings)


def test_an_adapter_without_a_rank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no LoRA adapter"):
        _lora_rank(str(tmp_path))


def test_replicas_are_a_number_or_a_range() -> None:
    assert config(replicas=3).most_replicas() == 3
    assert config(replicas=[2, 16]).most_replicas() == 16


def test_requests_have_seeds_of_their_own() -> None:
    assert request_seed(0, "a") == request_seed(0, "a")
    assert len({request_seed(seed, name) for seed in range(3) for name in "abc"}) == 9
