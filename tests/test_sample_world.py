"""The sample world: any size, the same bytes, disjoint people, and a judge that knows true pairs from false ones."""

from __future__ import annotations

import dataclasses
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ipt_stream import storage
from ipt_stream.corpus.pair import COT_REQUEST, OPTIONS_HEADER, Pair
from ipt_stream.corpus.sample_world import (
    SampleWorldConfig,
    document_id,
    document_url,
    read_world,
    shard_files,
    write_sample_world,
)
from ipt_stream.corpus.truth import Verdict, final_answer, judge, person_index
from ipt_stream.corpus.world import lexicon
from ipt_stream.corpus.world.facts import POOLS, Attribute, Draws, Population, World
from ipt_stream.corpus.world.pairs import OPTIONS, look_alikes, pairs_for
from ipt_stream.corpus.world.wording import (
    FILLERS,
    GENRES,
    QUESTIONS,
    SHORT_GENRES,
    STATEMENTS,
    document_text,
    genre_of,
)
from ipt_stream.errors import InputError, LedgerError
from ipt_stream.synthesis.prompt import format_pairs

people = st.integers(0, 10**7)
seeds = st.integers(0, 2**32)


def small(output: Path, **changes: int) -> SampleWorldConfig:
    sizes = {"documents": 50, "shard_documents": 16, "tuning_documents": 30, "validation_documents": 5}
    return SampleWorldConfig(output=str(output), evaluation_questions=20, **{**sizes, **changes})


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def documents(config: SampleWorldConfig) -> list[tuple[str, str]]:
    """(source id, text) of all shards, in order."""
    found = []
    for name, _ in shard_files(config):
        path = storage.join(config.output, name)
        if name.endswith(".parquet"):
            table = pq.read_table(path)
            found += list(zip(table["url"].to_pylist(), table["content"].to_pylist(), strict=True))
        else:
            with open(path, "rb") as file:
                text = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
                found += [(row["meta"]["id"], row["text"]) for row in map(json.loads, text)]
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SampleWorldConfig:
    config = small(tmp_path_factory.mktemp("world"))
    write_sample_world(config)
    return config


def test_same_seed_same_bytes_and_another_seed_another_world(made: SampleWorldConfig, tmp_path: Path) -> None:
    write_sample_world(small(tmp_path / "again"))
    write_sample_world(small(tmp_path / "other", seed=1))
    first, again, other = contents(Path(made.output)), contents(tmp_path / "again"), contents(tmp_path / "other")
    first.pop("stage.json"), again.pop("stage.json")  # holds the time it took
    assert first == again
    assert all(other[name] != first[name] for name in first)


def test_a_larger_world_begins_with_the_smaller_one(made: SampleWorldConfig, tmp_path: Path) -> None:
    larger = small(tmp_path, documents=90)
    write_sample_world(larger)
    assert documents(larger)[:50] == documents(made)
    assert contents(tmp_path)["tuning/train.jsonl"] == contents(Path(made.output))["tuning/train.jsonl"]


def test_shards_hold_the_columns_of_refinedweb_and_the_pile(made: SampleWorldConfig) -> None:
    names = [name for name, _ in shard_files(made)]
    assert names == [
        "shards/web-00000.parquet",
        "shards/notes-00000.jsonl.zst",
        "shards/web-00001.parquet",
        "shards/notes-00001.jsonl.zst",
    ]
    schema = pq.read_schema(storage.join(made.output, names[0]))
    assert schema.names == ["content", "url", "timestamp", "dump", "segment", "image_urls"]
    ids = [person_index(source_id) for source_id, _ in documents(made)]
    assert ids == [Population.CORPUS.index(position) for position in range(50)]


