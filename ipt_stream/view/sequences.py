"""Packed token sequences as text again: documents apart, padding counted, ids that stand for no text visible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ipt_stream import storage
from ipt_stream.auto_tokenizer import TOKENIZER_FILE
from ipt_stream.errors import InputError
from ipt_stream.mixture.mix import TOKENIZER
from ipt_stream.mixture.pack import padding
from ipt_stream.view.items import Kind, Part
from ipt_stream.view.show import escape

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Decoder:
    """Takes sequences apart.

    Attributes:
        tokenizer: the mixture's.
        eos: the id that ends a document.
        special: ids that no text is encoded to.
    """

    tokenizer: Tokenizer
    eos: int
    special: frozenset[int]

    def parts(self, tokens: Sequence[int]) -> tuple[Part, ...]:
        """The parts of one sequence, in order; their tokens add up to it.

            a b c . d e . . .      text `a b c`, border, text `d e`, border, padding of 2

        A character that the end of a sequence cuts in two shows as U+FFFD; and where a sequence begins within a
        document, decoders of the Llama family leave out the space before its first word.
        """
        padded = int(padding(np.array([tokens]), self.eos).sum())
        used = tokens[: len(tokens) - padded]
        parts = list(self._stretches(used))
        if padded:
            parts.append(Part(Kind.PADDING, tokens=padded))
        elif used and used[-1] != self.eos:
            parts.append(Part(Kind.UNENDED))
        return tuple(parts)

    def _stretches(self, tokens: Sequence[int]) -> Iterator[Part]:
        for is_text, stretch in groupby(tokens, self._is_text):
            ids = list(stretch)
            if is_text:
                text: str = self.tokenizer.decode(ids, skip_special_tokens=False)
                yield Part(Kind.TEXT, text, tokens=len(ids))
            else:
                yield from (
                    Part(
                        Kind.BORDER if token == self.eos else Kind.SPECIAL,
                        self.tokenizer.id_to_token(token),
                        tokens=1,
                        token_id=token,
                    )
                    for token in ids
                )

    def _is_text(self, token: int) -> bool:
        return token != self.eos and token not in self.special and self.tokenizer.id_to_token(token) is not None


def load_decoder(mixture: str, eos: int | None = None) -> Decoder:
    """The decoder of the mixture in `mixture`, finished or not.

    Args:
        mixture: its directory or URL.
        eos: the plan's EOS; None: what the tokenizer's settings name.

    Raises:
        InputError: there is no tokenizer in it, or none that can be used.
    """
    from tokenizers import Tokenizer  # not transformers, which takes seconds to import

    path = storage.join(mixture, TOKENIZER, TOKENIZER_FILE)
    if not storage.exists(path):
        raise InputError(
            f"no tokenizer to decode the tokens with in {mixture}",
            wanted=f"{TOKENIZER}/{TOKENIZER_FILE} there",
            got="no such file",
            fix="view the tokens where mix wrote them, in their mixture",
        )
    content = storage.read_bytes(path)
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises nothing more special
        raise InputError(f"{path} is not a tokenizer", got=escape(str(error)), fix="mix again") from error
    if eos is None:
        named = storage.read_json(storage.join(mixture, TOKENIZER, "tokenizer_config.json")).get("eos_token")
        eos = tokenizer.token_to_id(named["content"] if isinstance(named, dict) else str(named))
        if eos is None:
            raise InputError(f"the tokenizer in {mixture} has no EOS", got=escape(str(named)), fix="mix again")
    added = tokenizer.get_added_tokens_decoder()
    return Decoder(tokenizer, eos, frozenset(number for number, token in added.items() if token.special))
