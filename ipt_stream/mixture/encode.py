"""From a unit of work to tokens, on as many cores as there are; the result doesn't depend on how many.

Units are rendered and tokenized independently and taken in order, so that packing sees one stream of tokens. Text is
tokenized as text: a `</s>` on a web page gives the tokens of its characters, never the EOS.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ipt_stream import storage
from ipt_stream.errors import ConfigError, IptError, MixtureError
from ipt_stream.mixture.pack import join, token_dtype
from ipt_stream.mixture.sources import Text, Unit, texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ipt_stream.mixture.pack import Tokens

SAMPLES = 3
TOKENIZER_FILE = "tokenizer.json"
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
    """What is the same for all units: the seed, the vocabulary, and whether texts are wanted beside tokens."""

    seed: int
    vocabulary: Vocabulary
    keep_texts: bool


@dataclass(frozen=True, slots=True)
class Block:
    """A unit, tokenized.

    Attributes:
        tokens: (tokens,) its texts, joined.
        documents: input documents in them.
        samples: a few texts, drawn by a hash of their ids: (hash, text), smallest first.
        texts: all of them, where they were asked for.
    """

    tokens: Tokens
    documents: int
    samples: tuple[tuple[str, Text], ...]
    texts: tuple[Text, ...]


def copy_tokenizer(path: str, target: str, *, bos: bool) -> Vocabulary:
    """The vocabulary of the tokenizer in folder `path`, which is copied to the directory `target`.

    Raises:
        ConfigError: there is none, or it has no EOS, or no BOS where one is wanted.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
        definition = tokenizer.backend_tokenizer.to_str()
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"no usable tokenizer in {path}", wanted=TOKENIZER_FILE, got=str(error)) from error
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
    _publish_tokenizer(tokenizer, target)
    size = 1 + max(tokenizer.get_vocab().values())
    return Vocabulary(definition, size, int(eos), None if first is None else int(first))


def encode(unit: Unit, job: Job) -> Block:
    """Render and tokenize one unit. Pure but for reading a segment.

    Raises:
        MixtureError: a text holds nothing but EOS, or a token that the vocabulary hasn't.
    """
    found, documents = texts(unit, job.seed)
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
    return Block(tokens, documents, smallest(keyed(found, job.seed)), tuple(found) if job.keep_texts else ())


def keyed(found: Iterable[Text], seed: int) -> Iterator[tuple[str, Text]]:
    """Each text with a hash of its id: the smallest are a random sample of any number of texts, in any grouping."""
    return ((hashlib.sha256(f"{seed}:{item.text_id}".encode()).hexdigest(), item) for item in found)


def smallest(candidates: Iterable[tuple[str, Text]]) -> tuple[tuple[str, Text], ...]:
    """The `SAMPLES` candidates with the smallest hashes, smallest first."""
    return tuple(heapq.nsmallest(SAMPLES, candidates, key=lambda item: (item[0], item[1].text_id)))


def encode_all(units: Iterable[Unit], job: Job, cores: int | None) -> Iterator[Block]:
    """`encode` of each unit, in order: in this process where `cores` is 0, else as Ray tasks.

    Holds two blocks a core at a time. Errors of a task are raised as they were.
    """
    if cores == 0:
        yield from (encode(unit, job) for unit in units)
        return
    import ray

    from ipt_stream.synthesis.ray_session import ensure_ray

    ensure_ray(cores)
    task = ray.remote(_encode_in_worker)
    shared = ray.put(job)
    running: deque[Any] = deque()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call,unused-ignore]
    window = 2 * max(int(resources.get("CPU", 1)), 1)
    try:
        for unit in units:
            running.append(task.remote(unit, shared))
            if len(running) >= window:
                yield ray.get(running.popleft())
        while running:
            yield ray.get(running.popleft())
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, IptError):
            raise error.cause from error
        raise


def _encode_in_worker(unit: Unit, job: Job) -> Block:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one task a core already
    return encode(unit, job)


@lru_cache(maxsize=1)
def _tokenizer(definition: str) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(definition)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _publish_tokenizer(tokenizer: Any, target: str) -> None:
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