def test_a_second_call_skips_and_a_killed_one_is_taken_up(made: SampleWorldConfig, tmp_path: Path) -> None:
    before = contents(Path(made.output))
    assert write_sample_world(made).skipped
    assert contents(Path(made.output)) == before
    config = small(tmp_path)
    write_sample_world(config)
    whole = contents(tmp_path)
    (tmp_path / "shards/web-00001.parquet").unlink()
    (tmp_path / "world.json").unlink()
    unfinished = {**json.loads(whole["stage.json"]), "finished": False}
    (tmp_path / "stage.json").write_text(json.dumps(unfinished))
    assert not write_sample_world(config).skipped
    resumed = contents(tmp_path)
    whole.pop("stage.json"), resumed.pop("stage.json")
    assert resumed == whole
    with pytest.raises(LedgerError, match="seed was 0, is 1"):
        write_sample_world(small(tmp_path, seed=1))


def test_shards_tuning_and_held_out_questions_are_about_different_people(made: SampleWorldConfig) -> None:
    root, world = Path(made.output), read_world(made.output)
    corpus = {world.name(person_index(source_id)) for source_id, _ in documents(made)}
    contexts = [
        str(line["context"]) for part in ("train", "validation") for line in lines(root / f"tuning/{part}.jsonl")
    ]
    tuning = {world.name(Population.TUNING.index(position)) for position in range(len(contexts))}
    held_out = {world.name(Population.HELD_OUT.index(position)) for position in range(50)}
    assert len(corpus) + len(tuning) + len(held_out) == len(corpus | tuning | held_out)
    assert all(name in text for name, text in zip(sorted(tuning), sorted(contexts, key=_name_of(tuning)), strict=True))

    def asked(part: str) -> set[str]:
        names = corpus | tuning | held_out
        return {n for line in lines(root / f"evaluation/{part}.jsonl") for n in names if n in str(line["query"])}

    assert asked("seen") <= corpus
    assert asked("held_out") | asked("reading") <= held_out


def _name_of(names: set[str]):  # type: ignore[no-untyped-def]
    return lambda text: next(name for name in sorted(names) if name in text)


def test_the_short_tuning_documents_are_those_of_the_whole_that_tell_little(made: SampleWorldConfig) -> None:
    whole, short = (lines(Path(made.output) / f"tuning/{part}.jsonl") for part in ("train", "short"))
    nouns = {genre.noun for genre in SHORT_GENRES}
    assert short and short == [line for line in whole if line["source"] in nouns]


def test_evaluation_questions_have_one_true_choice_and_none_comes_twice(made: SampleWorldConfig) -> None:
    world = read_world(made.output)
    for part in ("seen", "held_out", "reading"):
        questions = lines(Path(made.output) / f"evaluation/{part}.jsonl")
        assert len(questions) == made.evaluation_questions
        assert len({str(q["query"]) for q in questions}) == len(questions)
        assert Counter(str(q["category"]) for q in questions).keys() == {a.value for a in Attribute}
        group = Population.CORPUS if part == "seen" else Population.HELD_OUT
        by_name = {world.name(group.index(p)): world.person(group.index(p)) for p in range(made.documents)}
        for question in questions:
            choices, gold = question["choices"], question["gold"]
            assert isinstance(choices, list) and isinstance(gold, int)
            assert len(set(choices)) == len(choices) == 4
            person = next(p for name, p in by_name.items() if name in str(question["query"]))
            assert choices[gold] == person.value(Attribute(question["category"]))
            assert (document_text(world, person.index) in str(question["query"])) == (part == "reading")


@given(seeds, st.lists(people, min_size=2, max_size=20, unique=True))
def test_names_are_unique_in_worlds_of_any_size(seed: int, indices: list[int]) -> None:
    world = World(seed)
    assert len({world.name(index) for index in indices}) == len(indices)


