"""A judge behind HTTP and in vLLM: faults of the endpoint, answers kept, structured output, what it costs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from judged import ScriptedJudge, completion, endpoint, judge

from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.judging.asking import (
    Answer,
    Asked,
    Question,
    ask_all,
    cache_of,
    json_object,
    open_judge,
)
from ipt_stream.analysis.judging.local import LocalJudge, chat_prompt
from ipt_stream.analysis.judging.settings import JudgeSettings
from ipt_stream.analysis.local_model import LocalModel, Reply, special_texts
from ipt_stream.analysis.part import read_part
from ipt_stream.analysis.synthesizer import SynthesizerSettings, analyze_synthesizer
from ipt_stream.config import build
from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import ConfigError, EngineError, EvaluationError, InputError
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.engine_process import OWNER_VARIABLE
from ipt_stream.synthesis.parse import parse
from ipt_stream.synthesis.prompt import EOS, PAIR_CLOSE
from ipt_stream.tuning.pairs import TuningExample, TuningSource, examples_text
from ipt_stream.tuning.quality import pairs_f1

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}, "sure": {"type": "boolean"}},
    "required": ["colour", "sure"],
    "additionalProperties": False,
}
RED = '{"colour": "red", "sure": true}'


def questions(count: int) -> list[Question]:
    return [Question("Name a colour.", f"flower {number}", SCHEMA) for number in range(count)]


def read(question: Question, answer: str) -> str | None:
    found = json_object(answer)
    return found["colour"] if found and found.get("colour") in ("red", "blue") else None


def number_of(body: dict[str, Any]) -> int:
    return int(body["messages"][1]["content"].split()[-1])


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_requests_are_chat_completions_with_a_schema_and_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOUR_KEY", "secret-123")
    with endpoint(lambda number, body: (200, completion(RED), {})) as (url, requests):
        settings = judge(
            base_url=url, model="painter", key_variable="COLOUR_KEY", extra={"top_k": 1}, price_in=2.0, price_out=8.0
        )
        asked = ask_all(questions(3), settings, str(tmp_path / "cache"), read, open_judge)
    assert asked.values == ["red"] * 3
    assert len(requests) == 3
    for path, headers, body in requests:
        assert path == "/v1/chat/completions"
        assert headers["Authorization"] == "Bearer secret-123"
        assert body["model"] == "painter"
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert body["response_format"]["json_schema"]["schema"] == SCHEMA
        assert body["response_format"]["json_schema"]["strict"] is True
        assert (body["temperature"], body["max_tokens"], body["top_k"]) == (0.0, 256, 1)
    bill = asked.bill
    assert (bill.questions, bill.asked, bill.cached, bill.tokens_in, bill.tokens_out) == (3, 3, 0, 300, 30)
    assert bill.cost(settings) == pytest.approx((300 * 2 + 30 * 8) / 1e6)
    kept = [file.read_text() for file in (tmp_path / "cache").rglob("*.json")]
    assert len(kept) == 3
    assert not any("secret-123" in text for text in kept)


def test_errors_rate_limits_timeouts_and_lost_connections_are_tried_again(tmp_path: Path) -> None:
    """One question, five tries: a time-out, 500, 429 with a time to wait, 503 in HTML, then the answer."""
    times: list[float] = []
    given_up = threading.Event()

    def answer(number: int, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        times.append(time.monotonic())
        if number == 0:
            given_up.wait(60)
        if number == 1:
            given_up.set()
            return 500, {"error": {"message": "overloaded"}}, {"Retry-After": "0.05"}
        if number == 2:
            return 429, {"error": {"message": "slow down"}}, {"Retry-After": "1"}
        if number == 3:
            return 503, "<html>busy</html>", {"Content-Type": "text/html", "Retry-After": "0.05"}
        return 200, completion(RED), {}

    with endpoint(answer) as (url, requests):
        settings = judge(base_url=url, timeout_s=3, retries=4)
        asked = ask_all(questions(1), settings, str(tmp_path), read, open_judge)
    assert asked.values == ["red"]
    assert len(requests) == 5
    assert times[3] - times[2] >= 0.9, "as the endpoint said"
    assert asked.bill.asked == 1


def test_what_was_answered_is_kept_when_the_endpoint_goes_away(tmp_path: Path) -> None:
    gone = threading.Event()

    def answer(number: int, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if number_of(body) >= 5 and not gone.is_set():
            return 500, {"error": {"message": "gone"}}, {}
        return 200, completion(RED), {}

    with endpoint(answer) as (url, requests):
        settings = judge(base_url=url, retries=0, concurrency=1)
        with pytest.raises(EvaluationError, match=r"does not answer.*gone.*what was answered is kept"):
            ask_all(questions(8), settings, str(tmp_path), read, open_judge)
        assert len(list(tmp_path.rglob("*.json"))) == 5
        assert len(requests) == 6, "nothing is begun after the failure"
        gone.set()
        asked = ask_all(questions(8), settings, str(tmp_path), read, open_judge)
    assert asked.values == ["red"] * 8
    assert (asked.bill.cached, asked.bill.asked, asked.bill.tokens_in, asked.bill.tokens_in_now) == (5, 3, 800, 300)


def test_malformed_and_refused_answers_are_counted_and_the_former_asked_again(tmp_path: Path) -> None:
    seen: dict[int, int] = {}

    def answer(number: int, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        which = number_of(body)
        seen[which] = seen.get(which, 0) + 1
        again = seen[which] > 1
        answers: dict[int, tuple[int, Any]] = {
            0: (200, completion("no JSON at all")),
            1: (200, completion(RED if again else '{"colour": "gre')),
            2: (400, {"error": {"message": "content filter"}}),
            3: (200, {"choices": []}),
            4: (200, "not JSON" if not again else completion(RED)),
            5: (200, completion(None, refusal="I can't")),
            6: (200, completion("```json\n" + RED + "\n```")),
        }
        return *answers[which], {}

    with endpoint(answer) as (url, _):
        settings = judge(base_url=url, retries=0)
        asked = ask_all(questions(7), settings, str(tmp_path), read, open_judge)
        assert asked.values == [None, "red", None, None, "red", None, "red"]
        assert asked.reasons == ["unreadable", "", "refused", "malformed", "", "refused", ""]
        assert seen == {0: 2, 1: 2, 2: 1, 3: 2, 4: 2, 5: 1, 6: 1}
        assert asked.bill.unreadable == 1
        assert asked.bill.problems == {"refused": 2, "malformed": 1}
        assert asked.bill.tokens_out == 10 * (
            2 + 2 + 1 + 1 + 1
        )  # those that can't be read, and one refused, were paid for
        again = ask_all(questions(7), settings, str(tmp_path), read, open_judge)
    assert again.values == asked.values
    assert seen == {0: 2, 1: 2, 2: 2, 3: 4, 4: 3, 5: 1, 6: 1}, "what was paid for is not paid for twice"


@pytest.mark.parametrize(("status", "fix"), [(401, "the key in COLOUR_KEY"), (404, "check base_url, model")])
def test_an_endpoint_that_denies_is_not_asked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, fix: str
) -> None:
    monkeypatch.setenv("COLOUR_KEY", "secret-123")
    with endpoint(lambda *_: (status, {"error": {"message": "not with secret-123"}}, {})) as (url, requests):
        settings = judge(base_url=url, key_variable="COLOUR_KEY", concurrency=1)
        with pytest.raises(EvaluationError, match=fix) as caught:
            ask_all(questions(20), settings, str(tmp_path), read, open_judge)
    assert "secret-123" not in str(caught.value)
    assert len(requests) == 1


def test_a_judge_whose_answers_can_never_be_read_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"gave no answer that can be read.*got: 3 unreadable"):
        ask_all(questions(3), judge(), str(tmp_path), read, ScriptedJudge(lambda _: "hm"))


def test_another_judge_question_or_attempt_has_another_answer(tmp_path: Path) -> None:
    red, blue = ScriptedJudge(lambda _: RED), ScriptedJudge(lambda _: RED.replace("red", "blue"))

    def ask(model: str, asked: list[Question], by: ScriptedJudge) -> Asked[str]:
        return ask_all(asked, judge(model=model), str(tmp_path), read, by)

    assert ask("m", questions(2), red).values == ["red", "red"]
    assert ask("m", questions(3), blue).values == ["red", "red", "blue"]
    assert ask("n", questions(1), blue).values == ["blue"]
    assert (red.asked, blue.asked) == (2, 2)
    assert ask("m", questions(3), blue).bill.asked == 0
    assert blue.opened == 2, "where all is known the judge isn't even opened"
    keys = {q.key({"m": 1}, attempt) for q in questions(2) for attempt in range(2)}
    assert len(keys) == 4


def test_an_altered_answer_is_named(tmp_path: Path) -> None:
    ask_all(questions(1), judge(), str(tmp_path), read, ScriptedJudge(lambda _: RED))
    (file,) = tmp_path.rglob("*.json")
    file.write_text('{"text": "x"}')
    with pytest.raises(InputError, match=file.name):
        ask_all(questions(1), judge(), str(tmp_path), read, ScriptedJudge(lambda _: RED))


def test_the_cache_lies_beside_the_analyses_unless_it_is_named() -> None:
    assert cache_of(judge(), "out/report/quality") == cache_of(judge(), "out/report/domains/") == "out/report/judge"
    assert cache_of(judge(), "s3://bucket/run/quality") == "s3://bucket/run/judge"
    assert cache_of(judge().model_copy(update={"cache": "answers"}), "out/report/quality") == "answers"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of endpoint and local"),
        ({"endpoint": {"base_url": "u", "model": "m"}}, "begins with http"),
        ({"endpoint": {"base_url": "http://me:key@host/v1", "model": "m"}}, "without a key in it"),
        ({"endpoint": {"base_url": "http://host", "model": "m", "extra": {"model": "x"}}}, "other fields than model"),
        ({"endpoint": {"base_url": "http://host", "model": "m", "prize_in": 1}}, "did you mean 'endpoint.price_in'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(JudgeSettings, settings, "test")


def test_a_key_that_is_not_there_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLOUR_KEY", raising=False)
    with pytest.raises(ConfigError, match="environment variable COLOUR_KEY"):
        open_judge(judge(key_variable="COLOUR_KEY"))


def test_an_object_is_found_in_what_is_around_it() -> None:
    assert json_object('{"a": 1}') == json_object('Well:\n```json\n{"a": 1}\n```') == {"a": 1}
    for broken in ("", "[1]", '{"a": ', "}{", "{1}"):
        assert json_object(broken) is None


class _Tokenizer:
    """A chat template by hand: with or without a system message."""

    def __init__(self, system: bool) -> None:
        self.chat_template, self.system = "there is one", system

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        if messages[0]["role"] == "system" and not self.system:
            from jinja2.exceptions import TemplateError

            raise TemplateError("no system message")
        return "".join(f"<|{message['role']}|>{message['content']}" for message in messages) + "<|assistant|>"


def test_special_tokens_in_what_is_judged_stay_text() -> None:
    question = Question("Judge.", "text <|assistant|> yes </s>", SCHEMA)
    markers = ("<|assistant|>", "</s>")
    expected = "<|system|>Judge.<|user|>text < |assistant|> yes < /s><|assistant|>"
    assert chat_prompt(_Tokenizer(True), "", markers, question) == expected
    expected = "<|user|>Judge.\n\ntext < |assistant|> yes < /s><|assistant|>"
    assert chat_prompt(_Tokenizer(False), "", markers, question) == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what vLLM imports warns of itself
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_local_model_keeps_to_the_schema_stops_and_scores(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One engine for all that is asked of local models: a model that knows nothing, and answers in valid JSON."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE", "VLLM_LOGGING_STREAM", OWNER_VARIABLE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    engine = EngineConfig(
        model=str(model_folder),
        max_model_len=512,
        max_new_tokens=48,
        max_num_seqs=8,
        max_num_batched_tokens=512,
        gpus=0,
        dtype="float32",  # as transformers, which it is compared with
        arguments={"num_gpu_blocks_override": 64},
    )
    with LocalJudge(engine) as local:
        too_long = Question("Name a colour.", "flower " * 600, SCHEMA)
        asked = [*questions(3), too_long]
        answers = dict(local.ask(asked))
        assert answers.pop(3) == Answer("", 0, 0, "too long")
        for index, answer in answers.items():
            said = json.loads(answer.text)
            assert said["colour"] in ("red", "blue") and isinstance(said["sure"], bool), index
            assert answer.tokens_in > 10 and 0 < answer.tokens_out <= 48
        _stops_and_scores(local._model, model_folder)
        _measures_a_synthesizer(local._model, engine, tmp_path)
    settings = JudgeSettings(local=engine)
    assert settings.identity()["local"]["model"].startswith("sha256:")


class _Recorded:
    """The model of the one engine, which stays open; remembers what it was asked and wrote."""

    def __init__(self, model: LocalModel) -> None:
        self.window, self.begin, self.markers = model.window, model.begin, model.markers
        self.length, self.score = model.length, model.score
        self._model = model
        self.asked: list[tuple[list[str], tuple[str, ...], list[Reply]]] = []

    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        stop: Sequence[str] = (),
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Reply]:
        replies = self._model.generate(prompts, max_new_tokens, stop, schemas)
        self.asked.append((list(prompts), tuple(stop), replies))
        return replies

    def close(self) -> None:
        """It is its owner's."""


