"""Prompts in tokens are those of the whole prompt, for both families of tokenizers that synthesizers have."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipt_stream.corpus.cut import cut
from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import EngineError
from ipt_stream.synthesis import words
from ipt_stream.synthesis.prompt import Shot, format_context, format_prompt, neutralize
from ipt_stream.synthesis.tokens import PromptTokenizer, wrap_tokenizer
from ipt_stream.synthesis.words import word_tokens
from ipt_stream.tuning.tokenizer import train_tokenizer

CORPUS = ["the miller of the old bridge lives in a stone town, who was it? </CON> <QUE> <ANS> </END>\n\n"] * 30
text = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(" the miller", " bridge", "the", "'s", ",", "</s>", "<s>", "<unk>", "<CON>", "</END>", "é", "日本"),
                *("\n\n", "\n", " ", "  ", "\t", "\r\n", "\x00", "\x1c", "\x85", "\xa0", "\u200b", "\u3000", "▁", "Ġ"),
            ]
        ),
        st.text(max_size=8),
    ),
    max_size=10,
).map("".join)
pair = st.builds(Pair, text, text)
shot = st.builds(Shot, text, st.lists(pair, min_size=1, max_size=3).map(tuple))


def byte_level() -> PromptTokenizer:
    return wrap_tokenizer(train_tokenizer(CORPUS, 400))


def gpt2_like() -> PromptTokenizer:
    from tokenizers import pre_tokenizers

    tokenizer = train_tokenizer(CORPUS, 400)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return wrap_tokenizer(tokenizer)


def sentencepiece_like(prepend: str, over_words: bool = False) -> PromptTokenizer:
    """A BPE as Llama and Mistral have it: spaces as `▁`, bytes for what it doesn't know, `<s>` and `</s>` special.

    Args:
        prepend: when a `▁` is put before a part that has none.
        over_words: whether tokens may go over the ends of words; theirs may not.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if not over_words:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([line.replace(" ", "▁") for line in CORPUS], trainer)
    # Training marks all as special; in such a tokenizer only these three are.
    rebuilt = Tokenizer(tokenizer.model)
    if prepend == "normalizer":  # the first generation: a normalizer puts ▁ before each part
        rebuilt.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        rebuilt.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=prepend, split=False)
    rebuilt.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    rebuilt.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials[:3]])
    return wrap_tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=rebuilt, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    )


BY_WORDS = {
    "byte-level": byte_level(),
    "gpt-2": gpt2_like(),
    "metaspace, first": sentencepiece_like("first"),
    "metaspace, always": sentencepiece_like("always"),
    "metaspace, never": sentencepiece_like("never"),
    "normalizer": sentencepiece_like("normalizer"),
}
WHOLE = {
    "metaspace, first, over words": sentencepiece_like("first", over_words=True),
    "metaspace, never, over words": sentencepiece_like("never", over_words=True),
    "normalizer, over words": sentencepiece_like("normalizer", over_words=True),
}
TOKENIZERS = BY_WORDS | WHOLE


def test_words_are_tokenized_alone_only_where_no_token_goes_over_their_ends() -> None:
    assert all(tokens.words is not None for tokens in BY_WORDS.values())
    assert all(tokens.words is None for tokens in WHOLE.values())


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
    of_contexts = [token for one in shots for token in tokens.shot(one, tokens.contexts([one.text])[0])]
    assert made[: len(of_contexts)] == of_contexts, "the context's tokens are those of the shot"
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


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it["model"].update(ignore_merges=True),
        lambda it: it["model"].update(dropout=0.5),
        lambda it: it["model"]["vocab"].update({"a▁b": 1000}),
        lambda it: it.update(normalizer={"type": "NFKC"}),
        lambda it: it["pre_tokenizer"].update(split=True),
        lambda it: it["added_tokens"][1].update(rstrip=True),
        lambda it: it["added_tokens"].append(it["added_tokens"][0] | {"id": 260, "content": "xy", "special": False}),
        lambda it: it["added_tokens"].append(it["added_tokens"][0] | {"id": 260, "content": "x"}),
    ],
)
def test_a_tokenizer_that_is_any_different_is_given_whole_prompts(change: Callable[[dict[str, Any]], object]) -> None:
    from tokenizers import Tokenizer

    definition = json.loads(BY_WORDS["metaspace, first"].tokenizer.backend_tokenizer.to_str())
    assert word_tokens(Tokenizer.from_str(json.dumps(definition))) is not None
    change(definition)
    assert word_tokens(Tokenizer.from_str(json.dumps(definition))) is None


