"""Views of a mixture along its training order, and of one of its MDS directories by itself."""

from __future__ import annotations

import json
import os
import posixpath
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import ConfigError, InputError, MixtureError
from ipt_stream.mixture.mds import SOURCES
from ipt_stream.mixture.plan import Plan, PlannedSource, load_plan
from ipt_stream.view.items import Item, Kind, Part, View
from ipt_stream.view.sequences import load_decoder
from ipt_stream.view.shards import MdsDirectory, Sample, open_mds
from ipt_stream.view.show import escape


def view_mixture(mixture: str, *, source: str | None, number: int, seed: int) -> View:
    """Random sequences of the mixture in `mixture`, in the order of training: each position is as likely as another.

    The whole order is made for that, as training makes it: 2 s to compile its loops, and 0.15 s a million sequences.
    Then only the shards that hold a drawn sequence are read.

    Raises:
        ConfigError: there is no such source, or training sees nothing of it.
        MixtureError: the plan or a source's data was changed.
        InputError: a shard is not what its index says.
    """
    import numpy as np

    from ipt_stream.mixture.order import training_order

    plan = load_plan(mixture)
    chosen = None if source is None else _streamed(plan, mixture, source)
    starts = np.cumsum([0, *(one.sequences for one in plan.streamed)]).tolist()
    order = training_order(plan)
    positions: Any = range(len(order))
    if chosen is not None:
        positions = np.flatnonzero((order >= starts[chosen]) & (order < starts[chosen + 1]))
    drawn = [int(positions[place]) for place in _draw(len(positions), number, seed)]

    numbers: dict[int, dict[int, int]] = defaultdict(dict)
    for position in drawn:
        index = int(np.searchsorted(starts, order[position], "right")) - 1
        numbers[index][position] = int(order[position]) - starts[index]
    decoder = load_decoder(mixture, plan.eos_token_id)
    items = []
    for index, samples in numbers.items():
        found = _source_data(mixture, plan.streamed[index]).read(set(samples.values()))
        items += [
            Item(plan.streamed[index].name, decoder.parts(found[sample]["tokens"]), position, sample)
            for position, sample in samples.items()
        ]
    shares = ", ".join(f"{escape(one.name)} {plan.share(one):.1%}" for one in plan.streamed)
    lines = (
        f"{escape(mixture)}: training sees {plan.sequences:,} sequences of {plan.sequence_length:,} tokens: {shares}",
        f"{len(items):,} of them drawn with seed {seed}; positions in training and samples of a source count from 0",
    )
    return View(lines, tuple(sorted(items, key=lambda item: item.position or 0)))


def view_mds(directory: str, *, source: str | None, number: int, seed: int) -> View:
    """Random samples of one MDS directory: of tokens, decoded with the tokenizer of the mixture above it, or of texts.

    Raises:
        ConfigError: `source` is not this one.
        InputError: it is not MDS, holds neither tokens nor texts, or there is no tokenizer above it.
    """
    data = open_mds(directory)
    name = posixpath.basename(directory.rstrip("/"))
    if source not in (None, name):
        raise unknown_source(directory, source, [name])
    columns = data.columns
    if data.samples and not {"tokens", "text"} & columns.keys():
        raise InputError(
            f"nothing to show in {directory}",
            wanted="MDS with a column tokens or text",
            got=f"columns {escape(', '.join(columns))}",
            fix="name a directory that mix wrote",
        )
    found = data.read(_draw(data.samples, number, seed))
    if "tokens" in columns:
        decoder = load_decoder(_above(directory))
        items = [Item(name, decoder.parts(found[n]["tokens"]), sample=n) for n in found]
    else:
        items = [
            Item(
                name,
                (Part(Kind.TEXT, found[n]["text"]), *_pairs(found[n])),
                sample=n,
                name=found[n].get("document_id"),
                shard=found[n].get("source"),
            )
            for n in found
        ]
    what = "sequences" if "tokens" in columns else "texts"
    lines = (
        f"{escape(directory)}: {data.samples:,} {what}",
        f"{len(items):,} of them drawn with seed {seed}; samples count from 0",
    )
    return View(lines, tuple(items))


def unknown_source(directory: str, source: str | None, known: list[str]) -> ConfigError:
    """What to raise where `source` is none of the `known` ones."""
    return ConfigError(
        f"no source {escape(str(source))} in {directory}",
        wanted=f"one of {', '.join(escape(name) for name in known)}",
        got=escape(str(source)),
        fix="name one of them with --source, or none for all",
    )


def _streamed(plan: Plan, mixture: str, name: str) -> int:
    """The number of the source of that name among those that training sees."""
    streamed = [source.name for source in plan.streamed]
    if name in streamed:
        return streamed.index(name)
    if any(source.name == name for source in plan.sources):
        raise ConfigError(
            f"training sees nothing of source {name}",
            wanted=f"one of {', '.join(escape(known) for known in streamed)}",
            got="a source with no planned sequences",
            fix=f"view its data: {storage.join(mixture, SOURCES, name)}",
        )
    raise unknown_source(mixture, name, streamed)


def _source_data(mixture: str, source: PlannedSource) -> MdsDirectory:
    data = open_mds(storage.join(mixture, SOURCES, source.name))
    if data.index_sha256 != source.index_sha256:
        raise MixtureError(
            f"the data of source {escape(source.name)} is not what {mixture} was planned with",
            wanted=f"an index with sha256 {source.index_sha256[:16]}",
            got=data.index_sha256[:16],
            fix="run ipt-stream mix again",
        )
    return data


def _draw(size: int, number: int, seed: int) -> list[int]:
    """`number` numbers below `size`, or all where there are fewer, none twice, in order."""
    return sorted(random.Random(seed).sample(range(size), min(number, size)))


def _above(directory: str) -> str:
    """The mixture that `sources/NAME` lies in."""
    whole = directory.rstrip("/") if storage.is_remote(directory) else os.path.abspath(storage.local(directory))
    return posixpath.dirname(posixpath.dirname(whole))


def _pairs(sample: Sample) -> Iterator[Part]:
    """The pairs that were rendered into a text, instruction and response apart, or as they are stored."""
    stored = sample.get("pairs")
    if not stored:
        return
    try:
        pairs = json.loads(stored) if isinstance(stored, str) else stored
        both = [(str(pair["instruction"]), str(pair["response"])) for pair in pairs]
    except (ValueError, TypeError, KeyError, IndexError):
        yield Part(Kind.PAIRS, stored if isinstance(stored, str) else json.dumps(stored, ensure_ascii=False))
        return
    if both:
        yield Part(Kind.PAIRS)
    for instruction, response in both:
        yield Part(Kind.INSTRUCTION, instruction)
        yield Part(Kind.RESPONSE, response)
