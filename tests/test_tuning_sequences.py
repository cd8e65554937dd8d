"""Reading tuning data, and forming sequences and batches from it: nothing lost, loss on the pairs alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import InputError, TrainingError
from ipt_stream.synthesis.prompt import format_context, format_pairs, format_shot
from ipt_stream.tuning.pairs import (
    PairFormat,
    TuningExample,
    TuningSource,
    examples_text,
    read_examples,
    read_source,
    split_held_out,
)
from ipt_stream.tuning.sequences import (
    EncodedShot,
    Phase,
    batch_arrays,
    encode_shots,
    form_batches,
    form_sequences,
    plan_batches,
    shot_of,
)
from ipt_stream.tuning.tokenizer import train_tokenizer

EXAMPLES = [
    TuningExample(
        source="abc"[number % 3],
        context=f"The {word} of Löwen stands by the river.\n\nIt was built in {1200 + number}, “they say”.",
        pairs=(
            Pair(f"When was the {word} built?", str(1200 + number)),
            Pair("Where?\nOptions:\n- by the river\n- on a hill", "by the river"),
            Pair(
                "Is it old?\nLet's think step by step.", f"{1200 + number} is long ago.\nTherefore, the answer is yes"
            ),
        )[: 1 + number % 3],
    )
    for number, word in enumerate(["bridge", "tower", "mill", "gate", "well", "wall", "barn", "inn", "dam", "pier"])
]


def byte_level() -> Any:
    return train_tokenizer([format_shot(shot_of(e, e.pairs)) for e in EXAMPLES], 400)


def sentencepiece_like() -> Any:
    """A BPE as Llama and Mistral have it: spaces as ▁, one put before the text, bytes for what it can't spell."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = [AddedToken(token, normalized=False, special=True) for token in ("<unk>", "<s>", "</s>")]
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    alphabet = sorted(set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?'-<>/▁"))
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, initial_alphabet=alphabet, limit_alphabet=99)
    texts = [line for e in EXAMPLES for line in format_shot(shot_of(e, e.pairs)).split("\n")]
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())
    for token in spelled:
        learned["model"]["vocab"].setdefault(token, len(learned["model"]["vocab"]))
    tokenizer = Tokenizer.from_str(json.dumps(learned))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module", params=[byte_level, sentencepiece_like])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_a_sequence_is_the_tokens_of_its_text_and_the_loss_covers_exactly_its_pairs(tokenizer: Any) -> None:
    shots, _ = encode_shots(EXAMPLES, tokenizer, 2048)
    assert [shot.context for shot in shots] == list(range(len(EXAMPLES)))
    sequences = form_sequences(shots, 1, 3, 2048, seed=1)
    assert max(map(len, sequences)) == 3
    tokens, labels, mask = batch_arrays(sequences, shots, padding=2)
    for row, sequence in enumerate(sequences):
        texts, counted, at = [], [], 0
        for index in sequence:
            shot = shot_of(EXAMPLES[index], EXAMPLES[index].pairs)
            texts.append(format_shot(shot))
            counted.append((at + len(format_context(shot.text)), at + len(texts[-1])))
            assert texts[-1].endswith(format_pairs(shot.pairs))
            at += len(texts[-1])
        whole = tokenizer("".join(texts), add_special_tokens=False, return_offsets_mapping=True)
        length = len(whole["input_ids"])
        assert tokens[row, :length].tolist() == whole["input_ids"]
        assert mask[row].tolist() == [1] * length + [0] * (mask.shape[1] - length)
        # every token is in a pair or out of all, never across a border
        inside = [any(a <= start and end <= b for a, b in counted) for start, end in whole["offset_mapping"]]
        outside = [all(end <= a or b <= start for a, b in counted) for start, end in whole["offset_mapping"]]
        assert inside == [not out for out in outside]
        wanted = [t if i else -100 for t, i in zip(whole["input_ids"], inside, strict=True)]
        assert labels[row].tolist() == wanted + [-100] * (labels.shape[1] - length)
        assert labels[row][labels[row] != -100].tolist().count(tokenizer.eos_token_id) == len(sequence)