def test_the_first_people_have_unique_names_of_two_parts_and_every_part_occurs_in_every_group() -> None:
    world, size = World(3), len(lexicon.GIVEN) * len(lexicon.FAMILY)
    names = [world.name(index) for index in range(size)]
    assert len(set(names)) == size
    assert all(len(name.split()) == 2 for name in names)
    assert len(world.name(size).split()) == 3
    for group in Population:  # else the tuned model would meet parts of names that it has never seen
        parts = {part for position in range(2_000) for part in names[group.index(position)].split()}
        assert parts == {*lexicon.GIVEN, *lexicon.FAMILY}


@given(people)
def test_populations_share_nobody(position: int) -> None:
    indices = [group.index(position) for group in Population]
    residues = [{index % 4} for index in indices]
    assert not residues[0] & residues[1] | residues[1] & residues[2] | residues[0] & residues[2]
    assert all(group.index(position + 1) > group.index(position) for group in Population)


@given(seeds, people)
def test_a_document_names_its_person_in_every_sentence_and_states_what_its_genre_says(seed: int, index: int) -> None:
    world = World(seed)
    person, text = world.person(index), document_text(world, index)
    assert all(person.name in sentence for sentence in text.rstrip(".").split(". "))
    words = text.replace(".", "").split()
    for attribute in Attribute:
        stated = [word for word in words if word in POOLS[attribute]]
        assert stated == [person.value(attribute)] * (attribute in genre_of(world, index).states)
    assert person.land == world.land_of[person.town]


