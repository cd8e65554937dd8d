"""Synthesizers side by side: what they are asked, scores by hand, helpfulness, what is kept of an ended run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ipt_stream.analysis.helpfulness import (
    RANDOM,
    WITHOUT,
    Question,
    as_question,
    help_prompt,
    measure_help,
    random_pairs,
)
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.local_model import Reply, Score
from ipt_stream.analysis.part import Table, read_part
from ipt_stream.analysis.synthesizer import SynthesizerSettings, analyze_synthesizer
from ipt_stream.config import build
from ipt_stream.corpus.pair import Pair
from ipt_stream.corpus.sample_world import SampleWorldConfig, write_sample_world
from ipt_stream.errors import ConfigError, EngineError, InputError, LedgerError
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.prompt import EOS, PAIR_CLOSE, RESPONSE_OPEN, format_pairs
from ipt_stream.tuning.pairs import TuningExample, examples_text


class ScriptedModel:
    """Writes what `says` gives for a prompt; a text's likelihood falls with its number of words.

    Its tokens are words.
    """

    def __init__(self, says: Callable[[str], str], window: int = 1000) -> None:
        self.says, self.window, self.begin, self.markers = says, window, "<s>", ("<s>", "</s>")
        self.prompts: list[str] = []
        self.closed = False

    def length(self, text: str) -> int:
        return len(text.split())

    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        stop: Sequence[str] = (),
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Reply]:
        self.prompts += prompts
        texts = [self.says(prompt) for prompt in prompts]
        for end in stop:
            texts = [text.split(end)[0] for text in texts]
        return [
            Reply(text, self.length(prompt), self.length(text)) for prompt, text in zip(prompts, texts, strict=True)
        ]

    def score(self, asked: Sequence[tuple[str, str]]) -> list[Score]:
        return [Score(-0.5 * len(after) if "helpful" in before else -1.0 * len(after), max(1, self.length(after)))
                for before, after in asked]  # fmt: skip

    def close(self) -> None:
        self.closed = True


def example(source: str, number: int, *pairs: Pair) -> TuningExample:
    gold = pairs or (
        Pair(f"who is {number}?", f"the miller {number}"),
        Pair(f"where is {number}?", f"in town {number}"),
    )
    return TuningExample(source, f"{source} text {number}", gold)


def asked_number(prompt: str) -> int:
    """The number of the text that a synthesizer's prompt is about, the last one."""
    return int(re.findall(r"text (\d+) </CON>", prompt)[-1])


def tuned(prompt: str) -> str:
    """Answers as the gold pairs do; of the pairs of a text, the first is right and the second half so."""
    number = asked_number(prompt)
    if prompt.endswith(RESPONSE_OPEN):
        return (
            f" the miller {number} {PAIR_CLOSE}" if "who" in prompt.rpartition("<QUE>")[2] else " nothing </END> more"
        )
    second = Pair(f"where is {number}?", "nowhere at all")
    return format_pairs([Pair(f"who is {number}?", f"the miller {number}"), second])


def base(prompt: str) -> str:
    """Knows nothing, and where it is shown how pairs look, writes one."""
    if prompt.endswith(RESPONSE_OPEN):
        return " the river"
    return "no pairs at all" + EOS if prompt.count("<CON>") == 1 else format_pairs([Pair("who is it?", "helpful")])