def test_an_example_that_is_too_long_is_cut_between_its_pairs_and_loses_none() -> None:
    tokenizer = byte_level()
    pairs = tuple(Pair(f"Question {i}?", f"answer {i} " * 5) for i in range(9))
    example = TuningExample("a", "A short text.", pairs)
    length = len(tokenizer(format_shot(shot_of(example, pairs[:2])), add_special_tokens=False)["input_ids"])
    shots, counts = encode_shots([example], tokenizer, length)
    assert counts == {"examples_split": 1}
    text = "".join(tokenizer.decode(shot.tokens[shot.pairs_from :]) for shot in shots)
    assert text.replace("</s>", "\n\n") == "\n\n".join(format_pairs([p])[:-4] for p in pairs) + "\n\n"
    assert all(len(shot.tokens) <= length for shot in shots)
    assert all(len(sequence) == 1 for sequence in form_sequences(shots, 3, 3, 10_000, 0)), "one context, one shot each"
    long = TuningExample("a", "word " * 2000, pairs[:2])
    shots, counts = encode_shots([example, long], tokenizer, 400)
    assert counts["pairs_too_long"] == 2
    assert {shot.context for shot in shots} == {0}


def test_markers_in_the_data_stay_text() -> None:
    tokenizer = byte_level()
    example = TuningExample("a", "A page with </s><s> <CON> in it.", (Pair("What <ANS> is?", "A </END></s>."),))
    shots, _ = encode_shots([example], tokenizer, 500)
    ids = shots[0].tokens.tolist()
    assert (ids.count(tokenizer.bos_token_id), ids.count(tokenizer.eos_token_id)) == (1, 1)
    text = tokenizer.decode(ids)
    assert [text.count(marker) for marker in ("<CON>", "<QUE>", "<ANS>", "</END>")] == [1, 1, 1, 1]


def test_a_tokenizer_that_merges_across_shots_is_refused() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    plain.train_from_iterator([format_shot(shot_of(e, e.pairs)) * 2 for e in EXAMPLES], trainer)
    with pytest.raises(TrainingError, match="can't hold the synthesizer's format"):
        encode_shots(EXAMPLES, PreTrainedTokenizerFast(tokenizer_object=plain), 2048)


shot_lists = st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 30), st.integers(2, 50)), min_size=1)


def made(drawn: list[tuple[str, int, int]]) -> list[EncodedShot]:
    """Shots of contexts that belong to one source each."""
    return [EncodedShot("xyz"[c % 3], c, np.arange(length, dtype=np.int32), 1) for _, c, length in drawn]


@given(shot_lists, st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**32))
def test_a_pass_holds_every_shot_once_in_sequences_of_one_source_and_different_contexts(
    drawn: list[tuple[str, int, int]], least: int, more: int, seed: int
) -> None:
    shots = made(drawn)
    sequences = form_sequences(shots, least, least + more, 100, seed)
    assert sorted(index for sequence in sequences for index in sequence) == list(range(len(shots)))
    for sequence in sequences:
        assert 1 <= len(sequence) <= least + more
        assert len({shots[i].source for i in sequence}) == 1
        assert len({shots[i].context for i in sequence}) == len(sequence)
        assert sum(len(shots[i].tokens) for i in sequence) <= 100
    assert sequences == form_sequences(shots, least, least + more, 100, seed)


@given(shot_lists, st.integers(50, 300), st.integers(0, 2**32))
def test_batches_hold_every_sequence_once_and_no_more_than_their_tokens(
    drawn: list[tuple[str, int, int]], tokens_per_batch: int, seed: int
) -> None:
    shots = made(drawn)
    sequences = form_sequences(shots, 1, 1, 50, seed)
    batches = form_batches(sequences, [len(shots[i].tokens) for (i,) in sequences], tokens_per_batch, seed)
    assert sorted(sequence for batch in batches for sequence in batch) == sorted(sequences)
    for batch in batches:
        assert len(batch) * max(len(shots[i].tokens) for (i,) in batch) <= tokens_per_batch


