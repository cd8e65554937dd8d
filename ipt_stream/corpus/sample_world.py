"""The sample world as files: shards as real ones are, tuning data, evaluation sets; no download, all answers known.

    DIR/shards/web-00000.parquet ...        RefinedWeb's columns: content, url, timestamp, dump, segment, image_urls
    DIR/shards/notes-00000.jsonl.zst ...    The Pile's layout: text, meta (meta.id)
    DIR/tuning/train.jsonl, validation.jsonl    {source, context, pairs: [{instruction, response}]}
    DIR/tuning/short.jsonl                  those of train.jsonl with few facts and pairs, to begin with
    DIR/evaluation/seen.jsonl               {query, choices, gold, category}: about people whom the shards tell of
    DIR/evaluation/held_out.jsonl           the same about people of whom nothing is told
    DIR/evaluation/reading.jsonl            those, each with its document before the question
    DIR/world.json                          seed, counts, sizes of the lexicon

Shards, tuning data and held-out questions are about different people. A `url` and a `meta.id` end in the person's
number, from which `corpus.truth` computes what is true. Memory is that of one shard and of the tuning data, whatever
the number of documents (about 10,000 documents a second and core).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import Field

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.corpus.world.facts import POOLS, Attribute, Draws, Population, World
from ipt_stream.corpus.world.pairs import options_for, pairs_for
from ipt_stream.corpus.world.wording import GENRES, SHORT_GENRES, Genre, document_text, genre_of, question_text
from ipt_stream.errors import InputError
from ipt_stream.progress import meter
from ipt_stream.stage import Stage, StageReport, run_once

EPOCH_S = 1_577_836_800  # 2020-01-01: the first document's date; each is a minute after the one before


class SampleWorldConfig(Settings):
    """What to make, and how much of it. `documents` changes how many people there are, never the first ones."""

    output: str
    """The world's directory, local or an object store's."""
    seed: int = 0
    """Another seed, another world: other names, facts and documents."""
    documents: int = Field(2_000, ge=1)
    """Documents in the shards, one a person."""
    shard_documents: int = Field(256, ge=1)
    """Documents a shard; web and notes shards take turns. Set it to some 100,000 for millions of documents."""
    row_group_documents: int = Field(64, ge=1)
    """Rows of a Parquet row group."""
    tuning_documents: int = Field(12_000, ge=1)
    """Contexts with their pairs for tuning the synthesizer."""
    validation_documents: int = Field(200, ge=0)
    """Further such contexts, of other people, to validate on."""
    evaluation_questions: int = Field(300, ge=1)
    """Questions of each evaluation set."""


def write_sample_world(config: SampleWorldConfig) -> StageReport:
    """Write the world that `config` describes; files that are there already are kept, as they would be the same.

    Raises:
        LedgerError: the directory holds another stage, or a world of other settings.
        StorageError: a file can't be written.
    """
    return run_once(config.output, "sample-world", config.model_dump(exclude={"output"}), lambda s: _write(config, s))


def read_world(directory: str) -> World:
    """The world that was written to `directory`. Raises `InputError` where there is none."""
    path = storage.join(directory, "world.json")
    if not storage.exists(path):
        raise InputError(f"no sample world in {directory}", wanted=path, fix="make it with ipt-stream sample-world")
    return World(int(storage.read_json(path)["seed"]))


def shard_files(config: SampleWorldConfig) -> list[tuple[str, range]]:
    """Each shard's path below the output, and the positions among the shards' people that it tells of."""
    files = []
    for number, start in enumerate(range(0, config.documents, config.shard_documents)):
        name = f"notes-{number // 2:05d}.jsonl.zst" if number % 2 else f"web-{number // 2:05d}.parquet"
        positions = range(start, min(start + config.shard_documents, config.documents))
        files.append((storage.join("shards", name), positions))
    return files


def _write(config: SampleWorldConfig, stage: Stage) -> StageReport:
    world = World(config.seed)
    validation = range(config.tuning_documents, config.tuning_documents + config.validation_documents)
    with meter("sample world", config.documents, "documents") as bar:
        for name, positions in shard_files(config):
            path = storage.join(config.output, name)
            if not storage.exists(path):
                write = _web_shard if name.endswith(".parquet") else _notes_shard
                storage.publish_bytes(path, write(world, positions, config.row_group_documents))
            bar.update(len(positions))
    told, held_out = (
        [population.index(position) for position in range(config.documents)]
        for population in (Population.CORPUS, Population.HELD_OUT)
    )
    asked = config.evaluation_questions
    lines: dict[str, Iterable[dict[str, Any]]] = {
        "tuning/train.jsonl": _tuning(world, range(config.tuning_documents)),
        "tuning/short.jsonl": _tuning(world, range(config.tuning_documents), only=SHORT_GENRES),
        "tuning/validation.jsonl": _tuning(world, validation),
        "evaluation/seen.jsonl": questions_about(world, told, asked),
        "evaluation/held_out.jsonl": questions_about(world, held_out, asked),
        "evaluation/reading.jsonl": questions_about(world, held_out, asked, reading=True),
    }
    for name, records in lines.items():
        storage.publish_bytes(storage.join(config.output, name), json_lines(records))
    counts = {key: value for key, value in config.model_dump().items() if key not in ("output", "seed")}
    lexicon = {attribute.value: len(pool) for attribute, pool in POOLS.items()}
    storage.publish_json(
        storage.join(config.output, "world.json"), {"seed": config.seed, "counts": counts, "lexicon": lexicon}
    )
    figures = {"documents": config.documents, "shards": len(shard_files(config)), **_less_settings(counts)}
    return stage.finish(figures, (f"a world of {config.documents:,} documents in {config.output}",))


def _less_settings(counts: dict[str, int]) -> dict[str, int]:
    return {key: counts[key] for key in ("tuning_documents", "validation_documents", "evaluation_questions")}


def document_url(index: int) -> str:
    """The `url` of the document about person `index`."""
    return f"https://almanac.example/{document_id(index)}"


def document_id(index: int) -> str:
    """The `meta.id` of the document about person `index`; `corpus.truth` reads the person's number at its end."""
    return f"people/{index:09d}"


