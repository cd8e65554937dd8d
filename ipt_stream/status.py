"""`ipt-stream status DIR`: how far a synthesis run is, from storage alone, whoever runs it and wherever."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import InputError
from ipt_stream.ledger import open_ledger
from ipt_stream.stage import finished_figures


def read_status(directory: str) -> dict[str, Any]:
    """Counts of the run in `directory`: what is done, pending and rejected, rates and the time that is left.

    Raises:
        InputError: there is no synthesis run there.
    """
    path = storage.join(directory, "plan.json")
    if not storage.exists(path):
        raise InputError(
            f"no synthesis run in {directory}",
            wanted="plan.json there",
            got="none",
            fix="name a run's output directory",
        )
    shards = storage.read_json(path)["shards"]
    count: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    rows_of: Counter[int] = Counter()
    begun, ended = float("inf"), 0.0
    for record in open_ledger(directory).records.values():
        if record["kind"] == "shard":
            count["shards_read"] += 1
            count["broken_shards"] += bool(record["broken"])
            continue
        rows_of[record["shard"]] += record["rows"]
        begun, ended = min(begun, record["started"]), max(ended, record["started"] + record["seconds"])
        count["segments_done"] += 1
        rejected.update({reason: len(rows) for reason, rows in record["rejected"].items()})
        for key in ("augmented", "raw", "pairs", "raw_tokens", "prompt_tokens", "cached_tokens", "generated_tokens"):
            count[key] += record[key]
    done = sum(rows_of.values())
    # Rows of shards that don't say how many they have are guessed from their size.
    bytes_done = sum(shards[index]["size_bytes"] for index in rows_of)
    total = sum(shard["rows"] if shard["rows"] is not None else 0 for shard in shards)
    unknown = [shard for shard in shards if shard["rows"] is None]
    if unknown and bytes_done:
        total += round(sum(shard["size_bytes"] for shard in unknown) * done / bytes_done)
    finished = finished_figures(directory) is not None
    total = done if finished else max(total, done)
    elapsed = max(ended - begun, 1e-9) if done else 0.0
    return {
        "finished": finished,
        "shards": len(shards),
        **{key: count[key] for key in ("shards_read", "broken_shards", "segments_done", "augmented", "raw", "pairs")},
        "documents_done": done,
        "documents_expected": total,
        "rejected": dict(rejected),
        "raw_tokens": count["raw_tokens"],
        "generated_tokens": count["generated_tokens"],
        "cached_share": round(count["cached_tokens"] / max(count["prompt_tokens"], 1), 3),
        "documents_per_second": round(done / elapsed, 1) if elapsed else 0.0,
        "raw_tokens_per_second": round(count["raw_tokens"] / elapsed) if elapsed else 0,
        "eta_seconds": round((total - done) * elapsed / done) if done else None,
    }


def format_status(directory: str, found: dict[str, Any]) -> str:
    """The same for a person."""
    rejected = ", ".join(f"{reason} {number:,}" for reason, number in found["rejected"].items()) or "none"
    eta = "unknown" if found["eta_seconds"] is None else f"{found['eta_seconds'] // 60}:{found['eta_seconds'] % 60:02d}"
    return "\n".join(
        [
            f"{directory}: {'finished' if found['finished'] else 'not finished'}",
            f"documents  {found['documents_done']:,} of about {found['documents_expected']:,} "
            f"(augmented {found['augmented']:,}, raw {found['raw']:,}, rejected {sum(found['rejected'].values()):,})",
            f"shards     {found['shards_read']:,} of {found['shards']:,} read, {found['broken_shards']} broken; "
            f"{found['segments_done']:,} segments done",
            f"rejected   {rejected}",
            f"pairs      {found['pairs']:,}",
            f"rates      {found['documents_per_second']:,} documents/s, "
            f"{found['raw_tokens_per_second']:,} raw tokens/s, "
            f"{found['cached_share']:.0%} of prompt tokens cached",
            f"eta        {eta} (m:ss)",
        ]
    )
