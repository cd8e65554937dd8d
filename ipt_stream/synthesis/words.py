"""Prompts tokenized word by word, and each word only once: the tokenizer's own tokens, several times as fast.

A prompt is cut before each single space that follows something other than a space:

    the miller's  house,\\n so many  ->  the | miller's |  house,\\n so | many

This is done for the tokenizers of which it is certain that no token reaches over such a cut, and that nothing on one
side of it changes the tokens on the other:

- Byte-level BPE within GPT-2's words or `WORDS`: these words are taken from left to right, none goes on over a space
  that follows something else, and none looks back.
- BPE over a whole text with its spaces as `▁` (Llama, Mistral), where no token of the vocabulary has a `▁` after
  another character: a merge makes a token, so none joins the two sides, and those of each side keep their order.

All other tokenizers are given whole prompts.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ipt_stream.synthesis.prompt import CONTEXT_START, EOS, format_context

# GPT-2's way to cut text into words, with three changes: a marker such as " <CON>" is one word, so is a run of line
# breaks ("\n\n" between pairs), and digits go in threes at most. The tokenizers that `tune` makes have it.
WORDS = (
    r" ?</?[A-Z]+>"
    r"|'(?:[sdmt]|ll|ve|re)"
    r"| ?\p{L}+"
    r"| ?\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+"
    r"|\n+"
    r"|\s+(?!\S)"
    r"|\s+"
)

MOST_CHARACTERS = 2**21
"""Of the words that are remembered: about 100 MB with their tokens. Then it starts anew."""

_CONTEXT_END = format_context("").removeprefix(CONTEXT_START).removeprefix(" ")
_CUT = re.compile(r" (?<=[^\s▁] )")  # Python's \s holds all that any engine takes for white space
_BEFORE_A_SPACE = tuple(chr(code) + " " for code in range(128) if chr(code).isspace())


class _Known(dict[str, bytes]):
    """The tokens of the words seen so far, 4 bytes each; a word that is asked for and not there is tokenized."""

    def __init__(self, backend: Any, parts: Callable[[str], list[str]]) -> None:
        super().__init__()
        self._bpe, self._parts = backend.model, parts
        self.characters = 0

    def __missing__(self, word: str) -> bytes:
        ids = array("I", (token.id for part in self._parts(word) for token in self._bpe.tokenize(part)))
        self[word] = found = ids.tobytes()
        self.characters += len(word)
        return found


class WordTokens:
    """Tokenizes word by word, and remembers what it has seen. Threads may share it.

    Args:
        backend: a `tokenizers.Tokenizer`.
        parts: what its BPE is given of a word and the space before it, one part at a time.
    """

    def __init__(self, backend: Any, parts: Callable[[str], list[str]]) -> None:
        self._new = partial(_Known, backend, parts)
        self._known = self._new()
        self._opening: list[int] = backend.encode(CONTEXT_START[:-1], add_special_tokens=False).ids
        self._closing: list[int] = backend.encode(EOS, add_special_tokens=False).ids

    def encode(self, prompt: str) -> list[int]:
        """A prompt of one shot, with or without its `</s>`, in tokens. No special token may stand in its texts."""
        is_closed = prompt.endswith(EOS)
        ids = self._opening + self._ids(prompt[len(CONTEXT_START) : -len(EOS) if is_closed else None])
        return ids + self._closing if is_closed else ids

    def encode_shot(self, context_ids: Sequence[int], text: str, pairs: str) -> list[int] | None:
        """A finished shot in tokens, of those of its context; None where that has to be tokenized anew.

        Args:
            context_ids: what `encode` gave for `format_context(text)`.
            text: as it stands in the context.
            pairs: what follows the context, `</s>` and all.
        """
        if not text or text[-1] == "▁" or text[-1].isspace():
            return None  # there is no cut between it and the context's end
        known = len(self._ids(_CONTEXT_END))
        return [*context_ids[:-known], *self._ids(_CONTEXT_END + pairs.removesuffix(EOS)), *self._closing]

    def _ids(self, text: str) -> list[int]:
        known = self._known
        ids = array("I", b"".join(map(known.__getitem__, _words(text))))
        if known.characters > MOST_CHARACTERS:
            self._known = self._new()
        return ids.tolist()


def _words(text: str) -> list[str]:
    """`text` cut as the module says."""
    if text.isascii() and not text.startswith(" ") and not any(pair in text for pair in _BEFORE_A_SPACE):
        return text.split(" ")
    return _CUT.split(text)


def word_tokens(backend: Any) -> WordTokens | None:
    """`WordTokens` of a `tokenizers.Tokenizer`, or None where it is not certain that its tokens keep to words."""
    definition = json.loads(backend.to_str())
    model, normalizer, words = definition["model"], definition["normalizer"], definition["pre_tokenizer"]
    if not all(_is_apart(token) for token in definition["added_tokens"]) or model["type"] != "BPE":
        return None
    if any(model[key] for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")):
        return None
    if normalizer is None and words in (_GPT2_WORDS, _OWN_WORDS):
        return WordTokens(backend, partial(_byte_parts, backend.pre_tokenizer))
    vocabulary = model["vocab"]
    if model["ignore_merges"] or "▁" not in vocabulary or any(re.search("[^▁]▁", token) for token in vocabulary):
        return None
    if (normalizer, words) == (_PREPENDED, None) or (normalizer is None and words in _METASPACES):
        return WordTokens(backend, lambda word: ["▁" + word.replace(" ", "▁")])
    return None


def _byte_parts(pre_tokenizer: Any, word: str) -> list[str]:
    letters = word.rstrip(",.;:")
    if letters.isascii() and letters.isalpha():  # most words: no need to ask
        return ["Ġ" + letters, word[len(letters) :]] if len(letters) < len(word) else ["Ġ" + letters]
    return [part for part, _ in pre_tokenizer.pre_tokenize_str(" " + word)]


def _is_apart(token: dict[str, Any]) -> bool:
    """Whether an added token is found in a text before anything else, and `neutralize` keeps it out of texts."""
    is_loose = any(token[key] for key in ("lstrip", "rstrip", "single_word", "normalized"))
    return token["special"] and not is_loose and re.fullmatch(r"\S{2,}", token["content"]) is not None


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_GPT2_WORDS = _byte_level(use_regex=True)
_OWN_WORDS = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": False},
        _byte_level(use_regex=False),
    ],
}
_METASPACES = tuple(
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    for scheme in ("first", "always", "never")
)
_PREPENDED = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
