"""Measuring without a model: texts and answers have the lengths that were drawn, prompts hold what the engine made."""

from __future__ import annotations

import asyncio
import json
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted import Script

from ipt_stream.benchmark.dummy import DummyEngine, Translation, draw_answers, load_shape, write_dummy_model
from ipt_stream.benchmark.recorder import Recorder
from ipt_stream.benchmark.sample import publish_sample, sample_texts
from ipt_stream.benchmark.settings import ResponseSettings, SampleSettings, TextSettings
from ipt_stream.benchmark.texts import draw_texts, lexicon_size, made_up_words
from ipt_stream.benchmark.timelines import load_timelines
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.readers import InputConfig, read_rows, resolve_shards
from ipt_stream.errors import EngineError
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.rounds import Gate, prepare, run_segment
from ipt_stream.synthesis.segment import Status
from ipt_stream.synthesis.tokens import PromptTokenizer, load_tokenizer

VOCABULARY = 8192
ANSWERS = ResponseSettings(pairs=3, pair_tokens=20)


@pytest.fixture(scope="module")
def words() -> list[str]:
    return made_up_words(lexicon_size(VOCABULARY))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> str:
    texts = list(draw_texts(TextSettings(), 50, words, 0))
    folder = str(tmp_path_factory.mktemp("dummy"))
    write_dummy_model(folder, load_shape("small"), texts)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: str) -> PromptTokenizer:
    return load_tokenizer(folder)


class TestTexts:
    def test_words_differ(self, words: list[str]) -> None:
        assert len(set(words)) == len(words) == lexicon_size(VOCABULARY)

    def test_a_text_has_the_tokens_that_were_drawn(self, words: list[str], tokenizer: PromptTokenizer) -> None:
        texts = list(draw_texts(TextSettings(mean_tokens=500, spread=1.0), 400, words, seed=1))
        lengths = [len(ids) - tokenizer.context_overhead_tokens for ids in tokenizer.contexts(texts)]
        assert statistics.mean(lengths) == pytest.approx(500, rel=0.15)
        assert statistics.median(lengths) == pytest.approx(500 * 0.607, rel=0.15), "log-normal: exp(-1/2) of the mean"
        assert max(lengths) > 2000, "a long tail"
        assert texts == list(draw_texts(TextSettings(mean_tokens=500, spread=1.0), 400, words, seed=1))
        short = list(draw_texts(TextSettings(mean_tokens=500, most_tokens=64), 50, words, seed=1))
        assert max(len(ids) for ids in tokenizer.contexts(short)) <= 64 + tokenizer.context_overhead_tokens + 2

    def test_answers_are_pairs_of_the_lengths_asked_for(self, tokenizer: PromptTokenizer) -> None:
        answers = draw_answers(tokenizer, ANSWERS, 400, VOCABULARY, seed=0)
        lengths = [len(answer) for answer in answers]
        assert statistics.mean(lengths) == pytest.approx(3 * 20, rel=0.05)
        few = draw_answers(tokenizer, ANSWERS, 40, VOCABULARY, seed=0)
        assert max(len(answer) for answer in few) <= 40
        with pytest.raises(EngineError, match=r"raise engine\.max_new_tokens"):
            draw_answers(tokenizer, ANSWERS, 6, VOCABULARY, seed=0)

    def test_the_model_folder_is_of_the_shape(self, folder: str, tokenizer: PromptTokenizer) -> None:
        config = json.loads(Path(folder, "config.json").read_text())
        assert (config["hidden_size"], config["vocab_size"]) == (256, VOCABULARY)
        assert config["eos_token_id"] == tokenizer.eos_token_id


class Noise(DummyEngine):
    """A dummy engine whose model is this: its tokens are noise, and it remembers what it was asked."""

    def __init__(self, tokenizer: PromptTokenizer, kept: int = 100) -> None:
        self._answers = draw_answers(tokenizer, ANSWERS, 400, VOCABULARY, seed=0)
        self._seed = 0
        self._translation = Translation(tokenizer.contexts(["x"])[0][0], tokenizer.eos_token_id, kept)
        self._made: Any = lambda max_tokens: max_tokens
        self.seen: list[tuple[list[int], list[int]]] = []

    async def _request(self, request_id: str, token_ids: list[int], priority: int, sampling: Any) -> Any:
        made = [100_000 + (len(self.seen) * 31 + at) % 1000 for at in range(sampling)]
        self.seen.append((token_ids, made))
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=made)], num_cached_tokens=0)


