"""The analysis `checks`: every pair of a synthesis run looked at without a judge, a column a check.

    segment-SHARD-NUMBER.parquet   a row a pair: document_id, source_id, source, piece, chain, round, pair, instruction,
                                   response, the checks (listing.py), and `right` where the sample world's truth says
    keys/...                       8 bytes a pair, to count repeats across the run (repeats.py)
    checks.json                    what `mix` needs to know to filter by them (mixture/keep.py)
    measured.json                  all sums, curves and repeats, for machines
    part.json                      for the report

Segments are independent, and are done as tasks of Ray Data where there are many. A segment that was done is not done
again: its file is published whole, its sums in its metadata.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator

from ipt_stream import storage
from ipt_stream.analysis.checks.form import exact_key
from ipt_stream.analysis.checks.listing import CHECKS, Scale, condition
from ipt_stream.analysis.checks.measure import Sums
from ipt_stream.analysis.checks.pair_checks import Checked, check_rows
from ipt_stream.analysis.checks.repeats import Repeats, count_repeats
from ipt_stream.analysis.checks.report import make_part, measured
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import publish_part
from ipt_stream.config import Settings, fingerprint
from ipt_stream.corpus.sample_world import read_world
from ipt_stream.corpus.world.facts import World
from ipt_stream.errors import ConfigError, InputError
from ipt_stream.mixture.encode import own_error
from ipt_stream.mixture.keep import CHECKS_FILE, SEGMENT_KEY, checks_path
from ipt_stream.mixture.sources import open_run
from ipt_stream.progress import meter
from ipt_stream.stage import Figure, Stage, StageReport, run_once
from ipt_stream.synthesis.ray_session import check_shared
from ipt_stream.synthesis.results import SegmentReference, load_rows, run_identity

VERSION = 1
"""Of the checks: raised when one of them says something else of the same pair."""
SUMS_KEY = b"ipt_stream.sums"
"""The key of a segment's sums in the metadata of its file."""
MEASURED = "measured.json"
IN_PROCESS_DOCUMENTS = 20_000
"""Below this many, starting workers takes longer than they save."""


class ChecksSettings(Settings):
    """Settings of the checks of every pair."""

    thresholds: dict[str, float] = Field(default_factory=dict)
    """Where pairs are flagged, in place of a check's own threshold, by check (listing.py); for tables and plots alone:
    `mix` says itself what it keeps."""
    ngram: int = Field(3, ge=1)
    """Words of the n-grams that `repetition` counts."""
    keys_at_once: int = Field(1 << 26, ge=1)
    """Keys of pairs in memory while repeats are counted; 8 bytes each, and as many again to sort them."""
    cores: int | None = Field(None, ge=0)
    """Cores to use; 0: this process alone; null: all, where there is much to do. The output is the same."""

    @field_validator("thresholds")
    @classmethod
    def _check_names(cls, thresholds: dict[str, float]) -> dict[str, float]:
        known = [check.name for check in CHECKS if check.scale is not Scale.TRUTH]
        for name in thresholds:
            if name not in known:
                raise ValueError(f"thresholds of {', '.join(known)} (got {name!r})")
        return thresholds


@dataclass(frozen=True, slots=True)
class Job:
    """What all segments have in common.

    Attributes:
        output: where their files go.
        settings: of the checks.
        world: the sample world that the input is, or None.
    """

    output: str
    settings: ChecksSettings
    world: World | None


def analyze_checks(inputs: Inputs, settings: ChecksSettings, output: str) -> StageReport:
    """Check every pair of the synthesis run in `inputs.synthesis`; resumes where it was killed.

    With `inputs.world` the truth says which pairs are right, and each check is measured against it.

    Args:
        inputs: `synthesis`, and `world` where the input is the sample world.
        settings: thresholds and limits.
        output: directory that becomes this analysis' own.

    Raises:
        ConfigError: no synthesis run is named, or a relative path on a cluster.
        InputError: the run is not finished, or a file of it was altered.
        LedgerError: `output` was made with other settings, or of another run.
    """
    if inputs.synthesis is None:
        raise ConfigError("checks need a synthesis run", wanted="synthesis: its directory", got="none", fix="set it")
    check_shared(output, "output")
    references = open_run(inputs.synthesis).references
    world = None if inputs.world is None else read_world(inputs.world)
    made_of = {"synthesis": run_identity(references), "ngram": settings.ngram, "version": VERSION}
    fixed = {**made_of, "thresholds": settings.thresholds, "world": None if world is None else world.seed}
    job = Job(output, settings, world)
    return run_once(output, "analyze-checks", fixed, lambda stage: _run(job, references, made_of, stage))


def _run(job: Job, references: Sequence[SegmentReference], made_of: dict[str, Any], stage: Stage) -> StageReport:
    output = job.output
    for part in ("", "keys"):
        storage.remove_temporaries(storage.join(output, part))
    sums = Sums()
    with meter("checks", len(references), "segments") as shown:
        for found in _check_all(references, job):
            sums.add(found)
            shown.update(1, {"pairs/s": sums.whole.pairs / max(shown.elapsed_s(), 1e-9)})
    keys = [_keys_path(output, reference) for reference in references]
    repeats = count_repeats(keys, sums.whole.pairs, job.settings.keys_at_once)
    if repeats.pairs != sums.whole.pairs:
        raise InputError(
            f"{output}/keys does not hold the keys of all pairs", wanted=f"{sums.whole.pairs:,}",
            got=f"{repeats.pairs:,}", fix="remove the directory and run again",
        )  # fmt: skip
    thresholds = job.settings.thresholds
    storage.publish_json(storage.join(output, MEASURED), measured(sums, repeats, thresholds))
    publish_part(output, make_part(sums, repeats, thresholds))
    columns = {
        check.name: {
            "type": check.type,
            "known": sums.checks[check.name].known,
            "keeps": condition(check, thresholds.get(check.name, check.threshold)),
        }
        for check in CHECKS
    }
    storage.publish_json(
        storage.join(output, CHECKS_FILE),
        {"synthesis": made_of["synthesis"], "fingerprint": fingerprint(made_of), "columns": columns},
    )
    return stage.finish(_figures(sums, repeats), tuple(_lines(sums, repeats)))


