"""A small synthesis run, tuning data and a tokenizer, made by hand: what the mixture's tests mix."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ipt_stream import storage
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.pair import COT_ANSWER, COT_REQUEST, Pair
from ipt_stream.corpus.readers import InputConfig, read_rows, resolve_shards
from ipt_stream.ledger import LedgerWriter
from ipt_stream.synthesis import segment
from ipt_stream.synthesis.plan import RunPlan, save_plan, segment_id, segment_path
from ipt_stream.synthesis.results import is_selected_document
from ipt_stream.synthesis.segment import SegmentRow, Status

WORDS = "river stone lantern copper meadow winter harbour violin ember cedar falcon garden".split()  # noqa: SIM905
EOS = "</s>"


def sentence(number: int, length: int = 12) -> str:
    """Words that differ from number to number."""
    return " ".join(WORDS[(number * 7 + i * (1 + number % 5)) % len(WORDS)] for i in range(length)) + "."


def document_text(number: int) -> str:
    """One to five sentences; some hold what a careless renderer or tokenizer would trip over."""
    text = " ".join(sentence(number + i) for i in range(1 + number % 5))
    return text + {0: " {text} %s", 1: f" It said {EOS} there.", 2: '\n\n"Quoted"'}.get(number % 7, "")


def pairs_of(number: int) -> tuple[Pair, ...]:
    """A free-form pair, one with options, one with a thought."""
    first, second, third = (WORDS[(number + i) % len(WORDS)] for i in range(3))
    return (
        Pair(f"What is first in {number}?", first),
        Pair(f"Which one is it in {number}?\nOptions:\n- {first}\n- {second}\n- {third}", second),
        Pair(f"Why {number}?{COT_REQUEST}", f"It says {third}.{COT_ANSWER}{third}"),
    )[: 1 + number % 3]


def make_run(
    root: Path,
    *,
    documents: int = 60,
    rows_a_segment: int = 20,
    rounds: int = 2,
    fraction: float = 1.0,
    shard: Path | None = None,
) -> Path:
    """A finished synthesis run in `root`/segments: every fifth document yielded nothing, the others form chains."""
    if shard is None:
        shard = root / "shard.jsonl"
        shard.write_text("".join(json.dumps({"text": document_text(i)}) + "\n" for i in range(documents)), "utf-8")
    output = str(root / "segments")
    shards = tuple(resolve_shards(InputConfig(shards=(str(shard),))))
    plan = RunPlan(shards, rows_a_segment, rounds, fraction, 0)
    save_plan(output, plan)
    read = [row for row in read_rows(shards[0]) if isinstance(row, Document)]
    selected = {row.row: row for row in read if is_selected_document(plan, row)}
    ledger = LedgerWriter(output)
    for number, start in enumerate(range(0, documents, rows_a_segment)):
        stop = min(start + rows_a_segment, documents)
        rows = [_row(selected[i], start, rounds) for i in range(start, stop) if i in selected]
        content = segment.encode(rows)
        augmented = sum(row.status is Status.AUGMENTED for row in rows)
        path = segment_path(0, number)
        storage.publish_bytes(storage.join(output, path), content)
        ledger.append({
            "id": segment_id(0, number), "kind": "segment", "shard": 0, "number": number, "path": path,
            "sha256": hashlib.sha256(content).hexdigest(), "start_row": start, "rows": stop - start,
            "augmented": augmented, "raw": stop - start - augmented, "unselected": stop - start - len(rows),
            "pairs": sum(len(row.pairs) for row in rows), "pieces": len(rows), "raw_tokens": 0, "prompt_tokens": 0,
            "cached_tokens": 0, "resent_tokens": 0, "generated_tokens": 0, "rejected": {}, "no_pairs": {},
            "dropped": {}, "started": 0.0, "seconds": 0.0,
        })  # fmt: skip
    end = {"id": "shard-000000", "kind": "shard", "shard": 0, "rows": documents, "segments": number + 1}
    ledger.append({**end, "broken": None})
    return root / "segments"


def _row(document: Document, start: int, rounds: int) -> SegmentRow:
    number = document.row
    chain, round_ = divmod(number - start, rounds)
    barren = number % 5 == 4
    return SegmentRow(
        document_id=document.document_id, source_id=document.source_id, source=document.source, row=number, piece=0,
        chain=chain, round=round_, text=document.text, pairs=() if barren else pairs_of(number),
        inherits=round_ > 0 and (number - 1) % 5 != 4,
        status=Status.NO_PAIRS if barren else Status.AUGMENTED, reason="no pairs" if barren else "",
        prompt_tokens=10, cached_tokens=0, generated_tokens=10, generation="",
    )  # fmt: skip


def make_tuning(root: Path, rows: int = 12) -> Path:
    """Tuning examples in the project's own format."""
    file = root / "tuning.jsonl"
    lines = [
        {
            "source": "made",
            "context": document_text(1000 + i),
            "pairs": [{"instruction": p.instruction, "response": p.response} for p in pairs_of(i)],
        }
        for i in range(rows)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return file


def make_questions(root: Path, rows: int = 30) -> Path:
    """General instructions as question and response."""
    file = root / "general.jsonl"
    lines = [{"question": f"Say {sentence(i, 5)}", "response": f"{{{i}}} {sentence(i + 1, 6)}"} for i in range(rows)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return file


def make_tokenizer(root: Path) -> Path:
    """A byte-level BPE with `<s>` and `</s>`, as a Hugging Face folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([document_text(i) for i in range(50)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token=EOS)
    fast.save_pretrained(root / "tokenizer")
    return root / "tokenizer"
