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
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from ipt_stream import storage
from ipt_stream.config import Settings, fingerprint
from ipt_stream.errors import ConfigError
from ipt_stream.mixture import mds, templates
from ipt_stream.mixture.encode import TOKENIZER_FILE, Block, Job, Vocabulary, copy_tokenizer, encode_all, smallest
from ipt_stream.mixture.pack import concat, token_dtype
from ipt_stream.mixture.plan import Plan, make_plan, save_plan, table
from ipt_stream.mixture.shares import Stock
from ipt_stream.mixture.sources import SourceConfig, Text, listing, units
from ipt_stream.progress import log, meter
from ipt_stream.stage import StageReport, open_stage

if TYPE_CHECKING:
    from ipt_stream.mixture.pack import Tokens

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
    sources: dict[str, SourceConfig] = Field(min_length=1)
    """What is mixed, by names of your choice."""
    sequences: int | None = Field(default=None, gt=0)
    """Length of the training in sequences; null: what passes and ratios add up to."""
    tokens: int | None = Field(default=None, gt=0)
    """The same in tokens, rounded up to whole sequences; at most one of the two."""
    bos: bool = False
    """Whether each document begins with BOS."""
    text_mds: bool = False
    """Whether the texts are written too, under `text/`."""
    shard_bytes: int = Field(default=1 << 26, gt=0)
    """Size of an MDS shard before compression."""
    cores: int | None = Field(default=None, ge=0)
    """Cores to use; 0: this process alone; null: all, where there is much to do. The output is the same."""

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

    Raises:
        ConfigError: no tokenizer, or both `sequences` and `tokens`.
        InputError: a source matches nothing or is not what its kind says.
        MixtureError: the sources can't give what is asked.
        LedgerError: the output directory belongs to other settings.
    """
    if config.sequences is not None and config.tokens is not None:
        raise ConfigError("both sequences and tokens are set", wanted="one total", fix="leave one of them out")
    inputs = {name: listing(source) for name, source in config.sources.items()}
    made_from = {name: _made_from(config, name, found) for name, (found, _) in inputs.items()}
    paths: Any = {"output": True, "cores": True, "tokenizer": True, "sources": {"__all__": {"path"}}}  # content counts
    settings = {**config.model_dump(mode="json", exclude=paths), "made_from": made_from}
    if storage.exists(storage.join(config.output, STAGE_FILE)):
        known = open_stage(config.output, "mix", settings).finished
        if known is not None:
            return known
    started = time.monotonic()
    size = sum(size for _, size in inputs.values())
    plan, samples = _prepare(config, made_from, 0 if config.cores is None and size < IN_PROCESS_BYTES else config.cores)
    # Claimed only now: where the sources can't give what is asked, what is asked may be changed, and the sources stay.
    stage = open_stage(config.output, "mix", settings)
    content = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    storage.publish_bytes(storage.join(config.output, SAMPLES_FILE), content.encode())
    save_plan(config.output, plan)
    seconds = round(time.monotonic() - started, 1)
    return stage.finish({**_figures(plan), "stage_seconds": seconds}, tuple(table(plan)))


def _made_from(config: MixConfig, name: str, found: object) -> str:
    """Names all that decides the bytes of one source: what it is planned for does not."""
    source = config.sources[name].model_dump(mode="json", include={"kind", "format", "text_column"})
    shared = config.model_dump(mode="json", include={"sequence_length", "seed", "bos", "text_mds", "shard_bytes"})
    tokenizer = _tokenizer_sha256(config.tokenizer)
    return fingerprint([name, source, shared, found, tokenizer, templates.VERSION])


def _prepare(config: MixConfig, made_from: Mapping[str, str], cores: int | None) -> tuple[Plan, list[dict[str, Any]]]:
    """Write the sources that are not there yet, and plan. Raises `MixtureError` where they can't give what is asked."""
    for part in ("", mds.SOURCES, mds.TEXTS):
        storage.remove_temporaries(storage.join(config.output, part))
    vocabulary = copy_tokenizer(config.tokenizer, storage.join(config.output, TOKENIZER), bos=config.bos)
    stocks, samples = [], []
    for name in config.sources:
        directory = storage.join(config.output, mds.SOURCES, name)
        facts = mds.read_facts(directory)
        if facts is None or facts["made_from"] != made_from[name]:
            _write_source(config, name, vocabulary, made_from[name], cores)
            facts = mds.read_facts(directory) or {}
        samples += [{"source": name, **sample} for sample in facts["samples"]]
        counts = (facts["documents"], facts["tokens"], facts["samples_written"])
        stocks.append(Stock(name, *counts, mds.index_sha256(directory)))
    plan = make_plan(
        stocks,
        {name: source.demand for name, source in config.sources.items()},
        total=config.total,
        sequence_length=config.sequence_length,
        seed=config.seed,
        vocabulary_size=vocabulary.size,
        eos_token_id=vocabulary.eos,
    )
    for line in table(plan):
        log.info("%s", line)
    return plan, samples


def _write_source(config: MixConfig, name: str, vocabulary: Vocabulary, made_from: str, cores: int | None) -> None:
    """Write the MDS directories of one source."""
    job = Job(config.seed, vocabulary, keep_texts=config.text_mds)
    target = storage.join(config.output, mds.SOURCES, name)
    columns = mds.token_columns(token_dtype(vocabulary.size), config.sequence_length)
    documents = tokens = 0
    samples: tuple[tuple[str, Text], ...] = ()
    blocks = encode_all(units(name, config.sources[name]), job, cores)
    if config.text_mds:
        blocks = _write_texts(storage.join(config.output, mds.TEXTS, name), blocks, config.shard_bytes)
    with (
        meter(f"mix {name}", None, "tokens") as shown,
        mds.publish_mds(target, columns, shard_bytes=config.shard_bytes) as writer,
    ):

        def counted() -> Iterator[Tokens]:
            nonlocal documents, tokens, samples
            for block in blocks:
                documents, tokens = documents + block.documents, tokens + len(block.tokens)
                samples = smallest([*samples, *block.samples])
                shown.update(len(block.tokens), {"tokens/s": tokens / max(shown.elapsed_s(), 1e-9)})
                yield block.tokens

        writer.write_rows(concat(counted(), config.sequence_length, vocabulary.eos))
        chosen = [{"id": text.text_id, "from": text.source, "text": text.text} for _, text in samples]
        writer.facts |= {"documents": documents, "tokens": tokens, "samples": chosen, "made_from": made_from}


def _write_texts(target: str, blocks: Iterable[Block], shard_bytes: int) -> Iterator[Block]:
    """Pass `blocks` on, writing their texts to an MDS directory that appears once they are all through."""
    with mds.publish_mds(target, mds.TEXT_COLUMNS, shard_bytes=shard_bytes) as writer:
        for block in blocks:
            for text in block.texts:
                writer.write({"text": text.text, "source": text.source, "document_id": text.text_id})
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
    return figures


def _tokenizer_sha256(path: str) -> str:
    file = storage.join(path, TOKENIZER_FILE)
    if not storage.exists(file):
        raise ConfigError(
            f"no tokenizer in {path}",
            wanted=f"a folder with {TOKENIZER_FILE}",
            got="no such file",
            fix="point tokenizer at a model or tokenizer folder; save_pretrained of a fast tokenizer writes it",
        )
    return hashlib.sha256(storage.read_bytes(file)).hexdigest()
