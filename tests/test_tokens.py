"""Prompts in tokens are those of the whole prompt, for both families of tokenizers that synthesizers have."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import EngineError
from ipt_stream.synthesis.prompt import Shot, format_prompt, neutralize
from ipt_stream.synthesis.tokens import PromptTokenizer, wrap_tokenizer
from ipt_stream.tuning.tokenizer import train_tokenizer

CORPUS = ["the miller of the old bridge lives in a stone town, who was it? </CON> <QUE> <ANS> </END>\n\n"] * 30
text = st.lists(
    st.one_of(
        st.sampled_from(
            [" the miller", " bridge", "\n\n", "</s>", "<s>", "<CON>", "</END>", "▁", " ", "é", "日本", "\t"]
        ),
        st.text(max_size=8),
    ),
    max_size=10,
).map("".join)
pair = st.builds(Pair, text, text)
shot = st.builds(Shot, text, st.lists(pair, min_size=1, max_size=3).map(tuple))


def byte_level() -> PromptTokenizer:
    return wrap_tokenizer(train_tokenizer(CORPUS, 400))


def sentencepiece_like(prepend: str) -> PromptTokenizer:
    """A BPE as Llama and Mistral have it: spaces as `▁`, bytes for what it doesn't know, `<s>` and `</s>` special."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if prepend == "normalizer":  # the first generation: a normalizer puts ▁ before each part
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=prepend, split=False)
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([line.replace(" ", "▁") for line in CORPUS], trainer)
    # Training marks all as special; in such a tokenizer only these three are.
    trained = tokenizer.model
    rebuilt = Tokenizer(trained)
    rebuilt.normalizer, rebuilt.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    rebuilt.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    rebuilt.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials[:3]])
    return wrap_tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=rebuilt, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    )


TOKENIZERS = {
    "byte-level": byte_level(),
    "metaspace, first": sentencepiece_like("first"),
    "metaspace, always": sentencepiece_like("always"),
    "metaspace, never": sentencepiece_like("never"),
    "normalizer": sentencepiece_like("normalizer"),
}


@pytest.mark.parametrize("family", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(shots=st.lists(shot, max_size=3), new=text)
def test_shots_and_context_are_the_tokens_of_the_whole_prompt(family: str, shots: list[Shot], new: str) -> None:
    tokens = TOKENIZERS[family]
    tokenizer = tokens.tokenizer
    made = [token for one in shots for token in tokens.shot(one)] + tokens.contexts([new])[0]
    clean = [
        Shot(
            neutralize(one.text, tokens.markers),
            tuple(
                Pair(neutralize(p.instruction, tokens.markers), neutralize(p.response, tokens.markers))
                for p in one.pairs
            ),
        )
        for one in shots
    ]
    whole = format_prompt(clean, neutralize(new, tokens.markers))
    assert made == tokenizer(whole, add_special_tokens=False).input_ids
    assert made.count(tokenizer.bos_token_id) == len(shots) + 1, "exactly one BOS a shot, whatever the texts hold"
    assert made.count(tokenizer.eos_token_id) == len(shots)


@pytest.mark.parametrize("family", ["byte-level", "metaspace, first", "metaspace, never", "normalizer"])
def test_the_space_after_bos_is_a_token_of_its_own_kind(family: str) -> None:
    tokenizer = TOKENIZERS[family].tokenizer
    with_space = TOKENIZERS[family].contexts(["the miller"])[0]
    without = tokenizer("<s><CON> the miller </CON>\n\n", add_special_tokens=False).input_ids
    assert with_space != without


def test_a_tokenizer_without_the_formats_tokens_is_refused() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.WordLevel({"a": 0, "<": 1, "s": 2, ">": 3, "/": 4}, unk_token="a"))
    bare.pre_tokenizer = pre_tokenizers.Punctuation()
    with pytest.raises(EngineError, match=r"wanted: <s> and </s> as one token each"):
        wrap_tokenizer(PreTrainedTokenizerFast(tokenizer_object=bare))
