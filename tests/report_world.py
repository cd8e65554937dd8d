"""What the report's tests show: a synthesis run with given texts, checks of its pairs, and an analysis' part."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

from ipt_stream import storage
from ipt_stream.analysis.part import Headline, Part, Plot, Series, Table, publish_part
from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.corpus.pair import Pair
from ipt_stream.ledger import LedgerWriter
from ipt_stream.stage import open_stage
from ipt_stream.synthesis import segment
from ipt_stream.synthesis.plan import RunPlan, save_plan, segment_id, segment_path
from ipt_stream.synthesis.segment import SegmentRow, Status

ROUNDS = 2


def row(shard: str, position: int, text: str, pairs: tuple[Pair, ...]) -> SegmentRow:
    """A row whose chain has two rounds."""
    return SegmentRow(
        document_id=f"{shard}:{position}", source_id=None, source=shard, row=position, piece=0,
        chain=position // ROUNDS, round=position % ROUNDS, text=text, pairs=pairs, inherits=position % ROUNDS > 0,
        status=Status.AUGMENTED, reason="", prompt_tokens=10, cached_tokens=0, generated_tokens=10, generation="",
    )  # fmt: skip


def plain_rows(shard: str, count: int) -> list[SegmentRow]:
    """Rows that say where they are; every third text speaks of otters, every odd row has two pairs."""
    rows = []
    for position in range(count):
        animal = "an otter" if position % 3 == 0 else "a heron"
        text = f"Document {position} of {shard}. Somebody saw {animal} by the river that day.\n\nIt was fine weather."
        pairs = [Pair(f"What was seen in {position}?", animal), Pair("How was it?", "Fine.")]
        rows.append(row(shard, position, text, tuple(pairs[: 1 + position % 2])))
    return rows


def write_run(output: Path, shards: dict[str, list[list[SegmentRow]]]) -> Path:
    """A finished synthesis run: rows by shard and segment."""
    size = max(len(rows) for segments in shards.values() for rows in segments)
    specs = tuple(
        ShardSpec(f"/{name}", index, name, Format.JSONL, "text", None, 9, sum(map(len, segments)))
        for index, (name, segments) in enumerate(shards.items())
    )
    save_plan(str(output), RunPlan(specs, size, ROUNDS, 1.0, 0))
    ledger = LedgerWriter(str(output))
    for index, segments in enumerate(shards.values()):
        start = 0
        for number, rows in enumerate(segments):
            content = segment.encode(rows)
            storage.publish_bytes(str(output / segment_path(index, number)), content)
            ledger.append({
                "id": segment_id(index, number), "kind": "segment", "shard": index, "number": number,
                "path": segment_path(index, number), "sha256": hashlib.sha256(content).hexdigest(),
                "start_row": start, "rows": len(rows),
            })  # fmt: skip
            start += len(rows)
    documents = sum(spec.rows or 0 for spec in specs)
    figures = {"documents_in": documents, "augmented": documents, "raw": 0, "rejected": 0}
    open_stage(str(output), "synthesize", {}).finish({**figures, "generated_tokens": 10 * documents})
    return output


def checked(row: SegmentRow, pair: int) -> dict[str, bool | float | int | None]:
    """What the checks of these tests say of a pair: by its row, so that a test can count."""
    return {"grounding": row.row / 100, "degenerate": row.row % 4 == 1, "repeats": pair, "log_prob": None}


def write_checks(output: Path, shards: dict[str, list[list[SegmentRow]]]) -> Path:
    """The checks' analysis: a Parquet file a segment, and a part with each kind of plot."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for index, segments in enumerate(shards.values()):
        for number, rows in enumerate(segments):
            records = [
                {
                    "document_id": row.document_id, "source_id": row.source_id, "source": row.source,
                    "piece": row.piece, "chain": row.chain, "round": row.round, "pair": place,
                    "instruction": pair.instruction, "response": pair.response, **checked(row, place),
                }
                for row in rows
                for place, pair in enumerate(row.pairs)
            ]  # fmt: skip
            buffer = io.BytesIO()
            table = pa.Table.from_pylist(records)
            place = table.schema.get_field_index("log_prob")
            pq.write_table(table.set_column(place, "log_prob", pa.nulls(len(records), pa.float64())), buffer)
            name = f"segment-{segment_id(index, number)}.parquet"
            storage.publish_bytes(str(output / name), buffer.getvalue())
    keeps = {"grounding": ">= 0.25", "degenerate": "false", "repeats": None}
    storage.publish_json(str(output / "checks.json"), {"columns": {name: {"keeps": it} for name, it in keeps.items()}})
    return write_part(output, plotted_part("checks"))


