"""Source files: every packaged one reads rows of its data set's columns, and a wrong one says what is wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tuning_rows import MILL, PAIRS, ROWS, THOUGHTS

from ipt_stream.config import build
from ipt_stream.corpus.pair import COT_REQUEST, Pair
from ipt_stream.errors import ConfigError, InputError
from ipt_stream.training.tune import TuneConfig
from ipt_stream.tuning.pairs import PairFormat, TuningExample, TuningSource, listing, read_source
from ipt_stream.tuning.source_file import SEEN, UNSEEN, SourceFile, load_source_file, packaged_sources
from ipt_stream.tuning.templates import TemplateFailed, expression, text_template

PUBLISHED = ["aqua_rat", "cos_e", "covid_qa", "fairytaleqa", "pubmedqa", "squad"]


def write_lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def read(source: str, path: str, share: float | None = 0.0) -> tuple[list[TuningExample], Counter[str]]:
    return read_source(TuningSource(source=source, path=path, thought_share=share), None)


def as_text(examples: list[TuningExample]) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(item.context, [(pair.instruction, pair.response) for pair in item.pairs]) for item in examples]


def test_all_of_the_papers_sources_are_there() -> None:
    assert len(SEEN) == len(set(SEEN)) == 34
    assert packaged_sources() == sorted([*SEEN, *UNSEEN, *(f"published/{name}" for name in PUBLISHED)])
    domains = Counter(load_source_file(name).domain for name in SEEN)
    assert domains == {
        "expert materials": 8, "encyclopedia": 6, "fiction": 3, "news": 2, "trivia": 1, "academic tests": 6,
        "social media": 1, "several": 7,
    }  # fmt: skip
    assert set(ROWS) | {"wikiwhy"} == set(SEEN) | set(UNSEEN)
    for name in (*SEEN, *UNSEEN):
        assert (load_source_file(name).data.hub is None) == (name == "wikiwhy")


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_a_row_of_the_data_sets_columns_becomes_its_pairs(name: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", ROWS[name])
    examples, _ = read(name, path)
    assert as_text(examples) == PAIRS[name]
    assert {item.source for item in examples} == {name}
    thinking, _ = read(name, path, share=1.0)
    thoughts = [pair.response for item in thinking for pair in item.pairs if pair.instruction.endswith(COT_REQUEST)]
    assert thoughts == ([THOUGHTS[name]] if name in THOUGHTS else [])


def test_pubmedqa_takes_turns_between_its_formats(tmp_path: Path) -> None:
    base = ROWS["pubmedqa"][0]
    rows = [{**base, "question": f"Does {number} help?", "context": {"contexts": [f"Text {number}."]}}
            for number in range(300)]  # fmt: skip
    examples, _ = read("pubmedqa", write_lines(tmp_path / "rows.jsonl", rows), share=None)
    found = Counter(PairFormat.of(pair) for item in examples for pair in item.pairs)
    assert found.keys() == {PairFormat.FREE_FORM, PairFormat.MULTIPLE_CHOICE, PairFormat.MULTIPLE_CHOICE_COT}
    assert all(70 <= count <= 130 for count in found.values())
    by_format = {PairFormat.of(pair): pair for item in examples for pair in item.pairs}
    assert by_format[PairFormat.FREE_FORM].response == "It helped most."
    assert by_format[PairFormat.MULTIPLE_CHOICE].response == "yes"
    assert by_format[PairFormat.MULTIPLE_CHOICE_COT].response == "It helped most.\nTherefore, the answer is yes"
    again, _ = read("pubmedqa", write_lines(tmp_path / "again.jsonl", rows[::-1]), share=None)
    assert set(map(str, again)) == set(map(str, examples)), "drawn by the text, not by the order"


def test_wikiwhy_joins_its_files(tmp_path: Path) -> None:
    columns = {
        "context.json": {
            "ctx": {"7": "A flood came to the mill.", "8": "Other."},
            "split": {"7": "test", "8": "train"},
        },
        "question.json": {"question": {"7": "Why did the mill stop?", "8": "?"}},
        "cause.json": {"cause": {"8": "x", "7": "the flood"}},
        "explanation.json": {"explanation": {"7": ["It rained."], "8": "y"}},
    }
    for name, content in columns.items():
        (tmp_path / name).write_text(json.dumps(content))
    examples, left = read("wikiwhy", str(tmp_path))
    assert as_text(examples) == [("A flood came to the mill.", [("Why did the mill stop?", "the flood")])]
    assert left == {"filtered_rows": 1}
    thinking, _ = read("wikiwhy", str(tmp_path), share=1.0)
    assert thinking[0].pairs[0].response == THOUGHTS["wikiwhy"]


def make_published(root: Path) -> None:
    """A tiny copy of each published layout, with files beside that are none of its data."""
    squad = {"data": [{"title": "Mills", "paragraphs": [{"context": MILL, "qas": [
        {"id": "1", "question": "Who built it?", "answers": [{"text": " Ada", "answer_start": 29}]},
        {"id": "2", "question": "Why?", "answers": []}]}]}], "version": "1.1"}  # fmt: skip
    for name in ("squad", "covid_qa"):
        (root / name).mkdir()
        (root / name / "x.json").write_text(json.dumps(squad))
    (root / "pubmedqa").mkdir()
    row = {"QUESTION": "Does it help?", "CONTEXTS": ["One.", "Two."], "LONG_ANSWER": "It does.",
           "final_decision": "yes", "LABELS": [], "MESHES": [], "YEAR": "2001"}  # fmt: skip
    (root / "pubmedqa" / "ori_pqal.json").write_text(json.dumps({"123": row}))
    (root / "pubmedqa" / "test_ground_truth.json").write_text(json.dumps({"123": "yes"}))
    for folder in ("questions/test", "section-stories/test"):
        (root / "fairytaleqa" / folder).mkdir(parents=True)
    (root / "fairytaleqa/questions/test/mill-questions.csv").write_text(
        'question_id,cor_section,question,answer1\n1,1,Who?,Ada\n2,"1,2",Where?,"by the river, she says"\n'
    )
    (root / "fairytaleqa/section-stories/test/mill-story.csv").write_text(
        'section,text\n1,"Ada, the miller,\nworks."\n2,She is there.\n'
    )
    (root / "fairytaleqa/section-stories/test/barn-story.csv").write_text("section,text\n1,Another story.\n")
    (root / "aqua_rat").mkdir()
    write_lines(root / "aqua_rat" / "dev.json", ROWS["aqua_rat"])
    (root / "cos_e").mkdir()
    choices = [{"label": label, "text": text} for label, text in zip("ABC", ("sea", "barn", "sky"), strict=True)]
    questions = [
        {"id": name, "answerKey": "B", "question": {"stem": f"Ben has hay. Where is it, {name}?", "choices": choices}}
        for name in ("x", "y")
    ]
    write_lines(root / "cos_e" / "dev_rand_split.jsonl", questions)
    write_lines(root / "cos_e" / "cose_dev_v1.0.jsonl", [{"id": "y", "explanation": {"open-ended": "It is dry."}}])


def test_data_sets_are_read_as_published(tmp_path: Path) -> None:
    make_published(tmp_path)

    def published(name: str) -> list[tuple[str, list[tuple[str, str]]]]:
        return as_text(read(f"published/{name}", str(tmp_path / name), share=1.0)[0])

    hay = "\nOptions:\n- sea\n- barn\n- sky"
    assert published("squad") == published("covid_qa") == [(MILL, [("Who built it?", "Ada")])]
    (context, [(instruction, response)]), *rest = published("pubmedqa")
    assert (context, rest) == ("One.\n\nTwo.", [])
    assert instruction.startswith("Does it help?") and response.startswith("It does.")
    assert published("fairytaleqa") == [
        ("Ada, the miller,\nworks.", [("Who?", "Ada")]),
        ("Ada, the miller,\nworks.\n\nShe is there.", [("Where?", "by the river, she says")]),
    ]
    assert published("aqua_rat") == [
        ("A train goes 3 km in 1 h. How fast is it?",
         [("How fast is it?\nOptions:\n- 3\n- 4\n- 5" + COT_REQUEST, THOUGHTS["aqua_rat"])])
    ]  # fmt: skip
    assert published("cos_e") == [
        ("Ben has hay. Where is it, x?", [(f"Where is it, x?{hay}", "barn")]),
        ("Ben has hay. Where is it, y?",
         [(f"Where is it, y?{hay}{COT_REQUEST}", "It is dry.\nTherefore, the answer is barn")]),
    ]  # fmt: skip
    names = [path for path, _ in listing(TuningSource(source="published/cos_e", path=str(tmp_path / "cos_e")))[1:]]
    assert [Path(name).name for name in names] == ["dev_rand_split.jsonl", "cose_dev_v1.0.jsonl"]


def test_the_hub_s_layouts_are_read_by_datasets_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the same layout stands for the hub id: two configurations below one folder each, as parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    hub = tmp_path / "hub"
    for config, question in (("mc160", "Who?"), ("mc500", "What is red?")):
        folder = hub / config / "train"
        folder.mkdir(parents=True)
        row = {key: ROWS["mctest"][0][key] for key in ("story", "answer_options", "answer")} | {"question": question}
        parquet.write_table(pa.Table.from_pylist([row]), folder / "0000.parquet")
    base = load_source_file("mctest").model_dump()

    def questions(**data: Any) -> list[str]:
        own = tmp_path / "own.yaml"
        own.write_text(json.dumps({**base, "data": {"hub": str(hub), **data}}))
        examples, _ = read_source(TuningSource(source=str(own)), None)
        return [pair.instruction.split("\n")[0] for item in examples for pair in item.pairs]

    assert sorted(questions()) == ["What is red?", "Who?"], "both configurations"
    assert questions(directory="mc500") == ["What is red?"]
    assert questions(splits=["train[:1]"], directory="mc160") == ["Who?"]
    assert questions(files=["mc500/train/*.parquet"]) == ["What is red?"]
    with pytest.raises(InputError, match=r"can't read .*mc1"):
        questions(directory="mc1")


def own(path: Path, **changes: Any) -> str:
    source = {
        "data": {"files": ["*.jsonl"]},
        "context": "{{ text }}",
        "pairs": [{"instruction": "{{ q }}", "answer": "{{ a }}"}],
        **changes,
    }
    (path / "mine.yaml").write_text(json.dumps({key: value for key, value in source.items() if value is not None}))
    return str(path / "mine.yaml")


def test_a_source_of_your_own_reads_the_files_beside_it(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{"text": "T", "q": "Q?", "a": "A"}, {"text": "T", "q": "R?", "a": "{{ 7*7 }}"}])
    name = own(tmp_path)
    assert read_source(TuningSource(source=name), None)[0] == [
        TuningExample("mine", "T", (Pair("Q?", "A"), Pair("R?", "{{ 7*7 }}")))
    ], "data is never a template"
    assert read_source(TuningSource(source=name, name="other"), None)[0][0].source == "other"
    config = build(TuneConfig, {"sources": ["squad", {"source": name}, {"path": "x.jsonl"}], "output": "out"}, "here")
    assert [source.label for source in config.sources] == ["squad", "mine", "x.jsonl"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"contxt": "x"}, "unknown key 'contxt'; did you mean 'context'"),
        (
            {"pairs": [{"instrution": "x", "answer": "a"}]},
            r"pairs\.0\.instrution'; did you mean 'pairs\.0\.instruction",
        ),
        ({"data": {"hub": "a/b", "splts": ["x"]}}, r"did you mean 'data\.splits'"),
        ({"context": "{{ text"}, "is no template"),
        ({"pairs": [{"instruction": "x", "answer_index": "1 +", "options": "o"}]}, "is no expression"),
        ({"pairs": [{"instruction": "x", "answer": "a", "response": "b"}]}, "got answer, response"),
        ({"pairs": [{"instruction": "x"}]}, "got none"),
        ({"pairs": [{"instruction": "x", "answer_letter": "l"}]}, "answer_letter needs options"),
        ({"pairs": [{"instruction": "x", "response": "r", "rationale": "t"}]}, "a rationale goes with an answer"),
        ({"pairs": [{"instruction": "x", "answer": "a", "options": [True, False]}]}, "wanted: Input should be a valid"),
        ({"data": {"splits": ["train"]}}, "are for a hub id"),
        ({"context": None}, "missing key 'context'"),
    ],
)
def test_a_wrong_source_file_says_what_is_wrong(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        load_source_file(own(tmp_path, **changes))


def test_a_source_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    for source, said in (
        ("squid", "did you mean 'squad'"),
        ("none.yaml", "no source file"),
        ("zzz", "one of aqua_rat, babi"),
    ):
        with pytest.raises(ConfigError, match=said):
            build(TuneConfig, {"sources": [{"source": source}], "output": "out"}, "tune.yaml")
    with pytest.raises(ConfigError, match="a source, a path or both"):
        build(TuneConfig, {"sources": [{"name": "x"}], "output": "out"}, "tune.yaml")
    with pytest.raises(InputError, match="reads local files; wanted: a path"):
        read_source(TuningSource(source="published/squad"), None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"context": "{{ txt }}"},
            r"a\.jsonl, row 2 does not fit; wanted: columns text, q, a, o, n; got: .*'txt' is un",
        ),
        ({"context": "{{ o }}"}, "a list where text is wanted"),
        ({"data": {"files": ["*.jsonl"], "walk": ["text"]}}, "a str where a list is walked through"),
        (
            {"pairs": [{"instruction": "{{ q }}", "options": "text", "answer": "x"}]},
            "where a list of options is wanted",
        ),
        ({"pairs": [{"instruction": "q", "options": "o", "answer_index": "text"}]}, "where a place among the options"),
        ({"pairs": [{"instruction": "q", "answer": "a", "start": "text"}]}, "a number of characters is wanted"),
        ({"pairs": [{"instruction": "q", "answer": "{{ n / 0 }}"}]}, "division by zero"),
        ({"pairs": [{"instruction": "q", "answer": "{{ text.__class__.__mro__ }}"}]}, "unsafe"),
        ({"group": "missing"}, "'missing' is undefined"),
        ({"data": {"files": ["*.csv"]}}, "no input matches"),
    ],
)
def test_rows_that_don_t_fit_are_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    row = {"text": "T", "q": "Q?", "a": "A", "o": ["x", "y"], "n": 1}
    (tmp_path / "a.jsonl").write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=said):
        read_source(TuningSource(source=own(tmp_path, **changes)), None)


def test_what_does_not_become_a_pair_is_counted(tmp_path: Path) -> None:
    good = {"text": "T", "q": "Q?", "o": ["x", "y"], "l": "b", "keep": True}
    rows = [
        good,
        {**good, "q": "R?", "l": "z"},
        {**good, "q": "S?", "o": ["x"]},
        {**good, "q": "U?", "o": ["x", " x"]},
        {**good, "q": " "},
        {**good, "q": "q?"},
        {**good, "q": "V?", "keep": False},
        {**good, "q": "W?", "o": None},
    ]
    write_lines(tmp_path / "a.jsonl", rows)
    pair = {"instruction": "{{ q }}", "options": "o or []", "answer_letter": "l"}
    examples, left = read_source(TuningSource(source=own(tmp_path, pairs=[pair], when="keep")), None)
    assert as_text(examples) == [("T", [("Q?\nOptions:\n- x\n- y", "y")])]
    assert left == {
        "answers_not_among_options": 1, "too_few_options": 3, "empty_pairs": 1, "duplicate_pairs": 1,
        "filtered_rows": 1,
    }  # fmt: skip


def test_templates_render_what_is_there_and_nothing_else() -> None:
    fields = {"a": None, "b": [" x ", None], "c": "One. Two is 2? ", "d": {"items": [1]}}
    assert text_template("[{{ a }}]")(fields) == "[]"
    assert text_template("{{ c | last_sentence }}")(fields) == "Two is 2?"
    assert [text_template("{{ x | without_letter }}")({"x": x}) for x in ("A)3", "(b) 4", " C ) 5", "A. Smith")] == [
        "3", "4", "5", "A. Smith"]  # fmt: skip
    assert expression("b | trimmed")(fields) == ["x", ""]
    assert expression("b | map('trimmed')")({"b": [["y "]]}) == [["y"]], "iterators are lists"
    with pytest.raises(TemplateFailed, match="is undefined"):
        expression("missing.part")(fields)
    with pytest.raises(TemplateFailed, match="unsafe"):
        expression("c.__class__")(fields)
    with pytest.raises(TemplateFailed):
        text_template("{{ b.append(1) }}")(fields)
    assert fields["b"] == [" x ", None]


def test_a_source_file_is_part_of_what_a_stage_was_made_with(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{"text": "T", "q": "Q?", "a": "A"}])
    before = listing(TuningSource(source=own(tmp_path)))
    assert [path for path, _ in before[1:]] == [str(tmp_path / "a.jsonl")]
    assert listing(TuningSource(source=own(tmp_path, context="{{ text }}!"))) != before
    assert listing(TuningSource(source="squad")) == listing(TuningSource(source="squad"))
    assert isinstance(load_source_file("squad"), SourceFile)