class TestDummyEngine:
    def run(self, engine: Any, tokenizer: PromptTokenizer, words: list[str]) -> Any:
        texts = list(draw_texts(TextSettings(mean_tokens=60), 12, words, seed=3))
        documents = [Document(f"a:{row}", None, "a", row, text) for row, text in enumerate(texts)]
        work = run_segment(
            engine, tokenizer, prepare(tokenizer, documents, 3000), segment_id="s", rounds=3, budget_tokens=3000,
            gate=Gate(4),
        )  # fmt: skip
        return asyncio.run(work)

    def test_a_round_goes_on_from_what_the_engine_itself_generated(
        self, tokenizer: PromptTokenizer, words: list[str]
    ) -> None:
        engine = Noise(tokenizer)
        result = self.run(engine, tokenizer, words)
        assert all(row.status is Status.AUGMENTED for row in result.rows)
        assert sum(row.inherits for row in result.rows) == 8
        known = [[*asked, *made] for asked, made in engine.seen]
        later = [asked for asked, _ in engine.seen if any(token >= 100_000 for token in asked)]
        assert len(later) == 8, "every prompt of the second and third round"
        for asked in later:
            assert any(asked[: len(before)] == before for before in known), "its prefix is in the engine's cache"
        lengths = sorted(row.prompt_tokens for row in result.rows)
        assert lengths == sorted(len(asked) for asked, _ in engine.seen), "no prompt is longer or shorter for it"

    def test_what_is_forgotten_is_sent_as_it_was_drawn(self, tokenizer: PromptTokenizer, words: list[str]) -> None:
        engine = Noise(tokenizer, kept=0)
        result = self.run(engine, tokenizer, words)
        assert all(row.status is Status.AUGMENTED for row in result.rows)
        assert not any(token >= 100_000 for asked, _ in engine.seen for token in asked)

    def test_a_second_attempt_has_the_same_answer(self, tokenizer: PromptTokenizer) -> None:
        engine = Noise(tokenizer)
        prompt = tokenizer.contexts(["x"])[0]
        first, again, other = (
            asyncio.run(engine.generate(name, prompt, 0)).token_ids for name in ("s/1.0.0", "s/1.0.1", "s/2.0.0")
        )
        assert first == again != other


class TestRecorder:
    def test_a_timeline_counts_what_was_answered(
        self, tmp_path: Path, folder: str, tokenizer: PromptTokenizer, words: list[str]
    ) -> None:
        config = EngineConfig(model=folder, max_num_seqs=32)
        recorded = Recorder(Script(fail_once=(2,)), str(tmp_path))(config, 0.0, tokenizer.eos_token_id)
        result = TestDummyEngine().run(recorded, tokenizer, words)
        recorded.shutdown()
        (line,) = load_timelines(str(tmp_path))
        end = {name: line.at(1e12, name) for name in line.rows[-1]}
        assert (end["requests"], end["documents"], end["failed"], end["open"]) == (12, 12, 1, 0)
        assert end["raw_tokens"] == result.raw_tokens
        assert end["prompt_tokens"] == sum(row.prompt_tokens for row in result.rows)
        assert end["generated_tokens"] == sum(row.generated_tokens for row in result.rows)
        assert end["parsed_pairs"] == 2 * end["parsed"] > 0
        assert (line.max_num_seqs, line.facts) == (32, {"engine": "scripted"})


class TestSample:
    def test_documents_come_from_several_shards_mixed(self, tmp_path: Path) -> None:
        for shard in range(6):
            lines = [json.dumps({"text": f"shard {shard} row {row}"}) for row in range(50)]
            (tmp_path / f"{shard}.jsonl").write_text("\n".join(lines) + "\n")
        config = InputConfig(shards=(str(tmp_path / "*.jsonl"),))
        texts = sample_texts(config, SampleSettings(documents=40, shards=4, seed=1))
        shards = [text.split()[1] for text in texts]
        assert len(set(texts)) == 40
        assert {shard: shards.count(shard) for shard in set(shards)} == dict.fromkeys(set(shards), 10)
        assert len(set(shards)) == 4
        assert len(set(shards[:10])) > 1, "mixed"
        assert texts == sample_texts(config, SampleSettings(documents=40, shards=4, seed=1))
        assert set(texts) != set(sample_texts(config, SampleSettings(documents=40, shards=4, seed=2)))

        path = str(tmp_path / "out" / "sample.parquet")
        publish_sample(path, texts)
        (shard,) = resolve_shards(InputConfig(shards=(path,), text_column="text"))
        assert [row.text for row in read_rows(shard) if isinstance(row, Document)] == texts
