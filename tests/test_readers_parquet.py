"""Parquet: text of every type that can hold some, in memory that follows neither row groups nor files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shards import PLAIN, parquet, read, reasons_of, resolve, texts_of

from ipt_stream.corpus.document import Document
from ipt_stream.corpus.readers import read_rows
from ipt_stream.errors import InputError


def test_parquet_rows_that_are_no_documents_say_why(tmp_path: Path) -> None:
    texts = pa.array(["fine", None, "", " "], pa.string())
    assert reasons_of(read(parquet(tmp_path / "a.parquet", {"text": texts}))) == ["null_text", "empty", "empty"]
    raw = pa.array([b"fine", b"\xff", "ü".encode()], pa.binary())
    for column in (raw, pa.Array.from_buffers(pa.string(), 3, raw.buffers()), raw.dictionary_encode()):
        rows = read(parquet(tmp_path / "b.parquet", {"text": column}))
        assert texts_of(rows) == ["fine", "ü"] and reasons_of(rows) == ["not_utf8"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]
)
def test_text_of_every_type_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(["naïve", None, "\0 日本"], pa.string()).cast(pa.large_string()).cast(kind)
    rows = read(parquet(tmp_path / "a.parquet", {"text": column}))
    assert texts_of(rows) == ["naïve", "\0 日本"] and reasons_of(rows) == ["null_text"]


@pytest.mark.parametrize("values", [[["a"], ["b"]], [1, 2], [{"x": "a"}, {"x": "b"}]])
def test_a_column_that_holds_no_text_is_refused(tmp_path: Path, values: list[Any]) -> None:
    path = parquet(tmp_path / "a.parquet", {"text": values})
    with pytest.raises(InputError, match="no text column"):
        resolve(path)
    with pytest.raises(InputError, match="wrong type"):
        resolve(path, text_column="text")


@pytest.mark.parametrize("name", ["text", "id"])
def test_two_columns_of_one_name_are_refused_where_it_is_the_one_that_is_read(tmp_path: Path, name: str) -> None:
    columns = [("text", ["a"]), ("id", ["1"]), ("x", [1]), ("x", [2])]
    table = pa.Table.from_arrays([pa.array(values) for _, values in columns], names=[name for name, _ in columns])
    pq.write_table(table, tmp_path / "a.parquet")
    assert texts_of(read(tmp_path / "a.parquet")) == ["a"]
    pq.write_table(table.append_column(name, pa.array(["z"])), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=f"two columns '{name}'"):
        resolve(tmp_path / "b.parquet")


def test_a_point_in_time_is_no_id(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"text": ["a"], "id": pa.array([2**40], pa.timestamp("us")), "url": ["u"]})
    assert [row.source_id for row in read(path)] == ["u"]
    with pytest.raises(InputError, match="wrong type"):
        resolve(path, id_column="id")


def test_no_row_groups_and_one_for_each_row(tmp_path: Path) -> None:
    pq.ParquetWriter(tmp_path / "none.parquet", pa.schema([("text", pa.string())])).close()
    assert read(tmp_path / "none.parquet") == []
    path = parquet(tmp_path / "many.parquet", {"text": PLAIN}, row_group_size=1)
    assert texts_of(read(path)) == PLAIN and texts_of(read(path, 57)) == PLAIN[57:]


@pytest.mark.parametrize("documents", [4_000, 16])
def test_what_arrow_holds_follows_neither_the_row_group_nor_the_texts(tmp_path: Path, documents: int) -> None:
    texts = [random.Random(i).randbytes(16 * 2**20 // documents).hex() for i in range(documents)]
    path = parquet(tmp_path / "a.parquet", {"text": texts}, documents, use_dictionary=False, write_batch_size=1)
    usual = pa.default_memory_pool()
    watched = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(watched)
    try:
        assert sum(isinstance(row, Document) for row in read_rows(resolve(path)[0])) == documents
    finally:
        pa.set_memory_pool(usual)
    assert 0 < watched.max_memory() < 14 * 2**20