def test_phases_take_their_share_of_the_steps_and_of_the_shots() -> None:
    shots = [EncodedShot("a", i, np.zeros(20, np.int32), 10) for i in range(40)]
    phases = [Phase(shots=1, share=0.4), Phase(shots=(2, 3), share=0.6)]
    sizes: dict[str, int] = {"max_seq_len": 100, "tokens_per_batch": 100, "seed": 3}
    planned = plan_batches(shots, phases, steps=50, epochs=1, **sizes)
    assert len(planned) == 50
    assert {len(sequence) for batch in planned[:20] for sequence in batch} == {1}
    assert {len(sequence) for batch in planned[20:] for sequence in batch} >= {2, 3}
    assert planned == plan_batches(shots, phases, steps=50, epochs=1, **sizes)
    assert planned != plan_batches(shots, phases, steps=50, epochs=1, **{**sizes, "seed": 4})
    twice = plan_batches(shots, [Phase(shots=1, share=1)], steps=None, epochs=2, **sizes)
    assert set(Counter(i for batch in twice for sequence in batch for i in sequence).values()) == {2}
    filled = plan_batches(shots, [Phase(shots=(1, None))], steps=None, epochs=1, **sizes)
    assert [len(sequence) for batch in filled for sequence in batch] == [5] * 8, "filled up to the length"


@settings(max_examples=30)
@given(st.floats(0.1, 4))
def test_epochs_need_not_be_whole(epochs: float) -> None:
    shots = [EncodedShot("a", i, np.zeros(10, np.int32), 5) for i in range(50)]
    sizes: dict[str, int] = {"max_seq_len": 10, "tokens_per_batch": 10, "seed": 0}
    planned = plan_batches(shots, [Phase()], steps=None, epochs=epochs, **sizes)
    assert abs(len(planned) - epochs * len(shots)) <= 1


def write_lines(path: Path, *rows: object) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return str(path)


def test_rows_of_another_shape_are_refused_by_file_and_line(tmp_path: Path) -> None:
    good = {"source": "a", "context": "c", "pairs": [{"instruction": "i", "response": "r"}]}
    assert read_examples(write_lines(tmp_path / "good.jsonl", good)) == [TuningExample("a", "c", (Pair("i", "r"),))]
    for bad in ({"context": "c"}, {**good, "pairs": []}, {**good, "context": 3}, {**good, "pairs": ["x"]}, "[1]", "{"):
        with pytest.raises(InputError, match=r"bad\.jsonl, line 2"):
            read_examples(write_lines(tmp_path / "bad.jsonl", good, bad))


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    pairs = [{"instruction": text, "response": "r"} for text in ("One?", "one?", "Two?", " ")]
    rows = [{"source": "a", "context": f"text {i}", "pairs": pairs[: 1 + 3 * (i == 1)]} for i in range(3)]
    examples, counts = read_source(TuningSource(path=write_lines(tmp_path / "x.jsonl", *rows)), None, max_contexts=2)
    assert [(e.context, len(e.pairs)) for e in examples] == [("text 0", 1), ("text 1", 2)], "those with most pairs"
    assert counts == {"duplicate_pairs": 1, "empty_pairs": 1, "contexts_over_the_limit": 1}


@settings(max_examples=50)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=40), st.integers(100, 400), st.data())
def test_a_long_context_is_cut_into_windows_that_hold_their_answers(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int, data: st.DataObject
) -> None:
    words = [f"w{i}x{'y' * (size % 9)}" for i, size in enumerate(sizes * 5)]
    context = " ".join(
        word + ("." if i % 7 == 6 else "") + ("\n\n" if i % 20 == 19 else "") for i, word in enumerate(words)
    )
    asked = data.draw(st.lists(st.integers(0, len(words) - 1), min_size=1, max_size=10, unique=True))
    questions = [
        {"question": f"{i}?", "answers": [{"text": words[i], "answer_start": context.index(words[i])}]} for i in asked
    ]
    file = tmp_path_factory.mktemp("squad") / "x.json"
    file.write_text(json.dumps({"data": [{"paragraphs": [{"context": context, "qas": questions}]}]}))
    examples, counts = read_source(TuningSource(source="published/squad", path=str(file)), limit)
    assert counts["contexts_cut"] == (len(context.rstrip()) > limit), "white space at the end is no text"
    assert sorted(p.instruction for e in examples for p in e.pairs) == sorted(f"{i}?" for i in asked)
    for example in examples:
        assert example.context in context
        assert all(pair.response in example.context for pair in example.pairs)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=40), st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 9))
