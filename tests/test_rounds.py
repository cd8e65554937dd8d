"""The round loop: no barrier, depth first, as many requests as the gate lets in, and the same result always."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from light import ANSWER, LightEngine, documents, fails, light_tokenizer, row_of

from ipt_stream.corpus.cut import PART_CHARACTERS
from ipt_stream.corpus.document import Document
from ipt_stream.synthesis.chain import chains
from ipt_stream.synthesis.engine import EngineDied
from ipt_stream.synthesis.parse import parse
from ipt_stream.synthesis.prompt import Shot
from ipt_stream.synthesis.rounds import LAST_TURN, Gate, Piece, SegmentResult, prepare, run_segment
from ipt_stream.synthesis.segment import Status

TOKENIZER = light_tokenizer()
BUDGET = 400
SHOT_TOKENS = len(TOKENIZER.shot(Shot("x" * 10, parse(ANSWER).pairs)))
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """With a limit on its time, so that what hangs fails."""

    async def limited() -> T:
        return await asyncio.wait_for(work, 30)

    return asyncio.run(limited())


async def settle() -> None:
    """Let everything go on that can."""
    for _ in range(50):
        await asyncio.sleep(0)


def segment(
    engine: LightEngine, lengths: list[int], gate: Gate, rounds: int = 2, turn: int = 0
) -> Coroutine[Any, Any, SegmentResult]:
    pieces = prepare(TOKENIZER, documents(lengths), BUDGET)
    name = f"segment{turn}"
    return run_segment(
        engine, TOKENIZER, pieces, segment_id=name, rounds=rounds, budget_tokens=BUDGET, gate=gate, turn=turn
    )


class Held:
    """Requests wait at the engine until they are let go, or made to fail."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.engine = LightEngine(self._hold)

    def _hold(self, request_id: str) -> Awaitable[None]:
        waiting = self.waiting[request_id] = asyncio.get_running_loop().create_future()
        return waiting

    def let_go(self, request_id: str, error: Exception | None = None) -> None:
        waiting = self.waiting.pop(request_id)
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    async def let_all_go(self, but: Callable[[str], bool] = lambda _: False) -> None:
        """Let everything go, also what comes then."""
        while found := [name for name in self.waiting if not but(name)]:
            for name in found:
                self.let_go(name)
            await settle()


class TestGate:
    @settings(max_examples=100, deadline=None)
    @given(
        st.integers(1, 4),
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=14),
        st.randoms(use_true_random=False),
    )
    def test_it_is_as_full_as_can_be_and_lets_in_whose_turn_it_is_whoever_is_cancelled(
        self, limit: int, arrivals: list[tuple[int, int]], chance: random.Random
    ) -> None:
        """Visitors leave, are cancelled inside, while they wait, and in the moment in which they are let in."""

        def turn(number: int) -> tuple[int, int, int]:
            segment, length = arrivals[number]
            return segment, -length, number

        async def scenario() -> None:
            gate = Gate(limit)
            inside: set[int] = set()
            given: list[int] = []
            leave = [asyncio.Event() for _ in arrivals]

            async def visit(number: int) -> None:
                given.append(await gate.enter(*arrivals[number]))
                inside.add(number)
                try:
                    await leave[number].wait()
                finally:
                    inside.discard(number)
                    gate.leave()

            tasks = [asyncio.create_task(visit(number)) for number in range(len(arrivals))]
            expected, waiting = set(range(len(arrivals))[:limit]), sorted(range(len(arrivals))[limit:], key=turn)
            while expected or waiting:
                await settle()
                assert inside == expected
                assert gate.inside == len(inside)
                if chance.random() < 0.8:
                    out = chance.choice(sorted(expected))
                    expected.discard(out)
                    if chance.random() < 0.7:
                        leave[out].set()
                    else:
                        tasks[out].cancel()
                    for _ in range(chance.randrange(5)):
                        await asyncio.sleep(0)
                if waiting and chance.random() < 0.5:
                    tasks[waiting.pop(0 if chance.random() < 0.7 else -1)].cancel()
                while waiting and len(expected) < limit:
                    expected.add(waiting.pop(0))
            await settle()
            assert (inside, gate.inside) == (set(), 0)
            assert given == sorted(set(given)), "each is told how many came in before"

        run(scenario())

    def test_older_segments_go_first_and_of_one_segment_the_longest(self) -> None:
        async def scenario() -> list[tuple[int, int]]:
            gate = Gate(1)
            order: list[tuple[int, int]] = []

            async def visit(turn: int, length: int) -> None:
                await gate.enter(turn, length)
                order.append((turn, length))
                gate.leave()

            await gate.enter(0, 1)
            tasks = [asyncio.create_task(visit(*who)) for who in [(2, 9), (1, 3), (2, 50), (1, 8), (1, 5)]]
            await settle()
            assert order == []
            gate.leave()
            await asyncio.gather(*tasks)
            return order

        assert run(scenario()) == [(1, 8), (1, 5), (1, 3), (2, 50), (2, 9)]


