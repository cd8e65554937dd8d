"""`ipt-stream mix`: from finished segments, raw documents and instruction data to what the trainer streams.

    sources/NAME/   an MDS directory a source: `tokens`, fixed length, documents joined by EOS
    text/NAME/      on request, the same texts untokenized
    tokenizer/      a copy, so that training needs nothing else
    plan.json       how many sequences of each source training sees; from it and its seed follows the order
    samples.jsonl   a few texts of each source, for people

A killed mix goes on where it was: a finished source is kept. The same inputs and settings give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from ipt_stream import storage
from ipt_stream.baselines.reading_comprehension import mining
from ipt_stream.config import Settings, fingerprint
from ipt_stream.errors import ConfigError, LedgerError, MixtureError, StorageError
from ipt_stream.mixture import mds, templates
from ipt_stream.mixture.encode import (
    Block,
    Job,
    Vocabulary,
    encode_all,
    open_tokenizer,
    publish_tokenizer,
    read_vocabulary,
    smallest,
)
from ipt_stream.mixture.estimate import estimate
from ipt_stream.mixture.keep import Keep
from ipt_stream.mixture.keeping import keeps_of, kept_figures, kept_lines
from ipt_stream.mixture.pack import Packing, best_fit, concat, padding, token_dtype
from ipt_stream.mixture.plan import Plan, make_plan, save_plan, table
from ipt_stream.mixture.presets import Preset, sources_of
from ipt_stream.mixture.shares import Stock, check_demands
from ipt_stream.mixture.sources import (
    OF_A_RUN,
    FinishedRun,
    Kind,
    Making,
    SourceConfig,
    Text,
    Unit,
    keywords,
    listing,
    open_run,
    units,
)
from ipt_stream.progress import log, meter
from ipt_stream.stage import StageReport, open_stage
from ipt_stream.synthesis.ray_session import check_shared

if TYPE_CHECKING:
    from ipt_stream.mixture.pack import Tokens

Facts = dict[str, Any]
"""What `facts.json` of a source says."""
TOKENIZER = "tokenizer"
SAMPLES_FILE = "samples.jsonl"
STAGE_FILE = "stage.json"
IN_PROCESS_BYTES = 32 << 20
"""Below this much input, starting workers takes longer than they save; the tokenizer has threads of its own."""


class MixConfig(Settings):
    """Settings of `ipt-stream mix`."""

    output: str
    """Directory or object-store prefix of the mixture."""
    tokenizer: str
    """A Hugging Face folder with a tokenizer, such as a model's."""
    sequence_length: int = Field(default=2048, gt=1)
    """Tokens a sequence."""
    seed: int = Field(default=0, ge=0)
    """Of the templates' choices and of the training order."""
    preset: Preset | None = None
    """A mixture of the paper's (presets.py), made from the next three; null: `sources` says all."""
    synthesis: str | None = None
    """Of a preset: a synthesis run's directory."""
    tuning: str | tuple[str, ...] | None = None
    """Of a preset: what the synthesizer was tuned on."""
    general: str | tuple[str, ...] | None = None
    """Of a preset: general instructions."""
    sources: dict[str, SourceConfig] = Field(min_length=1)
    """What is mixed, by names of your choice; with a preset, what is to be different in its sources."""
    leave_out: str | None = None
    """A file of JSON lines with the `document_id`s of documents that no source made from a synthesis run may hold, such
    as the `contaminated.jsonl` of `ipt-stream analyze`; null: none."""
    sequences: int | None = Field(default=None, gt=0)
    """Length of the training in sequences; null: what passes and ratios add up to."""
    tokens: int | None = Field(default=None, gt=0)
    """The same in tokens, rounded up to whole sequences; at most one of the two."""
    sequences_per_batch: int | None = Field(default=None, gt=0)
    """Sequences a step of the training, for the table alone; null: it shows no steps."""
    bos: bool = False
    """Whether each document begins with BOS."""
    packing: Packing = Packing.CONCAT
    """How documents become sequences: concat, or best-fit, which cuts none that fits and pads a little."""
    document_ids: bool = False
    """Whether batches say which document each token is of, so that attention can be kept inside documents."""
    text_mds: bool = False
    """Whether the texts are written too, under `text/`."""
    shard_bytes: int = Field(default=1 << 26, gt=0)
    """Size of an MDS shard before compression."""
    shuffle_shards: int = Field(default=16, ge=1)
    """Shards of a source that a pass shuffles together: more shuffle better, and need more cache (order.py)."""
    cores: int | None = Field(default=None, ge=0)
    """Cores to use; 0: this process alone; null: all, where there is much to do. The output is the same."""
    dry_run: bool = False
    """Only say what the mixture would be, about, and write nothing."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("preset") not in list(Preset):
            return given
        changed = given.get("sources") or {}
        if not isinstance(changed, dict) or not all(isinstance(more, dict) for more in changed.values()):
            raise ValueError("sources as a mapping of names to settings")
        sources = sources_of(Preset(given["preset"]), given)
        for name, more in changed.items():
            base = sources.get(name, {})
            if any(key in more for key in ("passes", "ratio", "fill")):
                base = {key: value for key, value in base.items() if key not in ("passes", "ratio", "fill")}
            sources[name] = {**base, **more}
        return {**given, "sources": sources}

    @field_validator("sources")
    @classmethod
    def _names(cls, sources: dict[str, SourceConfig]) -> dict[str, SourceConfig]:
        for name in sources:
            if not name or not all(character.isalnum() or character in "-_" for character in name):
                raise ValueError(f"source names of letters, digits, - and _ (got {name!r})")
        return sources

    @property
    def total(self) -> int | None:
        """Sequences of the whole training, where they are given."""
        return self.sequences if self.tokens is None else -(-self.tokens // self.sequence_length)


def mix(config: MixConfig) -> StageReport:
    """Write the mixture that `config` describes, or answer from the one that is there.

    Says first what it will be, about, from a sample of each source; and at the end, from what was written.

    Raises:
        ConfigError: no tokenizer, both `sequences` and `tokens`, or a condition on a check that is not there.
        InputError: a source matches nothing or is not what its kind says; checks or documents of another run.
        MixtureError: the sources can't give what is asked.
        LedgerError: the output directory belongs to other settings.
    """
    if config.sequences is not None and config.tokens is not None:
        raise ConfigError("both sequences and tokens are set", wanted="one total", fix="leave one of them out")
    check_demands({name: source.demand for name, source in config.sources.items()}, config.total)
    for name, source in config.sources.items():
        for path in source.paths:
            check_shared(path, f"sources.{name}.path")
    runs = {path: open_run(path) for path in _run_paths(config)}
    inputs = {name: listing(source, _run_of(source, runs)) for name, source in config.sources.items()}
    keeps = keeps_of(config.sources, config.leave_out, runs)
    tokenizer = open_tokenizer(config.tokenizer)
    vocabulary = read_vocabulary(tokenizer, config.tokenizer, bos=config.bos)
    made_from = {name: _made_from(config, name, found, vocabulary, keeps[name]) for name, (found, _) in inputs.items()}
    # What is mixed counts by its content and not by its place; and how it is shown or made is no part of what it is.
    aside: Any = {
        "output": True, "cores": True, "tokenizer": True, "sources": {"__all__": {"path", "checks"}}, "preset": True,
        "leave_out": True, "synthesis": True, "tuning": True, "general": True, "sequences_per_batch": True,
        "dry_run": True,
    }  # fmt: skip
    settings = {**config.model_dump(mode="json", exclude=aside), "made_from": made_from}
    if storage.exists(storage.join(config.output, STAGE_FILE)):
        known = open_stage(config.output, "mix", settings).finished
        if known is not None:
            return known
    started = time.monotonic()
    size = sum(size for _, size in inputs.values())
    written = {name: _facts(config, name, made_from[name]) for name in config.sources}
    missing = {
        name: _work(config, name, runs, vocabulary, keeps[name]) for name, facts in written.items() if facts is None
    }
    about = _say_about(config, vocabulary, written, missing)
    if config.dry_run:
        return StageReport({}, tuple(about), stopped=True)
    cores = 0 if config.cores is None and size < IN_PROCESS_BYTES else config.cores
    for part in ("", mds.SOURCES, mds.TEXTS):
        storage.remove_temporaries(storage.join(config.output, part))
    publish_tokenizer(tokenizer, storage.join(config.output, TOKENIZER))
    for name in list(missing):
        _write_source(config, name, missing.pop(name), made_from[name], cores)
        written[name] = _facts(config, name, made_from[name])
    stocks, samples = _taken_stock(config, written)
    kept: dict[str, Counter[str]] = {
        name: Counter(facts.get("kept", {})) for name, facts in written.items() if facts is not None
    }
    _check_conservation(config, stocks, runs, kept)
    plan = _plan(config, vocabulary, stocks)
    lines = (*table(plan, config.sequences_per_batch), *kept_lines(config.sources, keeps, kept))
    for line in lines:
        log.info("%s", line)
    _remove_leftovers(config)
    # Claimed only now: where the sources can't give what is asked, what is asked may be changed, and the sources stay.
    stage = open_stage(config.output, "mix", settings)
    content = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    storage.publish_bytes(storage.join(config.output, SAMPLES_FILE), content.encode())
    save_plan(config.output, plan)
    seconds = round(time.monotonic() - started, 1)
    return stage.finish(
        {**_figures(plan), **kept_figures(config.sources, keeps, kept), "stage_seconds": seconds}, lines
    )


def _made_from(config: MixConfig, name: str, found: object, vocabulary: Vocabulary, keep: Keep | None) -> str:
    """Names all that decides the bytes of one source: what it is planned for does not."""
    kinds = {"kind", "format", "text_column", "split", "shots", "with_text"}
    source = config.sources[name].model_dump(mode="json", include=kinds)
    shared = config.model_dump(
        mode="json", include={"sequence_length", "seed", "bos", "packing", "text_mds", "shard_bytes"}
    )
    tokenizer = [hashlib.sha256(vocabulary.definition.encode()).hexdigest(), vocabulary.eos, vocabulary.bos]
    kept = [] if keep is None else [keep.identity]
    return fingerprint([name, source, shared, found, tokenizer, templates.VERSION, mining.VERSION, *kept])


@dataclass(frozen=True, slots=True)
class _Work:
    """What it takes to make a source."""

    units: Sequence[Unit]
    job: Job


def _work(
    config: MixConfig, name: str, runs: Mapping[str, FinishedRun], vocabulary: Vocabulary, keep: Keep | None
) -> _Work:
    source = config.sources[name]
    run = _run_of(source, runs)
    words = keywords(run) if run is not None and source.kind is Kind.RULE_BASED else None
    making = Making(config.seed, source.shots, source.with_text, words, keep, source.converted_alone)
    return _Work(list(units(name, source, run)), Job(making, vocabulary, keep_texts=config.text_mds))


def _say_about(
    config: MixConfig, vocabulary: Vocabulary, written: Mapping[str, Facts | None], missing: Mapping[str, _Work]
) -> list[str]:
    """Say what the mixture will be: by what is written already, and by samples of the other sources."""
    stocks = []
    for name, facts in written.items():
        if facts is None:
            stocks.append(estimate(name, missing[name].units, missing[name].job, config.sequence_length))
        else:
            stocks.append(_stock(config, name, facts))
    try:
        lines = table(_plan(config, vocabulary, stocks), config.sequences_per_batch, about=bool(missing))
    except MixtureError as error:
        if not missing:
            raise
        lines = [f"by a sample of the data: {error}"]
    for line in ("the mixture, about, by a sample of each source:" if missing else "the mixture:", *lines):
        log.info("%s", line)
    return lines


def _facts(config: MixConfig, name: str, made_from: str) -> Facts | None:
    """The facts of source `name`, where it is already written."""
    facts = mds.read_facts(storage.join(config.output, mds.SOURCES, name))
    return facts if facts is not None and facts["made_from"] == made_from else None


def _stock(config: MixConfig, name: str, facts: Facts) -> Stock:
    """What a source that is written holds."""
    counts = (facts["documents"], facts["tokens"], facts["samples_written"])
    index = mds.index_sha256(storage.join(config.output, mds.SOURCES, name))
    return Stock(name, *counts, index, facts["shard_samples"])


def _taken_stock(config: MixConfig, written: Mapping[str, Facts | None]) -> tuple[list[Stock], list[dict[str, Any]]]:
    """What all sources hold, and samples of their texts. Raises `StorageError` where one is not there."""
    stocks, samples = [], []
    for name, facts in written.items():
        if facts is None:
            raise StorageError(f"source {name} in {config.output} is not what was just written", fix="run again")
        stocks.append(_stock(config, name, facts))
        samples += [{"source": name, **sample} for sample in facts["samples"]]
    return stocks, samples


def _plan(config: MixConfig, vocabulary: Vocabulary, stocks: Sequence[Stock]) -> Plan:
    return make_plan(
        stocks,
        {name: source.demand for name, source in config.sources.items()},
        total=config.total,
        sequence_length=config.sequence_length,
        seed=config.seed,
        vocabulary_size=vocabulary.size,
        eos_token_id=vocabulary.eos,
        shuffle_shards=config.shuffle_shards,
        document_ids=config.document_ids,
        curves={name: source.curve for name, source in config.sources.items()},
    )


def _remove_leftovers(config: MixConfig) -> None:
    """Remove what an earlier attempt with other settings wrote, and these do not name; half-written or whole."""
    kept = {mds.SOURCES: set(config.sources), mds.TEXTS: set(config.sources) if config.text_mds else set()}
    for part, names in kept.items():
        for name in mds.list_mds(storage.join(config.output, part), begun=True):
            if name not in names:
                log.info("removing %s/%s, which these settings do not name", part, name)
                mds.remove_mds(storage.join(config.output, part, name))


def _check_conservation(
    config: MixConfig, stocks: Sequence[Stock], runs: Mapping[str, FinishedRun], kept: Mapping[str, Counter[str]]
) -> None:
    """Every document that a synthesis run recorded as augmented or raw is in its sources, once, or was left out.

    One that lost its pairs to checks is not among the augmented ones, but among the raw ones.

    Raises:
        LedgerError: a source holds more or fewer documents than its run's ledger tells.
    """
    for stock in stocks:
        source = config.sources[stock.name]
        run = _run_of(source, runs)
        if run is None:
            continue
        emptied, left_out = kept[stock.name]["emptied"], kept[stock.name]["left_out"]
        by_kind = {Kind.AUGMENTED: run.augmented - emptied, Kind.RAW: run.raw + emptied}
        wanted = by_kind.get(source.kind, run.augmented + run.raw) - left_out
        if stock.documents != wanted:
            raise LedgerError(
                f"source {stock.name} does not hold the {source.kind} documents of {run.output}",
                wanted=f"{wanted:,}, by the run's ledger" + (f" and what was left out, {left_out:,}" * bool(left_out)),
                got=f"{stock.documents:,}",
                fix="report this: the mixture is not to be trained on",
            )
    for run in runs.values():
        whole = f"{run.augmented + run.raw:,} = augmented {run.augmented:,} + raw {run.raw:,}"
        log.info("%s: documents %s", run.output, whole)


def _run_paths(config: MixConfig) -> list[str]:
    """The synthesis runs that sources are made from."""
    return sorted({source.paths[0] for source in config.sources.values() if source.kind in OF_A_RUN})


def _run_of(source: SourceConfig, runs: Mapping[str, FinishedRun]) -> FinishedRun | None:
    return runs[source.paths[0]] if source.kind in OF_A_RUN else None


def _write_source(config: MixConfig, name: str, work: _Work, made_from: str, cores: int | None) -> None:
    """Write the MDS directories of one source."""
    target = storage.join(config.output, mds.SOURCES, name)
    vocabulary = work.job.vocabulary
    columns = mds.token_columns(token_dtype(vocabulary.size), config.sequence_length)
    documents = tokens = read = rejected = 0
    kept: Counter[str] = Counter()
    samples: tuple[tuple[str, Text], ...] = ()
    blocks = encode_all(work.units, work.job, cores)
    if config.text_mds:
        blocks = _write_texts(storage.join(config.output, mds.TEXTS, name), blocks, config.shard_bytes)
    with (
        meter(f"mix {name}", None, "tokens") as shown,
        mds.publish_mds(target, columns, shard_bytes=config.shard_bytes) as writer,
    ):

        def counted() -> Iterator[Tokens]:
            nonlocal documents, rejected, read, samples
            for block in blocks:
                documents, rejected = documents + block.documents, rejected + block.rejected
                kept.update(block.kept)
                read += len(block.tokens)
                samples = smallest([*samples, *block.samples])
                shown.update(len(block.tokens), {"tokens/s": read / max(shown.elapsed_s(), 1e-9)})
                yield block.tokens

        pack = concat if config.packing is Packing.CONCAT else best_fit
        for rows in pack(counted(), config.sequence_length, vocabulary.eos):
            tokens += rows.size - int(padding(rows, vocabulary.eos).sum())
            writer.write_rows([rows])
        chosen = [{"id": text.text_id, "from": text.source, "text": text.text} for _, text in samples]
        writer.facts |= {"documents": documents, "tokens": tokens, "samples": chosen, "made_from": made_from}
        if work.job.making.keep is not None:
            writer.facts["kept"] = dict(kept)
    if rejected:
        log.info("%s: %d rows are no documents and are left out", name, rejected)
    if config.packing is Packing.BEST_FIT and writer.samples:
        padded = 1 - tokens / (writer.samples * config.sequence_length)
        log.info("%s: %.2f%% of all positions are padding, for no document is cut that fits", name, 100 * padded)


def _write_texts(target: str, blocks: Iterable[Block], shard_bytes: int) -> Iterator[Block]:
    """Pass `blocks` on, writing their texts to an MDS directory that appears once they are all through."""
    with mds.publish_mds(target, mds.TEXT_COLUMNS, shard_bytes=shard_bytes) as writer:
        for block in blocks:
            for text in block.texts:
                pairs = json.dumps([{"instruction": asked, "response": said} for asked, said in text.pairs])
                writer.write({"text": text.text, "source": text.source, "document_id": text.text_id, "pairs": pairs})
            yield block


def _figures(plan: Plan) -> dict[str, float | int | str]:
    figures: dict[str, float | int | str] = {
        "sequences": plan.sequences,
        "sequence_length": plan.sequence_length,
        "tokens": plan.tokens,
        "vocabulary_size": plan.vocabulary_size,
        "fingerprint": plan.fingerprint,
    }
    for source in plan.sources:
        figures[f"{source.name}_documents"] = source.documents
        figures[f"{source.name}_tokens"] = source.tokens
        figures[f"{source.name}_sequences"] = source.sequences
        figures[f"{source.name}_passes"] = round(source.passes, 3)
        positions = source.sequences * plan.sequence_length
        figures[f"{source.name}_padding"] = round(1 - source.tokens / positions, 5) if positions else 0.0
    return figures
