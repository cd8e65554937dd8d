"""The one external seam of synthesis: token ids in, token ids out, many requests at a time.

`VllmEngine` is vLLM's asynchronous engine; anything else with the same two methods serves in tests of the logic around
it. Defaults are for offline work: throughput, not latency.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import os
import platform
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import Field, field_validator, model_validator

from ipt_stream.config import Settings
from ipt_stream.errors import ConfigError, EngineError
from ipt_stream.progress import log
from ipt_stream.synthesis.engine_process import OWNER_VARIABLE

LOG_TAIL_CHARACTERS = 65_536
START_ATTEMPTS = 3
"""Starts of an engine whose processes end without a word: something killed them, perhaps for the memory they took."""
MOST_SEGMENTS = 64
"""Begun segments are held in memory, so their number has a bound."""


class Sampling(Settings):
    """How the next token is chosen. The default is greedy, as the paper has it."""

    temperature: float = Field(0.0, ge=0.0)
    """0: the likeliest token."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """The smallest set of tokens of this much probability."""
    top_k: int = Field(0, ge=0)
    """That many of the likeliest; 0: all."""
    seed: int = 0
    """With the document's place it seeds each request, so that a run can be made again on the same engine."""
    min_tokens: int = Field(0, ge=0)
    """Tokens generated a text at least; to measure an engine whose model has nothing to say."""


class EngineConfig(Settings):
    """A synthesizer model and how the engine runs it."""

    model: str
    """A model folder, an object-store URL of one (`s3://bucket/model`), or a hub id."""
    revision: str | None = None
    """Commit of a hub id, so that a resumed run meets the same model."""
    lora: str | None = None
    """A LoRA adapter of that model: a folder, an object-store URL, or a hub id at `revision`."""
    max_model_len: int = Field(4096, ge=64)
    """Tokens a prompt and its generation may have together."""
    max_new_tokens: int = Field(400, ge=1)
    """Tokens generated a text at most (paper, appendix B)."""
    sampling: Sampling = Sampling()
    """How the next token is chosen."""
    response_logprobs: bool = True
    """Record the mean log-probability of each response, by which bad pairs can be told (analysis/checks). It costs a
    softmax over the vocabulary a step and some microseconds of the driver's a token, against milliseconds of the
    model's; no second pass over the data could have it for so little."""
    max_num_seqs: int = Field(512, ge=1)
    """Sequences in one engine step. vLLM's own default is sized for latency on a server."""
    max_num_batched_tokens: int = Field(16384, ge=64)
    """Tokens in one engine step; large steps keep a GPU's matrix units busy during prefill."""
    dtype: str = "auto"
    """Type of weights and activations; auto: the model's own, on a CPU bfloat16 only where it has the instructions."""
    replicas: int | tuple[int, int] = 1
    """Engines, each in an actor of its own; two numbers: as many as the cluster has room for, between them."""
    gpus: float | None = Field(None, ge=0)
    """GPUs an engine: more than one is tensor parallel, less than one shares a GPU; null: 1 where Ray sees GPUs, else
    0, the CPU engine."""
    cpus: float = Field(1, ge=0)
    """CPU cores that Ray reserves for an engine."""
    cpu_kv_cache_gib: int = Field(1, ge=1)
    """KV cache of the CPU engine; whole GiB."""
    open_chains: int | None = Field(None, ge=1)
    """Chains an engine works on at once, each with one request there; null: 1.5 x `max_num_seqs`, so that a request
    waits for every two that run, and a sequence that ends is followed in the next step. More only lets prefixes grow
    old in the cache."""
    segments_in_flight: int | None = Field(None, ge=1)
    """Segments an engine has begun; null: as many as it takes to keep `open_chains` open while one of them ends."""
    stall_seconds: float = Field(300, gt=0)
    """An engine that has requests and does no step for so long is hung: it is killed and started again. So is one that
    starts, where none of its processes uses a core for so long."""
    start_seconds: float = Field(3600, gt=0)
    """An engine that is not up after so long never will be: the run ends. It loads, and may compile, in that time."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Any other argument of vLLM's engine, by its name there: `{quantization: fp8}`, `{load_format: dummy}`, ..."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.max_new_tokens >= self.max_model_len:
            raise ValueError(f"max_new_tokens below max_model_len, {self.max_model_len}, so that a prompt has room")
        return self

    @field_validator("replicas")
    @classmethod
    def _check_replicas(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        low, high = value if isinstance(value, tuple) else (value, value)
        if not 1 <= low <= high:
            raise ValueError("a number of engines from 1, or the least and the most of them")
        return value

    @field_validator("gpus")
    @classmethod
    def _check_gpus(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("a whole number of GPUs, or less than one")
        return value

    def most_replicas(self) -> int:
        """Engines there may be at once."""
        return self.replicas[1] if isinstance(self.replicas, tuple) else self.replicas

    def chains_at_once(self) -> int:
        """`open_chains`, with its default."""
        return self.open_chains or -(-3 * self.max_num_seqs // 2)

    def segments_at_once(self, chains_a_segment: int) -> int:
        """`segments_in_flight`, with its default: one ends while the others keep the chains open."""
        return self.segments_in_flight or min(1 + -(-self.chains_at_once() // max(chains_a_segment, 1)), MOST_SEGMENTS)


@dataclass(frozen=True, slots=True)
class Generation:
    """What the engine made of one prompt.

    Attributes:
        token_ids: the generated tokens, without the stop token.
        cached_tokens: prompt tokens that came from the prefix cache.
        logprobs: the model's log-probability of each of the tokens (natural logarithm, before temperature); None where
            they were not asked for.
    """

    token_ids: tuple[int, ...]
    cached_tokens: int
    logprobs: tuple[float, ...] | None = None


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16: emulated, it is several times slower than float32."""
    import torch

    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


