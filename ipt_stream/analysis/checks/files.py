"""The files of the checks of a segment: a row a pair, with their sums in the metadata; and the keys of its pairs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

from ipt_stream import storage
from ipt_stream.analysis.checks.listing import CHECKS
from ipt_stream.analysis.checks.measure import Sums
from ipt_stream.analysis.checks.pair_checks import Checked
from ipt_stream.errors import InputError
from ipt_stream.mixture.keep import SEGMENT_KEY, checks_path
from ipt_stream.synthesis.results import SegmentReference

SUMS_KEY = b"ipt_stream.sums"
"""The key of a segment's sums in the metadata of its file."""


def keys_path(output: str, reference: SegmentReference) -> str:
    """Where the keys of a segment's pairs are."""
    return checks_path(storage.join(output, "keys"), reference).replace(".parquet", ".u64")


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


def read_sums(path: str, reference: SegmentReference) -> Sums:
    """The sums in the file at `path`. Raises `InputError` where it does not hold the checks of that segment."""
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
