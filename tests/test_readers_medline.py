"""MEDLINE XML: title and abstract, whatever markup is in them; nothing is expanded, loaded or held."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from shards import abstract, article, medline, read, resolve, rows_until_broken, texts_of

from ipt_stream.corpus import medline as medline_reader
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import Reason, RejectedRow


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


def test_what_is_no_medline_is_broken_even_where_the_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(b'<?xml version="1.0"?><rss><channel/></rss>')
    (shard,) = resolve(path, format="medline")
    rows, error = rows_until_broken(shard)
    assert rows == [] and error is not None and "it is a <rss>" in str(error)


@pytest.mark.parametrize("inside", ["<!-- {} -->", '<A b="{}"/>', abstract("{}")])
def test_xml_without_the_end_of_an_article_is_not_held(
    tmp_path: Path, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(medline_reader, "MAX_ROW_BYTES", 3 * 2**20)
    path = tmp_path / "a.xml"
    path.write_bytes(medline(article(1, abstract("ok")), article(2, inside.format("x" * 40 * 2**20))))
    (shard,) = resolve(path)
    tracemalloc.start()
    rows, error = rows_until_broken(shard)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts_of(rows) == ["ok"] and error is not None and "without the end of an article" in str(error)
    assert peak < 20 * 2**20


def test_books_and_what_stands_around_articles(tmp_path: Path) -> None:
    book = (
        "<PubmedBookArticle><BookDocument><PMID>7</PMID><Book><BookTitle>No.</BookTitle></Book>"
        f"<ArticleTitle>A chapter.</ArticleTitle>{abstract('Of a book.')}</BookDocument></PubmedBookArticle>"
    )
    path = tmp_path / "a.xml"
    path.write_bytes(
        medline(
            "<DeleteCitation><PMID>1</PMID></DeleteCitation>", book, article(7, abstract("a<![CDATA[<b>]]>c<?p?>d"))
        )
    )
    assert texts_of(read(path)) == ["A chapter.\nOf a book.", "a<b>cd"]
    assert [row.source_id for row in read(path)] == ["7", "7"]