class TestTheEndOfARun:
    """Two segments on an engine with room for two chains; a letter of a text takes a second."""

    SEGMENTS = ([10] * 8, [10, 20, 200, 30])

    @staticmethod
    async def finish(turns: list[int]) -> tuple[float, list[int]]:
        """When all is done, and the lengths of chains in the order in which they were begun."""
        held, gate, now = Held(), Gate(2), 0.0
        works = [
            asyncio.create_task(
                run_segment(
                    held.engine, TOKENIZER, prepare(TOKENIZER, documents(lengths), BUDGET),
                    segment_id=str(number), rounds=1, budget_tokens=BUDGET, gate=gate, turn=turn,
                )
            )
            for number, (lengths, turn) in enumerate(zip(TestTheEndOfARun.SEGMENTS, turns, strict=True))
        ]  # fmt: skip
        begun: list[int] = []
        ends: dict[str, float] = {}
        await settle()
        while held.waiting:
            for name in held.waiting.keys() - ends.keys():
                length = TestTheEndOfARun.SEGMENTS[int(name.split("/")[0])][row_of(name)]
                begun.append(length)
                ends[name] = now + length
            first = min(held.waiting, key=lambda name: (ends[name], name))
            now = ends[first]
            held.let_go(first)
            await settle()
        await asyncio.gather(*works)
        return now, begun

    def test_by_turns_the_longest_chain_of_the_last_segment_waits_for_the_shortest_of_the_one_before(self) -> None:
        assert run(self.finish([1, 2])) == (40.0 + 200.0, [10] * 8 + [200, 30, 20, 10])

    def test_with_one_turn_the_longest_of_all_goes_first_and_the_engine_is_empty_sooner(self) -> None:
        seconds, begun = run(self.finish([LAST_TURN, LAST_TURN]))
        assert begun == [10, 10, 200, 30, 20, *[10] * 7], "but for the two that came before any other"
        assert seconds == 10.0 + 200.0

    def test_the_last_ones_go_after_all_that_have_turns_of_their_own(self) -> None:
        assert run(self.finish([7, LAST_TURN])) == run(self.finish([1, 2]))


