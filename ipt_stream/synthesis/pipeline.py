"""The synthesize stage: shards -> segments -> engines -> segment files and the ledger. The only Ray Data wiring.

    shards --flat--> segments (one a row, read in order) --actors--> records --driver--> ledger

A row of the dataset is one whole segment, so how Ray Data splits and merges blocks can't change what a segment is.
Each record is written to the ledger as it arrives; killed at any moment, the next run does what is not recorded.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import Field

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.corpus.readers import InputConfig, listing_fingerprint, resolve_shards
from ipt_stream.errors import IptError, LedgerError, RejectionLimitExceeded
from ipt_stream.ledger import Ledger, open_ledger
from ipt_stream.progress import log, meter
from ipt_stream.stage import Stage, StageReport, run_once
from ipt_stream.synthesis.engine import EngineConfig, VllmEngine, model_identity
from ipt_stream.synthesis.plan import RunPlan, save_plan
from ipt_stream.synthesis.worker import EngineFactory


class LimitsConfig(Settings):
    """How much of the input may be rejected before the stage ends with exit code 3 (it finishes all the same)."""

    broken_shards: int = Field(0, ge=0)
    """Shards that can't be read to their end."""
    rejected_share: float = Field(0.1, ge=0.0, le=1.0)
    """Rejected documents over documents in."""


class SynthesizeConfig(Settings):
    """Settings of the synthesize stage."""

    input: InputConfig
    """The raw shards."""
    output: str
    """Run directory: a path, or a URL such as s3://bucket/prefix."""
    engine: EngineConfig
    """The synthesizer and how it runs."""
    rounds: int = Field(2, ge=1)
    """M: rounds of synthesis, each seeing what earlier ones of its chain made (paper: 2, in a domain 3)."""
    fraction: float = Field(1.0, ge=0.0, le=1.0)
    """Of the documents, how many are converted (paper: 1/5 from scratch, all in a domain)."""
    seed: int = 0
    """Of that selection."""
    segment_documents: int = Field(2048, ge=1)
    """Rows a segment: what is lost at most when a worker dies."""
    limits: LimitsConfig = LimitsConfig()
    """What may be rejected."""


def synthesize(config: SynthesizeConfig, make_engine: EngineFactory = VllmEngine) -> StageReport:
    """Synthesize pairs for all selected documents of the input; resumes a run that was killed.

    Raises:
        InputError: the input is not what it should be; before any engine starts.
        LedgerError: the run directory belongs to other settings, or a document was lost or doubled.
        RejectionLimitExceeded: finished, with more rejects than `limits` allows.
    """
    shards = resolve_shards(config.input)
    report = run_once(
        config.output, "synthesize", _settings(config, shards), lambda stage: _run(config, shards, stage, make_engine)
    )
    _check_limits(config, report)
    return report


def _settings(config: SynthesizeConfig, shards: list[ShardSpec]) -> dict[str, Any]:
    """All that decides the output; how fast it is made, and on how many engines, is left out."""
    engine = config.engine
    return {
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
            "max_model_len": engine.max_model_len,
            "max_new_tokens": engine.max_new_tokens,
            "dtype": engine.dtype,
            "arguments": engine.arguments,
        },
    }


def _run(config: SynthesizeConfig, shards: list[ShardSpec], stage: Stage, make_engine: EngineFactory) -> StageReport:
    plan = RunPlan(tuple(shards), config.segment_documents, config.rounds, config.fraction, config.seed)
    save_plan(config.output, plan)
    storage.remove_temporaries(storage.join(config.output, "segments"))
    ledger = open_ledger(config.output)
    pending = _pending(shards, ledger)
    made = {key for key, record in ledger.records.items() if record["kind"] == "segment"}
    if made:
        log.info("resuming: %d segments are done, %d shards are left to read", len(made), len(pending))
    started = time.time()
    total = sum(shard.rows for shard in shards if shard.rows is not None)
    known = total if all(shard.rows is not None for shard in shards) else None
    resumed = sum(ledger.records[key]["rows"] for key in made)
    with meter("synthesize", known, "documents", resumed=resumed, metrics_path=_metrics_path(config.output)) as bar:
        first = started
        totals: Counter[str] = Counter()
        for record in _records(config, plan, pending, ledger, make_engine) if pending else ():
            if record["kind"] == "segment":
                first = min(first, record["started"]) if totals else record["started"]
                totals.update({key: record[key] for key in ("raw_tokens", "generated_tokens", "pairs")})
                totals.update(prompt=record["prompt_tokens"], cached=record["cached_tokens"])
            ledger.append(record)
            if record["kind"] == "segment":
                elapsed = max(time.time() - first, 1e-3)
                cached = totals["cached"] / max(totals["prompt"], 1)
                bar.update(
                    record["rows"],
                    {
                        "raw tokens/s": totals["raw_tokens"] / elapsed,
                        "generated tokens/s": totals["generated_tokens"] / elapsed,
                        "cached": f"{cached:.0%}",
                        "pairs": totals["pairs"],
                    },
                )
        elapsed = time.time() - first
    figures = check_conservation(ledger, len(shards))
    figures["synthesis_seconds"] = round(elapsed, 1)
    if totals:
        figures["raw_tokens_per_second"] = round(totals["raw_tokens"] / elapsed)
        figures["generated_tokens_per_second"] = round(totals["generated_tokens"] / elapsed)
    return stage.finish(figures, _lines(figures, ledger))


