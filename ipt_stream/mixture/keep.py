"""Which pairs and documents of a synthesis run a mixture keeps: filters by the checks of its pairs, and by a list.

    augmented:
      kind: augmented
      path: out/segments
      checks: {directory: out/analysis/checks, keep: {grounded: ">= 0.5", logprob: ">= -0.4", duplicate: false}}

A pair is kept where every condition holds. One that is not leaves its document with the other pairs; a document that
has none left is plain text, and is among the raw texts of the run. Nothing vanishes: all is counted, by check.

What is read here, and nothing else of the analysis: `checks.json` in the directory,

    {"synthesis": RUN, "fingerprint": CHECKS, "columns": {NAME: {"type": "float" | "int" | "bool", "known": COUNT}}}

where RUN is `results.run_identity` of the run that was checked and COUNT is how many pairs have a value (`keeps`, which
stands beside them, is the condition that the report suggests); and
`segment-SHARD-NUMBER.parquet` for each of its segments, a row a pair in the order of the segment, with the columns
`document_id`, `piece`, `pair`, those named above, and the segment's hash in its metadata.
"""

from __future__ import annotations

import difflib
import io
import json
import operator
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field, StrictBool, field_validator

from ipt_stream import storage
from ipt_stream.config import Settings, fingerprint
from ipt_stream.errors import ConfigError, InputError
from ipt_stream.synthesis.results import SegmentReference, run_identity
from ipt_stream.synthesis.segment import SegmentRow, Status, outcomes

