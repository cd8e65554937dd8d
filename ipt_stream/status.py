"""`ipt-stream status DIR`: how far a synthesis run is, from storage alone, whoever runs it and wherever.

The ledger is read where it is small enough for a second; beyond that the driver's own word is taken, which it renews
every few seconds.
"""

from __future__ import annotations

import time
from typing import Any

from ipt_stream import storage
from ipt_stream.claim import read_claim
from ipt_stream.corpus.formats import ShardSpec
from ipt_stream.errors import InputError
from ipt_stream.ledger import RECORDS_A_PART, ledger_parts, read_ledger
from ipt_stream.stage import finished_figures
from ipt_stream.synthesis.plan import load_plan
from ipt_stream.synthesis.tally import Tally, tally

MOST_RECORDS = 65_536
"""A ledger of more is not read for a status."""
ALIVE_SECONDS = 30
"""A driver that said something so lately is taken to be alive."""
RATES = {
    "documents_per_second": "rows",
    "raw_tokens_per_second": "raw_tokens",
    "generated_tokens_per_second": "generated_tokens",
}
"""The rates, and what they count."""


def read_status(directory: str) -> dict[str, Any]:
    """Counts of the run in `directory`: what is done, pending and rejected, rates and the time that is left.

    Raises:
        InputError: there is no synthesis run there.
    """
    if not storage.exists(storage.join(directory, "plan.json")):
        raise InputError(
            f"no synthesis run in {directory}",
            wanted="plan.json there",
            got="none",
            fix="name a run's output directory",
        )
    shards = load_plan(directory).shards
    figures = finished_figures(directory)
    finished = figures is not None
    told = read_claim(directory) or {}
    alive = not finished and not told.get("released") and time.time() - told.get("time", 0.0) < ALIVE_SECONDS
    rate = {name: told.get(name, 0.0) for name in RATES}
    read: int | None = None
    broken: int | None = None
    if len(ledger_parts(directory)) * RECORDS_A_PART <= MOST_RECORDS or "counts" not in told:
        found = tally(read_ledger(directory))
        counts, rejected = dict(found.counts), dict(found.rejected)
        read, broken = len(found.ends), len(found.broken_shards())
        expected = _expected_rows(found, shards, told.get("expected_rows", 0))
        if found.made and not (alive and rate["documents_per_second"]):
            elapsed = max(found.last_ended - found.first_started, 1e-3)
            rate = {name: round(counts[key] / elapsed, 1) for name, key in RATES.items()}
    else:
        counts, rejected, expected = told["counts"], told["rejected"], told["expected_rows"]
        if figures is not None:
            counts = {name: value for name, value in figures.items() if isinstance(value, int)}
            counts["rows"] = counts["documents_in"]
            read, broken = len(shards), int(figures["broken_shards"])
    done = counts.get("rows", 0)
    expected = done if finished else max(expected, done)
    documents_per_second = rate["documents_per_second"]
    return {
        "finished": finished,
        "driver": {key: told.get(key, 0) for key in ("host", "pid", "engines", "running", "waiting")}
        if alive
        else None,
        "shards": len(shards),
        "shards_read": read,
        "broken_shards": broken,
        "segments_done": counts.get("segments", 0),
        "documents_done": done,
        "documents_expected": expected,
        **{key: counts.get(key, 0) for key in ("augmented", "raw", "pairs", "raw_tokens", "generated_tokens")},
        "rejected": rejected,
        "cached_share": round(counts.get("cached_tokens", 0) / max(counts.get("prompt_tokens", 0), 1), 3),
        **rate,
        "eta_seconds": round((expected - done) / documents_per_second) if documents_per_second else None,
    }


def _expected_rows(found: Tally, shards: tuple[ShardSpec, ...], told: int) -> int:
    """Rows of all shards: those of shards that don't say how many they have are guessed from their size.

    Before any shard was read to its end there is nothing to guess from but what the driver `told`.
    """
    known = sum(found.ends[s.index].rows if s.index in found.ends else s.rows or 0 for s in shards)
    unknown = sum(shard.size_bytes for shard in shards if shard.index not in found.ends and shard.rows is None)
    read = [shard for shard in shards if shard.index in found.ends]
    size = sum(shard.size_bytes for shard in read)
    if not size:
        return max(known, told)
    return known + round(unknown * sum(found.ends[shard.index].rows for shard in read) / size)


def format_status(directory: str, found: dict[str, Any]) -> str:
    """The same for a person."""
    rejected = ", ".join(f"{reason} {number:,}" for reason, number in found["rejected"].items()) or "none"
    eta = "unknown" if found["eta_seconds"] is None else f"{found['eta_seconds'] // 60}:{found['eta_seconds'] % 60:02d}"
    driver = found["driver"]
    doing = (
        f"process {driver['pid']} on {driver['host']}: {driver['engines']} engines, "
        f"{driver['running']:,} requests running, {driver['waiting']:,} waiting"
        if driver
        else "none at work"
    )
    read, broken = ("?" if found[key] is None else f"{found[key]:,}" for key in ("shards_read", "broken_shards"))
    return "\n".join(
        [
            f"{directory}: {'finished' if found['finished'] else 'not finished'}",
            f"driver     {doing}",
            f"documents  {found['documents_done']:,} of about {found['documents_expected']:,} "
            f"(augmented {found['augmented']:,}, raw {found['raw']:,}, rejected {sum(found['rejected'].values()):,})",
            f"shards     {read} of {found['shards']:,} read, {broken} broken; {found['segments_done']:,} segments done",
            f"rejected   {rejected}",
            f"pairs      {found['pairs']:,}",
            f"rates      {found['documents_per_second']:,} documents/s, "
            f"{found['raw_tokens_per_second']:,} raw tokens/s, "
            f"{found['generated_tokens_per_second']:,} generated tokens/s, "
            f"{found['cached_share']:.0%} of prompt tokens cached",
            f"eta        {eta} (m:ss)",
        ]
    )
