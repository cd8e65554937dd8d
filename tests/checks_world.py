"""A finished synthesis run over documents of the sample world, with known wrong pairs among right ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from ipt_stream import storage
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.pair import Pair
from ipt_stream.corpus.readers import InputConfig, read_rows, resolve_shards
from ipt_stream.corpus.sample_world import document_id
from ipt_stream.corpus.truth import final_answer
from ipt_stream.corpus.world.facts import POOLS, Population, World
from ipt_stream.corpus.world.pairs import pairs_for
from ipt_stream.corpus.world.wording import document_text
from ipt_stream.ledger import LedgerWriter
from ipt_stream.synthesis import segment
from ipt_stream.synthesis.plan import RunPlan, save_plan, segment_id, segment_path
from ipt_stream.synthesis.segment import SegmentRow, Status
from ipt_stream.synthesis.tally import COUNTS

WORLD = World(0)
ROUNDS = 2


def is_wrong(position: int, number: int) -> bool:
    """Whether pair `number` of the document at `position` is made wrong: all of every seventh, and some of others."""
    return position % 7 == 3 or (position + number) % 4 == 0


def pairs_of(position: int) -> tuple[Pair, ...]:
    """The pairs of a document, wrong ones with the answer replaced by a value that the text doesn't hold."""
    index = Population.CORPUS.index(position)
    text, made = document_text(WORLD, index), []
    for number, pair in enumerate(pairs_for(WORLD, index)):
        answer = final_answer(pair)
        pool = next(values for values in POOLS.values() if answer in values)
        other = next(value for value in pool if value not in text)
        response = pair.response.replace(answer, other) if is_wrong(position, number) else pair.response
        made.append(Pair(pair.instruction, response))
    return tuple(made)


def logprob(position: int, number: int) -> float:
    """Wrong pairs are less certain, but for some."""
    return -0.02 * (position % 3) - (0.5 if is_wrong(position, number) and position % 5 else 0.0)


def make_row(document: Document, start: int) -> SegmentRow:
    """Chains of two documents that follow each other."""
    position = document.row
    pairs = pairs_of(position)
    chain, round_ = divmod(position - start, ROUNDS)
    return SegmentRow(
        document_id=document.document_id, source_id=document.source_id, source=document.source, row=position, piece=0,
        chain=chain, round=round_, text=document.text, pairs=pairs, inherits=round_ > 0, status=Status.AUGMENTED,
        reason="", prompt_tokens=10, cached_tokens=0, generated_tokens=10, generation="",
        response_logprobs=tuple(logprob(position, number) for number in range(len(pairs))),
    )  # fmt: skip


def make_run(
    root: Path,
    *,
    documents: int = 28,
    rows_a_segment: int = 7,
    make: Callable[[Document, int], SegmentRow] = make_row,
) -> Path:
    """A finished run in `root`/segments; `make` gives a document's row, from it and its segment's first row."""
    root.mkdir(parents=True, exist_ok=True)
    shard = root / "people.jsonl"
    people = [Population.CORPUS.index(position) for position in range(documents)]
    lines = [{"text": document_text(WORLD, index), "id": document_id(index)} for index in people]
    shard.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    output = str(root / "segments")
    shards = tuple(resolve_shards(InputConfig(shards=(str(shard),), id_column="id")))
    save_plan(output, RunPlan(shards, rows_a_segment, ROUNDS, 1.0, 0))
    read = [row for row in read_rows(shards[0]) if isinstance(row, Document)]
    ledger = LedgerWriter(output)
    for number, start in enumerate(range(0, documents, rows_a_segment)):
        rows = [make(document, start) for document in read[start : start + rows_a_segment]]
        content, path = segment.encode(rows), segment_path(0, number)
        storage.publish_bytes(storage.join(output, path), content)
        augmented = sum(row.status is Status.AUGMENTED for row in rows)
        ledger.append({
            **dict.fromkeys(COUNTS, 0), "id": segment_id(0, number), "kind": "segment", "shard": 0, "number": number,
            "path": path, "sha256": hashlib.sha256(content).hexdigest(), "start_row": start, "rows": len(rows),
            "augmented": augmented, "raw": len(rows) - augmented, "pairs": sum(len(row.pairs) for row in rows),
            "pieces": len(rows), "rejected": {}, "no_pairs": {}, "dropped": {}, "started": 0.0, "seconds": 0.0,
        })  # fmt: skip
    end = {"id": "shard-000000", "kind": "shard", "shard": 0, "rows": documents, "segments": number + 1}
    ledger.append({**end, "broken": None})
    return root / "segments"


def make_world(root: Path) -> Path:
    """What says which world it is."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "world.json").write_text(json.dumps({"seed": WORLD.seed}))
    return root
