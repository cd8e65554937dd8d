"""Prompts in tokens: exactly what `tokenizer(prompt, add_special_tokens=False)` gives for the whole prompt.

Because every shot starts with `<s>` and special tokens split a text before anything else happens, the tokens of a
prompt are those of its shots, one after the other; so each shot is tokenized once and reused by every later round.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ipt_stream.auto_tokenizer import auto_tokenizer
from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import EngineError
from ipt_stream.synthesis.logprobs import response_logprobs
from ipt_stream.synthesis.prompt import (
    BOS,
    CONTEXT_START,
    EOS,
    MARKERS,
    Shot,
    format_context,
    format_pairs,
    format_prompt,
    format_shot,
    neutralize,
)
from ipt_stream.synthesis.words import WordTokens, word_tokens


@dataclass(frozen=True, slots=True)
class PromptTokenizer:
    """A tokenizer, and the strings that may not stand in a text that it is given. Threads may share it.

    Attributes:
        tokenizer: a fast Hugging Face tokenizer.
        markers: the format's markers and the tokenizer's own special tokens.
        eos_token_id: where generation stops.
        context_overhead_tokens: what `format_context` adds to a text.
        words: what tokenizes word by word, where this tokenizer's tokens keep to words.
        pieces: the texts of single tokens, as far as they were asked for.
    """

    tokenizer: Any
    markers: tuple[str, ...]
    eos_token_id: int
    context_overhead_tokens: int
    words: WordTokens | None
    pieces: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    def contexts(self, texts: Sequence[str]) -> list[list[int]]:
        """`format_context` of each text, in tokens."""
        return self._encode([format_context(neutralize(text, self.markers)) for text in texts])

    def shot(self, shot: Shot, context_ids: Sequence[int] | None = None) -> list[int]:
        """A finished shot, in tokens.

        Args:
            shot: a text and its pairs.
            context_ids: what `contexts` gave for the text; so it needs not be tokenized twice.
        """
        neutral = self._neutral(shot)
        if self.words is not None and context_ids is not None:
            found = self.words.encode_shot(context_ids, neutral.text, format_pairs(neutral.pairs))
            if found is not None:
                return found
        return self._encode([format_shot(neutral)])[0]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where in `text` each token of its context starts and ends, in characters; of those around it, at its ends.

        So there are as many as `contexts([text])[0]` has tokens.
        """
        neutral = neutralize(text, self.markers)
        encoding = self.tokenizer.backend_tokenizer.encode(format_context(neutral), add_special_tokens=False)
        places = _places(text, neutral)
        first, last = len(CONTEXT_START), len(CONTEXT_START) + len(neutral)
        return [
            (places[min(max(start, first), last) - first], places[min(max(end, first), last) - first])
            for start, end in encoding.offsets
        ]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of generated tokens, without special ones."""
        return str(self.tokenizer.backend_tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def response_logprobs(
        self, token_ids: Sequence[int], logprobs: Sequence[float], places: Sequence[tuple[int, int]]
    ) -> tuple[float | None, ...]:
        """The mean log-probability of the responses at `places` of a generation (logprobs.py)."""
        return response_logprobs(self.decode, self.pieces, token_ids, logprobs, places)

    def _encode(self, prompts: list[str]) -> list[list[int]]:
        if self.words is not None:
            return [self.words.encode(prompt) for prompt in prompts]
        encoded = self.tokenizer.backend_tokenizer.encode_batch_fast(prompts, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def _neutral(self, shot: Shot) -> Shot:
        pairs = (
            Pair(neutralize(pair.instruction, self.markers), neutralize(pair.response, self.markers))
            for pair in shot.pairs
        )
        return Shot(neutralize(shot.text, self.markers), tuple(pairs))


def wrap_tokenizer(tokenizer: Any) -> PromptTokenizer:
    """A `PromptTokenizer` of a fast Hugging Face tokenizer.

    Raises:
        EngineError: `<s>` or `</s>` is not one token of it wherever it stands, so that the synthesizer's format can't
            be written.
    """
    if not tokenizer.is_fast:
        raise EngineError(
            f"the tokenizer of {tokenizer.name_or_path} can't be used",
            wanted="a fast one, which says what it does in a tokenizer.json",
            got=type(tokenizer).__name__,
            fix="convert it, as AutoTokenizer and save_pretrained do for most",
        )
    ids = {marker: tokenizer(marker, add_special_tokens=False).input_ids for marker in (BOS, EOS)}
    wrong = [marker for marker, found in ids.items() if len(found) != 1]
    if wrong:
        raise EngineError(
            f"the tokenizer of {tokenizer.name_or_path} doesn't know {wrong[0]}",
            wanted=f"{BOS} and {EOS} as one token each (the format that the instruction synthesizer was tuned on)",
            got=f"{wrong[0]} as {len(ids[wrong[0]])} tokens",
            fix="name a synthesizer's model folder, or one that `ipt-stream tune` made",
        )
    specials = [*tokenizer.all_special_tokens]
    specials += [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    # A special token of one character, or with a space in it, can't be taken apart by a space.
    markers = tuple(dict.fromkeys([*MARKERS, *(token for token in specials if re.fullmatch(r"\S{2,}", token))]))
    overhead = len(tokenizer(format_context(""), add_special_tokens=False).input_ids)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    wrapped = PromptTokenizer(tokenizer, markers, ids[EOS][0], overhead, word_tokens(backend))
    _check_shots(wrapped, ids[BOS] + ids[EOS])
    return wrapped


def _places(text: str, neutral: str) -> Sequence[int]:
    """Where in `text` each character of `neutral` stands, and its end: they differ by spaces put into markers."""
    if neutral == text:
        return range(len(text) + 1)
    places, at = [], 0
    for character in neutral:
        places.append(at)
        at += at < len(text) and character == text[at]
    return [*places, at]


_PROBE = Shot("A  river's\n\tlength,\r\n 12345 m: naïve 日本 🙂\n", (Pair("How long?\nOptions:\n- a", "a b."),))


def _check_shots(tokenizer: PromptTokenizer, ends: list[int]) -> None:
    """Raises `EngineError` where a prompt's tokens are not those of its shots, or `ends` are not where they belong."""
    whole = tokenizer.tokenizer(format_prompt([_PROBE, _PROBE], _PROBE.text), add_special_tokens=False).input_ids
    parts = [*tokenizer.shot(_PROBE), *tokenizer.shot(_PROBE), *tokenizer.contexts([_PROBE.text])[0]]
    found = [token for token in whole if token in ends]
    if whole != parts or found != [*ends, *ends, ends[0]]:
        raise EngineError(
            f"the tokenizer of {tokenizer.tokenizer.name_or_path} can't keep the shots of a prompt apart",
            wanted=f"{BOS} and {EOS} as one token each, wherever they stand",
            got="other tokens for a prompt of 3 shots than for each of them",
            fix="mark both as special and not normalized in its tokenizer.json",
        )


def load_tokenizer(model: str, revision: str | None = None) -> PromptTokenizer:
    """The tokenizer of a model folder or hub id. Raises `EngineError` where it can't be loaded or used."""
    try:
        tokenizer = auto_tokenizer(model, revision)
    except (OSError, ValueError) as error:
        raise EngineError(f"no tokenizer in {model}", wanted="a Hugging Face model folder", got=str(error)) from error
    tokenizer.model_max_length = int(1e9)  # Lengths are this package's business: no warning about long texts.
    return wrap_tokenizer(tokenizer)
