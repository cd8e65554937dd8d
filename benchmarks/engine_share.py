"""How much of the engine's own speed the synthesize stage passes on, and what its round loop wins.

    python benchmarks/engine_share.py

One corpus, three ways, all in turn and each in processes of its own, medians of --times runs:

    stage           the synthesize stage, from the start of its first segment to the end of its last one
    engine          vLLM's `LLM.generate`, given all of the stage's prompts at once: no reading, parsing, writing
    round-by-round  `LLM.generate` on all of round 1, then all of round 2, ...: what a plain script does

The model is the demo's synthesizer (`demo.py`: what `make demo` made, else one that was trained for a minute), blown up
to 50M parameters without a change of what it computes (layers that add nothing, feed-forward units that are never
heard), so that the texts it makes are real and the work is that of a 50M model. The KV cache holds the chains that the
stage has open, and less than one round of the corpus. The engine computes on the machine's first core alone, in all
three ways, which leaves the others to what runs beside a GPU elsewhere (drivers, parsing, Ray); `--cores nobind` has it
compute on all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import answer, measure, save
from demo import demo

ROUNDS = 3
ENGINE: dict[str, Any] = {
    "max_model_len": 2048,
    "max_new_tokens": 64,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 1024,
}
BLOCK_SIZE = 32


def widen(source: Path, target: Path, layers: int, intermediate_size: int) -> int:
    """A larger model that computes what `source` computes; gives its number of parameters."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    small = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    config = small.config.__class__(**{
        **small.config.to_dict(), "num_hidden_layers": layers, "intermediate_size": intermediate_size,
    })  # fmt: skip
    large = AutoModelForCausalLM.from_config(config)
    state, found = large.state_dict(), small.state_dict()
    for name, value in state.items():
        # Behind the small model's own layers: nothing is added to what passes through.
        if name not in found:
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                value.zero_()
            continue
        value.zero_()
        value[tuple(slice(0, size) for size in found[name].shape)] = found[name]
    large.load_state_dict(state)
    ids = torch.arange(40).unsqueeze(0)
    with torch.no_grad():
        assert torch.allclose(small(ids).logits, large(ids).logits, atol=1e-3), (
            "the large model computes something else"
        )
    large.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return sum(weight.numel() for weight in large.parameters())


def write_corpus(world: Path, target: Path, count: int, joined: int) -> None:
    """One shard of `count` texts, each of `joined` documents of the demo's world."""
    from ipt_stream.corpus.document import Document
    from ipt_stream.corpus.readers import InputConfig, read_rows, resolve_shards

    shards = resolve_shards(InputConfig(shards=(str(world / "shards"),)))
    texts = [row.text for shard in shards for row in read_rows(shard) if isinstance(row, Document)]
    with target.open("w") as file:
        for number in range(count):
            parts = [texts[(number * joined + part) % len(texts)] for part in range(joined)]
            file.write(json.dumps({"text": "\n\n".join(parts)}) + "\n")


def stage(settings: dict[str, Any]) -> dict[str, Any]:
    """The synthesize stage."""
    from ipt_stream.synthesis.pipeline import SynthesizeConfig, synthesize

    figures = dict(synthesize(SynthesizeConfig.model_validate(settings)).figures)
    return {**figures, "seconds": figures["synthesis_seconds"]}


def _llm(settings: dict[str, Any]) -> tuple[Any, Any]:
    """vLLM's own engine of the same settings, and how it generates."""
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())
    from vllm import LLM, SamplingParams

    from ipt_stream.synthesis.engine import one_process

    engine = settings["engine"]
    model = LLM(
        model=engine["model"], max_model_len=engine["max_model_len"], max_num_seqs=engine["max_num_seqs"],
        max_num_batched_tokens=engine["max_num_batched_tokens"], dtype="float32", enforce_eager=True,
        enable_prefix_caching=True, **one_process(), **engine["arguments"],
    )  # fmt: skip
    eos = model.get_tokenizer().eos_token_id
    how = SamplingParams(temperature=0, max_tokens=engine["max_new_tokens"], stop_token_ids=[eos], detokenize=False)
    return model, how


def _prompts(settings: dict[str, Any]) -> list[list[int]]:
    """The prompts of a finished stage, by segment, round and chain: each prefix is made shortly before it is needed."""
    from ipt_stream.synthesis.prompt import Shot
    from ipt_stream.synthesis.results import list_segments, load_rows
    from ipt_stream.synthesis.tokens import load_tokenizer

    tokenizer = load_tokenizer(settings["engine"]["model"])
    prompts = []
    for reference in list_segments(settings["output"]):
        shots: dict[int, list[int]] = {}
        for row in sorted(load_rows(reference), key=lambda row: (row.round, row.chain, row.piece)):
            before = shots.get(row.chain, []) if row.inherits else []
            prompts.append([*before, *tokenizer.contexts([row.text])[0]])
            assert len(prompts[-1]) == row.prompt_tokens
            shots[row.chain] = [*before, *tokenizer.shot(Shot(row.text, row.pairs))] if row.pairs else []
    return prompts