def _pending(shards: list[ShardSpec], ledger: Ledger) -> list[tuple[ShardSpec, frozenset[int]]]:
    """The shards that are not wholly recorded, each with the numbers of its segments that are."""
    made: dict[int, set[int]] = {}
    ends: dict[int, int] = {}
    for record in ledger.records.values():
        if record["kind"] == "segment":
            made.setdefault(record["shard"], set()).add(record["number"])
        else:
            ends[record["shard"]] = record["segments"]
    return [
        (shard, frozenset(made.get(shard.index, ())))
        for shard in shards
        if ends.get(shard.index) is None or len(made.get(shard.index, ())) < ends[shard.index]
    ]


def _records(
    config: SynthesizeConfig,
    plan: RunPlan,
    pending: list[tuple[ShardSpec, frozenset[int]]],
    ledger: Ledger,
    make_engine: EngineFactory,
) -> Iterator[dict[str, Any]]:
    """Ledger records as they are made, of whatever is not in the ledger yet."""
    import ray
    from ray.data import ActorPoolStrategy

    from ipt_stream.synthesis.ray_session import ensure_ray

    ensure_ray()
    gpus = config.engine.gpus
    if gpus is None:
        gpus = 1.0 if _cluster_resources().get("GPU", 0) else 0.0
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # A block a segment: engines take segments one by one, in the order of reading.
    items = [
        {
            "shard": json.dumps({key: getattr(shard, key) for key in ShardSpec.__slots__}),
            "finished": json.dumps(sorted(finished)),
        }
        for shard, finished in pending
    ]
    read = partial(_read, segment_documents=plan.segment_documents)
    segments = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(read, batch_size=1, num_cpus=0.5)
    records = segments.map_batches(
        _Actor,
        batch_size=None,
        compute=ActorPoolStrategy(
            size=config.engine.replicas,
            max_tasks_in_flight_per_actor=2 * config.engine.segments_in_flight,
            max_concurrent_calls_per_actor=config.engine.segments_in_flight,
            enable_true_multi_threading=True,
        ),
        num_gpus=gpus,
        num_cpus=config.engine.cpus,
        fn_constructor_args=(config.engine, plan.without_shards(), config.output, gpus, make_engine),
    )
    for row in records.iter_rows():
        record = json.loads(row["record"])
        if "error" in record:
            raise IptError(record["error"])
        if record["id"] not in ledger.records:
            yield record


def _cluster_resources() -> dict[str, float]:
    import ray

    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


def _read(batch: dict[str, Any], segment_documents: int) -> Iterator[dict[str, list[Any]]]:
    """A shard's description to its segments: the reading tasks. Rows are (header: JSON, documents: Arrow bytes)."""
    from ipt_stream.synthesis.read_segments import ShardEnd, encode_documents, read_segments

    for description, finished in zip(batch["shard"], batch["finished"], strict=True):
        fields = json.loads(str(description))
        shard = ShardSpec(**{**fields, "format": Format(fields["format"])})
        for item in read_segments(shard, segment_documents, frozenset(json.loads(str(finished)))):
            if isinstance(item, ShardEnd):
                header = {"kind": "shard", "rows": item.rows, "segments": item.segments, "broken": item.broken}
                header |= {"id": f"shard-{item.shard:06d}", "shard": item.shard}
                yield {"header": [json.dumps(header)], "documents": [b""]}
                continue
            header = {"kind": "segment", "shard": item.shard, "number": item.number, "start_row": item.start_row}
            header |= {"rows": item.rows, "rejected": item.rejected}
            yield {"header": [json.dumps(header)], "documents": [encode_documents(item.documents)]}