def source_file(path: Path, examples: Sequence[TuningExample]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(examples_text(examples))
    return str(path)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    for name in ("tuned", "base", "lm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"name": name}))
    seen = source_file(tmp_path / "seen.jsonl", [example("quiz", n) for n in range(6)])
    unseen = source_file(tmp_path / "unseen.jsonl", [example("tale", n) for n in range(3)])
    return {
        "models": {"tuned": str(tmp_path / "tuned"), "base": {"model": str(tmp_path / "base")}},
        "engine": {"max_model_len": 512, "max_new_tokens": 64},
        "baseline": "base",
        "seen": [{"path": seen}],
        "unseen": [{"path": unseen}],
        "texts": 2,
        "responses": 3,
    }


def words(config: EngineConfig) -> Callable[[str], int]:
    return lambda text: len(text.split())


class Loads:
    """Gives a scripted model by its folder's name, and remembers them."""

    def __init__(self, fails: str = "") -> None:
        self.models: list[tuple[str, ScriptedModel]] = []
        self.fails = fails

    def __call__(self, config: EngineConfig) -> ScriptedModel:
        name = Path(config.model).name
        if name == self.fails:
            raise EngineError("the script says so")
        says = {"tuned": tuned, "base": base, "lm": lambda _: " the miller 0\n\nQuestion: more"}[name]
        model = ScriptedModel(says)
        self.models.append((name, model))
        return model


def table(output: str, title: str) -> Table:
    return next(table for table in read_part(output).tables if table.title.startswith(title))


def test_table_5_by_hand(settings: dict[str, Any], tmp_path: Path) -> None:
    """Of a text's gold pairs the tuned model makes one and, of the other, the question: `where is N? nowhere at all`
    against `where is N? in town N`. Words: where is N nowhere at all | where is N in town N: 3 common of 6 and 6.
    """
    output = str(tmp_path / "out")
    config = build(SynthesizerSettings, settings, "test")
    loads = Loads()
    report = analyze_synthesizer(Inputs(), config, output, loads, words)
    assert [name for name, _ in loads.models] == ["tuned", "base"]
    assert all(model.closed for _, model in loads.models)
    quality = 2 * (1 + 0.5) / 4
    figures = report.figures
    for group in ("seen", "unseen"):
        assert figures[f"tuned/{group}/pair quality, zero-shot"] == quality
        assert figures[f"tuned/{group}/pair quality, few-shot"] == quality
        assert figures[f"base/{group}/pair quality, zero-shot"] == 0
        assert figures[f"base/{group}/pairs a text"] == 0
    # Three instructions of two texts: who, who, where. `nothing` against `in town N` is 0, and `the river` against all.
    assert figures["tuned/seen/response accuracy"] == round(2 / 3, 4)
    assert figures["base/seen/response accuracy"] == 0
    # `who is it helpful` against `who is N the miller N` (5 words without the article): 2 * 2 / (4 + 5), less against
    # the other; one pair made, two gold: 2 * 4/9 / 3.
    assert figures["base/seen/pair quality, few-shot"] == round(2 * (4 / 9) / 3, 4)

    rows = {row[:2]: row for row in table(output, "Response accuracy").rows}
    columns = table(output, "Response accuracy").columns
    row = dict(zip(columns, rows["pair quality, few-shot", "unseen"], strict=True))
    assert (row["n"], row["tuned"]) == (2, quality)
    assert (row["paper: base"], row["paper: tuned"]) == (0.196, 0.308)
    assert len(rows) == 6
    leads = {row[:3]: row for row in table(output, "Lead over base").rows}
    lead = leads["tuned", "pair quality, zero-shot", "seen"]
    assert lead[3:5] == (2, quality)
    assert lead[-1] == pytest.approx(0.494 - 0.165)
    by_source = {row[0]: row for row in table(output, "By source").rows}
    assert by_source["quiz"][1:5] == ("seen", 2, 2.0, 2)
    assert any("0.667" in line for line in report.lines)
    assert analyze_synthesizer(Inputs(), config, output, Loads(), words).skipped


def test_models_are_asked_the_same_prompts_and_shots_are_of_other_texts(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    loads = Loads()
    analyze_synthesizer(Inputs(), build(SynthesizerSettings, settings, "test"), str(tmp_path / "out"), loads, words)
    (_, first), (_, second) = loads.models
    assert first.prompts == second.prompts
    few = [prompt for prompt in first.prompts if prompt.count("<CON>") > 1]
    assert len(few) == 4
    for prompt in few:
        texts = re.findall(r"<CON> (\w+) text (\d+) </CON>", prompt)
        assert len({source for source, _ in texts}) == 1, "shots are of the same source"
        assert len(set(texts)) == len(texts)
    seen = [prompt for prompt in few if "quiz" in prompt]
    assert {prompt.count("<CON>") for prompt in seen} == {4}, "three shots and the text"
    unseen = [prompt for prompt in few if "tale" in prompt]
    assert {prompt.count("<CON>") for prompt in unseen} == {2}, "one text of it is not measured"


def test_an_ended_run_goes_on_with_the_next_model(settings: dict[str, Any], tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    config = build(SynthesizerSettings, settings, "test")
    with pytest.raises(EngineError, match="the script says so"):
        analyze_synthesizer(Inputs(), config, output, Loads(fails="base"), words)
    assert not (tmp_path / "out" / "part.json").exists()
    again = Loads()
    analyze_synthesizer(Inputs(), config, output, again, words)
    assert [name for name, _ in again.models] == ["base"]
    changed = build(SynthesizerSettings, {**settings, "texts": 3}, "test")
    with pytest.raises(LedgerError, match="texts was 2, is 3"):
        analyze_synthesizer(Inputs(), changed, output, Loads(), words)
    (tmp_path / "tuned" / "config.json").write_text("{}")
    with pytest.raises(LedgerError, match=r"models\.tuned\.model"):
        analyze_synthesizer(Inputs(), config, output, Loads(), words)


def test_texts_that_don_t_fit_are_left_out_and_counted(settings: dict[str, Any], tmp_path: Path) -> None:
    long = [
        TuningExample("quiz", "word " * 300 + "text 9", (Pair("who?", "x"),)),
        *[example("quiz", n) for n in range(6)],
    ]
    settings["seen"] = [{"path": source_file(tmp_path / "long.jsonl", long)}]
    settings |= {"texts": 7, "engine": {"max_model_len": 128, "max_new_tokens": 64}, "unseen": []}
    output = str(tmp_path / "out")
    analyze_synthesizer(Inputs(), build(SynthesizerSettings, settings, "test"), output, Loads(), words)
    assert "1 seen texts that don't fit" in table(output, "Response accuracy").note
    settings["seen"] = [{"path": source_file(tmp_path / "only.jsonl", long[:1])}]
    with pytest.raises(InputError, match="no seen text leaves room to generate"):
        analyze_synthesizer(Inputs(), build(SynthesizerSettings, settings, "test"), str(tmp_path / "o"), Loads(), words)


def test_a_tune_stage_s_held_out_texts_are_seen_or_unseen_by_what_it_tuned_on(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "tune" / "examples"
    source_file(folder / "train.jsonl", [example("quiz", n) for n in range(10, 14)])
    source_file(
        folder / "held_out.jsonl", [example("quiz", 0), example("quiz", 1), example("tale", 2), example("tale", 3)]
    )
    settings |= {"tuning": str(tmp_path / "tune"), "seen": [], "unseen": []}
    output = str(tmp_path / "out")
    loads = Loads()
    analyze_synthesizer(Inputs(), build(SynthesizerSettings, settings, "test"), output, loads, words)
    assert [row[:3] for row in table(output, "By source").rows] == [("quiz", "seen", 2), ("tale", "unseen", 2)]
    shots = [p for p in loads.models[0][1].prompts if p.count("<CON>") == 4]
    assert len(shots) == 2
    for prompt in shots:
        assert all(int(n) >= 10 for n in re.findall(r"text (\d+)", prompt)[:-1]), "of what was tuned on"
    (folder / "held_out.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match="held nothing out"):
        analyze_synthesizer(Inputs(), build(SynthesizerSettings, settings, "test"), str(tmp_path / "o"), Loads(), words)


def test_the_sample_world_s_tuning_data_is_measured_on(
    settings: dict[str, Any], tmp_path: Path, model_folder: Path
) -> None:
    """With a real tokenizer that counts tokens."""
    world = tmp_path / "world"
    write_sample_world(
        SampleWorldConfig(
            output=str(world), documents=1, tuning_documents=30, validation_documents=12, evaluation_questions=1
        )
    )

    class Knowing(ScriptedModel):
        """Gives the gold pairs of whatever text it is asked about."""

        def __init__(self) -> None:
            rows = [json.loads(line) for line in (world / "tuning" / "validation.jsonl").read_text().splitlines()]
            gold = {row["context"]: [Pair(**pair) for pair in row["pairs"]] for row in rows}

            def says(prompt: str) -> str:
                text = re.findall(r"<CON> (.*?) </CON>", prompt)[-1]
                if not prompt.endswith(RESPONSE_OPEN):
                    return format_pairs(gold[text])
                instruction = prompt.rpartition("<QUE> ")[2].removesuffix(f" {RESPONSE_OPEN}")
                return next(pair.response for pair in gold[text] if pair.instruction == instruction)

            super().__init__(says)

    settings |= {"models": {"gold": str(model_folder)}, "seen": [], "unseen": [], "baseline": None, "texts": 8}
    settings["engine"] = {"max_model_len": 4096, "max_new_tokens": 256}
    config = build(SynthesizerSettings, settings, "test")
    report = analyze_synthesizer(Inputs(world=str(world)), config, str(tmp_path / "out"), lambda _: Knowing())
    for measure in ("response accuracy", "pair quality, zero-shot", "pair quality, few-shot"):
        assert report.figures[f"gold/seen/{measure}"] == 1.0
    with pytest.raises(ConfigError, match="nothing to measure synthesizers on"):
        analyze_synthesizer(Inputs(), config, str(tmp_path / "none"), lambda _: Knowing())


def test_questions_are_asked_directly() -> None:
    item = example("quiz", 0)
    options = Pair("Who?\nOptions:\n- the miller\n- a keeper\nLet's think step by step.",
                   "He mills.\nTherefore, the answer is the miller")  # fmt: skip
    asked = as_question("seen", item, options)
    assert asked.instruction == "Who?\nOptions:\n- the miller\n- a keeper"
    assert (asked.answer, asked.options) == ("the miller", ("the miller", "a keeper"))
    assert as_question("seen", item, Pair("Who?", "he")).options == ()
    assert as_question("seen", item, Pair("Who?\nOptions:\n- a\n- b", "c")).options == (), "the answer is none of them"
    prompt = help_prompt("A text.", [Pair("Who?", "he")], "Where?")
    assert prompt == "A text.\n\nQuestion: Who?\nAnswer: he\n\nQuestion: Where?\nAnswer:"


def test_random_pairs_are_of_another_text() -> None:
    examples = [example("quiz", n) for n in range(5)]
    question = as_question("seen", examples[2], examples[2].pairs[0])
    drawn = random_pairs(question, examples, 0)
    assert drawn in [item.pairs for item in examples if item is not examples[2]]
    assert random_pairs(question, examples, 0) == drawn
    assert random_pairs(question, [examples[2]], 0) == ()


def test_help_is_scored_by_hand() -> None:
    item = example("quiz", 0)
    plain = Question("seen", item, "who is 0?", "the miller 0", ())
    choice = Question("seen", item, "Who?\nOptions:\n- aa bb\n- cccc", "aa bb", ("aa bb", "cccc"))
    model = ScriptedModel(lambda prompt: " the miller\n\nQuestion: more" if "helpful" in prompt else " a river")
    pairs = {WITHOUT: [(), ()], "tuned": [(Pair("a?", "helpful"),), (Pair("a?", "helpful"),)]}
    found, left_out = measure_help(model, [plain, choice], pairs, 8)
    assert left_out == 0
    by = {(item.pairs, item.right is None): item for item in found}
    helped, alone = by["tuned", True], by[WITHOUT, True]
    assert helped.f1 == pytest.approx(2 * 1 / (1 + 2)), "miller against miller 0"
    assert alone.f1 == 0
    assert (helped.given, alone.given) == (1, 0)
    # " the miller 0" has 13 characters and 3 words: -13 in all, a third of it a token; half of it after helpful pairs.
    assert alone.log_probability == pytest.approx(-13 / 3)
    assert helped.log_probability == pytest.approx(-13 / 6)
    # " aa bb": -6 in 2 words; " cccc": -5 in one.
    assert by[WITHOUT, False].right is True
    assert {prompt.partition("<s>")[0] for prompt in model.prompts} == {""}
    none, left_out = measure_help(ScriptedModel(lambda _: "", window=12), [plain], {WITHOUT: [()]}, 8)
    assert (none, left_out) == ([], 1)
    fewer, _ = measure_help(ScriptedModel(lambda _: "", window=40), [plain], {"tuned": [item.pairs * 5]}, 8)
    assert 0 < fewer[0].given < 10, "the last pairs are left out where all don't fit"


def test_figure_5_shows_every_kind_of_pairs(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["helpfulness"] = {"model": str(tmp_path / "lm"), "questions": 1, "max_new_tokens": 16}
    output = str(tmp_path / "out")
    config = build(SynthesizerSettings, settings, "test")
    assert config.helpfulness is not None and config.helpfulness.model.max_model_len == 512, "what engines share"
    loads = Loads()
    report = analyze_synthesizer(Inputs(), config, output, loads, words)
    assert [name for name, _ in loads.models] == ["tuned", "base", "lm"]
    part = read_part(output)
    plot = part.plots[1]
    assert [series.name for series in plot.series] == [WITHOUT, RANDOM, "tuned", "base"]
    assert all(series.x == ("seen", "unseen") for series in plot.series)
    rows = table(output, "Helpfulness").rows
    assert len(rows) == 8
    kinds = {row[0]: row for row in rows if row[1] == "seen"}
    assert kinds[WITHOUT][3] == 0 and kinds["tuned"][3] == 2 and kinds["base"][3] == 1
    assert kinds["base"][6] > kinds["tuned"][6], "the gold answer is likelier after helpful pairs"
    assert "help/seen/tuned" in report.figures
    prompts = dict(loads.models)["lm"].prompts
    assert all(prompt.startswith("<s>") and prompt.endswith("Answer:") for prompt in prompts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, "models"),
        ({"baseline": "other"}, "baseline other is none of the models tuned, base"),
        ({"models": {"tuned": {"modle": "x"}}}, "did you mean 'models.tuned.model'"),
        ({"engine": {"max_model_length": 5}}, "unknown key 'models.tuned.max_model_length'"),
        ({"helpfulness": {"questions": 0, "model": "x"}}, "helpfulness.questions"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(SynthesizerSettings, {**settings, **change}, "test")
