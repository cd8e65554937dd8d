"""The sample as a sheet that people fill in, and what they filled in, read back.

A CSV file for any spreadsheet program. People put yes or no (or 1 or 0) under `relevant` and `accurate`, and a task's
name under `category`; what they leave empty is not rated. Only these columns and `id` are read back; the program may
have changed the others, or the separator. Texts come in an order without meaning, so that the first so many of them
are a sample too.

A cell that begins as a formula does is given an apostrophe, so that no text of the web runs in a spreadsheet program.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence

from ipt_stream import storage
from ipt_stream.analysis.quality.prompts import Judgement
from ipt_stream.analysis.quality.sample import SampledPair
from ipt_stream.analysis.quality.tasks import CATEGORIES, category_named
from ipt_stream.errors import InputError

COLUMNS = ("id", "text", "instruction", "response", "relevant", "accurate", "category")
RATED = ("relevant", "accurate", "category")
MOST_CHARACTERS = 32_000
"""Of a cell: spreadsheet programs take 32,767."""
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", "|", "%")
_YES, _NO = {"1", "yes", "y", "true"}, {"0", "no", "n", "false"}


def sheet(pairs: Sequence[SampledPair]) -> bytes:
    """The sheet of `pairs`, in CSV: UTF-8 with a byte order mark, which is how spreadsheet programs know it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for pair in pairs:
        shown = (pair.text.text, pair.pair.instruction, pair.pair.response)
        writer.writerow([pair.id, *map(safe_cell, shown), "", "", ""])
    return ("\ufeff" + buffer.getvalue()).encode("utf-8", "replace")


def safe_cell(text: str) -> str:
    """`text` as a cell that no spreadsheet program takes for a formula, cut where none would hold it."""
    text = text.replace("\0", "")
    if len(text) > MOST_CHARACTERS:
        text = text[:MOST_CHARACTERS] + " [...]"
    return "'" + text if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def read_labels(path: str, known: Sequence[SampledPair]) -> dict[str, Judgement]:
    """What a person filled in, by the id of the pair; rows without any rating are left out.

    Raises:
        InputError: it is no such sheet, names a pair that is not in the sample, or holds something else than a rating.
    """
    content = storage.read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not in UTF-8", got=str(error), fix="save it as CSV UTF-8") from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    ids = {pair.id for pair in known}
    found: dict[str, Judgement] = {}
    try:
        columns = [column.strip() for column in next(rows, [])]
        missing = [column for column in ("id", *RATED) if column not in columns]
        if missing:
            raise InputError(
                f"{path} is no sheet of the sample",
                wanted=", ".join(("id", *RATED)),
                got=", ".join(columns) or "nothing",
            )
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            cells = dict(zip(columns, (cell.strip() for cell in row), strict=False))
            where = f"{path}, line {rows.line_num}"
            name = cells.get("id", "")
            if name not in ids:
                raise InputError(
                    f"{where} is of another sample", wanted="an id of this one", got=name or "no id",
                    fix="fill in the sheet beside this analysis",
                )  # fmt: skip
            judgement = _judgement(cells, where)
            if judgement == Judgement(None, None, None):
                continue
            if name in found:
                raise InputError(f"{where} rates {name} again", wanted="each pair once")
            found[name] = judgement
    except csv.Error as error:
        raise InputError(f"{path} is not CSV", got=str(error), fix="save it as CSV UTF-8") from error
    return found


def _judgement(cells: dict[str, str], where: str) -> Judgement:
    relevant, accurate = (_flag(cells.get(name, ""), name, where) for name in ("relevant", "accurate"))
    text = cells.get("category", "").lstrip("'")
    category = category_named(text) if text else None
    if text and category is None:
        near = difflib.get_close_matches(text, CATEGORIES, n=1, cutoff=0.5)
        fix = f"did you mean '{near[0]}'?" if near else "see the list of Super-NaturalInstructions"
        raise InputError(f"{where}: no category '{text}'", wanted="one of the 76", fix=fix)
    return Judgement(relevant, accurate, category)


def _flag(text: str, name: str, where: str) -> bool | None:
    folded = text.casefold().lstrip("'")
    if folded in _YES or folded in _NO:
        return folded in _YES
    if not folded:
        return None
    raise InputError(f"{where}: {name} can't be read", wanted="yes, no, 1, 0 or nothing", got=text)
