"""The round loop: all chains of a segment on one engine at once, each round submitted as soon as the last one ends.

There is no barrier between rounds, so the engine never waits for the slowest chain, and a chain's prefix is still in
the engine's cache when its next round asks for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ipt_stream.corpus.cut import cut
from ipt_stream.corpus.document import Document
from ipt_stream.synthesis.chain import Inherited, chains, place
from ipt_stream.synthesis.engine import Engine, Generation, RequestFailed
from ipt_stream.synthesis.parse import Parsed, parse
from ipt_stream.synthesis.prompt import Shot
from ipt_stream.synthesis.segment import SegmentRow, Status
from ipt_stream.synthesis.tokens import PromptTokenizer

ATTEMPTS = 2
"""A request that fails is tried once more: what fails twice is rejected with its reason."""


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """What a segment's selected documents became.

    Attributes:
        rows: by document and piece.
        raw_tokens: tokens of the texts themselves, without the prompt around them.
        dropped: pieces of generations that became no pair, by reason.
    """

    rows: tuple[SegmentRow, ...]
    raw_tokens: int
    dropped: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Piece:
    document: Document
    number: int
    text: str
    context_ids: list[int]


async def run_segment(
    engine: Engine,
    tokenizer: PromptTokenizer,
    documents: Sequence[Document],
    *,
    segment_id: str,
    rounds: int,
    budget_tokens: int,
) -> SegmentResult:
    """Synthesize pairs for the selected `documents` of one segment, in M = `rounds` rounds.

    Args:
        budget_tokens: tokens that a prompt may have, `max_model_len - max_new_tokens`.

    Raises:
        EngineDied: the engine is gone; nothing of the segment is kept.
    """
    pieces = _pieces(tokenizer, documents, budget_tokens)
    dropped: Counter[str] = Counter()

    async def run_chain(members: list[int]) -> list[SegmentRow]:
        rows = []
        inherited = Inherited()
        for index in members:
            where = place(index, len(documents), rounds)
            for piece in pieces[index]:
                prompt, inherits = inherited.prompt(piece.context_ids, budget_tokens)
                outcome = await _ask(engine, f"{segment_id}/{piece.document.row}.{piece.number}", prompt)
                text, parsed = "", Parsed((), {})
                if isinstance(outcome, Generation):
                    text = tokenizer.decode(outcome.token_ids)
                    parsed = parse(text)
                    dropped.update(parsed.dropped)
                shot_ids = tokenizer.shot(Shot(piece.text, parsed.pairs)) if parsed.pairs else []
                inherited = inherited.after(inherits, shot_ids, parsed.pairs)
                rows.append(_row(piece, where.chain, where.round, inherits, len(prompt), outcome, text, parsed))
        return rows

    done = await asyncio.gather(*(run_chain(members) for members in chains(len(documents), rounds)))
    rows = [row for chain in done for row in chain]
    rows.sort(key=lambda row: (row.row, row.piece))
    overhead = tokenizer.context_overhead_tokens
    raw_tokens = sum(len(piece.context_ids) - overhead for cuts in pieces for piece in cuts)
    return SegmentResult(tuple(rows), raw_tokens, dict(dropped))


def _pieces(tokenizer: PromptTokenizer, documents: Sequence[Document], budget_tokens: int) -> list[list[_Piece]]:
    """Each document as one piece, or as several where it is longer than the budget."""
    contexts = tokenizer.contexts([document.text for document in documents])
    result = []
    for document, context_ids in zip(documents, contexts, strict=True):
        if len(context_ids) <= budget_tokens:
            result.append([_Piece(document, 0, document.text, context_ids)])
            continue
        result.append(
            [
                _Piece(document, number, text, ids)
                for number, (text, ids) in enumerate(_cut_to_fit(tokenizer, document.text, budget_tokens))
            ]
        )
    return result


def _cut_to_fit(tokenizer: PromptTokenizer, text: str, budget_tokens: int) -> list[tuple[str, list[int]]]:
    """The pieces of `text` and their contexts in tokens, each at most `budget_tokens`.

    A context can have a few tokens more than its text and the template have apart (merges at the borders, markers in
    the text that are neutralized), so the room that is left for that is doubled until all pieces fit.
    """
    slack = 2
    while True:
        room = budget_tokens - tokenizer.context_overhead_tokens - slack
        pieces = cut(text, room, tokenizer.offsets)
        contexts = tokenizer.contexts(pieces)
        if all(len(context) <= budget_tokens for context in contexts):
            return list(zip(pieces, contexts, strict=True))
        slack *= 2


async def _ask(engine: Engine, request_id: str, prompt: list[int]) -> Generation | RequestFailed:
    for attempt in range(ATTEMPTS):
        try:
            return await engine.generate(f"{request_id}.{attempt}", prompt)
        except RequestFailed as error:
            failure = error
    return failure


def _row(
    piece: _Piece,
    chain: int,
    round_: int,
    inherits: bool,
    prompt_tokens: int,
    outcome: Generation | RequestFailed,
    generation: str,
    parsed: Parsed,
) -> SegmentRow:
    if isinstance(outcome, RequestFailed):
        status, reason, outcome = Status.FAILED, str(outcome), Generation((), 0)
    elif parsed.pairs:
        status, reason = Status.AUGMENTED, ""
    else:
        most = max(parsed.dropped, key=lambda name: parsed.dropped[name], default="nothing_generated")
        status, reason = Status.NO_PAIRS, most
    document = piece.document
    return SegmentRow(
        document_id=document.document_id,
        source_id=document.source_id,
        source=document.source,
        row=document.row,
        piece=piece.number,
        chain=chain,
        round=round_,
        text=piece.text,
        pairs=parsed.pairs,
        inherits=inherits,
        status=status,
        reason=reason,
        prompt_tokens=prompt_tokens,
        cached_tokens=outcome.cached_tokens,
        generated_tokens=len(outcome.token_ids),
        generation=generation,
    )
