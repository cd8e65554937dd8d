"""The analysis `checks`: every pair of a synthesis run looked at without a judge, a column a check.

    segment-SHARD-NUMBER.parquet   a row a pair: document_id, source_id, source, piece, chain, round, pair, instruction,
                                   response, the checks (listing.py), and `right` where the sample world's truth says
    keys/...                       8 bytes a pair, to find repeats across the run
    repeats/...                    which pairs came before in the run, a file a pass over the keys (repeats.py)
    checks.json                    what `mix` needs to know to filter by them (mixture/keep.py)
    measured.json                  all sums, curves and repeats, for machines
    part.json                      for the report

First the keys of all pairs are taken, then repeats are found among them, then each segment is checked. Segments are
independent, and are done as tasks of Ray Data where there are many. What was done is not done again: each file is
published whole, a segment's sums in its metadata.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field, field_validator

from ipt_stream import storage
from ipt_stream.analysis.checks.files import encode, keys_path, read_sums
from ipt_stream.analysis.checks.form import exact_key
from ipt_stream.analysis.checks.listing import CHECKS, Scale, condition
from ipt_stream.analysis.checks.measure import Sums
from ipt_stream.analysis.checks.pair_checks import check_rows
from ipt_stream.analysis.checks.repeats import KEY_BYTES, Repeats, find_repeats, pass_paths, read_repeated
from ipt_stream.analysis.checks.report import make_part, measured
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import publish_part
from ipt_stream.config import Settings, fingerprint
from ipt_stream.corpus.sample_world import read_world
from ipt_stream.corpus.world.facts import World
from ipt_stream.errors import ConfigError, InputError
from ipt_stream.mixture.encode import own_error
from ipt_stream.mixture.keep import CHECKS_FILE, checks_path
from ipt_stream.mixture.sources import open_run
from ipt_stream.progress import meter
from ipt_stream.stage import Figure, Stage, StageReport, run_once
from ipt_stream.synthesis.ray_session import check_shared
from ipt_stream.synthesis.results import SegmentReference, load_rows, run_identity

VERSION = 2
"""Of the checks: raised when one of them says something else of the same pair."""
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
    keys_at_once: int = Field(1 << 25, ge=1)
    """Keys of pairs in memory at a time, about, while repeats are found; some 45 bytes each, to sort them too."""
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
        segments: how many there are.
        passes: what was found of repeats, once it was.
    """

    output: str
    settings: ChecksSettings
    world: World | None
    segments: int
    passes: tuple[str, ...] = ()


Work = Callable[[SegmentReference, int, Job], Mapping[str, Any]]
"""Something done with a segment, given its place in the run; gives JSON."""


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
    job = Job(output, settings, world, len(references))
    return run_once(output, "analyze-checks", fixed, lambda stage: _run(job, references, made_of, stage))


def _run(job: Job, references: Sequence[SegmentReference], made_of: dict[str, Any], stage: Stage) -> StageReport:
    output = job.output
    for part in ("", "keys", "repeats"):
        storage.remove_temporaries(storage.join(output, part))
    sizes = _key_counts(references, job)
    job = replace(job, passes=pass_paths(storage.join(output, "repeats"), sum(sizes), job.settings.keys_at_once))
    repeats = find_repeats([keys_path(output, reference) for reference in references], sizes, job.passes)
    sums = Sums()
    with meter("checks", len(references), "segments") as shown:
        for found in _each(_check, references, job):
            sums.add(Sums.from_json(found))
            shown.update(1, {"pairs/s": sums.whole.pairs / max(shown.elapsed_s(), 1e-9)})
    again = sums.checks["repeated"].flagged.pairs
    if (sums.whole.pairs, again) != (repeats.pairs, repeats.again):
        raise InputError(
            f"{output}/keys and {output}/repeats are not of these pairs",
            wanted=f"{sums.whole.pairs:,} pairs, {again:,} of them repeated",
            got=f"{repeats.pairs:,}, {repeats.again:,}", fix="remove the directory and run again",
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


def _key_counts(references: Sequence[SegmentReference], job: Job) -> list[int]:
    """How many pairs each segment has; the keys of them all are published then."""
    known = {file.name: file.size_bytes for file in storage.list_objects(storage.join(job.output, "keys"))}
    names = [posixpath.basename(keys_path(job.output, reference)) for reference in references]
    missing = [reference for reference, name in zip(references, names, strict=True) if name not in known]
    with meter("keys of pairs", len(references), "segments", resumed=len(references) - len(missing)) as shown:
        for reference, found in zip(missing, _each(_take_keys, missing, job), strict=True):
            known[posixpath.basename(keys_path(job.output, reference))] = found["bytes"]
            shown.update(1)
    return [known[name] // KEY_BYTES for name in names]


def _each(work: Work, references: Sequence[SegmentReference], job: Job) -> Iterator[Mapping[str, Any]]:
    """`work` of each segment, in order: in this process, or from tasks of Ray Data."""
    cores = job.settings.cores
    if cores is None and sum(reference.rows for reference in references) < IN_PROCESS_DOCUMENTS:
        cores = 0
    if cores == 0 or not references:
        for number, reference in enumerate(references):
            yield work(reference, number, job)
        return
    import ray

    from ipt_stream.synthesis.ray_session import ensure_ray

    ensure_ray(cores)
    items = [{"reference": reference, "number": number} for number, reference in enumerate(references)]
    task: Any = _in_worker
    tasks = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        task, batch_size=1, fn_args=(work, ray.put(job)), concurrency=None if cores is None else min(cores, len(items))
    )
    tasks.context.execution_options.preserve_order = True
    try:
        for row in tasks.iter_rows():
            yield json.loads(row["found"])
    except ray.exceptions.RayError as error:
        raise own_error(error) or error from error


def _in_worker(batch: dict[str, Any], work: Work, shared: Any) -> dict[str, list[str]]:
    import ray

    job: Job = ray.get(shared)
    both = zip(batch["reference"], batch["number"], strict=True)
    return {"found": [json.dumps(work(reference, int(number), job)) for reference, number in both]}


def _take_keys(reference: SegmentReference, number: int, job: Job) -> Mapping[str, Any]:
    """Publish the keys of a segment's pairs."""
    keys = b"".join(exact_key(pair) for row in load_rows(reference) for pair in row.pairs)
    storage.publish_bytes(keys_path(job.output, reference), keys)
    return {"bytes": len(keys)}


def _check(reference: SegmentReference, number: int, job: Job) -> Mapping[str, Any]:
    return check_segment(reference, number, job).to_json()


def check_segment(reference: SegmentReference, number: int, job: Job) -> Sums:
    """Check one segment, the `number`th, and publish its file, or take the sums from the file that is there.

    Raises:
        InputError: the segment was altered, or the file in place is none of it.
    """
    path = checks_path(job.output, reference)
    if storage.exists(path):
        return read_sums(path, reference)
    repeated = read_repeated(job.passes, number, job.segments)
    checked = list(check_rows(load_rows(reference), job.settings.ngram, job.world, repeated))
    sums = Sums()
    for one in checked:
        sums.note(one.values, one.right, job.settings.thresholds)
    storage.publish_bytes(path, encode(checked, reference.sha256, sums))
    return sums


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