def engine(settings: dict[str, Any]) -> dict[str, Any]:
    """The engine alone, on the stage's prompts."""
    prompts = _prompts(settings)
    model, how = _llm(settings)
    started = time.perf_counter()
    outputs = model.generate([{"prompt_token_ids": prompt} for prompt in prompts], how, use_tqdm=False)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "cached_tokens": sum(output.num_cached_tokens or 0 for output in outputs)}


def round_by_round(settings: dict[str, Any]) -> dict[str, Any]:
    """All of a round at once, round after round."""
    from ipt_stream.corpus.document import Document
    from ipt_stream.corpus.readers import InputConfig, read_rows, resolve_shards
    from ipt_stream.synthesis.chain import Inherited, chains
    from ipt_stream.synthesis.parse import parse
    from ipt_stream.synthesis.prompt import Shot
    from ipt_stream.synthesis.tokens import load_tokenizer

    model, how = _llm(settings)
    tokenizer = load_tokenizer(settings["engine"]["model"])
    budget = settings["engine"]["max_model_len"] - settings["engine"]["max_new_tokens"]
    started = time.perf_counter()
    shard = resolve_shards(InputConfig.model_validate(settings["input"]))[0]
    texts = [row.text for row in read_rows(shard) if isinstance(row, Document)]
    contexts = tokenizer.contexts(texts)
    members = chains(len(texts), ROUNDS)
    inherited = [Inherited() for _ in members]
    cached = 0
    for number in range(ROUNDS):
        asked = [(chain, member[number]) for chain, member in enumerate(members) if number < len(member)]
        prompts = [inherited[chain].prompt(contexts[index], budget) for chain, index in asked]
        outputs = model.generate([{"prompt_token_ids": ids} for ids, _ in prompts], how, use_tqdm=False)
        for (chain, index), (_, inherits), output in zip(asked, prompts, outputs, strict=True):
            cached += output.num_cached_tokens or 0
            pairs = parse(tokenizer.decode(output.outputs[0].token_ids)).pairs
            shot = tokenizer.shot(Shot(texts[index], pairs)) if pairs else []
            inherited[chain] = inherited[chain].after(inherits, shot, pairs)
    return {"seconds": time.perf_counter() - started, "cached_tokens": cached}


WAYS = {"stage": stage, "engine": engine, "round-by-round": round_by_round}


def main() -> None:
    """Measure all three ways, in turn."""
    if answer(WAYS):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="where `make demo` left its output; made where there is none")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--joined", type=int, default=4, help="documents of the demo's world a text")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--intermediate", type=int, default=8192)
    parser.add_argument("--cache-tokens", type=int, default=9216)
    parser.add_argument("--cores", default="0", help="of the engine, as VLLM_CPU_OMP_THREADS_BIND has them")
    options = parser.parse_args()
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = options.cores
    made = demo(options.demo)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = folder / "model"
        parameters = widen(made / "synthesizer" / "model", model, options.layers, options.intermediate)
        write_corpus(made / "world", folder / "corpus.jsonl", options.texts, options.joined)
        arguments = {"block_size": BLOCK_SIZE, "num_gpu_blocks_override": options.cache_tokens // BLOCK_SIZE}
        settings: dict[str, Any] = {
            "input": {"shards": [str(folder / "corpus.jsonl")]}, "rounds": ROUNDS, "segment_documents": 24,
            "engine": {"model": str(model), "gpus": 0, "dtype": "float32", "arguments": arguments, **ENGINE},
        }  # fmt: skip
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for number in range(options.times):
            settings["output"] = str(folder / f"run-{number}")
            for way in WAYS:
                found[way].append(measure(way, settings))
                print(f"{number + 1}  {way:<15} {found[way][-1]['seconds']:.1f} s", flush=True)
    last = found["stage"][-1]
    seconds = {way: statistics.median(result["seconds"] for result in results) for way, results in found.items()}
    raw = last["raw_tokens"]
    save(
        "engine-share",
        "The synthesize stage against the engine alone, and against round-by-round batches",
        {
            "parameters": f"{parameters:,}",
            "cores of the machine; those of the engine": f"{os.cpu_count()}; {options.cores}",
            "texts, mean raw tokens a text, rounds": f"{options.texts}, {raw / options.texts:.0f}, {ROUNDS}",
            "tokens of all prompts / KV cache": f"{last['prompt_tokens']:,} / {options.cache_tokens:,}",
            "raw tokens/s: stage": round(raw / seconds["stage"]),
            "raw tokens/s: engine alone": round(raw / seconds["engine"]),
            "raw tokens/s: round by round": round(raw / seconds["round-by-round"]),
            "stage / engine alone": round(seconds["engine"] / seconds["stage"], 3),
            "stage / round by round": round(seconds["round-by-round"] / seconds["stage"], 3),
            "cached share of re-sent tokens: stage": round(last["cached_tokens"] / last["resent_tokens"], 3),
            "cached tokens: stage, engine alone, round by round": ", ".join(
                f"{found[way][-1]['cached_tokens']:,}" for way in WAYS
            ),
        },
        f"Medians of {options.times} runs of each, in turn.",
    )


if __name__ == "__main__":
    main()
