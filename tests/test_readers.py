"""Readers: every row of every format comes out once, in order, as it was written; columns are found out or checked."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from shards import JSON_NAMES, NAMES, PLAIN, TEXTS, parquet, read, reasons_of, resolve, texts_of, write

from ipt_stream.corpus import formats
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import Reason
from ipt_stream.corpus.readers import read_rows
from ipt_stream.errors import InputError


@pytest.mark.parametrize("name", [*JSON_NAMES, "a.parquet"])
def test_every_text_comes_out_as_it_was_written(tmp_path: Path, name: str) -> None:
    rows = read(write(tmp_path / name, TEXTS))
    assert rows == [Document(f"{name}:{i}", str(i), name, i, text) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("name", NAMES)
def test_reading_from_a_row_gives_what_follows_it(tmp_path: Path, name: str) -> None:
    (shard,) = resolve(write(tmp_path / name, PLAIN))
    whole = list(read_rows(shard))
    assert len(whole) == 60
    for start in (0, 1, 16, 17, 18, 59, 60, 1000):
        assert list(read_rows(shard, start)) == whole[start:]


@pytest.mark.parametrize("name", NAMES)
def test_content_goes_before_the_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").mkdir()
    odd = write(tmp_path / name, PLAIN).rename(tmp_path / "x" / "part-0000.bin")
    assert texts_of(read(odd)) == PLAIN


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz", "a.jsonl", "a.parquet", "a.xml.gz"])
def test_memory_does_not_grow_with_the_shard(tmp_path: Path, name: str) -> None:
    def peak_bytes(documents: int) -> int:
        choose = random.Random(0)
        texts = [choose.randbytes(1000).hex() for _ in range(documents)]
        one_group = {"row_group_size": documents} if name == "a.parquet" else {}
        (shard,) = resolve(write(tmp_path / name, texts, **one_group))
        del texts
        next(read_rows(shard))
        tracemalloc.start()
        count = sum(isinstance(row, Document) for row in read_rows(shard))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == documents
        return peak

    assert peak_bytes(12_000) < 1.2 * peak_bytes(4_000) < 16 * 2**20


@pytest.mark.parametrize(
    ("columns", "text", "identifier"),
    [
        (["url", "content", "text"], "content", "url"),
        (["id", "url", "text"], "text", "id"),
        (["raw_content"], "raw_content", None),
    ],
)
def test_columns_are_found_out(tmp_path: Path, columns: list[str], text: str, identifier: str | None) -> None:
    (shard,) = resolve(parquet(tmp_path / "a.parquet", {name: ["a", "b"] for name in columns}))
    assert (shard.text_column, shard.id_column, shard.rows) == (text, identifier, 2)


def test_columns_within_structs_and_objects(tmp_path: Path) -> None:
    rows = [{"doc": {"body": f"text {i}"}, "a.b": i, "meta": {"id": i}} for i in range(3)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = parquet(tmp_path / "a.parquet", {key: [row[key] for row in rows] for key in rows[0]})
    for shard in (path, file):
        for id_column in (None, "meta.id", "a.b"):
            found = read(shard, text_column="doc.body", id_column=id_column)
            assert texts_of(found) == ["text 0", "text 1", "text 2"]
            assert [row.source_id for row in found] == ["0", "1", "2"]


def test_a_column_of_nulls_or_numbers_is_not_taken_for_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": null, "text": "a", "id": {"x": 1}, "url": "u"}\n' * 3)
    (shard,) = resolve(path)
    assert (shard.text_column, shard.id_column) == ("text", "url")
    (shard,) = resolve(parquet(tmp_path / "a.parquet", {"content": [1, 2], "text": ["a", "b"]}))
    assert shard.text_column == "text"


@pytest.mark.parametrize(
    ("columns", "named", "parts"),
    [
        ({"contents": ["a"]}, {}, ["no text column", "contents string", "input.text_column"]),
        ({"content": ["a"]}, {"text_column": "contnet"}, ["no column 'contnet'", "did you mean content?"]),
        ({"content": ["a"]}, {"id_column": "pmid"}, ["no column 'pmid'", "input.id_column", "content string"]),
        ({"content": [1.5]}, {"text_column": "content"}, ["wrong type", "wanted: strings"]),
        ({"content": ["a"], "id": [{"x": 1}]}, {"id_column": "id"}, ["wrong type", "wanted: strings or numbers"]),
    ],
)
def test_a_column_that_can_not_be_used_is_an_error_that_names_the_columns(
    tmp_path: Path, columns: dict[str, list[Any]], named: dict[str, str], parts: list[str]
) -> None:
    file = parquet(tmp_path / "a.parquet", columns)
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({name: values[0] for name, values in columns.items()}) + "\n")
    for path in (file, lines):
        with pytest.raises(InputError) as caught:
            resolve(path, **named)
        assert all(part in str(caught.value) for part in [*parts, path.name]), str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"words", "no known format"),
        ("a.json", b'[{"text": "a"}]', "no known format"),
        ("a.xml", b"<rss></rss>", "no known format"),
        ("a.jsonl.xz", b"\xfd7zXZ\x00", "got: xz"),
        ("a.jsonl", b"a,b\n1,2\n", "no JSON lines"),
        ("notes", b"", "an empty file"),
    ],
)
def test_a_file_that_is_no_shard_is_an_error(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        resolve(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_longer_than_any_document_is_rejected(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_ROW_BYTES", 1000)
    rows = read(write(tmp_path / name, ["a" * 1000, "b" * 1001, "c"]))
    assert [len(text) for text in texts_of(rows)] == [1000, 1]
    assert reasons_of(rows) == [Reason.TOO_LONG]


@pytest.mark.parametrize(
    ("folder", "documents", "rejected", "columns"),
    [
        ("pubmed", 1792, {}, ("text", "meta.pmid")),
        ("pubmed_xml", 104, {Reason.NO_ABSTRACT: 25}, ("ArticleTitle+AbstractText", "PMID")),
        ("web", 1000, {}, ("content", "url")),
    ],
)
def test_real_shards(
    shared_data: Path, folder: str, documents: int, rejected: dict[str, int], columns: tuple[str, str]
) -> None:
    shards = resolve(shared_data / folder)
    assert {(shard.text_column, shard.id_column) for shard in shards} == {columns}
    rows = [row for shard in shards for row in read_rows(shard)]
    assert len(texts_of(rows)) == documents
    assert Counter(reasons_of(rows)) == rejected
    assert len({row.document_id for row in rows if isinstance(row, Document)}) == documents