@given(seeds, people)
def test_true_pairs_are_judged_right(seed: int, index: int) -> None:
    world = World(seed)
    text, pairs = document_text(world, index), pairs_for(world, index)
    assert 2 <= len(pairs) <= 6
    assert len({pair.instruction for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert judge(world, document_url(index), text, pair) is Verdict.RIGHT
        assert judge(world, document_id(index), text, pair) is Verdict.RIGHT
        assert (OPTIONS_HEADER in pair.instruction) == genre_of(world, index).multiple_choice
        assert pair.instruction.endswith(COT_REQUEST) == genre_of(world, index).chain_of_thought


@given(seeds, people, st.data())
def test_another_value_another_person_or_an_answer_out_of_the_options_is_wrong(
    seed: int, index: int, data: st.DataObject
) -> None:
    world = World(seed)
    text, source_id = document_text(world, index), document_id(index)
    pair = data.draw(st.sampled_from(pairs_for(world, index)))
    answer = final_answer(pair)
    other = data.draw(st.sampled_from([v for pool in POOLS.values() for v in pool if v != answer]))
    at_end = pair.response[: len(pair.response) - len(answer)] + other
    assert judge(world, source_id, text, dataclasses.replace(pair, response=at_end)) is Verdict.WRONG
    assert judge(world, source_id, text, dataclasses.replace(pair, response=answer + " " + other)) is Verdict.WRONG
    assert judge(world, document_id(index + 1), document_text(world, index + 1), pair) is Verdict.WRONG
    assert judge(world, source_id, "A piece that does not say it.", pair) is Verdict.WRONG
    if OPTIONS_HEADER in pair.instruction:
        without = pair.instruction.replace(f"\n- {answer}", "\n- " + other)
        assert judge(world, source_id, text, dataclasses.replace(pair, instruction=without)) is Verdict.WRONG


@given(seeds, people)
def test_only_the_final_answer_of_a_chain_of_thought_counts(seed: int, index: int) -> None:
    world = World(seed)
    person, text = world.person(index), document_text(world, index)
    asked, other = genre_of(world, index).asks[:2]
    true, false = person.value(asked), person.value(other)
    question = QUESTIONS[asked][0].format(name=person.name) + COT_REQUEST
    thought = "Nobody knows.\nTherefore, the answer is "
    assert judge(world, document_id(index), text, Pair(question, thought + true)) is Verdict.RIGHT
    assert judge(world, document_id(index), text, Pair(question, thought + false)) is Verdict.WRONG
    assert judge(world, document_id(index), text, Pair(question, true + "\nTherefore, x")) is Verdict.WRONG


def test_a_question_whose_options_come_twice_is_wrong() -> None:
    world = World(0)
    index = next(i for i in range(100) if genre_of(world, i).noun == "list")
    pair, text = pairs_for(world, index)[0], document_text(world, index)
    answer = final_answer(pair)
    wrong = next(o for o in look_alikes(genre_of(world, index).asks[0], answer) if o != answer)
    doubled = dataclasses.replace(pair, instruction=pair.instruction.replace(f"- {wrong}", f"- {answer}"))
    assert judge(world, document_id(index), text, pair) is Verdict.RIGHT
    assert judge(world, document_id(index), text, doubled) is Verdict.WRONG


def test_options_are_groups_in_which_every_place_holds_the_answer_equally_often() -> None:
    for attribute, pool in POOLS.items():
        assert len(pool) % OPTIONS == 0
        places = Counter(look_alikes(attribute, value).index(value) for value in pool)
        assert set(places.values()) == {len(pool) // OPTIONS}
        assert all(
            look_alikes(attribute, v) == look_alikes(attribute, w) for v in pool for w in look_alikes(attribute, v)
        )


@pytest.mark.parametrize(
    "instruction",
    ["", "Why?", "What is the trade of ?", "What is the trade of his?", "what is the trade of Alden Braba?", "?" * 50],
)
def test_an_instruction_that_is_none_of_the_worlds_is_unanswerable(instruction: str) -> None:
    world = World(0)
    pair = Pair(instruction, world.person(0).trade)
    assert judge(world, document_id(0), document_text(world, 0), pair) is Verdict.UNANSWERABLE


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_text_breaks_the_judge(instruction: str, response: str) -> None:
    world = World(0)
    assert judge(world, document_id(4), document_text(world, 4), Pair(instruction, response)) is not Verdict.RIGHT


def test_an_id_of_another_corpus_is_refused() -> None:
    with pytest.raises(InputError, match="no document of the sample world"):
        judge(World(0), "https://example.org/page", "", Pair("a", "b"))


def test_all_four_formats_and_all_questions_occur() -> None:
    world = World(0)
    indices = [Population.TUNING.index(position) for position in range(400)]
    formats = Counter((genre_of(world, i).multiple_choice, genre_of(world, i).chain_of_thought) for i in indices)
    assert len(formats) == 4 and min(formats.values()) > 70
    text = "".join(format_pairs(pairs_for(world, i)) for i in indices)
    for wordings in QUESTIONS.values():
        assert all(wording.partition("{name}")[0] in text for wording in wordings)
    mean = sum(len(pairs_for(world, i)) for i in indices) / len(indices)
    assert 4 < mean < 5


def test_no_word_stands_for_two_things() -> None:
    pools = [*POOLS.values(), lexicon.GIVEN, lexicon.FAMILY]
    words = [word for pool in pools for word in pool]
    assert len(set(words)) == len(words) == 520
    wording = [
        w for group in (*STATEMENTS.values(), *QUESTIONS.values(), FILLERS) for line in group for w in line.split()
    ]
    assert not set(words) & {w.strip(".?,{}") for w in [*wording, *(genre.noun for genre in GENRES)]}
    assert all(len(set(genre.asks)) == len(genre.asks) for genre in GENRES)


@settings(max_examples=20)
@given(st.integers(), st.integers(1, 200))
def test_draws_follow_from_their_key_and_reach_everything(key: int, limit: int) -> None:
    one, two = Draws("test", key), Draws("test", key)
    drawn = [one.below(limit) for _ in range(limit * 12)]
    assert drawn == [two.below(limit) for _ in range(limit * 12)]
    assert set(drawn) <= set(range(limit))
    assert len(set(drawn)) > 0.9 * limit
    assert sorted(one.sample(range(limit), limit)) == list(range(limit))


def test_a_world_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"world\.json"):
        read_world(str(tmp_path))
