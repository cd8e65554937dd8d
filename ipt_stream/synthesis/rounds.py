"""The round loop: all chains of a segment on one engine, each round submitted as soon as the last one ends.

There is no barrier between rounds, so the engine never waits for the slowest chain. A `Gate` that all segments of an
engine share lets in only so many chains that the engine always has more requests than it can run at once, and no more:
the others wait here. Chains that were let in first have precedence at the engine, so that a chain's next round runs
next, while its prefix is still in the cache (depth first).

Chains of older segments go first, so that segments end one after another; those of the run's last segments share one
turn, and the longest of all of them go first: what is left in the end is short, and the engine is empty soon.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ipt_stream.corpus.cut import PART_CHARACTERS, cut
from ipt_stream.corpus.document import Document
from ipt_stream.synthesis.chain import Inherited, chains, place
from ipt_stream.synthesis.engine import Engine, Generation, RequestFailed
from ipt_stream.synthesis.parse import Parsed, parse
from ipt_stream.synthesis.prompt import Shot
from ipt_stream.synthesis.segment import SegmentRow, Status
from ipt_stream.synthesis.tokens import PromptTokenizer

ATTEMPTS = 2
"""A request that fails is tried once more: what fails twice is rejected with its reason."""
LAST_TURN = sys.maxsize
"""The turn of all segments that are among the run's last: after all others, and among them the longest chains first."""


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """What a segment's selected documents became.

    Attributes:
        rows: by document and piece.
        raw_tokens: tokens of the texts themselves, without the prompt around them.
        resent_tokens: tokens of prompts that were sent, or generated, in an earlier round: what a cache can save.
        dropped: pieces of generations that became no pair, by reason.
    """

    rows: tuple[SegmentRow, ...]
    raw_tokens: int
    resent_tokens: int
    dropped: dict[str, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """A document, or a part of one that was cut, and its context in tokens."""

    document: Document
    number: int
    text: str
    context_ids: list[int]


@dataclass(slots=True)
class Gate:
    """Lets at most `limit` chains in at once: those of older segments first, of one segment the longest first.

    Attributes:
        limit: chains at most.
        inside: chains that are in.
    """

    limit: int
    inside: int = 0
    _turns: int = 0
    _arrivals: int = 0
    _waiting: list[tuple[int, int, int, asyncio.Future[None]]] = field(default_factory=list)

    async def enter(self, segment: int, length: int) -> int:
        """Wait until there is room; gives the number of chains that came in before.

        Args:
            segment: the segment's turn; lower ones go first.
            length: of the chain, in tokens; the longest go first.
        """
        if self.inside < self.limit:
            self.inside += 1
        else:
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._arrivals += 1
            heapq.heappush(self._waiting, (segment, -length, self._arrivals, room))
            try:
                await room
            except asyncio.CancelledError:
                if not room.cancelled():  # There was room just then: it goes to the next.
                    self.leave()
                raise
        self._turns += 1
        return self._turns - 1

    def leave(self) -> None:
        """Make room for the next."""
        while self._waiting:
            room = heapq.heappop(self._waiting)[-1]
            if not room.done():  # else whoever waited was cancelled
                room.set_result(None)
                return
        self.inside -= 1


def prepare(tokenizer: PromptTokenizer, documents: Sequence[Document], budget_tokens: int) -> list[list[Piece]]:
    """Each document as one piece, or as several where it is longer than the budget.

    All are tokenized in one go, but for those so long that their tokens would fill the memory: `cut` takes these in
    parts.

    Args:
        tokenizer: the synthesizer's.
        documents: the selected documents of a segment.
        budget_tokens: tokens that a prompt may have, `max_model_len - max_new_tokens`.
    """
    usual = [document for document in documents if len(document.text) <= PART_CHARACTERS]
    contexts = iter(tokenizer.contexts([document.text for document in usual]))
    result = []
    for document in documents:
        context_ids = next(contexts) if len(document.text) <= PART_CHARACTERS else None
        if context_ids is not None and len(context_ids) <= budget_tokens:
            result.append([Piece(document, 0, document.text, context_ids)])
            continue
        parts = enumerate(_cut_to_fit(tokenizer, document.text, budget_tokens))
        result.append([Piece(document, number, text, ids) for number, (text, ids) in parts])
    return result


async def run_segment(
    engine: Engine,
    tokenizer: PromptTokenizer,
    pieces: Sequence[Sequence[Piece]],
    *,
    segment_id: str,
    rounds: int,
    budget_tokens: int,
    gate: Gate,
    turn: int = 0,
) -> SegmentResult:
    """Synthesize pairs for the selected documents of one segment, in M = `rounds` rounds.

    Args:
        engine: what generates.
        tokenizer: the synthesizer's.
        pieces: what `prepare` made of the documents.
        segment_id: names the segment in request ids.
        rounds: M.
        budget_tokens: as `prepare` had it.
        gate: the engine's, shared by all its segments.
        turn: the segment's place among those of this engine; lower ones go first. Several may share one.

    Raises:
        EngineDied: the engine is gone; nothing of the segment is kept, its requests are withdrawn, and its places at
            the gate are free again. So it is with whatever else a chain raises.
    """
    dropped: Counter[str] = Counter()
    resent_tokens = 0

    def length(members: list[int]) -> int:
        return sum(len(piece.context_ids) for index in members for piece in pieces[index])

    async def run_chain(members: list[int]) -> list[SegmentRow]:
        priority = await gate.enter(turn, length(members))
        try:
            return await run_rounds(members, priority)
        finally:
            gate.leave()

    async def run_rounds(members: list[int], priority: int) -> list[SegmentRow]:
        nonlocal resent_tokens
        rows = []
        inherited = Inherited()
        order = [(index, piece) for index in members for piece in pieces[index]]
        for position, (index, piece) in enumerate(order):
            where = place(index, len(pieces), rounds)
            prompt, inherits = inherited.prompt(piece.context_ids, budget_tokens)
            resent_tokens += len(prompt) - len(piece.context_ids)
            outcome = await _ask(engine, f"{segment_id}/{piece.document.row}.{piece.number}", prompt, priority)
            text, parsed = "", Parsed((), {})
            if isinstance(outcome, Generation):
                text = tokenizer.decode(outcome.token_ids)
                parsed = parse(text)
                dropped.update(parsed.dropped)
            needed = parsed.pairs and position + 1 < len(order)
            shot_ids = tokenizer.shot(Shot(piece.text, parsed.pairs), piece.context_ids) if needed else []
            inherited = inherited.after(inherits, shot_ids, parsed.pairs)
            logprobs = None
            if isinstance(outcome, Generation) and outcome.logprobs is not None:
                logprobs = tokenizer.response_logprobs(outcome.token_ids, outcome.logprobs, parsed.places)
            rows.append(_row(piece, where.chain, where.round, inherits, len(prompt), outcome, text, parsed, logprobs))
        return rows

    longest_first = sorted(chains(len(pieces), rounds), key=length, reverse=True)
    tasks = [asyncio.create_task(run_chain(members)) for members in longest_first]
    try:
        done = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    rows = [row for chain in done for row in chain]
    rows.sort(key=lambda row: (row.row, row.piece))
    overhead = tokenizer.context_overhead_tokens
    raw_tokens = sum(len(piece.context_ids) - overhead for cuts in pieces for piece in cuts)
    return SegmentResult(tuple(rows), raw_tokens, resent_tokens, dict(dropped))


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


async def _ask(engine: Engine, request_id: str, prompt: list[int], priority: int) -> Generation | RequestFailed:
    for attempt in range(ATTEMPTS):
        try:
            return await engine.generate(f"{request_id}.{attempt}", prompt, priority)
        except RequestFailed as error:
            failure = error
    return failure


def _row(
    piece: Piece,
    chain: int,
    round_: int,
    inherits: bool,
    prompt_tokens: int,
    outcome: Generation | RequestFailed,
    generation: str,
    parsed: Parsed,
    logprobs: tuple[float | None, ...] | None,
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
        response_logprobs=logprobs,
    )
