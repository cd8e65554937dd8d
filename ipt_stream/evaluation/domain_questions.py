"""The `domain-questions` stage: public evaluation data, as published, as the question files of the domain suites.

    task               published as                                         a question
    usmle              MedQA, JSON lines: question, options, answer_idx     which option answers it
    chemprot           SciBERT's ChemProt, JSON lines: text, label          which relation << >> has to [[ ]]
    fpb, fiqa_sa       FinLoRA, JSON lines: context, target                 which sentiment
    convfinqa          dialogues, {"dev": [{doc, dialogue}]}                each turn, after report and earlier turns
    ner                CoNLL: word, tag, chunk, entity; a blank line        each sentence that names somebody
                       between sentences

`<output>/TASK.jsonl` has the columns of `domain`, and the suites take the folder: `suites.finance.path`. AdaptLLM's own
files on the hub hold the same questions in prompts with shots; these have none, so scores are not the paper's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NoReturn

from pydantic import Field

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.errors import InputError
from ipt_stream.evaluation.domain import check_row, records
from ipt_stream.stage import Figure, Stage, StageReport, run_once

SENTIMENTS = ("negative", "neutral", "positive")
FIX = "take the file as it was published, or leave the task out of files"


class PublishedTask(StrEnum):
    """The domain tasks whose public data can be converted."""

    USMLE = "usmle"
    CHEMPROT = "chemprot"
    FPB = "fpb"
    FIQA_SA = "fiqa_sa"
    CONVFINQA = "convfinqa"
    NER = "ner"


class DomainQuestionsConfig(Settings):
    """Settings of the `domain-questions` stage."""

    output: str
    """Where `TASK.jsonl` goes, a file a task."""
    files: dict[PublishedTask, str] = Field(min_length=1)
    """The published file of each task that is wanted."""


Row = tuple[str, dict[str, Any]]
"""Where a row comes from, and the row in the columns of `domain`."""


def write_domain_questions(config: DomainQuestionsConfig) -> StageReport:
    """Convert each of `config.files` to `<output>/TASK.jsonl`.

    Raises:
        InputError: a file is missing, or not as it is published; names the line or entry.
        LedgerError: the output was made of other files.
    """
    contents = {task: _content(task, path) for task, path in config.files.items()}
    settings = {
        "files": {task.value: hashlib.sha256(content).hexdigest()[:16] for task, content in contents.items()},
    }

    def work(stage: Stage) -> StageReport:
        figures: dict[str, Figure] = {}
        for task, path in config.files.items():
            rows = questions(task, contents[task], path)
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            storage.publish_bytes(storage.join(config.output, f"{task}.jsonl"), text.encode())
            figures[f"questions_{task}"] = len(rows)
        told = ", ".join(f"{figures[f'questions_{task}']:,} {task}" for task in config.files)
        return stage.finish(figures, (f"questions: {told}",))

    return run_once(config.output, "domain-questions", settings, work)


def questions(task: PublishedTask, content: bytes, path: str) -> list[Mapping[str, Any]]:
    """The rows of `task`, in the columns of `domain`, that `content`, its published file at `path`, has.

    Raises:
        InputError: it is not as it is published, or holds no question.
    """
    found = [check_row(row, where, task) for where, row in _CONVERTERS[task](content, path)]
    if not found:
        raise InputError(f"{path} has no questions of {task}", wanted="at least one", got="none", fix=FIX)
    return found


def _content(task: PublishedTask, path: str) -> bytes:
    if not storage.exists(path):
        fix = f"correct files.{task}, or leave it out"
        raise InputError(f"no data of {task} at {path}", wanted="its published file", got="nothing there", fix=fix)
    return storage.read_bytes(path)


def _examination(content: bytes, path: str) -> Iterator[Row]:
    layout = '{"question": text, "options": {letter: text}, "answer_idx": letter}'
    for where, row in _rows(content, path, layout):
        question, answer = _text(row, "question", where, layout), _text(row, "answer_idx", where, layout)
        options = row.get("options")
        if not isinstance(options, dict) or answer not in options:
            _refuse(f"{where} has no options that answer_idx is one of", layout, f"{answer!r} of {options!r}")
        index = list(options).index(answer)
        asked = f"Question: {question.strip()}\nAnswer:"
        yield where, {"input": asked, "options": list(options.values()), "gold_index": index}


def _relations(content: bytes, path: str) -> Iterator[Row]:
    """The options are the relations that the file has, in the order of the alphabet."""
    layout = '{"text": text with << chemical >> and [[ protein ]], "label": relation}'
    rows = []
    for where, row in _rows(content, path, layout):
        text, label = _text(row, "text", where, layout), _text(row, "label", where, layout)
        if not all(mark in text for mark in ("<<", ">>", "[[", "]]")):
            _refuse(f"{where} marks no chemical or no protein", layout, text)
        rows.append((where, text, label))
    options = sorted({label for _, _, label in rows})
    for where, text, label in rows:
        asked = f"Text: {text.strip()}\nQuestion: how does << >> act on [[ ]]?\nAnswer:"
        yield where, {"input": asked, "options": options, "gold_index": options.index(label)}


def _sentiments(content: bytes, path: str) -> Iterator[Row]:
    layout = f'{{"context": text, "target": {" | ".join(SENTIMENTS)}}}'
    for where, row in _rows(content, path, layout):
        asked, target = _text(row, "context", where, layout), _text(row, "target", where, layout)
        if target not in SENTIMENTS:
            _refuse(f"{where} has another target", layout, repr(target))
        yield (
            where,
            {"input": asked.rstrip(), "options": list(SENTIMENTS), "gold_index": SENTIMENTS.index(target)},
        )


def _conversations(content: bytes, path: str) -> Iterator[Row]:
    """A question of each turn, with the report and the turns before it."""
    layout = '{"dev": [{"doc": {pre_text, table, post_text}, "dialogue": {conv_questions, conv_answers}}]}'
    try:
        document = json.loads(content)
    except ValueError as error:
        _refuse(f"{path} is not JSON", layout, str(error))
    entries = document.get("dev") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        got = f"keys {', '.join(document)}" if isinstance(document, dict) else type(document).__name__
        _refuse(f"{path} has no dialogues", layout, got)
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: dialogue {number}"
        report, dialogue = (entry.get(key) if isinstance(entry, dict) else None for key in ("doc", "dialogue"))
        if not isinstance(report, dict) or not isinstance(dialogue, dict):
            _refuse(f"{where} has no doc or no dialogue", layout, repr(entry))
        asked, answered = (dialogue.get(key) for key in ("conv_questions", "conv_answers"))
        if not isinstance(asked, list) or not isinstance(answered, list) or len(asked) != len(answered):
            _refuse(f"{where} has not as many answers as questions", layout, repr(dialogue))
        text = [_text(report, key, where, layout, may_be_blank=True) for key in ("pre_text", "post_text")]
        told = "\n".join([text[0], json.dumps(report.get("table"), ensure_ascii=False), text[1]])
        for question, answer in zip(asked, answered, strict=True):
            if not isinstance(question, str) or not isinstance(answer, str | int | float):
                _refuse(f"{where} has a turn without question or answer", layout, f"{question!r}, {answer!r}")
            told += f"\nQ: {question}\nA:"
            yield where, {"input": told, "label": str(answer)}
            told += f" {answer}"


def _names(content: bytes, path: str) -> Iterator[Row]:
    """A question of each sentence with entities, which follow one another as `name (TYPE)`."""
    layout = "lines `word tag chunk entity`, entity O, I-TYPE or B-TYPE; a blank line between sentences"
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        _refuse(f"{path} is not UTF-8", layout, str(error))
    words: list[str] = []
    entities: list[list[str]] = []
    start, before = 1, "O"
    for number, line in enumerate([*lines, ""], start=1):
        if not line.strip():
            if entities:
                label = ", ".join(f"{name} ({kind})" for name, kind in entities)
                yield f"{path}:{start}", {"input": f"{' '.join(words)}\nEntities:", "label": label}
            words, entities, start, before = [], [], number + 1, "O"
            continue
        parts = line.split()
        if len(parts) != 4 or not (parts[3] == "O" or parts[3][:2] in ("I-", "B-")):
            _refuse(f"{path}:{number} is no word with its entity", layout, line)
        if parts[0] == "-DOCSTART-":
            continue
        word, entity = parts[0], parts[3]
        words.append(word)
        if entity != "O":
            if before != "O" and entity == f"I-{before[2:]}":
                entities[-1][0] += f" {word}"
            else:
                entities.append([word, entity[2:]])
        before = entity


_CONVERTERS: Mapping[PublishedTask, Callable[[bytes, str], Iterator[Row]]] = {
    PublishedTask.USMLE: _examination,
    PublishedTask.CHEMPROT: _relations,
    PublishedTask.FPB: _sentiments,
    PublishedTask.FIQA_SA: _sentiments,
    PublishedTask.CONVFINQA: _conversations,
    PublishedTask.NER: _names,
}


def _rows(content: bytes, path: str, layout: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, row in records(content, path):
        if not isinstance(row, dict):
            _refuse(f"{where} is no object", layout, type(row).__name__)
        yield where, row


def _text(row: Mapping[str, Any], column: str, where: str, layout: str, may_be_blank: bool = False) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not (may_be_blank or value.strip()):
        _refuse(f"{where} has no {column}", layout, f"columns {', '.join(row)}" if column not in row else repr(value))
    return value


def _refuse(problem: str, wanted: str, got: str) -> NoReturn:
    raise InputError(problem, wanted=wanted, got=got if len(got) <= 120 else got[:117] + "...", fix=FIX)