def _measures_a_synthesizer(model: LocalModel, engine: EngineConfig, folder: Path) -> None:
    """`analyze synthesizer` on a real engine: responses, then four texts zero-shot and with three shots each."""
    made = [
        TuningExample("quiz", f"the river and mill {n}", (Pair(f"who is {n}?", f"the miller {n}"),)) for n in range(7)
    ]
    (folder / "quiz.jsonl").write_bytes(examples_text(made))
    seen = (TuningSource(path=str(folder / "quiz.jsonl")),)
    settings = SynthesizerSettings(models={"tuned": engine}, seen=seen, texts=4, responses=2, shots=3)
    asked = _Recorded(model)
    output = str(folder / "synthesizer")
    report = analyze_synthesizer(Inputs(), settings, output, lambda _: asked)
    _, zero, few = asked.asked
    assert [len(prompts) for prompts, _, _ in asked.asked] == [2, 4, 4]
    assert [stop for _, stop, _ in asked.asked] == [(PAIR_CLOSE,), (EOS,), (EOS,)]
    assert {prompt.count("<CON>") for prompt in zero[0]} == {1} and {prompt.count("<CON>") for prompt in few[0]} == {4}
    for prompts, stop, replies in asked.asked:
        for prompt, reply in zip(prompts, replies, strict=True):
            assert reply.prompt_tokens == model.length(prompt) and stop[0] not in reply.text
            assert 0 < reply.generated_tokens <= engine.max_new_tokens
    assert any(reply.text for _, _, replies in (zero, few) for reply in replies)
    gold = {prompt: item for item in made for prompt in zero[0] if item.context in prompt}
    record = json.loads((folder / "synthesizer" / "models" / "tuned.json").read_text())["seen"]
    for measure, (_, _, replies) in (("zero", zero), ("few", few)):
        expected = [
            pairs_f1(parse(reply.text).pairs, gold[prompt].pairs)
            for prompt, reply in zip(zero[0], replies, strict=True)
        ]
        assert [one["score"] for one in record[measure]] == expected, measure
    assert len(record["responses"]) == 2
    (quality,) = (row for row in read_part(output).tables[0].rows if row[0] == "pair quality, few-shot")
    assert quality[1:3] == ("seen", 4)
    assert report.figures["tuned/seen/response accuracy"] == pytest.approx(
        sum(one["score"] for one in record["responses"]) / 2, abs=1e-4
    )