def test_unknown_rules_for_words_are_not_trusted() -> None:
    from tokenizers import Regex, pre_tokenizers

    tokenizer = train_tokenizer(CORPUS, 400)
    split = pre_tokenizers.Split(Regex(words.WORDS + "|x y"), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    assert word_tokens(tokenizer.backend_tokenizer) is None


@pytest.mark.parametrize("family", BY_WORDS)
def test_words_that_are_forgotten_and_threads_that_share_them_change_nothing(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "MOST_CHARACTERS", 50)
    tokens = BY_WORDS[family]
    tokens = dataclasses.replace(tokens, words=word_tokens(tokens.tokenizer.backend_tokenizer))
    texts = [" ".join(f"w{i * j % 97}," for j in range(30)) for i in range(60)]
    wanted = tokens.tokenizer([format_context(text) for text in texts], add_special_tokens=False).input_ids
    made: list[list[list[int]]] = []
    threads = [threading.Thread(target=lambda: made.append(tokens.contexts(texts))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [wanted] * 4


@pytest.mark.parametrize("family", TOKENIZERS)
@settings(max_examples=30, deadline=None)
@given(text=text, budget=st.integers(40, 60))
def test_offsets_are_those_of_the_contexts_tokens_and_pieces_cut_by_them_fit(
    family: str, text: str, budget: int
) -> None:
    tokens = TOKENIZERS[family]
    text *= 9
    offsets, context = tokens.offsets(text), tokens.contexts([text])[0]
    assert len(offsets) == len(context)
    assert {at for start, end in offsets for at in range(start, end)} == set(range(len(text)))
    pieces = cut(text, budget, tokens.offsets)
    assert "".join(pieces) == text
    assert all(len(ids) <= budget for ids in tokens.contexts(pieces))
    assert (len(pieces) == 1) == (len(context) <= budget)


@pytest.mark.parametrize("family", TOKENIZERS)
@pytest.mark.parametrize("text", ["</s>" * 300, "<unk>\n" * 200, "<CON></END>" * 100, "x" * 1000, "\u200b" * 300])
def test_a_document_of_nothing_but_markers_or_one_word_is_cut_to_the_budget(family: str, text: str) -> None:
    tokens = TOKENIZERS[family]
    pieces = cut(text, 64, tokens.offsets)
    lengths = [len(ids) for ids in tokens.contexts(pieces)]
    assert "".join(pieces) == text and len(pieces) > 1
    assert max(lengths) <= 64 and min(lengths) >= 16


def test_a_document_just_at_the_budget_is_left_whole_and_one_token_more_is_cut() -> None:
    for tokens in TOKENIZERS.values():
        text = "the miller of the old bridge </s> " * 20
        length = len(tokens.contexts([text])[0])
        assert cut(text, length, tokens.offsets) == [text]
        assert len(cut(text, length - 1, tokens.offsets)) == 2


def test_special_tokens_that_have_no_name_are_kept_out_of_texts_too() -> None:
    from tokenizers import AddedToken

    tokenizer = train_tokenizer(CORPUS, 400)
    tokenizer.add_tokens([AddedToken("[INST]", special=True), AddedToken("||", special=True)])
    tokens = wrap_tokenizer(tokenizer)
    control = {tokenizer.convert_tokens_to_ids(token) for token in ("[INST]", "||")}
    assert not control & set(tokens.contexts(["a [INST] b ||| c [INST]|||| d"])[0])
    assert control <= set(tokenizer("[INST]||").input_ids)


def test_a_tokenizer_that_finds_its_ends_only_after_a_space_is_refused() -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    definition = json.loads(BY_WORDS["normalizer"].tokenizer.backend_tokenizer.to_str())
    for added in definition["added_tokens"]:
        added["normalized"] = True
    backend = Tokenizer.from_str(json.dumps(definition))
    with pytest.raises(EngineError, match="wherever they stand"):
        wrap_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>"))


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(EngineError, match="wanted: a fast one"):
        wrap_tokenizer(SimpleNamespace(is_fast=False, name_or_path="old"))
