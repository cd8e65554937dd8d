"""Prompts in tokens: exactly what `tokenizer(prompt, add_special_tokens=False)` gives for the whole prompt.

Because every shot starts with `<s>` and special tokens split a text before anything else happens, the tokens of a
prompt are those of its shots, one after the other; so each shot is tokenized once and reused by every later round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import EngineError
from ipt_stream.synthesis.prompt import BOS, EOS, MARKERS, Shot, format_context, format_shot, neutralize


@dataclass(frozen=True, slots=True)
class PromptTokenizer:
    """A tokenizer, and the strings that may not stand in a text that it is given.

    Attributes:
        tokenizer: a fast Hugging Face tokenizer.
        markers: the format's markers and the tokenizer's own special tokens.
        eos_token_id: where generation stops.
        context_overhead_tokens: what `format_context` adds to a text.
    """

    tokenizer: Any
    markers: tuple[str, ...]
    eos_token_id: int
    context_overhead_tokens: int

    def contexts(self, texts: Sequence[str]) -> list[list[int]]:
        """`format_context` of each text, in tokens."""
        if not texts:
            return []
        prompts = [format_context(neutralize(text, self.markers)) for text in texts]
        return list(self.tokenizer(prompts, add_special_tokens=False).input_ids)

    def shot(self, shot: Shot) -> list[int]:
        """A finished shot, in tokens."""
        clean = Shot(neutralize(shot.text, self.markers), tuple(self._neutral(pair) for pair in shot.pairs))
        return list(self.tokenizer(format_shot(clean), add_special_tokens=False).input_ids)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where in `text` each of its tokens starts and ends, in characters."""
        return list(self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of generated tokens, without special ones."""
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _neutral(self, pair: Pair) -> Pair:
        return Pair(neutralize(pair.instruction, self.markers), neutralize(pair.response, self.markers))


def wrap_tokenizer(tokenizer: Any) -> PromptTokenizer:
    """A `PromptTokenizer` of a fast Hugging Face tokenizer.

    Raises:
        EngineError: `<s>` or `</s>` is not one token of it, so that the synthesizer's format can't be written.
    """
    ids = {marker: tokenizer(marker, add_special_tokens=False).input_ids for marker in (BOS, EOS)}
    wrong = [marker for marker, found in ids.items() if len(found) != 1]
    if wrong:
        raise EngineError(
            f"the tokenizer of {tokenizer.name_or_path} doesn't know {wrong[0]}",
            wanted=f"{BOS} and {EOS} as one token each (the format that the instruction synthesizer was tuned on)",
            got=f"{wrong[0]} as {len(ids[wrong[0]])} tokens",
            fix="name a synthesizer's model folder, or one that `ipt-stream tune` made",
        )
    markers = tuple(dict.fromkeys([*MARKERS, *(str(token) for token in tokenizer.all_special_tokens)]))
    overhead = len(tokenizer(format_context(""), add_special_tokens=False).input_ids)
    return PromptTokenizer(tokenizer, markers, ids[EOS][0], overhead)


def load_tokenizer(model: str, revision: str | None = None) -> PromptTokenizer:
    """The tokenizer of a model folder or hub id. Raises `EngineError` where it can't be loaded or used."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise EngineError(f"no tokenizer in {model}", wanted="a Hugging Face model folder", got=str(error)) from error
    tokenizer.model_max_length = int(1e9)  # Lengths are this package's business: no warning about long texts.
    return wrap_tokenizer(tokenizer)