class RequestFailed(EngineError):
    """One request could not be served; the engine goes on."""


class EngineDied(EngineError):
    """The engine is gone; nothing more can be asked of it."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What an engine is doing.

    Attributes:
        steps: how many it has done; a number that stands still while requests wait tells of a hung engine.
        running: requests in the last step.
        waiting: requests that wait for their turn.
        kv_cache_usage: share of the KV cache that holds running requests.
    """

    steps: int = 0
    running: int = 0
    waiting: int = 0
    kv_cache_usage: float = 0.0


class Engine(Protocol):
    """What synthesis needs of an engine."""

    async def generate(self, request_id: str, token_ids: list[int], priority: int) -> Generation:
        """Generate from a prompt; lower priorities go first. Raises `RequestFailed` or `EngineDied`."""
        ...

    def pulse(self) -> Pulse:
        """What it is doing; from any thread."""
        ...

    def facts(self) -> dict[str, Any]:
        """What it is: versions, device, resolved settings; for the record."""
        ...

    def kill(self) -> None:
        """End its processes at once, hung ones too; from any thread."""
        ...

    def shutdown(self) -> None:
        """End the engine and its processes."""
        ...


class VllmEngine:
    """vLLM's asynchronous engine. Make it inside a running event loop, and use it from that loop only."""

    def __init__(self, config: EngineConfig, gpus: float, eos_token_id: int) -> None:
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        os.environ[OWNER_VARIABLE] = str(os.getpid())
        if not gpus:
            os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.cpu_kv_cache_gib)
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.sampling_params import RequestOutputKind, SamplingParams
        from vllm.v1.engine.async_llm import AsyncLLM

        self._config = config
        self._arguments = _engine_arguments(config, gpus)
        _check_arguments(self._arguments, set(AsyncEngineArgs.__dataclass_fields__))
        self._steps = _step_counter()
        for attempt in range(1, START_ATTEMPTS + 1):
            hung = threading.Event()
            try:
                with (
                    compiling(bool(gpus) or not self._arguments["enforce_eager"]),
                    _ended_where_idle(config.stall_seconds, hung),
                ):
                    self._engine = AsyncLLM.from_engine_args(
                        AsyncEngineArgs(**self._arguments), stat_loggers=[lambda *_: self._steps]
                    )
                break
            except (RuntimeError, ValueError, TypeError, OSError) as error:
                cause = f"nothing done for {config.stall_seconds:g} s" if hung.is_set() else _root_cause()
                if (cause == "" or hung.is_set()) and attempt < START_ATTEMPTS:
                    what = "hung" if hung.is_set() else "was killed"
                    log.warning("the engine %s while it started: it is started again", what)
                    continue
                raise EngineError(
                    f"vLLM can't start with {config.model}",
                    got=cause or " ".join(str(error).split())[:500],
                    fix="check engine.arguments, and that the model fits in the memory",
                ) from error
        sampling = config.sampling
        self._sampling = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_tokens=sampling.min_tokens,
            max_tokens=config.max_new_tokens,
            stop_token_ids=[eos_token_id],
            detokenize=False,
            logprobs=0 if config.response_logprobs else None,  # of the chosen tokens alone
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._lora = _lora_request(config.lora)
        self._eos_token_id = eos_token_id

    async def generate(self, request_id: str, token_ids: list[int], priority: int) -> Generation:
        """Generate from a prompt; lower priorities go first. Raises `RequestFailed` or `EngineDied`."""
        sampling = self._sampling
        if sampling.temperature:
            sampling = copy.copy(sampling)
            sampling.seed = request_seed(self._config.sampling.seed, request_id)
        output = await self._request(request_id, token_ids, priority, sampling)
        made = output.outputs[0]
        kept = [place for place, token in enumerate(made.token_ids) if token != self._eos_token_id]
        logprobs = None
        if made.logprobs is not None:
            found: Any = made.logprobs  # flat, as was asked for
            logprobs = tuple(found.logprobs[found.start_indices[place]] for place in kept)
        return Generation(tuple(made.token_ids[place] for place in kept), output.num_cached_tokens or 0, logprobs)

    async def _request(self, request_id: str, token_ids: list[int], priority: int, sampling: Any) -> Any:
        """vLLM's own output for a prompt. Raises as `generate` does."""
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        stream = self._engine.generate(
            {"prompt_token_ids": token_ids}, sampling, request_id, lora_request=self._lora, priority=priority
        )
        try:
            return [part async for part in stream][-1]
        except EngineDeadError as error:
            raise EngineDied("the engine died", got=str(error)) from error
        except (EngineGenerateError, ValueError) as error:
            raise RequestFailed(f"request {request_id} failed", got=str(error)) from error

    def pulse(self) -> Pulse:
        """What it is doing; from any thread."""
        pulse: Pulse = self._steps.pulse
        return pulse

    def facts(self) -> dict[str, Any]:
        """Versions, device and the arguments it was started with."""
        import torch
        import vllm

        config = self._engine.vllm_config
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
        return {
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "device": device,
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "kv_cache_blocks": config.cache_config.num_gpu_blocks,
            "block_size": config.cache_config.block_size,
            "arguments": {key: value for key, value in self._arguments.items() if value is not None},
        }

    def kill(self) -> None:
        """Kill all processes below this one: the engine's own."""
        import psutil

        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def shutdown(self) -> None:
        """End the engine's processes."""
        self._engine.shutdown()


ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
NO_COMPILER = "TORCHDYNAMO_DISABLE"
"""Environment variable that PyTorch's compiler reads when it is imported."""
_SEVERAL = frozenset({"tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"})