class TestRunSegment:
    def test_there_is_no_barrier_between_rounds(self) -> None:
        """While the first round of chain 0 is at work, the other chains come to their ends."""

        async def scenario() -> None:
            held = Held()
            work = asyncio.create_task(segment(held.engine, [10] * 9, Gate(3), rounds=3))
            await settle()
            await held.let_all_go(but=lambda name: row_of(name) == 0)
            assert sorted(held.engine.rows()) == [0, 1, 2, 4, 5, 7, 8]
            assert list(held.waiting) == ["segment0/0.0.0"]
            await held.let_all_go()
            result = await work
            assert [row.round for row in result.rows] == [0, 0, 0, 1, 1, 1, 2, 2, 2]

        run(scenario())

    def test_chains_that_were_let_in_first_have_precedence_in_all_their_rounds(self) -> None:
        async def scenario() -> None:
            engine = LightEngine()
            await segment(engine, [10, 40, 30, 20, 10, 10, 10, 10], Gate(2), rounds=2)
            first: dict[int, int] = {}
            for request_id, _, priority in engine.asked:
                first.setdefault(row_of(request_id) % 4, priority)
                assert first[row_of(request_id) % 4] == priority, "a chain keeps its place"
            assert list(first) == [1, 2, 3, 0], "the longest chain goes first"
            assert list(first.values()) == [0, 1, 2, 3]

        run(scenario())

    def test_an_older_segment_goes_before_one_that_began_later(self) -> None:
        async def scenario() -> None:
            held, gate = Held(), Gate(2)
            works = [asyncio.create_task(segment(held.engine, [10] * 6, gate, rounds=2, turn=turn)) for turn in (1, 2)]
            await settle()
            await held.let_all_go()
            await asyncio.gather(*works)
            priorities = [(name.split("/")[0], priority) for name, _, priority in held.engine.asked]
            assert max(p for name, p in priorities if name == "segment1") == 2
            assert min(p for name, p in priorities if name == "segment2") == 3

        run(scenario())

    def test_a_request_that_fails_is_tried_once_more_and_then_failed_by_name(self) -> None:
        def before(request_id: str) -> None:
            row, attempt = row_of(request_id), int(request_id.rsplit(".", 1)[1])
            if row == 1 or (row == 2 and attempt == 0):
                fails(request_id)

        engine = LightEngine(before)
        result = run(segment(engine, [10] * 4, Gate(4), rounds=4))
        asked = [name for name, _, _ in engine.asked]
        assert asked == [f"segment0/{place}" for place in ("0.0.0", "1.0.0", "1.0.1", "2.0.0", "2.0.1", "3.0.0")]
        assert [row.status for row in result.rows] == [
            Status.AUGMENTED, Status.FAILED, Status.AUGMENTED, Status.AUGMENTED,
        ]  # fmt: skip
        assert "segment0/1.0.1 fails by script" in result.rows[1].reason
        assert [row.inherits for row in result.rows] == [False, True, False, True], "a failure ends the example"

    def test_resent_tokens_are_what_a_cache_can_save(self) -> None:
        """3 rounds of 10 letters: the second resends a shot, the third two; a failed attempt is not counted."""

        def before(request_id: str) -> None:
            if request_id.endswith("/1.0.0"):
                fails(request_id)

        engine = LightEngine(before)
        result = run(segment(engine, [10] * 3, Gate(1), rounds=3))
        assert result.resent_tokens == SHOT_TOKENS + 2 * SHOT_TOKENS
        assert result.raw_tokens == 30
        overhead = TOKENIZER.context_overhead_tokens
        assert sum(row.prompt_tokens for row in result.rows) == result.resent_tokens + 30 + 3 * overhead

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(st.one_of(st.integers(1, 120), st.integers(300, 900)), max_size=12),
        st.integers(1, 4),
        st.integers(1, 6),
        st.frozensets(st.integers(0, 11)),
        st.randoms(use_true_random=False),
    )
    def test_the_gate_is_kept_full_and_the_result_is_the_same_whatever_the_timing(
        self, lengths: list[int], rounds: int, limit: int, failing: frozenset[int], chance: random.Random
    ) -> None:
        """Requests are let go in any order; rows that fail do so on the first attempt, every third always."""

        def failure(request_id: str) -> bool:
            row, attempt = row_of(request_id), int(request_id.rsplit(".", 1)[1])
            return row in failing and (attempt == 0 or row % 3 == 0)

        def at_once(request_id: str) -> None:
            if failure(request_id):
                fails(request_id)

        expected = run(segment(LightEngine(at_once), lengths, Gate(1000), rounds))
        pieces = prepare(TOKENIZER, documents(lengths), BUDGET)
        members = chains(len(lengths), rounds)
        chain_of = {row: number for number, rows in enumerate(members) for row in rows}
        left = Counter({number: sum(len(pieces[row]) for row in rows) for number, rows in enumerate(members)})

        async def scenario() -> SegmentResult:
            held, gate = Held(), Gate(limit)
            work = asyncio.create_task(segment(held.engine, lengths, gate, rounds))
            while not work.done():
                await settle()
                open_chains = sum(1 for pieces_left in left.values() if pieces_left)
                assert len(held.waiting) == min(limit, open_chains), "as many requests as there may be, or work for"
                if held.waiting:
                    name = chance.choice(sorted(held.waiting))
                    if failure(name):
                        with pytest.raises(Exception, match="by script") as caught:
                            fails(name)
                        held.let_go(name, caught.value)
                    else:
                        held.let_go(name)
                    if not failure(name) or name.endswith(".1"):
                        left[chain_of[row_of(name)]] -= 1
            assert held.engine.most <= limit
            assert gate.inside == 0
            return await work

        assert run(scenario()) == expected
        joined = dict.fromkeys(range(len(lengths)), "")
        for row in expected.rows:
            joined[row.row] += row.text
        assert joined == {row: "x" * length for row, length in enumerate(lengths)}

    @pytest.mark.parametrize("error", [EngineDied("dead"), ValueError("a bug"), KeyError("another")])
    def test_an_error_in_one_chain_leaves_the_gate_to_other_segments(self, error: Exception) -> None:
        """The others of its segment are withdrawn: those that wait at the gate and those at the engine."""

        async def scenario() -> None:
            held, gate = Held(), Gate(2)
            bad = asyncio.create_task(segment(held.engine, [10] * 8, gate, rounds=2, turn=1))
            await settle()
            good = asyncio.create_task(segment(held.engine, [10] * 4, gate, rounds=2, turn=2))
            await settle()
            held.let_go(sorted(held.waiting)[0], error)
            with pytest.raises(type(error)):
                await bad
            await settle()
            assert {name.split("/")[0] for name, waits in held.waiting.items() if not waits.done()} == {"segment2"}
            held.waiting = {name: waits for name, waits in held.waiting.items() if not waits.done()}
            assert gate.inside == 2
            await held.let_all_go()
            assert len((await good).rows) == 4
            assert gate.inside == 0
            assert len((await segment(LightEngine(), [10] * 8, gate, turn=3)).rows) == 8

        run(scenario())

    def test_a_segment_that_is_withdrawn_leaves_the_gate(self) -> None:
        async def scenario() -> None:
            held, gate = Held(), Gate(3)
            work = asyncio.create_task(segment(held.engine, [10] * 8, gate))
            await settle()
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            assert gate.inside == 0
            assert len((await segment(LightEngine(), [10] * 8, gate)).rows) == 8

        run(scenario())

    def test_a_segment_without_selected_documents_asks_nothing(self) -> None:
        engine = LightEngine()
        assert run(segment(engine, [], Gate(1))) == SegmentResult((), 0, 0, {})
        assert engine.asked == []


def test_a_document_longer_than_the_budget_becomes_pieces_that_fit() -> None:
    (short,), long = prepare(TOKENIZER, documents([10, 3 * BUDGET]), BUDGET)
    assert isinstance(short, Piece)
    assert len(long) > 3
    assert [piece.number for piece in long] == list(range(len(long)))
    assert "".join(piece.text for piece in long) == "x" * (3 * BUDGET)
    assert max(len(piece.context_ids) for piece in long) <= BUDGET


def test_a_text_too_long_to_be_tokenized_at_once_is_cut_and_keeps_its_place() -> None:
    texts = ["a short one", "the miller and the keeper. " * (PART_CHARACTERS // 20), "another"]
    read = [Document(f"s:{row}", None, "s", row, text) for row, text in enumerate(texts)]
    pieces = prepare(TOKENIZER, read, 500)
    assert [len(parts) > 1 for parts in pieces] == [False, True, False]
    for document, parts in zip(read, pieces, strict=True):
        assert "".join(part.text for part in parts) == document.text
        assert all(part.document is document and len(part.context_ids) <= 500 for part in parts)
