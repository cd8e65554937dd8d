"""Small shards of every format, made for a test, and what reading one gives."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from hypothesis import HealthCheck, settings

from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import RejectedRow, Row, ShardBroken, ShardSpec
from ipt_stream.corpus.readers import InputConfig, read_rows, resolve_shards

ANY_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
TEXTS = [f"Text {i}: " + "naïve 日本 🙂 \x00\x07 </s> <CON>\r\n" * (i % 5 + 1) for i in range(60)]
PLAIN = [f"Text number {i} " * (i % 7 + 1) + "end." for i in range(60)]
JSON_NAMES = ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]
NAMES = [*JSON_NAMES, "a.parquet", "a.xml", "a.xml.gz"]


def resolve(*paths: object, **named: Any) -> list[ShardSpec]:
    return resolve_shards(InputConfig(shards=tuple(map(str, paths)), **named))


def read(path: object, start_row: int = 0, **named: Any) -> list[Row]:
    (shard,) = resolve(path, **named)
    return list(read_rows(shard, start_row))


def rows_until_broken(shard: ShardSpec, start_row: int = 0) -> tuple[list[Row], ShardBroken | None]:
    rows: list[Row] = []
    try:
        for row in read_rows(shard, start_row):
            rows.append(row)
    except ShardBroken as error:
        return rows, error
    return rows, None


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