def one_process() -> dict[str, str]:
    """Arguments of an engine on a CPU that spare it a process: vLLM starts one more, of the same imports, to give it
    OpenMP's settings. It is needed where VLLM_CPU_OMP_THREADS_BIND binds threads to cores, and only there."""
    is_bound = os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "nobind") != "nobind"
    return {} if is_bound else {"distributed_executor_backend": ONE_PROCESS}


@contextmanager
def compiling(allowed: bool) -> Iterator[None]:
    """Within, processes that start may compile what they compute, or may not.

    vLLM compiles the function that ranks a token's log-probability though `enforce_eager` forbids compiling the model.
    On a CPU that takes the first request 7 seconds, and 20 on a machine that has not compiled it before; uncompiled
    it is as fast.
    """
    before = os.environ.get(NO_COMPILER)
    if not allowed:
        os.environ[NO_COMPILER] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(NO_COMPILER, None)
        else:
            os.environ[NO_COMPILER] = before


def _engine_arguments(config: EngineConfig, gpus: float) -> dict[str, Any]:
    """All arguments of vLLM's engine: this package's for offline work, then the user's own."""
    arguments: dict[str, Any] = {
        "model": config.model,
        "revision": config.revision,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "dtype": config.dtype if gpus or config.dtype != "auto" else "bfloat16" if has_bfloat16() else "float32",
        "tensor_parallel_size": max(1, int(gpus)),
        "enable_prefix_caching": True,  # A round's prompt begins with all of the round before.
        "scheduling_policy": "priority",  # Chains that were begun first go first: their prefixes are still cached.
        "skip_tokenizer_init": True,  # Tokens in, tokens out: text is this package's business.
        "disable_log_stats": True,  # Its own statistics; the step counter goes on.
        "generation_config": "vllm",  # Sampling is what this package says, not what lies beside the model.
        # Without a GPU compilation costs more than an offline run of a small model wins.
        "enforce_eager": not gpus,
        "use_tqdm_on_load": False,  # Progress is this package's own.
    }
    if not gpus and not _SEVERAL.intersection(config.arguments):
        arguments |= one_process()
    if 0 < gpus < 1:
        arguments["gpu_memory_utilization"] = 0.9 * gpus  # vLLM's default, of the share of the GPU that it has
    if config.lora is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _lora_rank(config.lora)}
    return arguments | config.arguments


