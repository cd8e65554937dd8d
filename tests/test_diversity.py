"""Diversity and yield: each number counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixture_world import make_run, make_tokenizer

from ipt_stream import storage
from ipt_stream.analysis.diversity import DiversitySettings, analyze_diversity
from ipt_stream.analysis.diversity.count import Counting, Counts, add, count_rows, length_class, to_json
from ipt_stream.analysis.diversity.distinct import Distinct, ngram_hashes, text_hashes
from ipt_stream.analysis.diversity.openings import Opening, opening, opening_of
from ipt_stream.analysis.diversity.tables import quantile
from ipt_stream.analysis.folding import words
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import read_part
from ipt_stream.corpus.pair import COT_REQUEST, OPTIONS_HEADER, Pair
from ipt_stream.errors import ConfigError, LedgerError
from ipt_stream.synthesis.segment import SegmentRow, Status


@pytest.mark.parametrize(
    ("instruction", "kind", "first", "second"),
    [
        ("Describe the main causes of the war.", "task", "describe", "causes"),
        ("Please write a short poem about rain.", "task", "write", "poem"),
        ("Based on the text, what year did it open?", "question", "what", "year"),
        ("How many people live there?", "question", "how many", "people"),
        ("What is the name of the river?", "question", "what", "name"),
        ("What did the keeper build?", "question", "what", "build"),
        ("Which city hosts the games?", "question", "which", "city"),
        ("Who wrote it?", "question", "who", "wrote"),
        ("When was the old bridge built?", "question", "when", "built"),
        ("Is the statement true?", "question", "is", "true"),
        ("Do you know the answer?", "question", "do", "know"),
        ('Summarize: "The cat sat."', "task", "summarize", ""),
        ("Tell me the name of the miller", "task", "tell", "name"),
        ("Why?", "question", "why", ""),
        ("...", "", "", ""),
        ("", "", "", ""),
    ],
)
def test_how_an_instruction_begins(instruction: str, kind: str, first: str, second: str) -> None:
    assert opening_of(instruction) == Opening(kind, first, second)


def test_options_and_the_request_to_think_are_no_part_of_an_opening() -> None:
    pair = Pair(f"Name the town{OPTIONS_HEADER}\n- Ulm\n- Bern{COT_REQUEST}", "Ulm")
    assert opening(pair) == Opening("task", "name", "town")


@given(st.text(max_size=80))
def test_any_instruction_has_an_opening(instruction: str) -> None:
    found = opening_of(instruction)
    assert found.kind in ("", "task", "question") and (found.kind == "") == (found.first == "")


def test_distinct_ngrams_by_hand() -> None:
    """a b a b: of 4 words 2 differ, of 3 pairs of words 2, of 2 triples 2; `A, b!` adds two words and one pair."""
    found = ngram_hashes(["a b a b", "A, b!", ""], (1, 2, 3))
    counted = {}
    for n, hashes in found.items():
        one = Distinct(1000)
        one.add(hashes)
        counted[n] = (one.total, one.estimate(), one.level)
    assert counted == {1: (6, 2, 0), 2: (4, 2, 0), 3: (2, 2, 0)}


@given(st.lists(st.text(st.sampled_from("ab ,A"), max_size=20), max_size=5))
def test_distinct_ngrams_are_those_of_the_definition(texts: list[str]) -> None:
    found = ngram_hashes(texts, (1, 2))
    for n, hashes in found.items():
        grams = [tuple(seen[i : i + n]) for seen in map(words, texts) for i in range(len(seen) - n + 1)]
        assert hashes.size == len(grams) and len(set(hashes.tolist())) == len(set(grams))
    same = text_hashes(texts)
    assert len(set(same.tolist())) == len({tuple(words(text)) for text in texts})


def test_beyond_the_limit_the_count_is_an_estimate_and_the_room_is_bounded() -> None:
    texts = [f"word{number} word{number % 20_000}" for number in range(60_000)]
    whole, parts = Distinct(2048), Distinct(2048)
    hashes = ngram_hashes(texts, (1,))[1]
    whole.add(hashes)
    for start in range(0, hashes.size, 7001):
        part = Distinct(2048)
        part.add(hashes[start : start + 7001])
        parts.merge(part)
    assert len(set(hashes.tolist())) == 60_000
    assert whole.level > 0 and whole.held().size <= 2048 and whole.total == parts.total == 120_000
    assert whole.estimate() == pytest.approx(60_000, rel=0.1)  # 1.2 / sqrt(2048) is 2.7%
    assert (parts.level, parts.held().tolist()) == (whole.level, whole.held().tolist())
    from_the_start = Distinct(2048, whole.level)
    from_the_start.add(hashes)
    assert from_the_start.held().tolist() == whole.held().tolist()


def row(number: int, round_: int, text: str, *pairs: Pair, status: Status | None = None) -> SegmentRow:
    return SegmentRow(
        document_id=f"a:{number}", source_id=None, source="a", row=number, piece=0, chain=0, round=round_, text=text,
        pairs=pairs, inherits=round_ > 0, status=status or (Status.AUGMENTED if pairs else Status.NO_PAIRS), reason="",
        prompt_tokens=1, cached_tokens=0, generated_tokens=1, generation="",
    )  # fmt: skip


ROWS = [
    row(0, 0, "one two three", Pair("Who sat?", "the cat"), Pair("Who ran?", "the dog")),
    row(1, 1, "one two three four five", Pair("who sat", f"A thought.{COT_REQUEST}")),
    row(2, 1, "one"),
    row(3, 0, "one two", Pair(f"Who?{OPTIONS_HEADER}\n- a\n- b", "a")),
]
COUNTING = Counting(None, 1.0, 1024, 0)


def test_a_segment_is_counted_by_hand() -> None:
    found = count_rows(ROWS, COUNTING)
    assert dict(found.rounds) == {
        (0, "texts"): 2, (0, "with_pairs"): 2, (0, "pairs"): 3, (0, "inherits"): 0,
        (1, "texts"): 2, (1, "with_pairs"): 1, (1, "pairs"): 1, (1, "inherits"): 2,
    }  # fmt: skip
    assert dict(found.pairs_a_text) == {2: 1, 1: 2, 0: 1}
    assert dict(found.formats) == {(0, "free_form"): 2, (1, "free_form"): 1, (0, "multiple_choice"): 1}
    assert dict(found.lengths["text"]) == {3: 1, 5: 1, 1: 1, 2: 1}
    assert dict(found.lengths["instruction"]) == {2: 3, 4: 1}
    assert dict(found.openings) == {
        Opening("question", "who", "sat"): 2, Opening("question", "who", "ran"): 1, Opening("question", "who", ""): 1,
    }  # fmt: skip
    yields = {key: count for key, count in found.yields.items() if key[1] == "pairs"}
    assert yields == {(2, "pairs"): 3, (4, "pairs"): 1, (1, "pairs"): 0}
    distinct = {name: (one.estimate(), one.total) for name, one in found.distinct.items()}
    assert distinct["instruction 1"] == (6, 10)  # who sat ran options a b
    assert distinct["instruction 2"] == (5, 6)  # who sat, who ran, who options, options a, a b
    assert distinct["instructions"] == (3, 4) and distinct["pairs"] == (4, 4)


def test_parts_add_up_to_the_whole() -> None:
    whole, parts = count_rows(ROWS, COUNTING), count_rows([], COUNTING)
    for one in ROWS:
        assert add(parts, json.loads(json.dumps(to_json(count_rows([one], COUNTING)))), 100) == 0
    assert to_json(parts) == to_json(whole)


def test_the_rarest_openings_are_dropped_and_counted() -> None:
    counts = Counts(distinct=count_rows([], COUNTING).distinct)
    result = to_json(count_rows([], COUNTING))
    result["openings"] = [["task", f"verb{number}", "", 10 - number] for number in range(9)]
    assert add(counts, result, kept=4) == 2 + 3 + 4 + 5 + 6
    assert sorted(count for count in counts.openings.values()) == [7, 8, 9, 10]


def test_length_classes_and_quantiles_by_hand() -> None:
    assert [length_class(length) for length in (0, 1, 2, 3, 4, 7, 8, 1000)] == [0, 1, 2, 2, 4, 4, 8, 512]
    counted = {1: 5, 2: 4, 100: 1}
    assert [quantile(counted, share) for share in (0.05, 0.5, 0.51, 0.9, 0.95)] == [1, 1, 2, 2, 100]


def analyze(output: Path, inputs: Inputs, **settings: Any) -> dict[str, Any]:
    found = DiversitySettings.model_validate({"cores": 0, **settings})
    analyze_diversity(inputs, found, str(output))
    return dict(storage.read_json(str(output / "diversity.json")))


def test_a_run_is_counted_whole(tmp_path: Path) -> None:
    """Of 60 documents every fifth yields nothing; the others 1, 2 or 3 pairs, by their number modulo 3."""
    run, tokenizer = make_run(tmp_path), make_tokenizer(tmp_path)
    found = analyze(tmp_path / "out", Inputs(synthesis=str(run)), tokenizer=str(tokenizer))
    fruitful = [number for number in range(60) if number % 5 != 4]
    pairs = sum(1 + number % 3 for number in fruitful)
    assert found["total"] == {"texts": 60, "with_pairs": 48, "pairs": pairs, "inherits": 24}
    assert found["formats"] == {
        "free_form": 48, "multiple_choice": sum(n % 3 > 0 for n in fruitful),
        "free_form_cot": sum(n % 3 == 2 for n in fruitful), "multiple_choice_cot": 0,
    }  # fmt: skip
    assert found["pairs_a_text"] == {str(k): sum(1 + n % 3 == k for n in fruitful) for k in (1, 2, 3)} | {"0": 12}
    assert found["lengths"]["unit"] == "tokens" and found["lengths"]["text"]["count"] == 60
    assert sum(one["pairs"] for one in found["yields"]) == pairs
    assert found["distinct"]["instructions"]["share"] == 1.0 and found["distinct"]["instruction 1"]["exact"]
    tops = {(first, second): count for _, first, second, count in found["openings"]["top"]}
    assert tops["what", "first"] == 48
    part = read_part(str(tmp_path / "out"))
    assert {table.title for table in part.tables} >= {"Different over all", "Formats", "Yield by round"}
    assert part.headlines[0].value == f"{pairs / 60:.2f}"


def _tokenizer(folder: Path) -> Path:
    folder.mkdir()
    return make_tokenizer(folder)


def test_lengths_are_in_tokens_of_the_mixtures_tokenizer_and_in_words_without_one(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    run, tokenizer = make_run(tmp_path), _tokenizer(tmp_path / "mixture")
    words_found = analyze(tmp_path / "words", Inputs(synthesis=str(run)))
    tokens_found = analyze(tmp_path / "tokens", Inputs(synthesis=str(run), mixture=str(tmp_path / "mixture")))
    texts = [json.loads(line)["text"] for line in (tmp_path / "shard.jsonl").read_text("utf-8").splitlines()]
    assert words_found["lengths"]["text"]["mean"] == round(np.mean([len(words(text)) for text in texts]), 2)
    made = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    made.encode_special_tokens = True
    lengths = [len(made.encode(text, add_special_tokens=False).ids) for text in texts]
    assert tokens_found["lengths"]["text"]["mean"] == round(np.mean(lengths), 2)
    assert tokens_found["lengths"]["text"]["max"] == max(lengths)


def test_what_is_finished_answers_at_once_and_other_settings_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    inputs = Inputs(synthesis=str(run))
    analyze(tmp_path / "one", inputs)
    assert analyze_diversity(inputs, DiversitySettings(), str(tmp_path / "one")).skipped
    with pytest.raises(LedgerError, match="length_texts was 100000, is 7"):
        analyze(tmp_path / "one", inputs, length_texts=7)


def test_lengths_of_a_sample_say_so(tmp_path: Path) -> None:
    found = analyze(tmp_path / "out", Inputs(synthesis=str(make_run(tmp_path))), length_texts=20)
    assert found["lengths"]["share_of_texts"] == pytest.approx(1 / 3)
    assert 5 < found["lengths"]["text"]["count"] < 40 and found["total"]["texts"] == 60
    note = next(t.note for t in read_part(str(tmp_path / "out")).tables if t.title.startswith("Lengths"))
    assert note == "Of 33.3% of the texts, chosen by a hash."


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to count"):
        analyze(tmp_path / "out", Inputs())
    with pytest.raises(ConfigError, match="no tokenizer in"):
        analyze(tmp_path / "out", Inputs(synthesis=str(make_run(tmp_path))), tokenizer=str(tmp_path))
