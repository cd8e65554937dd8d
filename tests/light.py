"""What synthesis needs of a model, made in a moment: a tokenizer of one token a byte, and an engine that does as told.

Nothing heavy is imported, so that a process that is to be killed starts in a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ipt_stream.corpus.document import Document
from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.synthesis.engine import EngineConfig, Generation, Pulse, RequestFailed
from ipt_stream.synthesis.plan import segment_id
from ipt_stream.synthesis.prompt import BOS, EOS, MARKERS, format_context
from ipt_stream.synthesis.tally import COUNTS
from ipt_stream.synthesis.tokens import PromptTokenizer

ANSWER = "<QUE> who? <ANS> the miller </END>"


def light_tokenizer() -> PromptTokenizer:
    """`<s>` and `</s>` are one token each, of everything else each byte is."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(marker, normalized=False, special=True) for marker in (BOS, EOS)])
    overhead = len(made.encode(format_context(""), add_special_tokens=False).ids)
    return PromptTokenizer(SimpleNamespace(backend_tokenizer=made), MARKERS, made.token_to_id(EOS), overhead, None)


def documents(lengths: list[int], shard: str = "a") -> list[Document]:
    """Documents of so many letters."""
    return [Document(f"{shard}:{row}", None, shard, row, "x" * length) for row, length in enumerate(lengths)]


def jsonl_shard(path: Path, rows: int, index: int = 0) -> ShardSpec:
    """A shard of JSON lines, each of another length."""
    path.write_text("".join(f'{{"text": "the mill of town {n}{"." * (n % 7)}"}}\n' for n in range(rows)))
    return ShardSpec(str(path), index, path.name, Format.JSONL, "text", None, path.stat().st_size)


class LightEngine:
    """Answers `ANSWER`, at once, or what it is made to; remembers what it was asked.

    Args:
        before: called with a request's id before it is answered; may raise, or give something to wait for.
    """

    def __init__(self, before: Callable[[str], Any] | None = None) -> None:
        self.tokenizer = light_tokenizer()
        self.answer = tuple(self.tokenizer.tokenizer.backend_tokenizer.encode(ANSWER, add_special_tokens=False).ids)
        self.before = before
        self.asked: list[tuple[str, list[int], int]] = []
        self.open = self.most = self.steps = 0

    def __call__(self, config: EngineConfig, gpus: float, eos_token_id: int) -> LightEngine:
        return self

    async def generate(self, request_id: str, token_ids: list[int], priority: int) -> Generation:
        self.asked.append((request_id, token_ids, priority))
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            waits = self.before(request_id) if self.before is not None else None
            await (waits if waits is not None else asyncio.sleep(0))
        finally:
            self.open -= 1
        self.steps += 1
        return Generation(self.answer, 0, tuple(-token / 1000 for token in self.answer))

    def rows(self) -> list[int]:
        """The rows that were asked about, in order."""
        return [row_of(request_id) for request_id, _, _ in self.asked]

    def pulse(self) -> Pulse:
        return Pulse(steps=self.steps)

    def facts(self) -> dict[str, Any]:
        return {"engine": "light"}

    def kill(self) -> None:
        pass

    def shutdown(self) -> None:
        pass


def row_of(request_id: str) -> int:
    """The row in a request's id: `segment/row.piece.attempt`."""
    return int(request_id.split("/")[1].split(".")[0])


def fails(request_id: str) -> None:
    raise RequestFailed(f"{request_id} fails by script")


def segment(
    shard: int, number: int, rows: int, augmented: int = 0, rejected: int = 0, **changes: Any
) -> dict[str, Any]:
    """The ledger record of a segment."""
    reasons = {"empty": list(range(rejected))} if rejected else {}
    return {
        **dict.fromkeys(COUNTS, 0), "id": segment_id(shard, number), "kind": "segment", "shard": shard,
        "number": number, "rows": rows, "augmented": augmented, "raw": rows - augmented - rejected,
        "rejected": reasons, "no_pairs": {}, "dropped": {}, "started": 100.0 + number, "seconds": 2.0, **changes,
    }  # fmt: skip


def end(shard: int, rows: int, segments: int, broken: str | None = None) -> dict[str, Any]:
    """The ledger record of a shard's end."""
    return {
        "id": f"shard-{shard:06d}", "kind": "shard", "shard": shard, "rows": rows, "segments": segments,
        "broken": broken,
    }  # fmt: skip
