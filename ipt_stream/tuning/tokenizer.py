"""The small synthesizer's own tokenizer: a byte-level BPE that can spell any text and invents nothing.

`<s>` begins a shot and `</s>` ends one; both are written out in the synthesizer's format, so neither is ever added.
The format's markers are plain text, as they are for the public synthesizer; but each is cut off as one word, which
the BPE then learns as one token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ipt_stream.errors import ConfigError
from ipt_stream.synthesis.prompt import BOS, EOS
from ipt_stream.synthesis.words import WORDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SMALLEST = 256 + 2


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `vocab_size` tokens, learned from `texts`: the same texts, the same tokenizer.

    Token 0 is `<s>` and 1 is `</s>`, which is the padding too. `save_pretrained` writes a folder that `AutoTokenizer`
    and vLLM load. Decoding gives back what was encoded, whatever the text.

    Raises:
        ConfigError: `vocab_size` has no room for the 256 bytes and both special tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocab_size < SMALLEST:
        raise ConfigError("the vocabulary is too small", wanted=f"at least {SMALLEST} tokens", got=str(vocab_size))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[
            AddedToken(BOS, normalized=False, special=True),
            AddedToken(EOS, normalized=False, special=True),
        ],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
