"""Shards that are cut off or corrupt: their readable rows, and then where they broke."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shards import ANY_FILE, NAMES, PLAIN, parquet, read, resolve, rows_until_broken, texts_of, write, xml_of

from ipt_stream.corpus.formats import Format, ShardBroken
from ipt_stream.corpus.readers import read_rows
from ipt_stream.errors import InputError


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.xml", "a.xml.gz"])
def test_a_shard_cut_off_anywhere_gives_its_readable_rows_and_then_says_so(tmp_path: Path, name: str) -> None:
    choose = random.Random(0)
    texts = ["".join(choose.choices("abcdefgh ijkl", k=2000)) + "." for _ in range(300)]
    path = write(tmp_path / name, texts)
    (shard,) = resolve(path)
    whole, content = list(read_rows(shard)), path.read_bytes()
    assert len(whole) == 300
    most = 0
    for length in [*range(0, len(content), 9973), len(content) - 1]:
        path.write_bytes(content[:length])
        rows, error = rows_until_broken(shard)
        assert error is not None and error.row == len(rows) and error.path == str(path)
        assert rows == whole[: len(rows)]
        again = rows_until_broken(shard, start_row=250)[1]
        assert again is not None and again.row == error.row
        most = max(most, len(rows))
    # zstd decodes blocks of 128 KiB, 64 rows here; without its footer, no row of a Parquet file can be found
    assert most >= {"a.parquet": 0, "a.jsonl.zst": 300 - 2 * 64}.get(name, 299)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32))
@ANY_FILE
def test_a_shard_with_wrong_bytes_never_ends_otherwise(tmp_path: Path, name: str, seed: int) -> None:
    choose = random.Random(seed)
    path = write(tmp_path / name, PLAIN)
    (shard,) = resolve(path)
    content = bytearray(path.read_bytes())
    for _ in range(choose.randint(1, 4)):
        content[choose.randrange(len(content))] = choose.randrange(256)
    path.write_bytes(content)
    rows, error = rows_until_broken(shard)
    assert [row.row for row in rows] == list(range(len(rows)))
    assert error is None or error.row == len(rows)
    try:
        resolve(path)
    except InputError as refused:
        assert path.name in str(refused)


def test_rows_before_a_bad_row_group_are_read(tmp_path: Path) -> None:
    texts = [f"{random.Random(i).random()} text" for i in range(51)]
    path = parquet(tmp_path / "a.parquet", {"text": texts}, compression="none", write_page_checksum=True)
    content = path.read_bytes()
    path.write_bytes(content.replace(texts[20].encode(), texts[20].encode()[::-1]))
    (shard,) = resolve(path)
    rows, error = rows_until_broken(shard)
    assert texts_of(rows) == texts[:17]
    assert error is not None and error.where == "row group 1"
    again = copy.copy(error)  # as pickling does
    assert (str(again), again.row) == (str(error), 17)


def test_a_broken_shard_among_whole_ones_is_left_to_the_reader(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", PLAIN)
    write(tmp_path / "b.jsonl.zst", PLAIN)
    for name in ("c.parquet", "d.jsonl.zst", "e.jsonl.gz"):
        (tmp_path / name).write_bytes(write(tmp_path / name, PLAIN).read_bytes()[:20])
    shards = resolve(tmp_path)
    assert [shard.format for shard in shards] == [
        Format.PARQUET,
        Format.JSONL,
        Format.PARQUET,
        Format.JSONL,
        Format.JSONL,
    ]
    for shard in shards[2:]:
        assert rows_until_broken(shard)[0] == [] and rows_until_broken(shard)[1] is not None
    with pytest.raises(ShardBroken):
        resolve(tmp_path / "c.parquet", tmp_path / "d.jsonl.zst")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_an_empty_file_is_broken_where_its_name_promises_compression(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ShardBroken, match="an empty file"):
        resolve(tmp_path / name)
    (tmp_path / "b.jsonl").touch()
    assert read(tmp_path / "b.jsonl") == []


@pytest.mark.parametrize("name", NAMES)
def test_a_small_shard_cut_off_at_any_byte_is_broken_and_no_reason_to_refuse_the_others(
    tmp_path: Path, name: str
) -> None:
    path, other = write(tmp_path / name, ["A naïve 日本 text.", "Another."]), write(tmp_path / "b.jsonl", PLAIN)
    (shard,) = resolve(path)
    whole, content = list(read_rows(shard)), path.read_bytes()
    lines = {at + 1 for at in range(len(content)) if content[at : at + 1] == b"\n"}
    ends_of_rows = {0} | lines | {end - 1 for end in lines} if name == "a.jsonl" else set()  # as if written so
    for length in range(0, len(content), 5 if name == "a.parquet" else 1):
        path.write_bytes(content[:length])
        rows, error = rows_until_broken(shard)
        assert rows == whole[: len(rows)]
        assert (error is None) == (length in ends_of_rows)
        assert error is None or error.row == len(rows)
        if length % 5 == 0:
            assert [found.name for found in resolve(path, other)] == [name, "b.jsonl"]


def test_a_last_line_that_is_whole_or_no_object_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for end in ('{"text": "b"}', "{bad}\n", "{bad}\n \n", "EOF"):
        path.write_text('{"text": "a"}\n' + end)
        (shard,) = resolve(path)
        rows, error = rows_until_broken(shard)
        assert len(rows) == 2 and error is None


@pytest.mark.parametrize("encoding", ["klingon", "gbk"])
def test_xml_in_an_encoding_that_nobody_knows_is_broken(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(xml_of(PLAIN).replace(b"utf-8", encoding.encode()))
    (shard,) = resolve(path)
    rows, error = rows_until_broken(shard)
    assert rows == [] and error is not None and "encoding" in str(error)
