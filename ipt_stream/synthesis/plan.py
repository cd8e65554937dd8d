"""What a synthesis run is planned from, and what names its segments.

Segment `number` of a shard is its rows `[number * segment_documents, (number + 1) * segment_documents)`, rejected rows
counted, and is published as `segments/{shard index}-{number}.parquet`: names that follow from the input listing and
the settings alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from ipt_stream import storage
from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.errors import StorageError


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The part of a run's settings that decides which document goes where.

    Attributes:
        shards: the input, in order.
        segment_documents: rows a segment.
        rounds: M of the paper's M-shot examples.
        fraction: of the documents, how many are converted.
        seed: of that selection.
        columns: what the settings named: text column, id column, format; None: found out.
    """

    shards: tuple[ShardSpec, ...]
    segment_documents: int
    rounds: int
    fraction: float
    seed: int
    columns: tuple[str | None, ...] = (None, None, None)

    def chains_a_segment(self) -> int:
        """About how many chains a segment has."""
        return max(1, -(-round(self.segment_documents * self.fraction) // self.rounds))

    def without_shards(self) -> RunPlan:
        """The plan without its listing, to send along with one segment."""
        return replace(self, shards=())


def segment_id(shard: int, number: int) -> str:
    """The name of a segment: the shard's index and the segment's number in it. Sorts in input order."""
    return f"{shard:06d}-{number:06d}"


def segment_path(shard: int, number: int) -> str:
    """Where a segment is published, below the run directory."""
    return f"segments/{segment_id(shard, number)}.parquet"


def save_plan(output: str, plan: RunPlan) -> None:
    """Publish `plan` as `plan.json` of the run directory."""
    storage.publish_json(storage.join(output, "plan.json"), msgspec.to_builtins(plan))


def load_plan(output: str) -> RunPlan:
    """The plan of the run in `output`. Raises `StorageError` where there is none, or another version wrote it."""
    path = storage.join(output, "plan.json")
    known = storage.read_json(path)
    try:
        shards = tuple(ShardSpec(**{**shard, "format": Format(shard["format"])}) for shard in known.pop("shards"))
        return RunPlan(shards=shards, columns=tuple(known.pop("columns")), **known)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(
            f"{path} is not the plan of a synthesis run",
            wanted="one that this version wrote",
            got=f"{type(error).__name__}: {error}",
            fix="use the version that made the run, or synthesize again in another directory",
        ) from error
