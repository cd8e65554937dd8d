"""The ledger of a run: which units of work are finished, with their counts and content hashes.

Records are JSON objects with an `id`. They lie in numbered parts, `ledger/part-000000.jsonl`, each published whole, so
that a part is never torn whatever is killed when, on a local disk as on an object store. A driver writes parts of its
own after those it found; one record costs one publication of the part that it falls in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import LedgerError

RECORDS_A_PART = 256
"""Bounds what one more record rewrites: 256 records of about 500 bytes."""

Record = Mapping[str, Any]


@dataclass(slots=True)
class Ledger:
    """The records of one run directory; one process at a time writes them."""

    root: str
    records: dict[str, Record] = field(default_factory=dict)
    _part: int = 0
    _lines: list[str] = field(default_factory=list)

    def append(self, record: Record) -> None:
        """Record a finished unit, durably before this returns.

        Raises:
            LedgerError: its id is recorded already.
        """
        if record["id"] in self.records:
            raise LedgerError(f"{record['id']} is recorded twice in {self.root}", fix="report this: it loses nothing")
        self._lines.append(json.dumps(record, ensure_ascii=False, separators=(",", ":")))
        storage.publish_bytes(_part_path(self.root, self._part), ("\n".join(self._lines) + "\n").encode())
        self.records[record["id"]] = record
        if len(self._lines) >= RECORDS_A_PART:
            self._part, self._lines = self._part + 1, []


def open_ledger(root: str) -> Ledger:
    """The ledger of run directory `root`, with all that is recorded there.

    Raises:
        LedgerError: a part is not what this program writes, or two records of one id differ.
    """
    records: dict[str, Record] = {}
    paths = storage.list_directory(storage.join(root, "ledger"))
    for path in paths:
        for number, line in enumerate(storage.read_bytes(path).decode("utf-8").splitlines(), 1):
            record = _parse_record(line, f"{path}:{number}")
            if records.setdefault(record["id"], record) != record:
                raise LedgerError(f"{path}:{number} contradicts an earlier record of {record['id']}")
    return Ledger(root, records, _next_part(paths))


def _parse_record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise LedgerError(f"{where} is not a ledger record", got=str(error), fix="restore that file") from error
    if not isinstance(record, dict) or "id" not in record:
        raise LedgerError(f"{where} is not a ledger record", wanted="a JSON object with an id", got=line[:80])
    return record


def _part_path(root: str, number: int) -> str:
    return storage.join(root, "ledger", f"part-{number:06d}.jsonl")


def _next_part(paths: list[str]) -> int:
    return max((int(path.rsplit("-", 1)[1].removesuffix(".jsonl")) + 1 for path in paths), default=0)
