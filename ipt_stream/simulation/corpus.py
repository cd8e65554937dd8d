"""A made-up listing, and what a segment of it is: its rows, its tokens, its ledger record."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.simulation.settings import SimulationSettings
from ipt_stream.synthesis.plan import RunPlan, segment_id, segment_path

EPOCH = 1_790_000_000.0
"""When runs start, in seconds since the epoch: some day."""
PAIRS_A_DOCUMENT = 5
PAIR_TOKENS = 52


def make_plan(settings: SimulationSettings) -> RunPlan:
    """The plan of the run: Parquet shards, which say how many rows they have."""
    corpus = settings.corpus
    chosen = random.Random(settings.seed)
    shards = []
    for index in range(corpus.shards):
        rows = max(round(corpus.documents_a_shard * chosen.uniform(1 - corpus.spread, 1 + corpus.spread)), 1)
        name = f"{index:05d}.parquet"
        size = round(rows * settings.store.bytes_a_document)
        shards.append(ShardSpec(f"/web/{name}", index, name, Format.PARQUET, "content", "url", size, rows))
    return RunPlan(tuple(shards), settings.segment_documents, settings.rounds, settings.fraction, settings.seed)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a simulated run.

    Attributes:
        shard: index of its shard.
        number: its number there.
        start_row: its first row.
        rows: how many it has.
        selected: how many of them are converted.
        tokens: raw tokens of those.
        chains: how many chains they make.
    """

    shard: int
    number: int
    start_row: int
    rows: int
    selected: int
    tokens: int
    chains: int

    @property
    def name(self) -> str:
        """As the plan names it."""
        return segment_id(self.shard, self.number)

    def record(self, started: float, seconds: float) -> dict[str, Any]:
        """Its ledger record, with all that a real one has."""
        pairs = self.selected * PAIRS_A_DOCUMENT
        prompts = self.tokens * 3 // 2
        return {
            "id": self.name,
            "kind": "segment",
            "shard": self.shard,
            "number": self.number,
            "start_row": self.start_row,
            "rows": self.rows,
            "augmented": self.selected,
            "raw": self.rows - self.selected,
            "unselected": self.rows - self.selected,
            "rejected": {},
            "pieces": self.selected,
            "no_pairs": {},
            "pairs": pairs,
            "dropped": {"unfinished": self.selected // 10},
            "raw_tokens": self.tokens,
            "prompt_tokens": prompts,
            "cached_tokens": prompts - self.tokens,
            "resent_tokens": prompts - self.tokens,
            "generated_tokens": pairs * PAIR_TOKENS,
            "started": started,
            "seconds": seconds,
            "path": segment_path(self.shard, self.number),
            "sha256": "0" * 64,
        }


def segments_of(plan: RunPlan, shard: int) -> int:
    """How many segments a shard has."""
    return -(-(plan.shards[shard].rows or 0) // plan.segment_documents)


def make_segment(settings: SimulationSettings, plan: RunPlan, shard: int, number: int) -> Segment:
    """Segment `number` of a shard; the same whenever it is asked for."""
    start = number * plan.segment_documents
    rows = min(plan.segment_documents, (plan.shards[shard].rows or 0) - start)
    selected = round(rows * plan.fraction)
    corpus = settings.corpus
    tokens = selected * corpus.tokens_a_document
    if corpus.token_spread and selected:
        drawn = random.Random(hash((settings.seed, shard, number))).gauss(0.0, corpus.token_spread / selected**0.5)
        tokens *= max(1 + drawn, 0.1)
    return Segment(shard, number, start, rows, selected, round(tokens), -(-selected // plan.rounds))


def shard_record(plan: RunPlan, shard: int) -> dict[str, Any]:
    """The ledger record of a shard's end."""
    rows = plan.shards[shard].rows
    segments = segments_of(plan, shard)
    return {"id": f"shard-{shard:06d}", "kind": "shard", "shard": shard, "rows": rows, "segments": segments,
            "broken": None}  # fmt: skip
