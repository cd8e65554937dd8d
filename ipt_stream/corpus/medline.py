"""MEDLINE's `<PubmedArticleSet>`: title, newline, abstract, as The Pile's PubMed Abstracts has them.

The file is never held as a tree: expat's events are looked at as they come, and only the text under way is kept. What
a hostile file could do with a document type is refused where it starts: entity declarations (a few bytes that expand
to gigabytes), and no external one is ever loaded.
"""

from __future__ import annotations

import re
from collections import deque
from xml.parsers import expat

from ipt_stream.corpus.bytestream import StreamBroken, chunks
from ipt_stream.corpus.formats import MAX_ROW_BYTES, Reason, RejectedRow, Row, Rows, ShardBroken, ShardSpec, make_row
from ipt_stream.errors import InputError

TEXT, ID = "ArticleTitle+AbstractText", "PMID"
"""What stands for the column names of a MEDLINE shard."""

_ARTICLES = ("PubmedArticle", "PubmedBookArticle")
_LAYOUT = re.compile(r"[ \t\r]*\n\s*")


class _Refused(InputError):
    """XML that is well-formed, but more than articles."""


def rows(shard: ShardSpec, start_row: int) -> Rows:
    """Articles `start_row` and on, each a row, in the file's order; notes of deletion are no rows.

    An abstract in sections has one line for each, `LABEL: text` where it has a label. Line breaks within a title or a
    section are the file's layout, and become spaces. The id is the PMID.

    Raises:
        ShardBroken: the XML is cut off or malformed, declares entities, has another root, or an article longer than
            `MAX_ROW_BYTES`; the articles before were yielded.
        StorageError: the file can't be opened or read.
    """
    articles = _Articles(shard, start_row)
    parsed = 0
    try:
        for piece in chunks(shard.path):
            articles.parser.Parse(piece, False)
            parsed += len(piece)
            while articles.ready:
                yield articles.ready.popleft()
            if parsed - articles.ended > MAX_ROW_BYTES:
                raise _Refused(f"{MAX_ROW_BYTES // 2**20} MiB without the end of an article")
        articles.parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError, _Refused, StreamBroken) as error:  # the 2nd, 3rd: its encoding
        yield from articles.ready
        where = f"byte {error.byte} of the file" if isinstance(error, StreamBroken) else ""
        where = where or f"line {articles.parser.CurrentLineNumber} of the XML"
        cause = error.cause if isinstance(error, StreamBroken) else str(error)
        raise ShardBroken(shard.path, articles.row, where, cause) from error


class _Articles:
    """Expat's handlers, and the article that they are in."""

    def __init__(self, shard: ShardSpec, start_row: int) -> None:
        self.ready: deque[Row] = deque()
        self.row = 0
        self.ended = 0  # where the last article ended, in bytes of the XML
        self._shard, self._start_row = shard, start_row
        self._field: str | None = None  # the element whose text is being gathered
        self._gathered: list[str] = []
        self._label = ""
        self._in_abstract = False
        self._id: str | None = None
        self._title: str | None = None
        self._sections: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start_root
        self.parser.EndElementHandler = self._end
        self.parser.EntityDeclHandler = self._refuse_entity
        self.parser.SkippedEntityHandler = self._refuse_skipped

    def _start_root(self, tag: str, attributes: dict[str, str]) -> None:
        if not tag.startswith("Pubmed"):
            raise _Refused(f"it is a <{tag}>, not a <PubmedArticleSet>")
        self.parser.StartElementHandler = self._start
        self._start(tag, attributes)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._field is not None:
            return  # <i>, <sub> and MathML within a text: their own text belongs to it
        if tag == "AbstractText":
            if not self._in_abstract:
                return  # <OtherAbstract>: a translation, or a publisher's summary
            self._label = attributes.get("Label", "")
        elif tag == "PMID":
            if self._id is not None:
                return  # those of the articles that this one comments on
        elif tag == "ArticleTitle":
            if self._title is not None:
                return
        else:
            if tag == "Abstract":
                self._in_abstract = True
            elif tag in _ARTICLES:
                self._id = self._title = None
                self._sections = []
            return
        self._field, self._gathered = tag, []
        self.parser.CharacterDataHandler = self._gathered.append

    def _end(self, tag: str) -> None:
        if tag == self._field:
            self.parser.CharacterDataHandler = None
            self._field = None
            text = _LAYOUT.sub(" ", "".join(self._gathered)).strip()
            if tag == "PMID":
                self._id = text
            elif tag == "ArticleTitle":
                self._title = text
            elif text:
                labelled = self._label and self._label.upper() not in ("UNLABELLED", "UNLABELED")
                self._sections.append(f"{self._label}: {text}" if labelled else text)
        elif tag == "Abstract":
            self._in_abstract = False
        elif tag in _ARTICLES and self._field is None:
            if self.row >= self._start_row:
                self.ready.append(self._article())
            self.row += 1
            self.ended = self.parser.CurrentByteIndex

    def _article(self) -> Row:
        if not self._sections:
            return RejectedRow(self.row, Reason.NO_ABSTRACT, self._id)
        title = [self._title] if self._title else []
        return make_row(self._shard, self.row, "\n".join(title + self._sections), self._id)

    def _refuse_entity(self, name: str, *_: object) -> None:
        raise _Refused(f"it declares the entity '{name}'; MEDLINE needs none, and none is expanded")

    def _refuse_skipped(self, name: str, *_: object) -> None:
        raise _Refused(f"it uses the entity '{name}', which is declared nowhere that is read")