def _check_all(references: Sequence[SegmentReference], job: Job) -> Iterator[Sums]:
    """The sums of each segment, in order: in this process, or from tasks of Ray Data."""
    cores = job.settings.cores
    if cores is None and sum(reference.rows for reference in references) < IN_PROCESS_DOCUMENTS:
        cores = 0
    if cores == 0:
        for reference in references:
            yield check_segment(reference, job)
        return
    import ray

    from ipt_stream.synthesis.ray_session import ensure_ray

    ensure_ray(cores)
    items = [{"reference": reference} for reference in references]
    task: Any = _check_in_worker
    tasks = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        task, batch_size=1, fn_args=(ray.put(job),), concurrency=None if cores is None else min(cores, len(items))
    )
    tasks.context.execution_options.preserve_order = True
    try:
        for row in tasks.iter_rows():
            yield Sums.from_json(json.loads(row["sums"]))
    except ray.exceptions.RayError as error:
        raise own_error(error) or error from error


def _check_in_worker(batch: dict[str, Any], shared: Any) -> dict[str, list[str]]:
    import ray

    job: Job = ray.get(shared)
    return {"sums": [json.dumps(check_segment(reference, job).to_json()) for reference in batch["reference"]]}


def check_segment(reference: SegmentReference, job: Job) -> Sums:
    """Check one segment and publish its file, or take the sums from the file that is there.

    Raises:
        InputError: the segment was altered, or the file in place is none of it.
    """
    path = checks_path(job.output, reference)
    if storage.exists(path):
        return _read_sums(path, reference)
    checked = list(check_rows(load_rows(reference), job.settings.ngram, job.world))
    sums = Sums()
    for one in checked:
        sums.note(one.values, one.right, job.settings.thresholds)
    keys = b"".join(exact_key(one.pair) for one in checked)
    storage.publish_bytes(_keys_path(job.output, reference), keys)
    storage.publish_bytes(path, encode(checked, reference.sha256, sums))
    return sums


def encode(checked: Sequence[Checked], sha256: str, sums: Sums) -> bytes:
    """The Parquet bytes of a segment's checks; its own hash and the sums lie in the metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"float": pa.float64(), "int": pa.int32(), "bool": pa.bool_()}
    place = {"piece": pa.int32(), "chain": pa.int32(), "round": pa.int32(), "pair": pa.int32()}
    named = ("document_id", "source_id", "source", "piece", "chain", "round", "pair", "instruction", "response")
    fields = [pa.field(name, place.get(name, pa.string())) for name in named]
    fields += [pa.field(check.name, types[check.type]) for check in CHECKS]
    schema = pa.schema([*fields, pa.field("right", pa.bool_())])
    rows = [one.row for one in checked]
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in named[:6]}
    columns["pair"] = [one.number for one in checked]
    columns["instruction"] = [one.pair.instruction for one in checked]
    columns["response"] = [one.pair.response for one in checked]
    columns |= {check.name: [one.values[check.name] for one in checked] for check in CHECKS}
    columns["right"] = [one.right for one in checked]
    metadata = {SEGMENT_KEY: sha256.encode(), SUMS_KEY: json.dumps(sums.to_json()).encode()}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema.with_metadata(metadata)), buffer, compression="zstd")
    return buffer.getvalue()


def _read_sums(path: str, reference: SegmentReference) -> Sums:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(io.BytesIO(storage.read_bytes(path))).metadata or {}
        if metadata[SEGMENT_KEY].decode() == reference.sha256:
            return Sums.from_json(json.loads(metadata[SUMS_KEY]))
        got = "those of another segment"
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        got = str(error)
    raise InputError(f"{path} does not hold the checks of {reference.path}", got=got, fix="remove it and run again")


def _keys_path(output: str, reference: SegmentReference) -> str:
    return checks_path(storage.join(output, "keys"), reference).replace(".parquet", ".u64")


def _figures(sums: Sums, repeats: Repeats) -> dict[str, Figure]:
    whole, kept = sums.whole, sums.kept
    figures: dict[str, Figure] = {"pairs": whole.pairs, "pairs_no_check_flags": kept.pairs}
    figures |= {f"{name}_flagged": spread.flagged.pairs for name, spread in sums.checks.items()}
    figures["pairs_again"] = repeats.again
    if sums.judged:
        figures["right_share"] = round(whole.right / whole.pairs, 4)
        figures["right_share_no_check_flags"] = round(kept.right / kept.pairs, 4) if kept.pairs else 0.0
    return figures


def _lines(sums: Sums, repeats: Repeats) -> Iterator[str]:
    whole, kept = sums.whole, sums.kept
    share = kept.pairs / whole.pairs if whole.pairs else 0.0
    yield f"pairs {whole.pairs:,}, of which no check flags {kept.pairs:,} ({share:.1%}); {repeats.again:,} came before"
    for name, spread in sums.checks.items():
        known = spread.known
        flagged = spread.flagged.pairs / known if known else 0.0
        yield f"  {name:<16}{flagged:>7.1%} flagged of {known:,}"
    if sums.judged:
        right = whole.right / whole.pairs
        after = kept.right / kept.pairs if kept.pairs else 0.0
        yield f"right by the world's truth: {right:.1%} of all, {after:.1%} of those that no check flags"
