"""A model in vLLM's engine, asked in batches: texts in, texts and likelihoods out.

It is the engine of synthesis (`VllmEngine`, its settings and its defaults) and it is given tokens; each batch has its
own limit, stop strings and, for a judge, JSON schema. Decoding is greedy, whatever the settings say of sampling, so
that a measurement can be made again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as NotDone
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ipt_stream.auto_tokenizer import auto_tokenizer
from ipt_stream.errors import EngineError
from ipt_stream.evaluation.quiet import calm_vllm
from ipt_stream.synthesis.engine import EngineConfig, EngineDied, RequestFailed, VllmEngine
from ipt_stream.synthesis.model_files import local_model, model_identity

LOOK_SECONDS = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model wrote.

    Attributes:
        text: without special tokens, up to the first stop string.
        prompt_tokens: tokens of the prompt.
        generated_tokens: tokens that were generated.
    """

    text: str
    prompt_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a continuation is.

    Attributes:
        log_probability: its natural logarithm, the sum over its tokens.
        tokens: how many tokens it has.
    """

    log_probability: float
    tokens: int

    def a_token(self) -> float:
        """The mean log probability of a token."""
        return self.log_probability / self.tokens


class Model(Protocol):
    """What analyses need of a model."""

    window: int
    """Tokens that a prompt and its generation may have together."""
    begin: str
    """What a prompt begins with: the tokenizer's BOS, or nothing where it has none."""
    markers: tuple[str, ...]
    """Special tokens, which a text of others may not hold (`neutralize`)."""

    def length(self, text: str) -> int:
        """Tokens of `text`."""
        ...

    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        stop: Sequence[str] = (),
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Reply]:
        """What it writes after each prompt; with `schemas`, one a prompt, JSON that keeps to them."""
        ...

    def score(self, asked: Sequence[tuple[str, str]]) -> list[Score]:
        """How likely each second text is after the first."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def identity_of(config: EngineConfig) -> dict[str, Any]:
    """What of an engine's settings decides what it writes greedily, with the model by its content."""
    return {
        "model": model_identity(config.model, config.revision),
        "lora": None if config.lora is None else model_identity(config.lora, config.revision),
        "max_model_len": config.max_model_len,
        "max_new_tokens": config.max_new_tokens,
        "dtype": config.dtype,
        "arguments": config.arguments,
    }


class _AskedEngine(VllmEngine):
    """The engine of synthesis, with sampling of each request's own."""

    async def ask(self, request_id: str, token_ids: list[int], sampling: Any) -> Any:
        """vLLM's output for one request. Raises `RequestFailed` or `EngineDied`."""
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        stream = self._engine.generate({"prompt_token_ids": token_ids}, sampling, request_id, lora_request=self._lora)
        try:
            return [part async for part in stream][-1]
        except EngineDeadError as error:
            raise EngineDied("the engine died", got=str(error)) from error
        except (EngineGenerateError, ValueError) as error:
            raise RequestFailed(f"request {request_id} failed", got=str(error)) from error


