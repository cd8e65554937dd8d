"""From a unit of work to tokens, on as many cores as there are; the result doesn't depend on how many.

Units are read, rendered and tokenized independently, as tasks of Ray Data, and taken in order, so that packing sees one
stream of tokens whatever the number of cores, and however units are cut. Text is tokenized as text: a `</s>` on a web
page gives the tokens of its characters, never the EOS.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ipt_stream import storage
from ipt_stream.auto_tokenizer import TOKENIZER_FILE, auto_tokenizer
from ipt_stream.errors import ConfigError, IptError, MixtureError
from ipt_stream.mixture.pack import join, token_dtype
from ipt_stream.mixture.sources import Making, Part, Text, Unit, texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

    from ipt_stream.mixture.pack import Tokens

SAMPLES = 3
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What packing needs to know of a tokenizer.

    Attributes:
        definition: its `tokenizer.json`.
        size: one more than its largest id.
        eos: the id that ends a document.
        bos: the id that begins one, or None.
    """

    definition: str
    size: int
    eos: int
    bos: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """What all units have in common: how texts are made, the vocabulary, and whether texts are wanted beside tokens."""

    making: Making
    vocabulary: Vocabulary
    keep_texts: bool


@dataclass(frozen=True, slots=True)
class Block:
    """A unit, or a part of one, tokenized.

    Attributes:
        tokens: (tokens,) its texts, joined.
        documents: input documents in them.
        rejected: rows among them that are no documents, and are left out.
        samples: a few texts, drawn by a hash of their ids: (hash, text), smallest first.
        texts: all of them, where they were asked for.
        kept: what was kept of a synthesis run, and what was not (sources.Part).
    """

    tokens: Tokens
    documents: int
    rejected: int
    samples: tuple[tuple[str, Text], ...]
    texts: tuple[Text, ...]
    kept: Counter[str] = field(default_factory=Counter)


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, path: str, *, bos: bool) -> Vocabulary:
    """The vocabulary of `tokenizer`, from folder `path`.

    Raises:
        ConfigError: it has no EOS, or no BOS where one is wanted.
    """
    eos, first = tokenizer.eos_token_id, tokenizer.bos_token_id if bos else None
    if eos is None or (bos and first is None):
        raise ConfigError(
            f"the tokenizer in {path} has no {'BOS' if eos is not None else 'EOS'} token",
            wanted="a token to set documents apart",
            got=f"eos {eos}, bos {tokenizer.bos_token_id}",
            fix="bos=false" if eos is not None else "set eos_token in its tokenizer_config.json",
        )
    if bos and first == eos:
        raise ConfigError(f"BOS and EOS are one token in {path}", got=f"id {eos}", fix="bos=false: EOS is enough")
    size = 1 + max(tokenizer.get_vocab().values())
    definition: str = tokenizer.backend_tokenizer.to_str()
    return Vocabulary(definition, size, int(eos), None if first is None else int(first))


