"""Greedy generation with a model that is being trained: what its quality is measured by (tuning/quality.py).

Prompts of like length go together, padded on the left. It is transformers' own `generate`, which needs no engine beside
the training; thousands of texts are the engine's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ipt_stream.synthesis.prompt import EOS
from ipt_stream.tuning.quality import Generate

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TAIL_TOKENS = 16
"""Of each text so many of its last tokens are looked at for where it is to stop."""


def greedy_generator(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_new_tokens: int,
    sequences: int,
    bfloat16: bool,
) -> Generate:
    """What `model` writes, where it is and in the mode that it is in.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer; prompts hold their own `<s>`.
        max_new_tokens: most tokens that are generated a prompt.
        sequences: prompts a batch.
        bfloat16: whether to compute in it, as training does.
    """

    def generate(prompts: Sequence[str], stop: str) -> list[str]:
        encoded = tokenizer(list(prompts), add_special_tokens=False)["input_ids"] if prompts else []
        order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
        texts = [""] * len(prompts)
        for at in range(0, len(order), sequences):
            chosen = order[at : at + sequences]
            made = _batch(model, tokenizer, [encoded[i] for i in chosen], stop, max_new_tokens, bfloat16)
            for index, text in zip(chosen, made, strict=True):
                texts[index] = text
        return texts

    return generate


def _batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    stop: str,
    max_new_tokens: int,
    bfloat16: bool,
) -> list[str]:
    import torch
    from transformers import GenerationConfig, StoppingCriteriaList

    longest = max(map(len, prompts))
    end = int(tokenizer.eos_token_id)
    tokens = torch.tensor([[end] * (longest - len(ids)) + ids for ids in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device)
    # What is left out here, a checkpoint's own generation settings would fill in: decoding is greedy all the same.
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=end,
        pad_token_id=end,
        bos_token_id=tokenizer.bos_token_id,
    )
    criteria = StoppingCriteriaList([] if stop == EOS else [_StopsAt(tokenizer, stop, longest)])
    generating: Any = model  # a mixin's method, which type checkers don't see
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
        written = generating.generate(
            input_ids=tokens, attention_mask=mask, generation_config=settings, stopping_criteria=criteria
        )
    texts = tokenizer.batch_decode(written[:, longest:], skip_special_tokens=False)
    return [text.split(EOS)[0].split(stop)[0] for text in texts]


class _StopsAt:
    """Says of each sequence whether what was written holds a text; once it does, it is done."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: str, prompt_tokens: int) -> None:
        self.tokenizer, self.stop, self.start = tokenizer, stop, prompt_tokens

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """True for each sequence that is done; shape (sequences,)."""
        import torch

        tails = input_ids[:, max(self.start, input_ids.shape[1] - TAIL_TOKENS) :]
        texts = self.tokenizer.batch_decode(tails, skip_special_tokens=False)
        return torch.tensor([self.stop in text for text in texts], device=input_ids.device)