class _Actor:
    """What Ray Data calls; the work is `SegmentSynthesizer`'s."""

    def __init__(self, *arguments: Any) -> None:
        from ipt_stream.progress import set_up_logging
        from ipt_stream.synthesis.worker import SegmentSynthesizer

        set_up_logging()
        self._synthesizer = SegmentSynthesizer(*arguments)
        log.info("engine ready after %.0f s", self._synthesizer.engine_start_seconds)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        from ipt_stream.synthesis.read_segments import SegmentInput, decode_documents

        records = []
        for text, content in zip(batch["header"], batch["documents"], strict=True):
            header = json.loads(str(text))
            if header.pop("kind") == "segment":
                item = SegmentInput(documents=decode_documents(content), **header)
                records.append(json.dumps(self._synthesizer.synthesize(item)))
            else:
                records.append(json.dumps({"kind": "shard", **header}))
        return {"record": records}


def check_conservation(ledger: Ledger, shards: int) -> dict[str, float | int | str]:
    """The run's counts, once it is proved that every document came out exactly once.

    Raises:
        LedgerError: documents in are not augmented + raw + rejected, or a shard or a segment is missing.
    """
    segments = [record for record in ledger.records.values() if record["kind"] == "segment"]
    ends = [record for record in ledger.records.values() if record["kind"] == "shard"]
    count: Counter[str] = Counter()
    for record in segments:
        for key in ("augmented", "raw", "unselected", "pairs", "pieces"):
            count[key] += record[key]
        for key in ("raw_tokens", "prompt_tokens", "cached_tokens", "generated_tokens"):
            count[key] += record[key]
        count["rejected"] += sum(len(rows) for rows in record["rejected"].values())
    rows = sum(record["rows"] for record in ends)
    out = count["augmented"] + count["raw"] + count["rejected"]
    planned = sum(record["segments"] for record in ends)
    if len(ends) != shards or planned != len(segments) or rows != out:
        raise LedgerError(
            f"{ledger.root}: the counts don't add up",
            wanted=f"{rows} documents of {shards} shards in {planned} segments",
            got=f"{out} documents of {len(ends)} shards in {len(segments)} segments",
            fix="report this, with the ledger folder",
        )
    figures: dict[str, float | int | str] = {
        "documents_in": rows,
        "augmented": count["augmented"],
        "raw": count["raw"],
        "raw_unselected": count["unselected"],
        "rejected": count["rejected"],
        "broken_shards": sum(1 for record in ends if record["broken"]),
        "shards": shards,
        "segments": len(segments),
        "pieces": count["pieces"],
        "pairs": count["pairs"],
    }
    for key in ("raw_tokens", "prompt_tokens", "cached_tokens", "generated_tokens"):
        figures[key] = count[key]
    return figures


def _lines(figures: dict[str, float | int | str], ledger: Ledger) -> tuple[str, ...]:
    reasons: dict[str, Counter[str]] = {"rejected": Counter(), "no_pairs": Counter(), "dropped": Counter()}
    for record in ledger.records.values():
        if record["kind"] == "segment":
            reasons["rejected"].update({key: len(rows) for key, rows in record["rejected"].items()})
            reasons["no_pairs"].update(record["no_pairs"])
            reasons["dropped"].update(record["dropped"])
    lines = [
        "documents in {documents_in:,} = augmented {augmented:,} + raw {raw:,} + rejected {rejected:,}".format(
            **figures
        )
    ]
    lines.append(f"pairs {figures['pairs']:,} from {figures['pieces']:,} texts in {figures['segments']:,} segments")
    for name, title in (("rejected", "rejected"), ("no_pairs", "texts without pairs"), ("dropped", "pairs dropped")):
        if reasons[name]:
            listed = ", ".join(f"{reason} {count:,}" for reason, count in reasons[name].most_common())
            lines.append(f"{title}: {listed}")
    lines += [record["broken"] for record in ledger.records.values() if record.get("broken")]
    return tuple(lines)


def _check_limits(config: SynthesizeConfig, report: StageReport) -> None:
    broken, documents = int(report.figures["broken_shards"]), int(report.figures["documents_in"])
    share = int(report.figures["rejected"]) / max(documents, 1)
    if broken > config.limits.broken_shards:
        raise RejectionLimitExceeded(
            f"{config.output} is finished, but {broken} shards were broken",
            wanted=f"at most {config.limits.broken_shards} (limits.broken_shards)",
            got=next((line for line in report.lines if line.startswith("shard ")), str(broken)),
            fix="mend those shards and run on them in another directory, or raise the limit",
        )
    if share > config.limits.rejected_share:
        raise RejectionLimitExceeded(
            f"{config.output} is finished, but {share:.1%} of its documents were rejected",
            wanted=f"at most {config.limits.rejected_share:.1%} (limits.rejected_share)",
            got=next((line for line in report.lines if line.startswith("rejected")), ""),
            fix="look at the reasons, or raise the limit",
        )


def _metrics_path(output: str) -> str | None:
    return None if storage.is_remote(output) else storage.join(storage.local(output), "metrics.jsonl")