def test_no_context_is_tuned_on_and_held_out_whole_or_as_a_window(
    windows: list[int], share: float, other: float, seed: int
) -> None:
    pair = (Pair("Q?", "A"),)
    examples = [
        TuningExample(source, f"text {number} part {window}", pair, origin=f"text {number}")
        for number, count in enumerate(windows)
        for window in range(count)
        for source in ("a", "b")
    ]
    kept, held = split_held_out(examples, share, seed)
    assert sorted(map(str, kept + held)) == sorted(map(str, examples))
    assert not {item.document for item in kept} & {item.document for item in held}
    more = split_held_out(examples, max(share, other), seed)[1]
    assert set(map(str, held)) <= set(map(str, more)), "what is held out stays so"


def test_about_the_share_of_the_contexts_is_held_out_and_each_seed_its_own() -> None:
    examples = [TuningExample("a", f"text {number}", (Pair("Q?", "A"),)) for number in range(2000)]
    held = [split_held_out(examples, 0.1, seed)[1] for seed in (0, 1)]
    assert all(150 < len(found) < 250 for found in held)
    assert held[0] != held[1]
    spaced = [TuningExample("b", item.context.replace(" ", "  "), item.pairs) for item in examples]
    assert [item.context.replace("  ", " ") for item in split_held_out(spaced, 0.1, 0)[1]] == [
        item.context for item in held[0]
    ], "the same text in another source, with other white space, is on the same side"


def test_examples_come_back_from_their_lines(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(examples_text(EXAMPLES))
    assert read_examples(str(tmp_path / "x.jsonl")) == EXAMPLES


@pytest.mark.parametrize(
    ("folder", "contexts", "windows", "pairs"),
    [("squad", 240, 243, 1185), ("covid_qa", 98, 478, 1360), ("pubmedqa", 1000, 1000, 1000),
     ("fairytaleqa", 804, 806, 2032), ("aqua_rat", 508, 508, 508), ("cos_e", 950, 950, 950)],
)  # fmt: skip
def test_published_data_sets_are_read_whole(
    shared_data: Path, folder: str, contexts: int, windows: int, pairs: int
) -> None:
    source = TuningSource(source=f"published/{folder}", path=str(shared_data / "tuning" / folder))
    whole, _ = read_source(source, None)
    examples, counts = read_source(source, 2000)
    assert [len(whole), len(examples)] == [contexts, windows]
    for read in (whole, examples):
        assert sum(len(example.pairs) for example in read) == pairs
    assert all(len(example.context) <= 2600 for example in examples)
    assert not counts["empty_pairs"]
    formats = Counter(PairFormat.of(pair) for example in examples for pair in example.pairs)
    thoughts = [p.response.split("\nTherefore")[0] for e in examples for p in e.pairs if "\nTherefore" in p.response]
    if folder in ("aqua_rat", "cos_e"):
        assert formats.keys() == {PairFormat.MULTIPLE_CHOICE, PairFormat.MULTIPLE_CHOICE_COT}
        assert abs(len(thoughts) / pairs - 0.5) < 0.06
        texts = "\n".join(example.context for example in examples)
        assert not any(thought in texts for thought in thoughts if len(thought) > 40), "a rationale is no context"
    elif folder == "pubmedqa":
        assert all(abs(count / pairs - 1 / 3) < 0.05 for count in formats.values()) and len(formats) == 3
    else:
        assert formats == {PairFormat.FREE_FORM: pairs}
