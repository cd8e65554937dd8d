"""The documents that are measured on: some of the user's own, from several shards and mixed, or made-up ones."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import islice

from ipt_stream import storage
from ipt_stream.benchmark.settings import SampleSettings, TextSettings
from ipt_stream.benchmark.texts import draw_texts
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import ShardBroken
from ipt_stream.corpus.readers import InputConfig, list_shards, read_rows, resolve_shards
from ipt_stream.draw import seeded, shuffled
from ipt_stream.errors import InputError
from ipt_stream.progress import log

ROW_GROUP = 512


def sample_texts(config: InputConfig, settings: SampleSettings) -> list[str]:
    """The first documents of some shards, as many of each, in random order.

    Raises:
        InputError: the shards are not what they should be, or hold no documents.
    """
    listed = list_shards(config)
    chosen = shuffled(seeded(settings.seed, "shards"), listed)[: settings.shards]
    each = -(-settings.documents // len(chosen))
    found: list[str] = []
    for shard in resolve_shards(config.model_copy(update={"shards": tuple(shard.path for shard in chosen)})):
        rows = (row.text for row in read_rows(shard) if isinstance(row, Document))
        try:
            found.extend(islice(rows, each))
        except ShardBroken as error:
            log.warning("%s", error)
    if not found:
        raise InputError("no documents in the sample", wanted="some", got=f"none in {len(chosen)} shards")
    return shuffled(seeded(settings.seed, "documents"), found)[: settings.documents]


def made_up_texts(settings: TextSettings, number: int, words: Sequence[str], seed: int) -> list[str]:
    """So many made-up texts."""
    return list(draw_texts(settings, number, words, seed))


def publish_sample(path: str, texts: Iterable[str]) -> None:
    """Write the sample as one Parquet shard."""
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": list(texts)}), buffer, row_group_size=ROW_GROUP)
    storage.publish_bytes(path, buffer.getvalue())
