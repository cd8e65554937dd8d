"""Readers: every row of every format comes out once, in order, as it was written; what is broken is named."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import os
import random
import tracemalloc
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ipt_stream.config import build
from ipt_stream.corpus import bytestream, jsonl
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import Format, Reason, RejectedRow, Row, ShardBroken, ShardSpec
from ipt_stream.corpus.readers import InputConfig, list_shards, listing_fingerprint, read_rows, resolve_shards
from ipt_stream.errors import ConfigError, InputError, StorageError

ANY_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
TEXTS = [f"Text {i}: " + "naïve 日本 🙂 \x00\x07 </s> <CON>\r\n" * (i % 5 + 1) for i in range(60)]


def resolve(*paths: object, **named: Any) -> list[ShardSpec]:
    return resolve_shards(InputConfig(shards=tuple(map(str, paths)), **named))


def read(path: object, start_row: int = 0, **named: Any) -> list[Row]:
    (shard,) = resolve(path, **named)
    return list(read_rows(shard, start_row))


def texts_of(rows: list[Row]) -> list[str]:
    return [row.text for row in rows if isinstance(row, Document)]


def reasons_of(rows: list[Row]) -> list[str]:
    return [str(row.reason) for row in rows if isinstance(row, RejectedRow)]


def json_lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text, "meta": {"pmid": str(i)}}) + "\n" for i, text in enumerate(texts)).encode()


def article(pmid: int, body: str) -> str:
    citation = f'<PMID Version="1">{pmid}</PMID><Article>{body}</Article>'
    return f"<PubmedArticle><MedlineCitation>{citation}</MedlineCitation></PubmedArticle>"


def medline(*articles: str, doctype: str = '<!DOCTYPE PubmedArticleSet SYSTEM "http://x.invalid/pubmed.dtd">') -> bytes:
    head = f'<?xml version="1.0" encoding="utf-8"?>\n{doctype}\n'
    return (head + "<PubmedArticleSet>" + "\n".join(articles) + "</PubmedArticleSet>").encode()


def parquet(path: Path, columns: dict[str, Any], row_group_size: int = 17, **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size, **options)
    return path


def abstract(text: str) -> str:
    return f"<Abstract><AbstractText>{text}</AbstractText></Abstract>"


def xml_of(texts: list[str]) -> bytes:
    return medline(*(article(i, abstract(text)) for i, text in enumerate(texts)))


def write(path: Path, texts: list[str], **options: Any) -> Path:
    """A shard of `texts` in the format and compression that the name of `path` says."""
    if path.suffix == ".parquet":
        return parquet(path, {"content": texts, "url": [str(i) for i in range(len(texts))]}, **options)
    content = xml_of(texts) if ".xml" in path.name else json_lines(texts)
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=1)
    if path.suffix == ".zst":
        content = zstandard.compress(content)
    path.write_bytes(content)
    return path


JSON_NAMES = ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]
NAMES = [*JSON_NAMES, "a.parquet", "a.xml", "a.xml.gz"]
PLAIN = [f"Text number {i} " * (i % 7 + 1) + "end." for i in range(60)]


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


def test_parquet_rows_that_are_no_documents_say_why(tmp_path: Path) -> None:
    texts = pa.array(["fine", None, "", " "], pa.string())
    assert reasons_of(read(parquet(tmp_path / "a.parquet", {"text": texts}))) == ["null_text", "empty", "empty"]
    raw = pa.array([b"fine", b"\xff", "ü".encode()], pa.binary())
    for column in (raw, pa.Array.from_buffers(pa.string(), 3, raw.buffers()), raw.dictionary_encode()):
        rows = read(parquet(tmp_path / "b.parquet", {"text": column}))
        assert texts_of(rows) == ["fine", "ü"] and reasons_of(rows) == ["not_utf8"]


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


def test_a_column_of_nulls_or_numbers_is_not_taken_for_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": null, "text": "a", "id": {"x": 1}, "url": "u"}\n' * 3)
    (shard,) = resolve(path)
    assert (shard.text_column, shard.id_column) == ("text", "url")
    (shard,) = resolve(parquet(tmp_path / "a.parquet", {"content": [1, 2], "text": ["a", "b"]}))
    assert shard.text_column == "text"


# --- what is wrong is said before anything starts ---


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


def test_a_glob_without_files_and_a_file_named_twice_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl", PLAIN)
    with pytest.raises(InputError, match="no input matches"):
        resolve(tmp_path / "*.parquet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="named twice"):
        resolve("a.jsonl", path)
    with pytest.raises(ConfigError, match="did you mean 'text_column'"):
        build(InputConfig, {"shards": ["a"], "text_colum": "a"}, "x.yaml")
    with pytest.raises(ConfigError, match="shards"):
        build(InputConfig, {"shards": []}, "x.yaml")
    (tmp_path / "a.xml").write_bytes(xml_of(PLAIN))
    with pytest.raises(InputError, match="MEDLINE XML, which has no column 'text'"):
        resolve("a.xml", text_column="text")


# --- names and listings ---


def test_shards_are_named_by_file_and_by_directory_only_where_files_collide(tmp_path: Path) -> None:
    for part in ("x/a.jsonl", "x/b.jsonl", "y/a.jsonl", "y/_SUCCESS"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        write(tmp_path / part, PLAIN)
    assert [shard.name for shard in resolve(tmp_path / "x")] == ["a.jsonl", "b.jsonl"]
    shards = resolve(tmp_path)
    assert [shard.name for shard in shards] == ["x/a.jsonl", "x/b.jsonl", "y/a.jsonl"]
    assert [shard.index for shard in shards] == [0, 1, 2]
    assert next(read_rows(shards[2])).row == 0


def test_the_fingerprint_follows_names_sizes_and_order_and_nothing_else(tmp_path: Path) -> None:
    for part in ("x", "moved/y"):
        (tmp_path / part).mkdir(parents=True)
        write(tmp_path / part / "a.jsonl", PLAIN)
        write(tmp_path / part / "b.jsonl", TEXTS)
        os.utime(tmp_path / part / "a.jsonl", (len(part), len(part)))
    here, moved = resolve(tmp_path / "x"), resolve(tmp_path / "moved" / "y")
    name = listing_fingerprint(here)
    assert name == listing_fingerprint(moved)
    assert name == listing_fingerprint(list_shards(InputConfig(shards=(str(tmp_path / "x"),))))
    assert name != listing_fingerprint(here[:1]) and name != listing_fingerprint(here[::-1])
    write(tmp_path / "x" / "a.jsonl", PLAIN[1:])
    assert name != listing_fingerprint(resolve(tmp_path / "x"))


# --- shards that are broken ---


def rows_until_broken(shard: ShardSpec, start_row: int = 0) -> tuple[list[Row], ShardBroken | None]:
    rows: list[Row] = []
    try:
        for row in read_rows(shard, start_row):
            rows.append(row)
    except ShardBroken as error:
        return rows, error
    return rows, None


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


# --- compression ---


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


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz"])
def test_memory_does_not_follow_the_compression_ratio(tmp_path: Path, name: str) -> None:
    (shard,) = resolve(write(tmp_path / name, [" " * 100_000] * 500))
    assert shard.size_bytes < 10**6
    tracemalloc.start()
    assert reasons_of(list(read_rows(shard))) == ["empty"] * 500
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


# --- MEDLINE ---


def test_medline_articles_become_title_and_abstract(tmp_path: Path) -> None:
    structured = (
        "<ArticleTitle>A <i>title</i>\n    in H<sub>2</sub>O &amp; more.</ArticleTitle><Abstract>"
        '<AbstractText Label="AIM" NlmCategory="OBJECTIVE">To &lt;see&gt;.</AbstractText>'
        '<AbstractText Label="UNLABELLED">Plain.</AbstractText><AbstractText></AbstractText>'
        "<CopyrightInformation>Nobody.</CopyrightInformation></Abstract>"
    )
    others = (
        '<OtherAbstract Language="fre"><AbstractText>Autre.</AbstractText></OtherAbstract>'
        "<CommentsCorrectionsList><PMID>99</PMID></CommentsCorrectionsList>"
    )
    path = tmp_path / "a.xml"
    path.write_bytes(
        medline(
            article(11, structured + others),
            article(12, "<ArticleTitle>Alone.</ArticleTitle>" + others),
            article(13, "<ArticleTitle>Blank.</ArticleTitle><Abstract><AbstractText> \n </AbstractText></Abstract>"),
            article(14, "<ArticleTitle></ArticleTitle><Abstract><AbstractText>No title.</AbstractText></Abstract>"),
            "<DeleteCitation><PMID>5</PMID></DeleteCitation>",
        )
    )
    assert read(path) == [
        Document("a.xml:0", "11", "a.xml", 0, "A title in H2O & more.\nAIM: To <see>.\nPlain."),
        RejectedRow(1, Reason.NO_ABSTRACT, "12"),
        RejectedRow(2, Reason.NO_ABSTRACT, "13"),
        Document("a.xml:3", "14", "a.xml", 3, "No title."),
    ]


@pytest.mark.parametrize(
    ("doctype", "used"),
    [
        ('<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>', "&b;"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>', "&a;"),
        ('<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/hostname"> %a;]>', ""),
        ('<!DOCTYPE x SYSTEM "http://x.invalid/x.dtd">', "&nbsp;"),
        ("", "&nbsp;"),
    ],
)
def test_medline_entities_are_never_expanded_or_dropped(tmp_path: Path, doctype: str, used: str) -> None:
    body = abstract("ok")
    path = tmp_path / "a.xml"
    path.write_bytes(medline(article(1, body), article(2, body.replace("ok", f"ok{used}")), doctype=doctype))
    (shard,) = resolve(path)
    rows, error = rows_until_broken(shard)
    assert error is not None and texts_of(rows) in ([], ["ok"])


# --- object stores ---


@pytest.fixture
def bucket() -> Iterator[str]:
    root = f"memory://bucket-{uuid.uuid4().hex}"
    yield root
    fsspec.filesystem("memory").rm(root, recursive=True)


@pytest.mark.parametrize("name", NAMES)
def test_object_stores_give_the_same_rows(tmp_path: Path, bucket: str, name: str) -> None:
    path = write(tmp_path / name, PLAIN)
    with fsspec.open(f"{bucket}/{name}", "wb") as file:
        file.write(path.read_bytes())
    local, remote = resolve(path), resolve(f"{bucket}/*")
    assert listing_fingerprint(local) == listing_fingerprint(remote)
    assert list(read_rows(remote[0], 3)) == list(read_rows(local[0], 3))


class Failing(MemoryFileSystem):
    """A store that lists its files, and whose connection drops in the middle of one."""

    protocol = "failing"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    reads_that_work = 0

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        if mode == "rb":
            whole, left = file.read, iter([True] * self.reads_that_work)

            def read(size: int = -1) -> bytes:
                if not next(left, False):
                    raise ConnectionResetError("the connection was reset")
                return bytes(whole(size))

            file.read = read
        return file


@pytest.mark.parametrize("name", NAMES)
def test_a_store_that_fails_is_no_broken_shard(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("failing", Failing, clobber=True)
    monkeypatch.setattr(bytestream, "READ_BYTES", 256)
    content = write(tmp_path / name, PLAIN).read_bytes()
    with fsspec.open(f"failing://bucket/{name}", "wb") as file:
        file.write(content)
    monkeypatch.setattr(Failing, "reads_that_work", 1000)
    (shard,) = resolve(f"failing://bucket/{name}")
    for working in (0, 1, 2):
        monkeypatch.setattr(Failing, "reads_that_work", working)
        with pytest.raises(StorageError, match="connection was reset"):
            list(read_rows(shard))


# --- the real files ---


def shared(folder: str) -> Path:
    root = Path(os.environ.get("IPT_STREAM_SHARED", Path(__file__).parents[2] / "shared")) / "data" / folder
    if not root.is_dir():
        pytest.skip(f"no real data in {root}")
    return root


@pytest.mark.parametrize(
    ("folder", "documents", "rejected", "columns"),
    [
        ("pubmed", 1792, {}, ("text", "meta.pmid")),
        ("pubmed_xml", 104, {Reason.NO_ABSTRACT: 25}, ("ArticleTitle+AbstractText", "PMID")),
        ("web", 1000, {}, ("content", "url")),
    ],
)
def test_real_shards(folder: str, documents: int, rejected: dict[str, int], columns: tuple[str, str]) -> None:
    shards = resolve(shared(folder))
    assert {(shard.text_column, shard.id_column) for shard in shards} == {columns}
    rows = [row for shard in shards for row in read_rows(shard)]
    assert len(texts_of(rows)) == documents
    assert Counter(reasons_of(rows)) == rejected
    assert len({row.document_id for row in rows if isinstance(row, Document)}) == documents