def open_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer in folder `path`. Raises `ConfigError` where there is none that can be used."""
    file = storage.join(path, TOKENIZER_FILE)
    if not storage.exists(file):
        raise ConfigError(
            f"no tokenizer in {path}",
            wanted=f"a folder with {TOKENIZER_FILE}",
            got="no such file",
            fix="point tokenizer at a model or tokenizer folder; save_pretrained of a fast tokenizer writes it",
        )
    try:
        tokenizer = auto_tokenizer(path)
        tokenizer.backend_tokenizer  # noqa: B018  (slow tokenizers have none)
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"no usable tokenizer in {path}", wanted=TOKENIZER_FILE, got=str(error)) from error
    return tokenizer


def encode(unit: Unit, job: Job) -> Iterator[Block]:
    """Render and tokenize one unit, part by part. Pure but for reading the unit's files.

    Raises:
        MixtureError: a text holds nothing but EOS, or a token that the vocabulary hasn't.
        InputError: a file was altered, or is not what its kind says.
    """
    for part in texts(unit, job.making):
        yield encode_part(part, job)


def encode_part(part: Part, job: Job) -> Block:
    """Tokenize one part. Pure; raises `MixtureError` as `encode` does."""
    found = part.texts
    tokenizer = _tokenizer(job.vocabulary.definition)
    ids: list[list[int]] = []
    for start in range(0, len(found), _BATCH):
        batch = [item.text for item in found[start : start + _BATCH]]
        ids += [encoding.ids for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
    vocabulary = job.vocabulary
    tokens = join(ids, eos=vocabulary.eos, bos=vocabulary.bos, dtype=token_dtype(vocabulary.size))
    separators = len([one for one in ids if one])
    if int((tokens == vocabulary.eos).sum()) != separators:
        raise MixtureError(
            "a text holds the EOS token, which sets documents apart",
            wanted="a tokenizer that can tell special tokens from text",
            got=f"id {vocabulary.eos} within a document",
            fix="use a tokenizer whose EOS is marked as special",
        )
    seed = job.making.seed
    kept = tuple(found) if job.keep_texts else ()
    return Block(tokens, part.documents, part.rejected, smallest(keyed(found, seed)), kept, part.kept)


def keyed(found: Iterable[Text], seed: int) -> Iterator[tuple[str, Text]]:
    """Each text with a hash of its id: the smallest are a random sample of any number of texts, in any grouping."""
    return ((hashlib.sha256(f"{seed}:{item.text_id}".encode()).hexdigest(), item) for item in found)


def smallest(candidates: Iterable[tuple[str, Text]]) -> tuple[tuple[str, Text], ...]:
    """The `SAMPLES` candidates with the smallest hashes, smallest first."""
    return tuple(heapq.nsmallest(SAMPLES, candidates, key=lambda item: (item[0], item[1].text_id)))


def encode_all(units: Iterable[Unit], job: Job, cores: int | None) -> Iterator[Block]:
    """`encode` of each unit, in order: in this process where `cores` is 0, else as tasks of Ray Data.

    Args:
        units: what to encode.
        job: what is the same for all.
        cores: how many tasks run at once; None: as many as there are cores.

    Raises:
        IptError: what a task raised, as it was.
    """
    if cores == 0:
        for unit in units:
            yield from encode(unit, job)
        return
    import ray

    from ipt_stream.synthesis.ray_session import ensure_ray

    ensure_ray(cores)
    items = [{"unit": unit} for unit in units]
    if not items:
        return
    task: Any = _encode_in_worker
    tasks = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        task, batch_size=1, fn_args=(ray.put(job),), concurrency=None if cores is None else min(cores, len(items))
    )
    tasks.context.execution_options.preserve_order = True
    dtype = token_dtype(job.vocabulary.size)
    try:
        for row in tasks.iter_rows():
            yield _from_row(row, dtype)
    except ray.exceptions.RayError as error:
        raise own_error(error) or error from error


def _encode_in_worker(batch: dict[str, Any], shared: Any) -> Iterator[dict[str, list[Any]]]:
    import ray

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one task a core already
    job: Job = ray.get(shared)
    for unit in batch["unit"]:
        for block in encode(unit, job):
            yield {
                "tokens": [block.tokens.tobytes()],
                "documents": [block.documents],
                "rejected": [block.rejected],
                "samples": [json.dumps([[key, asdict(text)] for key, text in block.samples])],
                "texts": [json.dumps([asdict(text) for text in block.texts])],
                "kept": [json.dumps(block.kept)],
            }


def _from_row(row: dict[str, Any], dtype: Any) -> Block:
    import numpy as np

    samples = tuple((key, Text.from_json(text)) for key, text in json.loads(row["samples"]))
    texts = tuple(map(Text.from_json, json.loads(row["texts"])))
    tokens = np.frombuffer(row["tokens"], dtype)
    return Block(tokens, row["documents"], row["rejected"], samples, texts, Counter(json.loads(row["kept"])))


def own_error(error: BaseException | None) -> IptError | None:
    """The project's own error that a task of Ray Data's ended with, where it is one."""
    import ray

    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, IptError) and not isinstance(error, ray.exceptions.RayError):  # Ray makes a class of both
            return error
        seen.append(error)
        error = getattr(error, "cause", None) or error.__cause__
    return None


@lru_cache(maxsize=1)
def _tokenizer(definition: str) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(definition)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def publish_tokenizer(tokenizer: PreTrainedTokenizerBase, target: str) -> None:
    """Publish `tokenizer` as the directory `target`."""
    import shutil
    import tempfile

    place = tempfile.mkdtemp() if storage.is_remote(target) else storage.temporary_directory_beside(target)
    try:
        tokenizer.save_pretrained(place)
        if storage.is_remote(target):
            for name in sorted(os.listdir(place)):
                storage.publish_bytes(storage.join(target, name), storage.read_bytes(os.path.join(place, name)))
        else:
            storage.publish_directory(place, storage.local(target))
    finally:
        shutil.rmtree(place, ignore_errors=True)
