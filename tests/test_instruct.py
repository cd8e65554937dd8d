"""Instruction tuning: any layout of instructions, loss on the responses alone, and a curve of scores for each model."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ipt_stream.errors import InputError, LedgerError
from ipt_stream.evaluation.learning import InstructConfig, instruct
from ipt_stream.training.instruct import InstructionTuning, plan_batches
from ipt_stream.training.instructions import InstructionData, batch_arrays, encode, read_instructions

pytestmark = [pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")]

KEEPERS = ("miller", "keeper", "river", "bridge")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path: str, **settings: Any) -> list[tuple[tuple[str, str], ...]]:
    return list(read_instructions(InstructionData.model_validate({"path": path, **settings})))


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"instruction": "Name it.", "input": "A mill", "output": "mill"}, (("Name it.\nA mill", "mill"),)),
        ({"instruction": "Name it.", "input": "", "output": "mill"}, (("Name it.", "mill"),)),
        ({"instruction": "Name it.", "output": " mill "}, (("Name it.", "mill"),)),
        ({"question": "What?", "response": "That", "source": "x"}, (("What?", "That"),)),
        ({"prompt": "What?", "completion": " That"}, (("What?", "That"),)),
        ({"question": "What?", "response": ""}, ()),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be short."},
                    {"role": "user", "content": "What?"},
                    {"role": "assistant", "content": "That"},
                    {"role": "user", "content": "Who?"},
                    {"role": "assistant", "content": "He"},
                    {"role": "user", "content": "Where?"},
                ]
            },
            (("Be short.\n\nWhat?", "That"), ("Who?", "He")),
        ),
    ],
)
def test_every_layout_is_found_out(row: dict[str, Any], turns: Any, tmp_path: Path) -> None:
    assert read(write(tmp_path / "data.jsonl", [row])) == [turns]


def test_columns_are_settable_and_files_may_be_packed(tmp_path: Path) -> None:
    rows = [{"inputs": f"What {n}?", "targets": f"That {n}"} for n in range(5)]
    (tmp_path / "data.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    columns = {"prompt": "inputs", "response": "targets"}
    assert read(str(tmp_path / "data.jsonl.gz"), columns=columns, limit=3) == [
        ((f"What {n}?", f"That {n}"),) for n in range(3)
    ]


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        ([{"inputs": "a", "targets": "b"}], {}, r"line 1 has no layout.*got: columns inputs, targets.*data\.columns"),
        (
            [{"question": "a", "response": "b"}, {"question": "a"}],
            {},
            r"line 2 has no column 'response'.*got: columns q",
        ),
        ([{"question": "a", "response": 3}], {}, "column 'response' is no text.*got: int"),
        ([{"a": "a"}], {"columns": {"prompt": "x", "response": "y"}}, r"no column 'x'; wanted: x, y; got: columns a"),
        ([{"messages": [{"role": "tool", "content": "x"}]}], {}, "a message that is none.*tool"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_found(rows: Any, settings: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(write(tmp_path / "data.jsonl", rows), **settings)


def test_the_loss_is_on_the_responses_and_their_end_alone(model_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    turns = (("who is the keeper", "the old miller"), ("of what", "a bridge"))
    (example,), counts = encode(iter([turns]), tokenizer, 200)
    assert not counts
    learned = [int(t) for t, counted in zip(example.tokens, example.counts, strict=True) if counted]
    assert tokenizer.decode(learned) == " the old miller</s> a bridge</s>"
    rest = [int(t) for t, counted in zip(example.tokens, example.counts, strict=True) if not counted]
    assert tokenizer.decode(rest, skip_special_tokens=True) == "who is the keeperof what"
    arrays = batch_arrays([example, encode(iter([turns[:1]]), tokenizer, 200)[0][0]], padding=7)
    assert arrays["labels"][0][example.counts].tolist() == learned
    assert (arrays["labels"][0][~example.counts] == -100).all()
    assert (arrays["labels"][1][arrays["attention_mask"][1] == 0] == -100).all()
    assert arrays["input_ids"][1][-1] == 7


def test_what_is_too_long_loses_its_beginning_or_is_left_out(model_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    long = (("the river " * 20, "a bridge"),)
    (whole,), _ = encode(iter([long]), tokenizer, 1000)
    (cut,), counts = encode(iter([long, (), (("a", "the river " * 20),)]), tokenizer, 12)
    assert counts == {"cut": 1, "too_long": 1, "no_response": 1}
    assert cut.tokens.tolist() == whole.tokens[-12:].tolist()
    assert cut.counts.sum() == whole.counts.sum()


def test_every_epoch_sees_every_example_once() -> None:
    settings = InstructionTuning.model_validate({"data": {"path": "x"}, "sequences_per_batch": 4, "epochs": 3})
    batches = plan_batches(10, settings)
    assert len(batches) == 8  # 30 examples in batches of 4, to the nearest
    tape = [int(index) for batch in batches for index in batch]
    assert sorted(tape[:10]) == sorted(tape[10:20]) == list(range(10)) and tape[:10] != tape[10:20]
    assert len(plan_batches(10, settings.model_copy(update={"steps": 30}))) == 30


@pytest.fixture(scope="module")
def learning(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[InstructConfig, Any]:
    """Two models learn who keeps what: one knows half of it already."""
    from transformers import AutoTokenizer

    from ipt_stream.training.models import ModelConfig, build_model, save_model_folder

    root = tmp_path_factory.mktemp("instruct")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    shape = {"hidden_size": 64, "intermediate_size": 128, "layers": 2, "heads": 2, "kv_heads": 2}
    save_model_folder(build_model(ModelConfig(**shape), tokenizer, 7), tokenizer, str(root / "other"))
    places = ("town", "river", "mill", "bridge", "old town", "old river", "old mill", "old bridge")
    rows = [
        {"instruction": f"who was by the {place}", "output": KEEPERS[number * 5 % 8 % 4]}
        for number, place in enumerate(places)
    ]
    questions = [
        {"query": row["instruction"], "choices": list(KEEPERS), "gold": KEEPERS.index(row["output"])} for row in rows
    ]
    given = {
        "output": str(root / "out"),
        "models": {"first": str(model_folder), "second": str(root / "other")},
        "data": {"path": write(root / "data.jsonl", rows)},
        "sequences_per_batch": 8,
        "steps": 60,
        "fit": {"learning_rate": 1e-2, "schedule": "linear", "checkpoint_steps": 100},
        "evaluation": {"every_steps": 30, "tasks": {"keepers": {"path": write(root / "questions.jsonl", questions)}}},
    }
    config = InstructConfig.model_validate(given)
    return config, instruct(config)


def test_models_learn_and_their_curves_stand_side_by_side(learning: tuple[InstructConfig, Any]) -> None:
    config, report = learning
    output = Path(config.output)
    curves = json.loads((output / "curves.json").read_text())
    assert list(curves["models"]) == ["first", "second"]
    assert curves["chance"] == {"keepers": 0.25}
    for name, curve in curves["models"].items():
        assert [point["step"] for point in curve] == [0, 30, 60]
        assert curve[0]["keepers"] < 0.7 < curve[-1]["keepers"] == 1
        assert report.figures[f"{name}/keepers/last"] == round(curve[-1]["keepers"], 4)
        assert (output / name / "model" / "config.json").exists()
    assert (output / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert report.lines[0].split("  ")[-1] == "second: keepers" and len(report.lines) == 4


def test_the_plot_has_a_line_a_model_and_chance(learning: tuple[InstructConfig, Any]) -> None:
    from ipt_stream.evaluation.learning import draw, png

    curves = json.loads((Path(learning[0].output) / "curves.json").read_text())
    (panel,) = draw(curves["models"], curves["chance"]).axes
    assert [line.get_label() for line in panel.get_lines()] == ["first", "second", "chance"]
    for name, line in zip(curves["models"], panel.get_lines(), strict=False):
        assert line.get_xdata().tolist() == [0, 30, 60]
        assert line.get_ydata().tolist() == [point["keepers"] for point in curves["models"][name]]
    assert png(curves["models"], curves["chance"]) == (Path(learning[0].output) / "curves.png").read_bytes()


def test_a_tuned_model_scores_as_its_folder_does(learning: tuple[InstructConfig, Any], tmp_path: Path) -> None:
    from ipt_stream.evaluation.evaluate import EvaluateConfig, evaluate

    config, _ = learning
    curves = json.loads((Path(config.output) / "curves.json").read_text())
    models = {name: f"{config.output}/{name}/model" for name in config.models}
    tasks = {"keepers": {"path": config.evaluation.tasks["keepers"].path}}
    report = evaluate(EvaluateConfig.model_validate({"output": str(tmp_path), "models": models, "tasks": tasks}))
    for name, curve in curves["models"].items():
        assert report.figures[f"{name}/keepers/acc_norm"] == pytest.approx(curve[-1]["keepers"], abs=0.001)


def test_asked_again_it_skips_and_refuses_other_data(learning: tuple[InstructConfig, Any], tmp_path: Path) -> None:
    config, _ = learning
    assert instruct(config).skipped
    with pytest.raises(LedgerError, match="max_seq_len was 1024, is 512"):
        instruct(config.model_copy(update={"max_seq_len": 512}))