def _web_shard(world: World, positions: range, row_group_documents: int) -> bytes:
    """A Parquet file as RefinedWeb's are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    people = [Population.CORPUS.index(position) for position in positions]
    columns = {
        "content": pa.array([document_text(world, index) for index in people], pa.string()),
        "url": pa.array([document_url(index) for index in people], pa.string()),
        "timestamp": pa.array([(EPOCH_S + 60 * index) * 1000 for index in people], pa.timestamp("ms")),
        "dump": pa.array(["SAMPLE-WORLD"] * len(people), pa.string()),
        "segment": pa.array([str(index // 1000) for index in people], pa.string()),
        "image_urls": pa.array([[]] * len(people), pa.list_(pa.list_(pa.string()))),
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, row_group_size=row_group_documents)
    return buffer.getvalue()


def _notes_shard(world: World, positions: range, _: int) -> bytes:
    """JSON lines as The Pile's are, compressed by zstandard."""
    import zstandard

    people = [Population.CORPUS.index(position) for position in positions]
    records = ({"text": document_text(world, index), "meta": {"id": document_id(index)}} for index in people)
    return zstandard.ZstdCompressor(level=3).compress(json_lines(records))


def _tuning(world: World, positions: range, only: Sequence[Genre] = GENRES) -> Iterator[dict[str, Any]]:
    """Contexts of the genres `only`, with their pairs; the source is the genre, whose pairs all follow one pattern."""
    for position in positions:
        index = Population.TUNING.index(position)
        if genre_of(world, index) not in only:
            continue
        pairs = [{"instruction": pair.instruction, "response": pair.response} for pair in pairs_for(world, index)]
        yield {"source": genre_of(world, index).noun, "context": document_text(world, index), "pairs": pairs}


def questions_about(
    world: World, people: Sequence[int], most: int, *, reading: bool = False
) -> Iterator[dict[str, Any]]:
    """Multiple-choice questions about people spread evenly over `people`, all attributes alike, none twice.

    Args:
        world: the world that they live in.
        people: their numbers.
        most: how many questions; fewer where there are not so many.
        reading: whether a person's document stands before the question.

    Yields:
        Rows of a question file: query, choices, gold (index of the right choice), category (the attribute).
    """
    attributes = list(Attribute)
    count = min(most, len(people) * len(attributes))
    for number in range(count):
        index = people[number * len(people) // count]
        attribute = attributes[number % len(attributes)]
        draws = Draws(world.seed, "evaluation", index, attribute.value)
        person = world.person(index)
        question = f"Question: {question_text(attribute, person, draws)}\nAnswer:"
        choices = options_for(attribute, person.value(attribute), draws)
        yield {
            "query": f"{document_text(world, index)}\n\n{question}" if reading else question,
            "choices": choices,
            "gold": choices.index(person.value(attribute)),
            "category": attribute.value,
        }


def json_lines(records: Iterable[dict[str, Any]]) -> bytes:
    """The content of a JSON-lines file."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