def write_part(output: Path, part: Part) -> Path:
    """A finished analysis with `part`."""
    stage = open_stage(str(output), f"analyze-{part.name}", {"sample": 500})
    publish_part(str(output), part)
    stage.finish({"pairs": 12})
    return output


def plotted_part(name: str, words: Sequence[str] = ("grounded", "copied", "invented")) -> Part:
    """A part with a table and plots of all kinds; `words` are its labels."""
    first, second, third = words
    curve = tuple(number / 20 for number in range(21))
    places = tuple(f"{word} {number}" for number in range(6) for word in words)
    return Part(
        name,
        "Checks of each pair",
        "What can be told of a pair without a judge: grounding, repetition, language.",
        (
            Headline("Grounded pairs", "87.2%", "all 1,999 pairs", how="The share of pairs with grounding >= 0.25."),
            Headline("Duplicates", "12", how="Counted by hash."),
        ),
        (
            Table(
                "Pairs by check",
                ("check", "pairs", "share", "accuracy", "paper"),
                ((first, 1234, 0.617, 0.98123, 0.95), (second, 12, 0.006, 0.5, None), (third, None, 0.377, 0.25, 0.3)),
                percent=("share", "accuracy", "paper"),
                paper=("paper",),
                note="The paper's numbers are of its table 6.",
                how="ipt-stream analyze, section checks: all pairs of all finished segments.",
            ),
        ),
        (
            Plot("Yield and accuracy", "line", "threshold", "share", (
                Series("yield", curve, tuple(1 - x * x for x in curve)),
                Series(first, curve, tuple(0.5 + x / 2 for x in curve), tuple(0.45 + x / 2 for x in curve),
                       tuple(min(0.55 + x / 2, 1) for x in curve)),
            ), percent=True, note="Thresholds of grounding.", how="Every threshold over all pairs."),
            Plot("Shares", "bar", "kind", "share of pairs", (
                Series("texts", tuple(words), (0.5, 0.3, 0.2), (0.45, 0.27, 0.1), (0.55, 0.33, 0.3)),
                Series("pairs", tuple(words), (0.4, 0.4, 0.2)),
            ), percent=True, how="Counted over all texts and pairs."),
            Plot("Openings", "bar", "verb and object", "pairs", (
                Series("pairs", places, tuple(float(100 - 5 * n) for n in range(len(places)))),
            ), how="By rules for English."),
            Plot("Length and score", "point", "tokens", "log-probability", (
                Series("pairs", (10.0, 20.0, 35.0, 80.0), (-0.1, -0.5, -1.25, -0.3), labels=("a", "b", "c", "d")),
            ), how="A point a bucket of pairs."),
            Plot("Right pairs by round", "line", "round", "share", (Series("right", (1, 2, 3), (1.0, 1.0, 1.0)),),
                 percent=True, how="By the truth."),
        ),
    )  # fmt: skip


def evil_rows(shard: str, poison: Sequence[str]) -> list[SegmentRow]:
    """Texts and pairs that are what a browser must not run; two documents a text of poison."""
    rows = []
    for number, text in enumerate(poison):
        pairs = (Pair(f"{text} {number}?", text), Pair(f"What is {number}?{text}", json.dumps(text)))
        rows += [row(shard, 2 * number, text, pairs), row(shard, 2 * number + 1, f"{text} again", pairs[:1])]
    return rows
