"""What a dense decoder has to compute and to read, from its shape alone: FLOPs, bytes, and the time they take at least.

For a request with P prompt tokens, C of them cached, and G generated, the tokens that go through the model are those at
the places C to T - 1, T = P + G - 1: the last generated token is never an input. So there are

    inputs    I = P - C + G - 1
    contexts  A = (T (T + 1) - C (C + 1)) / 2         how many tokens they see in all, each itself and all before it
    read      R = C + (G - 1) P + G (G - 1) / 2       cached tokens read: by the prefill once, and by each decode step

and it takes 2 x (weights of the layers) x I + 2 x hidden x vocabulary x G + 4 x layers x heads x head size x A FLOPs
(PaLM, arXiv 2204.02311, appendix B; logits are computed where a token is sampled only). What is read is at least all
weights a step, and R x 2 x layers x KV heads x head size x bytes of the KV cache.

    floor = max(FLOPs / most FLOPs a second, bytes / most bytes a second)

Both go on at the same time, so that no engine can be faster on that device with these steps, however prefill and decode
share them. With speculative decoding, several tokens are generated a step, and R counts more than is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COUNTS = ("requests", "steps", "prompt_tokens", "cached_tokens", "generated_tokens", "contexts", "read_tokens")
"""What FLOPs and bytes follow from, in sums over requests."""
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0}
_HALF_BYTE = ("awq", "gptq", "marlin", "bitsandbytes", "w4a16", "mxfp4", "nvfp4", "hqq")


@dataclass(frozen=True, slots=True)
class Shape:
    """A dense decoder with gated feed-forward layers (Llama, Mistral, Qwen).

    Attributes:
        hidden: width.
        intermediate: width of the feed-forward layers.
        layers: how many.
        heads: attention heads.
        kv_heads: key and value heads.
        head_size: of each head.
        vocabulary: tokens that it knows.
        tied: whether the output layer is the embedding.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool

    def layer_weights(self) -> int:
        """Weights of all layers that each token is multiplied with: attention's four matrices, feed-forward's three."""
        attention = 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    def output_weights(self) -> int:
        """Weights of the output layer."""
        return self.hidden * self.vocabulary

    def parameters(self) -> int:
        """All parameters: those, the embedding where it is another matrix, and the norms."""
        embedding = 0 if self.tied else self.output_weights()
        return self.layer_weights() + self.output_weights() + embedding + (2 * self.layers + 1) * self.hidden

    def kv_values(self) -> int:
        """Numbers in the KV cache a token."""
        return 2 * self.layers * self.kv_heads * self.head_size


@dataclass(frozen=True, slots=True)
class Precision:
    """What numbers are kept in.

    Attributes:
        compute: what products are computed in: float32, bfloat16, float16 or fp8.
        layer_bytes: of a weight in a layer.
        output_bytes: of a weight in the output layer, which is not quantized.
        kv_bytes: of a number in the KV cache.
    """

    compute: str
    layer_bytes: float
    output_bytes: float
    kv_bytes: float


@dataclass(frozen=True, slots=True)
class Work:
    """What was computed and read: `flops`, `bytes`."""

    flops: float
    bytes: float

    def floor_seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """The time that it takes at least, at a device's ceilings."""
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """The shape that a Hugging Face `config.json` describes; None where it is no dense decoder that these formulas
    hold for."""
    if any(config.get(name) for name in ("num_experts", "num_local_experts", "n_routed_experts", "q_lora_rank")):
        return None
    try:
        heads = int(config["num_attention_heads"])
        return Shape(
            hidden=int(config["hidden_size"]),
            intermediate=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except KeyError:
        return None


def precision_of(dtype: str, arguments: Mapping[str, Any], config: Mapping[str, Any]) -> Precision:
    """What an engine keeps its numbers in.

    Args:
        dtype: of its activations: float32, bfloat16, float16.
        arguments: vLLM's, of which `quantization` and `kv_cache_dtype` count.
        config: the model's `config.json`, where a quantized model says how it is.
    """
    method = str(arguments.get("quantization") or (config.get("quantization_config") or {}).get("quant_method") or "")
    method = method.lower()
    kv = BYTES["fp8"] if str(arguments.get("kv_cache_dtype", "auto")).startswith("fp8") else BYTES[dtype]
    if any(name in method for name in _HALF_BYTE):
        return Precision(dtype, 0.5, BYTES[dtype], kv)
    if method and method != "none":
        return Precision("fp8", BYTES["fp8"], BYTES[dtype], kv)
    return Precision(dtype, BYTES[dtype], BYTES[dtype], kv)


def request_contexts(prompt: int, cached: int, generated: int) -> int:
    """A: how many tokens the inputs of a request see in all."""
    last = prompt + max(generated, 1) - 1
    return (last * (last + 1) - cached * (cached + 1)) // 2


def request_read(prompt: int, cached: int, generated: int) -> int:
    """R: how many tokens of the KV cache a request reads."""
    steps = max(generated, 1) - 1
    return cached + steps * prompt + steps * (steps + 1) // 2


def work_of(shape: Shape, precision: Precision, counts: Mapping[str, float]) -> Work:
    """FLOPs and bytes of what `counts` (see `COUNTS`) says was done."""
    generated = counts["generated_tokens"]
    inputs = counts["prompt_tokens"] - counts["cached_tokens"] + generated - counts["requests"]
    attention = 4.0 * shape.layers * shape.heads * shape.head_size * counts["contexts"]
    flops = 2.0 * (shape.layer_weights() * inputs + shape.output_weights() * generated) + attention
    weights = shape.layer_weights() * precision.layer_bytes + shape.output_weights() * precision.output_bytes
    kv = shape.kv_values() * precision.kv_bytes
    return Work(flops, weights * counts["steps"] + kv * counts["read_tokens"])
