"""The ledger of a run: which units of work are finished, with their counts and content hashes.

Records are JSON objects with an `id`, in parts `ledger/part-{owner}-000000.jsonl`, each published whole, so that a part
is never torn whatever is killed when, on a local disk as on an object store. Every writer has parts of its own: writers
on many machines never meet. One record costs one publication of the part that it falls in.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ipt_stream import storage
from ipt_stream.errors import LedgerError

_DECODER = msgspec.json.Decoder()
RECORDS_A_PART = 256
"""Bounds what one more record rewrites: 256 records of about 700 bytes."""

Record = Mapping[str, Any]


@dataclass(slots=True)
class LedgerWriter:
    """Adds records to the ledger of one run directory. Threads may share one; processes each have their own."""

    root: str
    owner: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _part: int = 0
    _lines: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def append(self, record: Record) -> None:
        """Record a finished unit, durably before this returns.

        Raises:
            StorageError: it could not be written, and is not recorded.
        """
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        with self._lock:
            lines = [*self._lines, line]
            path = storage.join(self.root, "ledger", f"part-{self.owner}-{self._part:06d}.jsonl")
            storage.publish_bytes(path, ("\n".join(lines) + "\n").encode())
            self._lines = lines
            if len(lines) >= RECORDS_A_PART:
                self._part, self._lines = self._part + 1, []


def ledger_parts(root: str) -> list[str]:
    """The parts of the ledger of run directory `root`, in no order that means anything."""
    return storage.list_directory(storage.join(root, "ledger"))


def read_ledger(root: str) -> Iterator[Record]:
    """All records of run directory `root`, each once, though two writers recorded it.

    Memory: about 100 bytes a record, to know it again.

    Raises:
        LedgerError: a part is not what this program writes, or two records of one id differ.
    """
    seen: dict[str, int] = {}
    paths = ledger_parts(root)
    for path, content in zip(paths, storage.read_many(paths), strict=True):
        for number, line in enumerate(content.splitlines(), 1):  # of bytes: texts hold other line ends too
            record = _parse_record(line, path, number)
            name, digest = record["id"], hash(line)
            if name not in seen:
                seen[name] = digest
                yield record
            elif seen[name] != digest:
                where = f"{path}:{number}"
                raise LedgerError(f"{where} contradicts an earlier record of {name}", fix="report it, with the ledger")


def _parse_record(line: bytes, path: str, number: int) -> dict[str, Any]:
    try:
        record = _DECODER.decode(line)
    except msgspec.DecodeError as error:
        raise LedgerError(f"{path}:{number} is not a ledger record", got=str(error), fix="restore that file") from error
    if not isinstance(record, dict) or "id" not in record:
        raise LedgerError(
            f"{path}:{number} is not a ledger record", wanted="a JSON object with an id", got=repr(line[:80])
        )
    return record