class LocalModel:
    """A model in an engine of its own, on this machine. Close it, or use it in `with`.

    Args:
        config: the model and how the engine runs it; of `gpus: null` one is taken where there is one.

    Raises:
        ConfigError: there is no such model, or the engine has no such argument.
        EngineError: the engine can't start, or does not within `start_seconds`.
    """

    def __init__(self, config: EngineConfig) -> None:
        gpus = config.gpus
        if gpus is None:
            import torch

            gpus = 1.0 if torch.cuda.is_available() else 0.0
        calm_vllm(on_cpu=not gpus)
        if not gpus:
            os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
            os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.cpu_kv_cache_gib)  # read when vLLM is imported
        from vllm.config import StructuredOutputsConfig

        folder = local_model(config.model, config.revision)
        lora = None if config.lora is None else local_model(config.lora, config.revision)
        # Stop strings and schemas need the tokenizer in the engine too; prompts are tokens all the same. A schema that
        # lets white space stand anywhere lets a weak model write nothing else.
        compact = StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True)
        arguments = {"skip_tokenizer_init": False, "structured_outputs_config": compact, **config.arguments}
        self._config = config.model_copy(update={"model": folder, "lora": lora, "arguments": arguments})
        self.tokenizer = _load_tokenizer(folder, config.revision)
        self.window = config.max_model_len
        self.begin: str = self.tokenizer.bos_token or ""
        self.markers = special_texts(self.tokenizer)
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        try:
            self._engine: _AskedEngine = self._wait(self._start(gpus), config.start_seconds)
        except BaseException:
            self._end_loop()
            raise

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def length(self, text: str) -> int:
        """Tokens of `text`."""
        return len(self._encode([text])[0])

    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        stop: Sequence[str] = (),
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Reply]:
        """What it writes after each prompt, up to the first of `stop`, `</s>` or the most tokens.

        Args:
            prompts: with their BOS, where they are to have one.
            max_new_tokens: most tokens that are generated a prompt.
            stop: texts that end a generation, and are left out of it.
            schemas: JSON schemas, one a prompt, that the generated JSON keeps to as far as it gets.

        Raises:
            EngineError: a prompt leaves no room in the window, or the engine fails.
        """
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        encoded = self._encode(prompts)
        self._check_room(encoded, max_new_tokens)

        async def one(index: int) -> Reply:
            schema = None if schemas is None else StructuredOutputsParams(json=dict(schemas[index]))
            sampling = SamplingParams(
                temperature=0.0,
                max_tokens=max_new_tokens,
                stop=list(stop) or None,
                stop_token_ids=[self.tokenizer.eos_token_id],
                detokenize=bool(stop) or schema is not None,
                output_kind=RequestOutputKind.FINAL_ONLY,
                structured_outputs=schema,
            )
            output = await self._engine.ask(f"generate-{next(self._numbers)}", encoded[index], sampling)
            ids = list(output.outputs[0].token_ids)
            text = str(self.tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=True))
            for end in stop:
                text = text.split(end)[0]
            return Reply(text, len(encoded[index]), len(ids))

        return self._all(one, len(prompts))

    def score(self, asked: Sequence[tuple[str, str]]) -> list[Score]:
        """The likelihood of each second text after the first, over the tokens that it adds.

        Raises:
            EngineError: the two leave no room in the window, or the engine fails.
        """
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        whole = self._encode([before + after for before, after in asked])
        before = self._encode([before for before, _ in asked])
        self._check_room(whole, 1)
        sampling = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=1,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

        async def one(index: int) -> Score:
            ids = whole[index]
            start = max(1, min(len(before[index]), len(ids) - 1))  # one token at least; of the first nothing is known
            output = await self._engine.ask(f"score-{next(self._numbers)}", ids, sampling)
            found = output.prompt_logprobs[start:]
            values = [known[token].logprob for known, token in zip(found, ids[start:], strict=True)]
            return Score(sum(values), len(values))

        return self._all(one, len(asked))

    def close(self) -> None:
        """End the engine and its processes."""
        self._engine.shutdown()
        self._end_loop()

    async def _start(self, gpus: float) -> _AskedEngine:
        return _AskedEngine(self._config, gpus, self.tokenizer.eos_token_id)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)  # the engine's own
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            self._loop.close()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LOOK_SECONDS)  # where the engine does not come up, the thread is in its hands

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return found

    def _check_room(self, prompts: Sequence[Sequence[int]], more: int) -> None:
        longest = max(map(len, prompts), default=1)
        if not all(map(len, prompts)) or longest + more > self.window:
            raise EngineError(
                "a prompt can't be asked",
                wanted=f"1 to {self.window - more:,} tokens: max_model_len less what is generated",
                got=f"{min(map(len, prompts)):,} to {longest:,}",
                fix="raise max_model_len, or leave such texts out",
            )

    def _all(self, one: Callable[[int], Awaitable[T]], count: int) -> list[T]:
        """`one` of each index, in order, as many at a time as keep the engine full."""

        async def work() -> list[T]:
            gate = asyncio.Semaphore(self._config.chains_at_once())

            async def held(index: int) -> T:
                async with gate:
                    return await one(index)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(held(index)) for index in range(count)]
            return [task.result() for task in tasks]

        try:
            made: list[T] = self._wait(work(), None)
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        return made

    def _wait(self, work: Any, start_seconds: float | None) -> Any:
        """The result of `work` in the engine's loop.

        Raises:
            EngineError: starting takes too long, or the engine that started stands still.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        steps, since = -1, time.monotonic()
        while True:
            try:
                return future.result(LOOK_SECONDS)
            except NotDone:
                if future.done():
                    raise
            stands = time.monotonic() - since
            if start_seconds is not None:
                if stands > start_seconds:
                    raise EngineError(f"the engine of {self._config.model} is not up after {start_seconds:g} s")
            elif (now := self._engine.pulse().steps) != steps:
                steps, since = now, time.monotonic()
            elif stands > self._config.stall_seconds:
                self._engine.kill()
                raise EngineError(
                    f"the engine of {self._config.model} has done no step for {stands:.0f} s, with requests waiting",
                    fix="see its log; raise stall_seconds where its steps take so long",
                )


def special_texts(tokenizer: Any) -> tuple[str, ...]:
    """The tokenizer's special tokens that a text of others may not hold: of two characters or more, without spaces."""
    found = [*tokenizer.all_special_tokens]
    found += [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(dict.fromkeys(text for text in found if re.fullmatch(r"\S{2,}", text)))


def _load_tokenizer(folder: str, revision: str | None) -> Any:
    try:
        tokenizer: Any = auto_tokenizer(folder, revision)
    except (OSError, ValueError) as error:
        raise EngineError(f"no tokenizer in {folder}", wanted="a Hugging Face model folder", got=str(error)) from error
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise EngineError(
            f"the tokenizer in {folder} can't be used",
            wanted="a fast one with an EOS",
            got="no EOS" if tokenizer.is_fast else type(tokenizer).__name__,
        )
    tokenizer.model_max_length = int(1e9)  # lengths are this package's business
    return tokenizer
