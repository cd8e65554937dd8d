"""JSON lines: whatever is in them, every line is a document or says why it is none; compression is undone."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import tracemalloc
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from shards import ANY_FILE, PLAIN, TEXTS, json_lines, read, reasons_of, resolve, texts_of, write

from ipt_stream.corpus import jsonl
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import Reason
from ipt_stream.corpus.readers import read_rows
from ipt_stream.errors import InputError


@given(texts=st.lists(st.text(), max_size=8), ascii=st.booleans(), blank=st.sampled_from(["", "\n", "  \r\n\t\n"]))
@example(texts=["a\u2028b\x85c\x1cd\u000be"], ascii=False, blank="")
@ANY_FILE
def test_json_lines_survive_whatever_is_in_them(tmp_path: Path, texts: list[str], ascii: bool, blank: str) -> None:
    path = tmp_path / f"{uuid.uuid4().hex}.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=ascii) + "\n" + blank for text in texts]
    path.write_bytes((blank + "".join(lines)).encode("utf-8", "surrogatepass"))
    rows = read(path)
    assert [row.row for row in rows] == list(range(len(texts)))
    for row, text in zip(rows, texts, strict=True):
        assert isinstance(row, Document) == bool(text.strip())
        assert not isinstance(row, Document) or row.text == text


@given(content=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300)))
def test_lines_do_not_depend_on_how_the_bytes_arrive(content: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(content)]
    pieces = [content[start:end] for start, end in itertools.pairwise(edges)]
    wanted = content.split(b"\n")
    assert list(jsonl.lines(pieces)) == (wanted[:-1] if not wanted[-1] else wanted)


def test_each_row_that_is_no_document_says_why(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "fine", "id": 7}\n'
        b'{"text": "", "id": "e"}\n{"text": " \\n\\t", "id": null}\n'
        b'{"text": null}\n{"other": 1}\n'
        b'{"text": 5}\n{"text": ["a"]}\n[1]\n"text"\n'
        b'{"text": "cut\nnonsense\n' + b"[" * 100_000 + b"\n"
        b'{"text": "half \\ud83d here"}\n{"text": "latin \xe9"}\n'
        b'{"text": "whole \\ud83d\\ude42", "id": "\\ud800"}'
    )
    rows = read(path)
    assert [row.row for row in rows] == list(range(15))
    assert texts_of(rows) == ["fine", "whole 🙂"]
    assert rows[0].source_id == "7" and rows[1].source_id == "e" and rows[14].source_id == "\\ud800"
    assert Counter(reasons_of(rows)) == {
        Reason.EMPTY: 2, Reason.NULL_TEXT: 2, Reason.WRONG_TYPE: 4, Reason.BAD_JSON: 3, Reason.NOT_UTF8: 2
    }  # fmt: skip


def test_a_line_without_end_is_rejected_and_its_neighbours_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "MAX_ROW_BYTES", 3 * 2**20)
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(["a", "b" * 10 * 2**20, "c"]))
    rows = read(path)
    assert texts_of(rows) == ["a", "c"] and reasons_of(rows) == [Reason.TOO_LONG]
    assert [row.row for row in rows] == [0, 1, 2]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_several_members_and_padding_are_one_shard(tmp_path: Path, name: str) -> None:
    compress: Callable[[bytes], bytes] = gzip.compress if name.endswith(".gz") else zstandard.compress
    content = json_lines(TEXTS)
    skippable = b"\x5a\x2a\x4d\x18" + (9).to_bytes(4, "little") + b"nine byte" if name.endswith(".zst") else b""
    frames = [skippable + compress(content[at : at + 777]) for at in range(0, len(content), 777)]
    (tmp_path / name).write_bytes(b"".join(frames) + b"\0" * 100)
    assert texts_of(read(tmp_path / name)) == TEXTS


def test_zstd_with_the_longest_window_is_read(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True, write_content_size=False)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = json_lines(TEXTS)
    (tmp_path / "a.jsonl.zst").write_bytes(frame.compress(content) + frame.flush())
    assert texts_of(read(tmp_path / "a.jsonl.zst")) == TEXTS


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz"])
def test_memory_does_not_follow_the_compression_ratio(tmp_path: Path, name: str) -> None:
    (shard,) = resolve(write(tmp_path / name, [" " * 100_000] * 500))
    assert shard.size_bytes < 10**6
    tracemalloc.start()
    assert reasons_of(list(read_rows(shard))) == ["empty"] * 500
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_compressed_runs_after_other_text_are_not_expanded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "MAX_ROW_BYTES", 2**20)
    noise = json_lines([random.Random(i).randbytes(500).hex() for i in range(500)])
    path = tmp_path / "a.jsonl.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        writer.write(noise)
        for _ in range(250):
            writer.write(b"\0" * 2**20)
    (shard,) = resolve(path)
    tracemalloc.start()
    assert reasons_of(list(read_rows(shard))) == ["too_long"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 160 * 2**20


def test_byte_order_marks_are_no_text_wherever_files_were_joined(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    one = b"\xef\xbb\xbf" + json_lines(["a", "\ufeffb"])
    path.write_bytes(one + one + b"\xef\xbb\xbf\r\n")
    assert texts_of(read(path)) == ["a", "\ufeffb"] * 2 and reasons_of(read(path)) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_json_in_another_encoding_is_refused_before_anything_starts(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines(PLAIN).decode().encode(encoding))
    with pytest.raises(InputError, match="in UTF-8"):
        resolve(tmp_path / "a.jsonl")


def test_an_empty_id_is_none_so_that_not_all_are_selected_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "id": ""}\n{"text": "b", "id": 0}\n{"text": "c", "id": false}\n')
    assert [row.source_id for row in read(tmp_path / "a.jsonl")] == [None, "0", "False"]
