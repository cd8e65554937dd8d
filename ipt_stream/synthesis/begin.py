"""All that a driver does before it gives out the first order, but for Ray: benchmarks/resume.py measures it.

listing -> settings (one stage, one set of them) -> claim -> plan -> what is recorded -> orders for the rest
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ipt_stream import storage
from ipt_stream.claim import Claim, claim
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import ShardBroken, ShardSpec
from ipt_stream.corpus.readers import InputConfig, list_shards, listing_fingerprint, read_rows, resolve_shards
from ipt_stream.errors import StorageError
from ipt_stream.ledger import read_ledger
from ipt_stream.progress import log
from ipt_stream.stage import Stage, StageReport, open_stage
from ipt_stream.synthesis.board import Board
from ipt_stream.synthesis.model_files import model_identity
from ipt_stream.synthesis.orders import advice, order_to_json, orders_at_once, plan_orders
from ipt_stream.synthesis.plan import RunPlan, load_plan, save_plan
from ipt_stream.synthesis.tally import Tally, tally

if TYPE_CHECKING:
    from ipt_stream.synthesis.pipeline import SynthesizeConfig

SAMPLED_ROWS = 256
COMPRESSION = 2.7
"""How much smaller than its text a compressed shard is about; only for estimates."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that is claimed and planned.

    Attributes:
        stage: its output directory.
        plan: what decides which document goes where.
        before: what was recorded already.
        orders: for all that was not, as JSON.
        board: what is known of the run, begun with `before`.
        held: the claim.
    """

    stage: Stage
    plan: RunPlan
    before: Tally
    orders: list[str]
    board: Board
    held: Claim


@contextmanager
def begin(config: SynthesizeConfig) -> Iterator[Begun | StageReport]:
    """Hold the run directory, with all that is to be known to give out the first order; or the report of a run that is
    finished.

    Raises:
        InputError: the input is not what it should be.
        LedgerError: the run directory belongs to other settings, or another driver is at work there.
    """
    shards = _resolve(config)
    stage = open_stage(config.output, "synthesize", _settings(config, shards))
    if stage.finished is not None:
        yield stage.finished
        return
    named = _named_columns(config.input)
    plan = RunPlan(tuple(shards), config.segment_documents, config.rounds, config.fraction, config.seed, named)
    board = Board()
    with claim(config.output, board.tell) as held:
        save_plan(config.output, plan)
        remove_temporaries(config.output)
        before = tally(read_ledger(config.output))
        bytes_a_row = _bytes_a_row(shards, before)
        at_once, smallest = orders_at_once(config.engine, plan)
        at_once *= config.engine.most_replicas()
        planned = plan_orders(shards, before, config.segment_documents, at_once, bytes_a_row, smallest)
        orders = [order_to_json(order) for order in planned]
        if too_many := advice(len(orders), config.engine.most_replicas()):
            log.warning("%s", too_many)
        board.begin(before, shards, bytes_a_row)
        if before.made:
            log.info("resuming: %s segments are done", f"{before.counts['segments']:,}")
        yield Begun(stage, plan, before, orders, board, held)


def _resolve(config: SynthesizeConfig) -> list[ShardSpec]:
    """The input's shards: as the plan in the run directory has them where it is of the same listing and columns."""
    if not storage.exists(storage.join(config.output, "plan.json")):
        return resolve_shards(config.input)
    listed = list_shards(config.input)
    plan = load_plan(config.output)
    same = listing_fingerprint(listed) == listing_fingerprint(plan.shards)
    if not same or plan.columns != _named_columns(config.input):
        return resolve_shards(config.input)
    return [replace(shard, path=here.path) for shard, here in zip(plan.shards, listed, strict=True)]


def _named_columns(config: InputConfig) -> tuple[str | None, ...]:
    return (config.text_column, config.id_column, config.format)


def _settings(config: SynthesizeConfig, shards: list[ShardSpec]) -> dict[str, Any]:
    """All that decides the output; how fast it is made, and on how many engines, is left out."""
    engine = config.engine
    settings: dict[str, Any] = {
        "input": {
            "listing": listing_fingerprint(shards),
            "shards": len(shards),
            "columns": sorted({f"{shard.text_column}, {shard.id_column}" for shard in shards}),
        },
        "rounds": config.rounds,
        "fraction": config.fraction,
        "seed": config.seed,
        "segment_documents": config.segment_documents,
        "engine": {
            "model": model_identity(engine.model, engine.revision),
            "lora": None if engine.lora is None else model_identity(engine.lora, engine.revision),
            "max_model_len": engine.max_model_len,
            "max_new_tokens": engine.max_new_tokens,
            "sampling": engine.sampling.model_dump(),
            "dtype": engine.dtype,
            "arguments": engine.arguments,
        },
    }
    if engine.response_logprobs:  # Runs of before there were any go on, and are answered from, with the setting off.
        settings["engine"]["response_logprobs"] = True
    return settings


def remove_temporaries(output: str) -> None:
    """Delete what killed writers left among the segments and in the ledger."""
    for part in ("segments", "ledger"):
        storage.remove_temporaries(storage.join(output, part))


def _bytes_a_row(shards: Sequence[ShardSpec], made: Tally) -> float:
    """About how many bytes a row has, in shards that don't say how many rows they have."""
    unknown = [shard for shard in shards if shard.rows is None]
    read = [shard for shard in unknown if shard.index in made.ends and not made.ends[shard.index].broken]
    rows = sum(made.ends[shard.index].rows for shard in read)
    if rows:
        return max(sum(shard.size_bytes for shard in read) / rows, 1.0)
    for shard in unknown:
        try:
            texts = [row.text for row in islice(read_rows(shard), SAMPLED_ROWS) if isinstance(row, Document)]
        except (ShardBroken, StorageError):
            continue
        if texts:
            packed = shard.path.endswith((".gz", ".zst", ".zstd"))
            return max(sum(map(len, texts)) / len(texts) / (COMPRESSION if packed else 1.0), 1.0)
    return 1000.0