CHECKS_FILE = "checks.json"
SEGMENT_KEY = b"ipt_stream.segment"
"""The key of the segment's SHA-256 in the metadata of a file of checks."""
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_CONDITION = re.compile(r"(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


@dataclass(frozen=True, slots=True)
class Condition:
    """What a check must be for a pair to be kept: `column comparison value`."""

    column: str
    comparison: str
    value: float | bool

    def holds(self, found: float | bool) -> bool:
        """Whether the value `found` of the column is as it must be."""
        return _COMPARISONS[self.comparison](found, self.value)


class ChecksConfig(Settings):
    """A filter of the pairs of a synthesis run."""

    directory: str
    """What `ipt-stream analyze` wrote for its checks."""
    keep: dict[str, StrictBool | str] = Field(min_length=1)
    """Conditions that all hold for a pair that is kept, by check: a comparison with a number (`">= 0.5"`), or
    true or false."""
    unknown: Literal["keep", "drop"] = "keep"
    """What becomes of a pair for which a check can't be computed (a response of no content words, say)."""

    @field_validator("keep")
    @classmethod
    def _check_conditions(cls, keep: dict[str, bool | str]) -> dict[str, bool | str]:
        for column, text in keep.items():
            if isinstance(text, str) and _CONDITION.fullmatch(text.strip()) is None:
                signs = ", ".join(_COMPARISONS)
                raise ValueError(f"{column}: one of {signs} and a number, as in '>= 0.5', or true or false")
        return keep

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """`keep`, read, by name."""
        return tuple(_condition(column, self.keep[column]) for column in sorted(self.keep))


def _condition(column: str, text: bool | str) -> Condition:
    if isinstance(text, bool):
        return Condition(column, "==", text)
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"the condition on {column} can't be read", wanted="'>= 0.5' or the like", got=text)
    return Condition(column, match.group(1), float(match.group(2)))


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of a run's segments.

    Attributes:
        directory: of the checks; empty where no pair is looked at.
        conditions: what holds for every pair that is kept.
        keeps_unknown: whether a pair without a value is kept.
        left_out: ids of documents that are left out altogether.
        identity: names all of this by content.
    """

    directory: str = ""
    conditions: tuple[Condition, ...] = ()
    keeps_unknown: bool = True
    left_out: frozenset[str] = frozenset()
    identity: str = ""


def open_keep(
    config: ChecksConfig | None, references: Sequence[SegmentReference], output: str, left_out: frozenset[str]
) -> Keep | None:
    """What is kept of the run in `output`; None: all of it.

    Args:
        config: the conditions on its pairs, where there are some.
        references: its segments.
        output: names it in errors.
        left_out: ids of documents to leave out.

    Raises:
        InputError: there are no finished checks in the directory, they are of another run, or no pair has a value.
        ConfigError: a condition on a check that is not there, or of another type.
    """
    if config is None:
        listed = fingerprint(sorted(left_out))
        return Keep(left_out=left_out, identity=fingerprint(["left out", listed])) if left_out else None
    path = storage.join(config.directory, CHECKS_FILE)
    if not storage.exists(path):
        raise InputError(
            f"no finished checks in {config.directory}",
            wanted=CHECKS_FILE,
            got="nothing there",
            fix=f"run ipt-stream analyze with its checks on {output}",
        )
    known = storage.read_json(path)
    if known["synthesis"] != run_identity(references):
        raise InputError(
            f"the checks in {config.directory} are of another synthesis run",
            wanted=f"those of {output} as it is now, {run_identity(references)}",
            got=str(known["synthesis"]),
            fix="run ipt-stream analyze on this run, in another directory",
        )
    for condition in config.conditions:
        _check_column(condition, known["columns"], config.directory)
    named = [[item.column, item.comparison, item.value] for item in config.conditions]
    identity = fingerprint([known["fingerprint"], named, config.unknown, sorted(left_out)])
    return Keep(config.directory, config.conditions, config.unknown == "keep", left_out, identity)


def _check_column(condition: Condition, columns: Mapping[str, Any], directory: str) -> None:
    name = condition.column
    if name not in columns:
        near = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
        raise ConfigError(
            f"no check '{name}' in {directory}",
            wanted=", ".join(sorted(columns)),
            got=name,
            fix=f"did you mean '{near[0]}'?" if near else "name one that is there, or run ipt-stream analyze again",
        )
    if (columns[name]["type"] == "bool") != isinstance(condition.value, bool):
        wanted = "true or false" if columns[name]["type"] == "bool" else "a comparison with a number, as in '>= 0.5'"
        raise ConfigError(f"the condition on {name} is not of its type", wanted=wanted, got=f"{condition.value!r}")
    if not columns[name]["known"]:
        raise InputError(
            f"check '{name}' in {directory} has no value for any pair",
            wanted="a check that could be computed",
            got="0 values",
            fix="leave it out; log-probabilities need engine.response_logprobs in the synthesize stage",
        )


def read_left_out(path: str, shards: Iterable[str]) -> frozenset[str]:
    """The `document_id`s of a file of JSON lines, such as the `contaminated.jsonl` of an analysis.

    Args:
        path: the file; without lines where nothing was found.
        shards: names of the shards whose documents are mixed.

    Raises:
        InputError: there is no such file, a line names no document, or one of none of the shards.
    """
    if not storage.exists(path):
        raise InputError(f"no file {path}", wanted="JSON lines with a document_id each", got="nothing there")
    known, found = set(shards), set()
    for number, line in enumerate(storage.read_bytes(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            document_id = json.loads(line)["document_id"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number} names no document", wanted="document_id", got=f"{error!r}"
            ) from error
        if not isinstance(document_id, str) or document_id.rpartition(":")[0] not in known:
            raise InputError(
                f"{path}, line {number} names a document that is not mixed",
                wanted=f"SHARD:ROW of one of {len(known):,} shards, such as {min(known, default='none')}",
                got=repr(document_id),
                fix="give the list that was made for this synthesis run",
            )
        found.add(document_id)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of a segment as a mixture sees them, and what became of the others.

    Attributes:
        rows: with the pairs that are kept; a document that has none left is plain text.
        counts: `pairs` there were, `kept` and `dropped` of them, `dropped.CHECK` by each condition that failed (a pair
            can fail several), `emptied` documents that have none left, `left_out` documents that were augmented.
    """

    rows: list[SegmentRow]
    counts: Counter[str]


def keep_rows(rows: Sequence[SegmentRow], reference: SegmentReference, keep: Keep | None) -> Kept:
    """Apply `keep` to the rows of a segment.

    Raises:
        InputError: the file of checks is not of this segment, or lacks a column.
    """
    if keep is None:
        return Kept(list(rows), Counter())
    before = outcomes(rows)
    counts: Counter[str] = Counter()
    counts["left_out"] = sum(
        outcome is Status.AUGMENTED and name in keep.left_out for name, outcome in before.items()
    )  # fmt: skip
    fine = _verdicts(rows, reference, keep)
    kept: list[SegmentRow] = []
    for row, verdicts in zip(rows, fine, strict=True):
        if before[row.document_id] is Status.AUGMENTED and row.document_id in keep.left_out:
            continue
        failed = [names for names in verdicts if names]
        counts.update(pairs=len(row.pairs), kept=len(row.pairs) - len(failed), dropped=len(failed))
        counts.update(f"dropped.{name}" for names in failed for name in names)
        kept.append(_without(row, [not names for names in verdicts]) if failed else row)
    after = outcomes(kept)
    emptied = {name for name, found in after.items() if found is not before[name]}
    counts["emptied"] = len(emptied)
    # What failed at the engine lies in its document's text all the same, and the document is whole text again.
    plain = [replace(row, status=Status.NO_PAIRS) if row.document_id in emptied else row for row in kept]
    gone = emptied | {name for name, found in before.items() if found is Status.AUGMENTED and name in keep.left_out}
    return Kept(_restarted(rows, plain, gone), counts)


