"""The one external seam of synthesis: token ids in, token ids out, many requests at a time.

`VllmEngine` is vLLM's asynchronous engine; anything else with the same two methods serves in tests of the logic around
it. Defaults are for offline work: throughput, not latency.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from ipt_stream.config import Settings
from ipt_stream.errors import ConfigError, EngineError


class EngineConfig(Settings):
    """A synthesizer model and how the engine runs it."""

    model: str
    """A model folder, or a hub id."""
    revision: str | None = None
    """Commit of a hub id; pin it, so that a resumed run meets the same model."""
    max_model_len: int = Field(4096, ge=64)
    """Tokens a prompt and its generation may have together."""
    max_new_tokens: int = Field(400, ge=1)
    """Tokens generated a text at most (paper, appendix B)."""
    max_num_seqs: int = Field(512, ge=1)
    """Sequences in one engine step. vLLM's own default is sized for latency on a server."""
    max_num_batched_tokens: int = Field(16384, ge=64)
    """Tokens in one engine step; large steps keep a GPU's matrix units busy during prefill."""
    dtype: str = "auto"
    """Type of weights and activations; auto: the model's own, on a CPU bfloat16 only where it has the instructions."""
    replicas: int = Field(1, ge=1)
    """Engines, each in an actor of its own."""
    gpus: float | None = Field(None, ge=0)
    """GPUs an engine (more than one: tensor parallel); null: 1 where Ray sees GPUs, else 0, the CPU engine."""
    cpus: float = Field(1, ge=0)
    """CPU cores that Ray reserves for an engine."""
    cpu_kv_cache_gib: int = Field(1, ge=1)
    """KV cache of the CPU engine; whole GiB."""
    segments_in_flight: int = Field(4, ge=1)
    """Segments an engine works on at once, so that the last slow chain of one leaves no gap."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Any other argument of vLLM's engine, by its name there."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What the engine made of one prompt.

    Attributes:
        token_ids: the generated tokens, without the stop token.
        cached_tokens: prompt tokens that came from the prefix cache.
    """

    token_ids: tuple[int, ...]
    cached_tokens: int


def _cpu_dtype() -> str:
    """bfloat16 where the processor has instructions for it: emulated, it is several times slower than float32."""
    import torch

    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if native else "float32"


class RequestFailed(EngineError):
    """One request could not be served; the engine goes on."""


class EngineDied(EngineError):
    """The engine is gone; nothing more can be asked of it."""


class Engine(Protocol):
    """What synthesis needs of an engine."""

    async def generate(self, request_id: str, token_ids: list[int]) -> Generation:
        """Generate greedily from a prompt. Raises `RequestFailed` or `EngineDied`."""
        ...

    def shutdown(self) -> None:
        """End the engine and its processes."""
        ...


class VllmEngine:
    """vLLM's asynchronous engine. Make it inside a running event loop, and use it from that loop only."""

    def __init__(self, config: EngineConfig, gpus: float, eos_token_id: int) -> None:
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        if not gpus:
            os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.cpu_kv_cache_gib)
        from vllm import SamplingParams
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments: dict[str, Any] = {
            "model": config.model,
            "revision": config.revision,
            "max_model_len": config.max_model_len,
            "max_num_seqs": config.max_num_seqs,
            "max_num_batched_tokens": config.max_num_batched_tokens,
            "dtype": config.dtype if gpus or config.dtype != "auto" else _cpu_dtype(),
            "tensor_parallel_size": max(1, int(gpus)),
            "enable_prefix_caching": True,
            "skip_tokenizer_init": True,  # Tokens in, tokens out: text is this package's business.
            "disable_log_stats": True,
            # Without a GPU compilation costs more than an offline run of a small model wins.
            "enforce_eager": not gpus,
            **config.arguments,
        }
        unknown = sorted(set(arguments) - set(AsyncEngineArgs.__dataclass_fields__))
        if unknown:
            raise ConfigError(f"engine.arguments: vLLM's engine has no argument '{unknown[0]}'", fix="see vLLM's docs")
        try:
            self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"vLLM can't start with {config.model}", got=str(error)) from error
        self._sampling = SamplingParams(
            temperature=0.0,
            max_tokens=config.max_new_tokens,
            stop_token_ids=[eos_token_id],
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._eos_token_id = eos_token_id

    async def generate(self, request_id: str, token_ids: list[int]) -> Generation:
        """Generate greedily from a prompt. Raises `RequestFailed` or `EngineDied`."""
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        stream = self._engine.generate({"prompt_token_ids": token_ids}, self._sampling, request_id)
        try:
            output = [part async for part in stream][-1]
        except EngineDeadError as error:
            raise EngineDied("the engine died", got=str(error)) from error
        except (EngineGenerateError, ValueError) as error:
            raise RequestFailed(f"request {request_id} failed", got=str(error)) from error
        generated = [token for token in output.outputs[0].token_ids if token != self._eos_token_id]
        return Generation(tuple(generated), output.num_cached_tokens or 0)

    def shutdown(self) -> None:
        """End the engine's processes."""
        self._engine.shutdown()


SMALL_FILE_BYTES = 64 * 2**20
SAMPLED_BYTES = 8 * 2**20


def model_identity(model: str, revision: str | None) -> str:
    """A name for a model by its content: a hash over its folder's files, or the hub id and revision.

    Files up to 64 MiB count whole; of larger ones the size, the first and the last 8 MiB: seconds, not minutes, for a
    7B model.
    """
    folder = Path(model)
    if not folder.is_dir():
        return f"{model}@{revision}"
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        length = file.stat().st_size
        digest.update(f"{file.relative_to(folder)}\0{length}\0".encode())
        with file.open("rb") as handle:
            if length <= SMALL_FILE_BYTES:
                digest.update(handle.read())
            else:
                digest.update(handle.read(SAMPLED_BYTES))
                handle.seek(-SAMPLED_BYTES, os.SEEK_END)
                digest.update(handle.read())
    return f"sha256:{digest.hexdigest()}"