def _check_arguments(arguments: dict[str, Any], known: set[str]) -> None:
    for name in sorted(set(arguments) - known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise ConfigError(
            f"engine.arguments: vLLM's engine has no argument '{name}'",
            fix=f"did you mean '{near[0]}'?" if near else "see vLLM's engine arguments",
        )


def _step_counter() -> Any:
    """A stat logger of vLLM's that keeps the last `Pulse`."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class StepCounter(StatLoggerBase):
        def __init__(self) -> None:
            self.pulse = Pulse()

        def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
            now = self.pulse
            if scheduler_stats is not None:
                now = Pulse(
                    now.steps,
                    scheduler_stats.num_running_reqs,
                    scheduler_stats.num_waiting_reqs,
                    scheduler_stats.kv_cache_usage,
                )
            self.pulse = replace(now, steps=now.steps + 1)

        def log_engine_initialized(self) -> None:
            pass

    return StepCounter()


def request_seed(seed: int, request_id: str) -> int:
    """A request's own seed: 32 bits of a hash of the run's and of the request's name, which names the document."""
    digest = hashlib.sha256(f"{seed}/{request_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


@contextmanager
def _ended_where_idle(seconds: float, hung: threading.Event) -> Iterator[None]:
    """Within, all processes that this one starts are killed where none of them uses a core for `seconds`, and `hung`
    tells so: waiting for an engine that was stopped while it starts has no end of its own."""
    import psutil

    over = threading.Event()
    others = {child.pid for child in psutil.Process().children(recursive=True)}

    def used() -> dict[int, float]:
        found = {}
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if child.pid in others:
                    continue
                times = child.cpu_times()
                found[child.pid] = times.user + times.system
        return found

    def watch() -> None:
        before, since = used(), time.monotonic()
        while not over.wait(min(1.0, seconds / 4)):
            now = used()
            if now != before or not now:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > seconds:
                hung.set()
                for pid in now:
                    with suppress(psutil.Error):
                        psutil.Process(pid).kill()
                return

    watcher = threading.Thread(target=watch, name="start", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _root_cause() -> str | None:
    """The last error in this process's own log, where its standard error goes to a file, as under Ray: engine
    processes write theirs there, and tell their parent only that there was one. Empty: they wrote of none; None: there
    is no such file."""
    try:
        path = Path(os.readlink("/proc/self/fd/2"))
        if not path.is_file():
            return None
        lines = path.read_text("utf-8", errors="replace")[-LOG_TAIL_CHARACTERS:].splitlines()
    except OSError:
        return None
    found = [line for line in lines if re.search(r"\b\w+(Error|Exception): ", line)]
    return " ".join(found[-1].split())[:500] if found else ""


def _lora_request(lora: str | None) -> Any:
    if lora is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("synthesizer", 1, lora)


def _lora_rank(lora: str) -> int:
    """The adapter's rank. Raises `ConfigError` where the folder holds no adapter."""
    path = Path(lora, "adapter_config.json")
    try:
        return int(json.loads(path.read_text("utf-8"))["r"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"no LoRA adapter in {lora}", wanted="adapter_config.json with its rank, r", got=str(error)
        ) from error


def _processor() -> str:
    """The name of this machine's processor."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