def _verdicts(rows: Sequence[SegmentRow], reference: SegmentReference, keep: Keep) -> list[list[tuple[str, ...]]]:
    """For each pair of each row, the names of the checks that it fails."""
    if not keep.conditions:
        return [[()] * len(row.pairs) for row in rows]
    checks = _read_checks(reference, keep)
    wanted = [(row.document_id, row.piece, number) for row in rows for number in range(len(row.pairs))]
    if wanted != list(zip(*(checks[name] for name in _PLACE), strict=True)):
        raise _of_another(reference, keep, f"{len(wanted):,} pairs", "other pairs")
    failed = [_failed(keep, {item.column: checks[item.column][at] for item in keep.conditions})
              for at in range(len(wanted))]  # fmt: skip
    found, at = [], 0
    for row in rows:
        found.append(failed[at : at + len(row.pairs)])
        at += len(row.pairs)
    return found


def _failed(keep: Keep, values: Mapping[str, Any]) -> tuple[str, ...]:
    names = []
    for condition in keep.conditions:
        value = values[condition.column]
        if not (keep.keeps_unknown if value is None else condition.holds(value)):
            names.append(condition.column)
    return tuple(names)


def _without(row: SegmentRow, keeps: Sequence[bool]) -> SegmentRow:
    """`row` with those of its pairs that are kept."""
    pairs = tuple(pair for pair, kept in zip(row.pairs, keeps, strict=True) if kept)
    logprobs = row.response_logprobs
    if logprobs is not None:
        logprobs = tuple(value for value, kept in zip(logprobs, keeps, strict=True) if kept)
    return replace(
        row,
        pairs=pairs,
        response_logprobs=logprobs,
        status=row.status if pairs else Status.NO_PAIRS,
        reason=row.reason if pairs else "checks",
    )


def _restarted(before: Sequence[SegmentRow], rows: Sequence[SegmentRow], gone: set[str]) -> list[SegmentRow]:
    """`rows`, where one whose example lost its beginning begins it: it must not go on with the one before."""
    starts: set[tuple[str, int]] = set()
    is_lost = False
    for row in sorted(before, key=lambda row: (row.chain, row.round, row.piece)):
        if not row.inherits:
            is_lost = False
        if row.document_id in gone:
            is_lost = is_lost or not row.inherits
        elif is_lost:
            starts.add((row.document_id, row.piece))
            is_lost = False
    return [replace(row, inherits=False) if (row.document_id, row.piece) in starts else row for row in rows]


_PLACE = ("document_id", "piece", "pair")


def checks_path(directory: str, reference: SegmentReference) -> str:
    """Where the checks of a segment are: `segment-SHARD-NUMBER.parquet`, as the segment's own file is named."""
    return storage.join(directory, f"segment-{posixpath.basename(reference.path)}")


def _read_checks(reference: SegmentReference, keep: Keep) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = checks_path(keep.directory, reference)
    wanted = [*_PLACE, *(condition.column for condition in keep.conditions)]
    try:
        file = pq.ParquetFile(io.BytesIO(storage.read_bytes(path)))
        schema = file.schema_arrow
        missing = [name for name in wanted if name not in schema.names]
        if missing:
            raise _of_another(reference, keep, f"columns {', '.join(wanted)}", f"none named {', '.join(missing)}")
        sha256 = (schema.metadata or {}).get(SEGMENT_KEY, b"").decode()
        table: dict[str, list[Any]] = file.read(columns=wanted).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} can't be read", got=str(error), fix="run ipt-stream analyze again") from error
    if sha256 != reference.sha256:
        raise _of_another(reference, keep, f"those of sha256 {reference.sha256}", f"of {sha256 or 'nothing named'}")
    return table


def _of_another(reference: SegmentReference, keep: Keep, wanted: str, got: str) -> InputError:
    path = checks_path(keep.directory, reference)
    return InputError(
        f"{path} does not hold the checks of {reference.path}", wanted=wanted, got=got,
        fix="run ipt-stream analyze on this run, in another directory",
    )  # fmt: skip