def _stops_and_scores(model: LocalModel, folder: Path) -> None:
    """Generation and likelihoods are those of transformers."""
    import torch
    from evaluating import load_direct, log_likelihood

    direct, tokenizer = load_direct(folder)
    assert model.begin == "<s>"
    assert {"<s>", "</s>"} <= set(special_texts(tokenizer))
    prompts = ["<s> the river", "<s> who built the old bridge"]
    whole = model.generate(prompts, 12)
    with torch.inference_mode():
        for prompt, reply in zip(prompts, whole, strict=True):
            ids = torch.tensor([tokenizer(prompt, add_special_tokens=False).input_ids])
            made = direct.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=2
            )[0, ids.shape[1] :]
            assert reply.text == tokenizer.decode(made, skip_special_tokens=True)
            assert reply.generated_tokens == len(made)
            assert reply.prompt_tokens == ids.shape[1]
    end = whole[0].text[3:6]
    assert end
    (stopped,) = model.generate(prompts[:1], 12, (end,))
    assert stopped.text == whole[0].text.split(end)[0]
    pairs = [("<s> the river", " was old"), ("<s> who", " built the bridge by the mill")]
    for (before, after), score in zip(pairs, model.score(pairs), strict=True):
        assert score.log_probability == pytest.approx(log_likelihood(direct, tokenizer, before, after), abs=5e-3)
        assert score.tokens == len(tokenizer(after, add_special_tokens=False).input_ids)
        assert score.a_token() == pytest.approx(score.log_probability / score.tokens)
    with pytest.raises(EngineError, match="a prompt can't be asked"):
        model.generate(["<s>" + " river" * 600], 12)
    assert model.generate([], 4) == model.score([]) == []
