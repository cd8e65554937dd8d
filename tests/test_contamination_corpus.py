"""Contamination of a corpus: raw text, augmented text and pairs, planted by hand and counted by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixture_world import document_text, make_run, pairs_of

from ipt_stream import storage
from ipt_stream.analysis.contamination import ContaminationSettings, analyze_contamination
from ipt_stream.analysis.contamination.corpus import SearchedDocument
from ipt_stream.analysis.contamination.examples import file_texts, leaf_text, read_all, row_text
from ipt_stream.analysis.contamination.patterns import build_ngrams, build_patterns
from ipt_stream.analysis.contamination.scan import Sought, search_documents
from ipt_stream.analysis.contamination.settings import ExamplesSettings
from ipt_stream.analysis.fan_out import read_results, result_path, work_through
from ipt_stream.analysis.folding import BORDER, folded
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import read_part
from ipt_stream.config import build
from ipt_stream.corpus.document import Document
from ipt_stream.corpus.readers import InputConfig, read_rows, resolve_shards
from ipt_stream.corpus.sample_world import SampleWorldConfig, write_sample_world
from ipt_stream.errors import ConfigError, InputError, LedgerError
from ipt_stream.evaluation.tasks import Kind, TaskSettings, lm_eval_config, load_task

SECRET = "The lighthouse at Vandermeer was painted blue by seven brothers, who sold it in the spring of 1931"
QUIET = "Nobody has ever written a single word about the marble staircase of the northern observatory"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def analyze(output: Path, settings: Mapping[str, Any], **inputs: str) -> Mapping[str, Any]:
    found = ContaminationSettings.model_validate({"cores": 0, **settings})
    analyze_contamination(Inputs(**inputs), found, str(output))
    return storage.read_json(str(output / "contamination.json"))


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, Path]:
    """A run over 60 documents with examples planted in texts 7, 8 and 9; and a file of five examples.

    0 stands in text 7 (spelt otherwise) and text 9; 1 nowhere; 2 is a pair of document 2; 3 is the end of text 2 with
    the beginning of its first pair; 4 is too short to say anything.
    """
    texts = [document_text(i) for i in range(60)]
    texts[7] += " (" + SECRET.replace(" ", "\n- ") + ")"
    texts[9] = SECRET + texts[9]
    shard = write_lines(tmp_path / "shard.jsonl", [{"text": text} for text in texts])
    first, second = pairs_of(2)[:2]
    examples = [
        SECRET,
        QUIET,
        f"{second.instruction} {second.response}",
        f"{texts[2][-30:]} {first.instruction}",
        "river",
    ]
    file = write_lines(tmp_path / "examples.jsonl", [{"question": text} for text in examples])
    return make_run(tmp_path, shard=shard, fraction=1.0), file


def test_raw_text_pairs_and_the_border_between_are_told_apart(planted: tuple[Path, Path], tmp_path: Path) -> None:
    run, file = planted
    settings = {"examples": {"made": {"path": str(file), "columns": ["question"]}}, "ngram_words": None}
    found = analyze(tmp_path / "out", settings, synthesis=str(run))
    assert found["tasks"]["made"]["examples"] == 5 and found["tasks"]["made"]["too_short"] == 1
    assert found["tasks"]["made"]["substring"] == {
        "searched": 4, "raw": 1, "augmented": 3, "introduced": 2, "pairs": 1, "documents": 3,
    }  # fmt: skip
    hits = {(hit["document_id"], hit["example"], hit["where"]) for hit in lines(tmp_path / "out" / "hits.jsonl")}
    assert hits == {
        ("shard.jsonl:7", "made:0", "raw"),
        ("shard.jsonl:9", "made:0", "raw"),
        ("shard.jsonl:2", "made:2", "pairs"),
        ("shard.jsonl:2", "made:3", "augmented"),
    }
    contaminated = lines(tmp_path / "out" / "contaminated.jsonl")
    assert {(row["document_id"], row["example"], row["where"]) for row in contaminated} == hits
    assert all(row.keys() == {"document_id", "corpus", "example", "kind", "where"} for row in contaminated)
    assert [row["example"] for row in lines(tmp_path / "out" / "examples.jsonl")] == ["made:0", "made:2", "made:3"]


def test_a_hit_says_where_it_stands(planted: tuple[Path, Path], tmp_path: Path) -> None:
    run, file = planted
    settings = {"examples": {"made": {"path": str(file), "columns": ["question"]}}, "substrings": 1}
    analyze(tmp_path / "out", settings, synthesis=str(run))
    texts = [json.loads(line)["text"] for line in (tmp_path / "shard.jsonl").read_text("utf-8").splitlines()]
    for hit in lines(tmp_path / "out" / "hits.jsonl"):
        row = int(hit["document_id"].rsplit(":", 1)[1])
        joined = [f"{pair.instruction} {pair.response}" for pair in pairs_of(row)]
        text = texts[row] if hit["pair"] is None else joined[hit["pair"]]
        assert (text + "\n\n" + "\n\n".join(joined)).startswith(hit["text"], hit["offset"])
        if hit["kind"] == "substring":
            example = json.loads(file.read_text("utf-8").splitlines()[int(hit["example"].split(":")[1])])["question"]
            assert folded(hit["text"]) in folded(example)
    pair_hits = [hit for hit in lines(tmp_path / "out" / "hits.jsonl") if hit["example"] == "made:2"]
    assert {(hit["pair"], hit["offset"]) for hit in pair_hits if hit["kind"] == "substring"} == {(1, 0)}


def test_ngrams_count_by_their_share(tmp_path: Path) -> None:
    """Of ten 4-grams of the example the first document holds 7, the second 6, and both together all."""
    example = "one two three four five six seven eight nine ten eleven twelve thirteen"
    shard = write_lines(
        tmp_path / "shard.jsonl",
        [{"text": "So: ONE, two three four five six seven eight nine ten!"}, {"text": "five six seven eight nine "
          "ten eleven twelve thirteen."}, {"text": "one two three is not four words of it"}],
    )  # fmt: skip
    file = write_lines(tmp_path / "examples.jsonl", [{"q": example}, {"q": "too few words"}])
    settings = {
        "examples": {"made": {"path": str(file), "columns": ["q"]}}, "shards": {"shards": [str(shard)]},
        "ngram_words": 4, "ngram_share": 0.7, "substring_characters": 500,
    }  # fmt: skip
    found = analyze(tmp_path / "out", settings)
    assert found["tasks"]["made"]["ngrams"] == {
        "searched": 1, "raw": 1, "augmented": 1, "introduced": 0, "pairs": 0, "documents": 1,
    }  # fmt: skip
    (hit,) = lines(tmp_path / "out" / "hits.jsonl")
    assert (hit["document_id"], hit["kind"], hit["matches"], hit["share"]) == ("shard.jsonl:0", "ngrams", 7, 0.7)
    assert (hit["offset"], hit["text"]) == (4, "ONE, two three four")
    (example_row,) = lines(tmp_path / "out" / "examples.jsonl")
    assert example_row["ngrams"] == {"raw": 1.0, "pairs": 0.0, "augmented": 1.0}
    assert found["tasks"]["made"]["substring"]["raw"] == 0


TASK = Sought(
    build_patterns({"ab": [0], "bc": [0], "cde": [1]}), build_ngrams(["a b c", "c d"], 2), np.array([0, 0], np.int32),
    ignore_case=False, ngram_share=0.5, examples_a_document=100,
)  # fmt: skip


@given(st.lists(st.text(st.sampled_from(["a", "b", "c", "d", " ", ".", BORDER, "é"]), max_size=12), max_size=8))
def test_documents_that_are_searched_together_come_out_as_alone(texts: list[str]) -> None:
    documents = [SearchedDocument(str(number), text, ()) for number, text in enumerate(texts)]
    together = search_documents(documents, "run", TASK)
    alone = [search_documents([document], "run", TASK) for document in documents]
    assert together.places == [place for one in alone for place in one.places]
    assert together.counts == sum((one.counts for one in alone), Counter())
    for where in ("raw", "pairs", "augmented"):
        assert together.examples[where] == set().union(*(one.examples[where] for one in alone))
        assert together.ngrams[where] == set().union(*(one.ngrams[where] for one in alone))


def test_documents_that_were_not_selected_are_searched(tmp_path: Path) -> None:
    texts = [document_text(i) for i in range(60)]
    for row in range(0, 60, 4):
        texts[row] += f" {SECRET}"
    shard = write_lines(tmp_path / "shard.jsonl", [{"text": text} for text in texts])
    run = make_run(tmp_path, shard=shard, fraction=0.5)
    file = write_lines(tmp_path / "examples.jsonl", [{"q": SECRET}])
    found = analyze(tmp_path / "out", {"examples": {"made": {"path": str(file), "columns": ["q"]}}}, synthesis=str(run))
    assert found["corpus"]["documents"] == 60
    held = {hit["document_id"] for hit in lines(tmp_path / "out" / "hits.jsonl") if hit["kind"] == "substring"}
    assert held == {f"shard.jsonl:{row}" for row in range(0, 60, 4)}


def test_all_that_is_planted_in_the_sample_world_is_found_and_no_other(tmp_path: Path) -> None:
    """Every third question about people of whom nothing is told is planted, each in another document and spelling."""
    world = tmp_path / "world"
    write_sample_world(
        SampleWorldConfig(
            output=str(world), documents=60, shard_documents=20, tuning_documents=5, validation_documents=0,
            evaluation_questions=30,
        )
    )  # fmt: skip
    reading = lines(world / "evaluation" / "reading.jsonl")
    texts = [
        row.text
        for shard in resolve_shards(InputConfig(shards=(str(world / "shards"),)))
        for row in read_rows(shard)
        if isinstance(row, Document)
    ]
    spellings = (str, lambda text: text.replace(" ", "\n"), lambda text: "-".join(text.split()))
    for number in range(0, 30, 3):
        at = len(texts[number]) // 2
        query = spellings[number % len(spellings)](reading[number]["query"])
        texts[number] = texts[number][:at] + query + texts[number][at:]
    shard = write_lines(tmp_path / "planted.jsonl", [{"text": text} for text in texts])
    settings = {
        "suites": {"sample-world": {"path": str(world), "without": ["seen", "held_out"]}},
        "shards": {"shards": [str(shard)]},
    }
    found = analyze(tmp_path / "out", settings)
    hits = lines(tmp_path / "out" / "hits.jsonl")
    wanted = {(f"planted.jsonl:{number}", f"reading:{number}") for number in range(0, 30, 3)}
    for kind in ("substring", "ngrams"):
        assert {(hit["document_id"], hit["example"]) for hit in hits if hit["kind"] == kind} == wanted
    assert found["tasks"]["reading"]["substring"]["raw"] == found["tasks"]["reading"]["ngrams"]["raw"] == 10
    clean = analyze(tmp_path / "clean", {"shards": {"shards": [str(world / "shards")]}}, world=str(world))
    assert clean["tasks"].keys() == {"seen", "held_out", "reading"}
    assert clean["tasks"]["reading"]["substring"]["augmented"] == 0


def test_pubmedqa_is_found_in_the_abstracts_that_it_is_made_of(shared_data: Path, tmp_path: Path) -> None:
    settings = {
        "examples": {
            "pubmedqa": {
                "path": str(shared_data / "tuning/pubmedqa/ori_pqal.json"), "columns": ["CONTEXTS"],
                "walk": ["this.value"],
            }
        },
        "shards": {"shards": [str(shared_data / "pubmed" / "*.jsonl.zst")]},
    }  # fmt: skip
    found = analyze(tmp_path / "out", settings)
    assert found["corpus"]["documents"] == 1792
    task = found["tasks"]["pubmedqa"]
    assert task["examples"] == task["substring"]["searched"] == task["substring"]["raw"] == 1000
    held = {hit["document_id"] for hit in lines(tmp_path / "out" / "hits.jsonl") if hit["kind"] == "substring"}
    labelled = {f"PUBMED_abstracts_{shard}.jsonl.zst:{row}" for shard in ("01", "02") for row in range(500)}
    assert held == labelled


def test_many_cores_and_one_find_the_same(planted: tuple[Path, Path], tmp_path: Path) -> None:
    run, file = planted
    settings = {"examples": {"made": {"path": str(file), "columns": ["question"]}}}
    analyze(tmp_path / "one", settings, synthesis=str(run))
    analyze(tmp_path / "two", {**settings, "cores": 2}, synthesis=str(run))
    for name in ("contamination.json", "hits.jsonl", "contaminated.jsonl", "examples.jsonl", "part.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_finished_search_answers_at_once_and_other_settings_are_refused(
    planted: tuple[Path, Path], tmp_path: Path
) -> None:
    run, file = planted
    settings = {"examples": {"made": {"path": str(file), "columns": ["question"]}}}
    analyze(tmp_path / "out", settings, synthesis=str(run))
    again = analyze_contamination(
        Inputs(synthesis=str(run)), ContaminationSettings.model_validate(settings), str(tmp_path / "out")
    )
    assert again.skipped and again.figures["contaminated_augmented"] == 3
    with pytest.raises(LedgerError, match="seed was 0, is 1"):
        analyze(tmp_path / "out", {**settings, "seed": 1}, synthesis=str(run))


class NamedPart:
    """A part of a corpus that is nothing but its name."""

    def __init__(self, name: str) -> None:
        self.name = name


def test_a_killed_analysis_does_only_what_is_missing(tmp_path: Path) -> None:
    parts, worked = [NamedPart(f"part-{number}") for number in range(5)], []

    def work(part: NamedPart, fails_at: str | None) -> dict[str, Any]:
        worked.append(part.name)
        if part.name == fails_at:
            raise InputError("by the test's wish")
        return {"name": part.name}

    with pytest.raises(InputError, match="wish"):
        work_through(str(tmp_path), parts, work, "part-3", cores=0, size_bytes=0, name="test")
    assert work_through(str(tmp_path), parts, work, None, cores=0, size_bytes=0, name="test") == 2
    assert worked == ["part-0", "part-1", "part-2", "part-3", "part-3", "part-4"]
    assert [result["name"] for result in read_results(str(tmp_path), parts)] == [part.name for part in parts]
    Path(result_path(str(tmp_path), "part-2")).write_bytes(b"half")
    with pytest.raises(storage.StorageError, match="part-2"):
        list(read_results(str(tmp_path), parts))


def test_the_part_stands_beside_the_papers_table(tmp_path: Path) -> None:
    shard = write_lines(tmp_path / "shard.jsonl", [{"text": f"{SECRET} <script>alert(1)</script>"}])
    piqa = write_lines(
        tmp_path / "piqa.jsonl",
        [{"query": SECRET, "choices": ["yes", "no"], "gold": 0}, {"query": QUIET, "choices": ["a", "b"], "gold": 1},
         {"query": "Why?", "choices": ["so", "no"], "gold": 0}],
    )  # fmt: skip
    settings = {"tasks": {"piqa": {"path": str(piqa)}}, "shards": {"shards": [str(shard)]}, "substrings": 50}
    analyze(tmp_path / "out", settings)
    part = read_part(str(tmp_path / "out"))
    table = part.tables[0]
    assert table.rows[0] == ("piqa", 3, 2, 1, 1, 0, 0, 1, 1838, 3, 3, 0)
    assert "unlike in the GPT-4 report: 1 examples of fewer than 20." in table.note
    assert "examples of fewer than 20 letters and digits (setting minimum_characters; here 1)" in table.how
    assert part.headlines[0].note == "2 examples, 1 documents; 1 examples too short to be searched for"
    assert set(table.paper) == {"paper: examples", "paper: raw", "paper: augmented", "paper: pairs"}
    assert part.headlines[0].value == "1 (50.00%)"
    assert [table.title for table in part.tables][-1] == "Where they are"


def test_only_so_many_examples_of_a_document_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    texts = [f"Example {number} is told of here, in words that are its own: {number * 7919}" for number in range(9)]
    shard = write_lines(tmp_path / "shard.jsonl", [{"text": " ".join(texts)}])
    file = write_lines(tmp_path / "examples.jsonl", [{"q": text} for text in texts])
    settings = {
        "examples": {"made": {"path": str(file), "columns": ["q"]}}, "shards": {"shards": [str(shard)]},
        "examples_a_document": 4, "ngram_words": None,
    }  # fmt: skip
    found = analyze(tmp_path / "out", settings)
    assert found["tasks"]["made"]["substring"]["raw"] == 9
    assert [hit["example"] for hit in lines(tmp_path / "out" / "hits.jsonl")] == [f"made:{n}" for n in range(4)]


def test_examples_come_from_files_of_every_kind(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"q": "What?", "more": {"texts": ["a", "b"]}, "n": 5, "none": None}]
    write_lines(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.json").write_text(json.dumps({"one": rows[0], "two": {**rows[0], "q": "Who?"}}))
    (tmp_path / "c.csv").write_text("q,odd name\nWhat?,x\n")
    pq.write_table(pa.table({"q": ["What?"]}), tmp_path / "d.parquet")

    def read(name: str, columns: list[str], **more: Any) -> list[str]:
        settings = ExamplesSettings.model_validate({"path": str(tmp_path / name), "columns": columns, **more})
        return list(file_texts(settings, "made"))

    assert read("a.jsonl", ["q", "more.texts", "n", "none"]) == ["What?\na\nb\n5"]
    assert read("b.json", ["q", "more.texts[1]"], walk=["this.value"]) == ["What?\nb", "Who?\nb"]
    assert read("c.csv", ["q", "odd name"]) == ["What?\nx"]
    assert read("d.parquet", ["q"]) == ["What?"]
    with pytest.raises(InputError, match="no column quest"):
        read("a.jsonl", ["quest"])
    with pytest.raises(InputError, match="more is no text"):
        read("a.jsonl", ["more"])


def test_a_task_gives_its_questions_with_their_answers() -> None:
    choice = {"query": "Who sat?", "choices": ["a cat", "a dog"], "gold": 1}
    assert row_text(choice, Kind.MULTIPLE_CHOICE) == "Who sat? a dog"
    partial = {"context_options": ["The cat", "The dog"], "continuation": "sat.", "gold": 0}
    assert row_text(partial, Kind.PARTIAL_CONTEXT) == "The cat sat."
    assert row_text({"input": "Q", "options": ["x", "y"], "gold_index": 0}, Kind.DOMAIN) == "Q x"
    assert row_text({"input": "Q", "label": "60.9"}, Kind.DOMAIN) == "Q 60.9"


def test_tasks_of_lm_evals_give_the_same_texts(tmp_path: Path) -> None:
    from lm_eval.api.task import ConfigurableTask

    choices = write_lines(
        tmp_path / "choices.jsonl",
        [{"query": "Who sat?", "choices": ["a cat", "a dog"], "gold": 1},
         {"query": "Why?", "choices": ["so", "not so"], "gold": 0}],
    )  # fmt: skip
    partial = write_lines(
        tmp_path / "partial.jsonl",
        [{"context_options": ["The cat", "The dog"], "continuation": "sat.", "gold": 0},
         {"context_options": ["The hen", "The hare"], "continuation": "ran.", "gold": 1}],
    )  # fmt: skip
    for path, kind in ((choices, Kind.MULTIPLE_CHOICE), (partial, Kind.PARTIAL_CONTEXT)):
        task = load_task(path.stem, TaskSettings(path=str(path), kind=kind))
        leaf = ConfigurableTask(config=lm_eval_config(task))
        assert [leaf_text(leaf, row) for row in leaf.eval_docs] == [row_text(row, kind) for row in task.rows]


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="minimum_characters of at most substring_characters, 10"):
        build(ContaminationSettings, {"substring_characters": 10}, "test")
    with pytest.raises(ConfigError, match="nothing to search;"):
        analyze(tmp_path / "a", {})
    shard = write_lines(tmp_path / "shard.jsonl", [{"text": "x"}])
    with pytest.raises(ConfigError, match="nothing to search for"):
        analyze(tmp_path / "b", {"shards": {"shards": [str(shard)]}})
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    settings = ContaminationSettings.model_validate({"examples": {"made": {"path": str(empty), "columns": ["q"]}}})
    with pytest.raises(InputError, match="made has no examples"):
        read_all(settings, None)
