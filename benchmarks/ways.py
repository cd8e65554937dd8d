"""Ways to work through one corpus with dummy weights: the stage, the bare engine, round by round; and a training step.

All three have the same texts, the same answers in length, the same engine settings. What the stage asked its engine is
logged, and the bare engine is asked the same, all of it at once.
"""

from __future__ import annotations

import json
import math
import os
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ipt_stream.benchmark.dummy import DummyEngine, DummyWeights, draw_answers, load_shape, write_dummy_model
from ipt_stream.benchmark.floor import request_contexts, request_read, shape_of
from ipt_stream.benchmark.settings import DummySettings
from ipt_stream.benchmark.texts import draw_texts, lexicon_size, made_up_words
from ipt_stream.synthesis.engine import EngineConfig, _engine_arguments, request_seed

PROMPTS = "prompts.bin"


def prepare(folder: Path, settings: dict[str, Any]) -> None:
    """Write the corpus and the model: shards/, model/."""
    dummy = DummySettings.model_validate(settings["dummy"])
    shape = load_shape(dummy.shape)
    words = made_up_words(lexicon_size(int(shape["vocab_size"])))
    room = settings["engine"]["max_model_len"] - settings["engine"]["max_new_tokens"]
    longest = min(dummy.texts.most_tokens, round(0.9 * room))  # the stage alone would cut longer ones
    lengths = dummy.texts.model_copy(update={"most_tokens": longest})
    texts = list(draw_texts(lengths, settings["documents"], words, dummy.seed))
    write_dummy_model(str(folder / "model"), shape, texts)
    (folder / "shards").mkdir(exist_ok=True)
    with (folder / "shards" / "corpus.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


@dataclass(frozen=True)
class Logged:
    """Makes dummy engines that log what they are asked."""

    how: DummyWeights
    path: str

    def __call__(self, config: EngineConfig, gpus: float, eos_token_id: int) -> LoggedEngine:
        return LoggedEngine(config, gpus, eos_token_id, self)


class LoggedEngine(DummyEngine):
    """A dummy engine, and a file of its prompts: of each the tokens to generate, how many there are, and they."""

    def __init__(self, config: EngineConfig, gpus: float, eos_token_id: int, logged: Logged) -> None:
        super().__init__(config, gpus, eos_token_id, logged.how)
        self._log = open(logged.path, "ab")

    async def _request(self, request_id: str, token_ids: list[int], priority: int, sampling: Any) -> Any:
        self._log.write(array("I", [sampling.max_tokens, len(token_ids), *token_ids]).tobytes())
        self._log.flush()
        return await super()._request(request_id, token_ids, priority, sampling)


def read_prompts(path: Path) -> Iterator[tuple[int, list[int]]]:
    """What was logged: tokens to generate, and the prompt."""
    numbers = array("I", path.read_bytes())
    at = 0
    while at < len(numbers):
        generate, length = numbers[at], numbers[at + 1]
        yield generate, numbers[at + 2 : at + 2 + length].tolist()
        at += 2 + length


def stage(settings: dict[str, Any]) -> dict[str, Any]:
    """The synthesize stage."""
    from ipt_stream.synthesis.pipeline import SynthesizeConfig, synthesize

    folder = Path(settings["folder"])
    dummy = DummySettings.model_validate(settings["dummy"])
    (folder / PROMPTS).unlink(missing_ok=True)
    how = Logged(DummyWeights(dummy, int(load_shape(dummy.shape)["vocab_size"])), str(folder / PROMPTS))
    config = SynthesizeConfig.model_validate(
        {
            "input": {"shards": [str(folder / "shards")]},
            "output": settings["output"],
            "rounds": settings["rounds"],
            "segment_documents": settings["segment_documents"],
            "engine": _engine(settings),
        }
    )
    figures = dict(synthesize(config, how).figures)
    return {**figures, "seconds": figures["synthesis_seconds"]}


def engine(settings: dict[str, Any]) -> dict[str, Any]:
    """vLLM's `LLM.generate` on all of the stage's prompts."""
    prompts = list(read_prompts(Path(settings["folder"], PROMPTS)))
    model, how = _llm(settings)
    started = time.perf_counter()
    made = model.generate(
        [{"prompt_token_ids": ids} for _, ids in prompts], [how(generate) for generate, _ in prompts], use_tqdm=False
    )
    seconds = time.perf_counter() - started
    return {"seconds": seconds, **_counts(made)}


def round_by_round(settings: dict[str, Any]) -> dict[str, Any]:
    """`LLM.generate` on all of a round at once, round after round: what a plain script does."""
    from ipt_stream.synthesis.chain import chains
    from ipt_stream.synthesis.plan import segment_id
    from ipt_stream.synthesis.tokens import load_tokenizer

    folder, rounds = Path(settings["folder"]), settings["rounds"]
    dummy = DummySettings.model_validate(settings["dummy"])
    tokenizer = load_tokenizer(str(folder / "model"))
    config = EngineConfig.model_validate(_engine(settings))
    vocabulary = int(load_shape(dummy.shape)["vocab_size"])
    answers = draw_answers(tokenizer, dummy.responses, config.max_new_tokens, vocabulary, dummy.seed)
    model, how = _llm(settings)
    budget = config.max_model_len - config.max_new_tokens
    started = time.perf_counter()
    texts = [json.loads(line)["text"] for line in (folder / "shards" / "corpus.jsonl").open()]
    contexts = tokenizer.contexts(texts)
    members = chains(len(texts), rounds)
    before: list[list[int]] = [[] for _ in members]
    made: list[Any] = []
    for number in range(rounds):
        asked = [(chain, member[number]) for chain, member in enumerate(members) if number < len(member)]
        prompts = []
        for chain, index in asked:
            if len(before[chain]) + len(contexts[index]) > budget:
                before[chain] = []
            prompts.append([*before[chain], *contexts[index]])
        places = [f"{segment_id(0, index // settings['segment_documents'])}/{index}.0" for _, index in asked]
        lengths = [len(answers[request_seed(dummy.seed, place) % len(answers)]) for place in places]
        outputs = model.generate(
            [{"prompt_token_ids": ids} for ids in prompts], [how(length) for length in lengths], use_tqdm=False
        )
        for (chain, _), prompt, output in zip(asked, prompts, outputs, strict=True):
            before[chain] = [*prompt, *output.outputs[0].token_ids, tokenizer.eos_token_id]
        made += outputs
    return {"seconds": time.perf_counter() - started, **_counts(made)}


def _engine(settings: dict[str, Any]) -> dict[str, Any]:
    given = settings["engine"]
    arguments = {**given.get("arguments", {}), "load_format": "dummy"}
    return {**given, "model": str(Path(settings["folder"], "model")), "arguments": arguments}


def _llm(settings: dict[str, Any]) -> tuple[Any, Any]:
    """vLLM's own engine of the stage's settings, and how it is asked for so many tokens."""
    import torch

    gpus = 1.0 if torch.cuda.is_available() else 0.0
    config = EngineConfig.model_validate(_engine(settings))
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    if not gpus:
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.cpu_kv_cache_gib)
        os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    from vllm import LLM, SamplingParams

    arguments = _engine_arguments(config, gpus)
    for name in ("scheduling_policy", "disable_log_stats"):
        arguments.pop(name)
    arguments = {name: value for name, value in arguments.items() if value is not None}

    def how(tokens: int) -> Any:
        return SamplingParams(temperature=0, ignore_eos=True, max_tokens=tokens, detokenize=False)

    return LLM(**arguments), how


