"""The mean log-probability of each response: found by its tokens' places, whatever the tokenizer; kept in segments."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from light import ANSWER, LightEngine, documents, light_tokenizer
from test_tokens import TOKENIZERS

from ipt_stream.corpus.pair import Pair
from ipt_stream.synthesis import segment
from ipt_stream.synthesis.engine import Generation
from ipt_stream.synthesis.logprobs import response_logprobs
from ipt_stream.synthesis.parse import parse
from ipt_stream.synthesis.prompt import MARKERS, format_pairs
from ipt_stream.synthesis.rounds import Gate, prepare, run_segment

words = st.lists(
    st.sampled_from(["the miller", "bridge", "'s", ",", "é", "日本", "🙂", "\n", " ", "x", "Therefore, the answer is"]),
    min_size=1,
    max_size=6,
).map("".join)
plain = words.map(str.strip).filter(lambda text: text and not any(marker in text for marker in MARKERS))
pairs = st.lists(
    st.builds(Pair, plain, plain), unique_by=lambda pair: pair.instruction.casefold(), min_size=1, max_size=4
)


def test_by_hand() -> None:
    """One token a word here: `<ANS>` is the third, and the response the fourth and fifth."""
    pieces = ["<QUE>", " who?", " <ANS>", " the", " miller", " </END>"]

    def decode(ids: Any) -> str:
        return "".join(pieces[token] for token in ids)

    generation = decode(range(6))
    parsed = parse(generation)
    ((start, end),) = parsed.places
    assert generation[start:end] == "the miller"
    found = response_logprobs(decode, {}, range(6), (-9.0, -9.0, -9.0, -0.5, -1.5, -9.0), parsed.places)
    assert found == (-1.0,)


@given(pairs)
def test_places_are_where_the_responses_stand(made: list[Pair]) -> None:
    text = "<QUE> broken </END>  " + format_pairs(made)
    parsed = parse(text)
    assert [text[start:end] for start, end in parsed.places] == [pair.response for pair in parsed.pairs]


@pytest.mark.parametrize("family", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(made=pairs)
def test_the_tokens_of_a_response_are_those_that_hold_some_of_it(family: str, made: list[Pair]) -> None:
    """As the tokenizer itself says where each token stands. Characters of several tokens are found by bisection."""
    tokens = TOKENIZERS[family]
    text = format_pairs(made).removesuffix("</s>")
    encoding = tokens.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    assume(tokens.decode(encoding.ids) == text)
    places = parse(text).places
    logprobs = [-float(number + 1) for number in range(len(encoding.ids))]
    expected = [
        round(
            fmean(logprobs[at] for at, (first, stop) in enumerate(encoding.offsets) if first < end and stop > start), 5
        )
        for start, end in places
    ]
    assert list(tokens.response_logprobs(encoding.ids, logprobs, places)) == expected


def test_what_is_no_text_at_all_has_a_mean_all_the_same() -> None:
    """Half a character in a response, as a small model may write it."""
    tokens = light_tokenizer()
    encode = tokens.tokenizer.backend_tokenizer.encode
    half = encode("日", add_special_tokens=False).ids[:2]
    ids = [*encode("<QUE> a <ANS> b", add_special_tokens=False).ids, *half, *encode("c </END>").ids]
    text = tokens.decode(ids)
    (place,) = parse(text).places
    logprobs = [-1.0] * len(ids)
    assert tokens.response_logprobs(ids, logprobs, [place]) == (-1.0,)
    assert tokens.response_logprobs([], [], [(0, 1)]) == (None,)


def run_one(engine: LightEngine) -> segment.SegmentRow:
    pieces = prepare(engine.tokenizer, documents([10]), 400)
    work = run_segment(
        engine, engine.tokenizer, pieces, segment_id="s", rounds=1, budget_tokens=400, gate=Gate(1)
    )  # fmt: skip
    return asyncio.run(work).rows[0]


def test_a_round_records_the_mean_of_each_response() -> None:
    engine = LightEngine()
    row = run_one(engine)
    start = ANSWER.index("the miller")
    expected = fmean(-token / 1000 for token in engine.answer[start : start + len("the miller")])
    assert row.response_logprobs == (round(expected, 5),)
    assert len(row.pairs) == 1


def test_an_engine_that_tells_none_leaves_them_open() -> None:
    class Silent(LightEngine):
        async def generate(self, request_id: str, token_ids: list[int], priority: int) -> Generation:
            return replace(await super().generate(request_id, token_ids, priority), logprobs=None)

    row = run_one(Silent())
    assert row.response_logprobs is None and len(row.pairs) == 1


def test_segment_files_hold_them_and_those_of_before_are_still_read() -> None:
    row = run_one(LightEngine())
    rows = [row, replace(row, row=1, response_logprobs=None), replace(row, row=2, pairs=(), response_logprobs=())]
    content = segment.encode(rows)
    assert segment.decode(content, "here") == rows
    table = pq.read_table(io.BytesIO(content)).drop_columns(["response_logprobs"])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    assert segment.decode(buffer.getvalue(), "old") == [replace(one, response_logprobs=None) for one in rows]