def _counts(made: list[Any]) -> dict[str, Any]:
    triples = [(len(o.prompt_token_ids), o.num_cached_tokens or 0, len(o.outputs[0].token_ids)) for o in made]
    return {
        "requests": len(triples),
        "prompt_tokens": sum(prompt for prompt, _, _ in triples),
        "cached_tokens": sum(cached for _, cached, _ in triples),
        "generated_tokens": sum(generated for _, _, generated in triples),
        "contexts": sum(request_contexts(*triple) for triple in triples),
        "read_tokens": sum(request_read(*triple) for triple in triples),
    }


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """Some Composer steps of a preset on random tokens: seconds a step, after the first ones."""
    import statistics

    import torch
    from composer import Callback, DataSpec, Trainer
    from composer.utils.parallelism import FSDP2Config, ParallelismConfig
    from transformers import MistralForCausalLM

    from ipt_stream.training.composer_parts import LanguageModel
    from ipt_stream.training.fit import _optimizer, count_tokens, split_batch
    from ipt_stream.training.fit_settings import FitSettings, uses_bfloat16
    from ipt_stream.training.models import ModelConfig, architecture
    from ipt_stream.training.presets import with_preset

    on_gpu = torch.cuda.is_available()
    preset = with_preset({"preset": settings["preset"], **settings.get("changes", {})})
    fit = FitSettings.model_validate(preset["fit"])
    length, sequences = preset.get("sequence_length", 512), settings["sequences"]
    model_config = ModelConfig.model_validate({**preset["model"], "dropout": preset.get("dropout", 0.0)})
    config = architecture(model_config, model_config.vocab_size or 32_000)
    torch.manual_seed(0)
    model = MistralForCausalLM(config)
    whole = LanguageModel(model, uses_bfloat16(fit.precision))
    tokens = torch.randint(3, config.vocab_size, (settings["steps"] * sequences, length))
    batches = [
        {"input_ids": tokens[at : at + sequences], "labels": tokens[at : at + sequences]}
        for at in range(0, len(tokens), sequences)
    ]
    flops = whole.flops_per_batch(batches[0])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    ended: list[float] = []

    class Clock(Callback):  # type: ignore[misc]
        def batch_end(self, state: Any, logger: Any) -> None:
            if on_gpu:
                torch.cuda.synchronize()
            ended.append(time.perf_counter())

    parallel = None
    if settings["fsdp"]:
        parallel = ParallelismConfig(fsdp2=FSDP2Config(state_dict_type="full"))
    trainer = Trainer(
        model=whole,
        train_dataloader=DataSpec(batches, split_batch=split_batch, get_num_tokens_in_batch=count_tokens),
        max_duration=f"{settings['steps']}ba",
        optimizers=_optimizer(model, fit),
        callbacks=[Clock()],
        device_train_microbatch_size=min(fit.microbatch_sequences or sequences, sequences),
        accumulate_train_batch_on_tokens=True,
        precision="amp_bf16" if on_gpu else "fp32",
        parallelism_config=parallel,
        progress_bar=False,
        seed=0,
    )
    trainer.fit()
    loss = float(trainer.state.total_loss_dict["loss/train/total"])
    trainer.close()
    steps = [until - since for since, until in pairwise(ended)]
    seconds = statistics.median(steps)
    assert math.isfinite(loss)
    return {
        "parameters": parameters,
        "seconds a step": seconds,
        "tokens/s": sequences * length / seconds,
        "FLOPs/s": flops / seconds,
        "loss": loss,
        "memory GB": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0,
        "compute": "bfloat16" if whole.head.mixed else "float32",
    }


def ceilings(settings: dict[str, Any]) -> dict[str, Any]:
    """What the device reaches in a product and in a copy."""
    from ipt_stream.benchmark.devices import measure_ceilings

    return measure_ceilings()


WAYS = {"stage": stage, "engine": engine, "round-by-round": round_by_round, "train": train, "ceilings": ceilings}


def parameters(shape: str) -> int:
    """Of a shape."""
    found = shape_of(load_shape(shape))
    assert found is not None
    return found.parameters()
