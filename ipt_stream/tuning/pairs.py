"""What the synthesizer is tuned on: contexts, each with all of its instruction-response pairs (paper, section 2.1).

A source is one published data set. Reading it goes in four steps, and what each leaves out is counted by reason:

    a reader yields (context, pair, where the answer stands) -> pairs are gathered by context
        -> contexts longer than the limit are cut into windows, each keeping the pairs whose answers it holds
        -> the contexts with the most pairs are kept, at most 10,000 a source (appendix B)

The project's own format is JSON lines: `{"source", "context", "pairs": [{"instruction", "response"}]}`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any, NamedTuple

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.corpus.cut import cut
from ipt_stream.corpus.pair import Pair, instruction_text, response_text
from ipt_stream.errors import InputError

MAX_CONTEXTS = 10_000


@dataclass(frozen=True, slots=True)
class TuningExample:
    """A raw text and all the pairs that belong to it.

    Attributes:
        source: the data set it is from; examples of one source share sequences.
        context: the raw text.
        pairs: at least one pair.
    """

    source: str
    context: str
    pairs: tuple[Pair, ...]


class SourceFormat(StrEnum):
    """How a source is laid out on disk."""

    EXAMPLES = "examples"
    SQUAD = "squad"
    PUBMEDQA = "pubmedqa"
    FAIRYTALEQA = "fairytaleqa"
    AQUA_RAT = "aqua_rat"
    COS_E = "cos_e"


class TuningSource(Settings):
    """One data set to tune on."""

    name: str | None = None
    """What its examples are called; null: each row's own `source` (format `examples`), else the format's name."""
    path: str
    """A file, a glob or a directory; local, or an object-store URL."""
    format: SourceFormat = SourceFormat.EXAMPLES
    """`examples` is the project's own; the others read a data set as published."""


class Found(NamedTuple):
    """One pair as a reader finds it; `start` is where its answer stands in the context, None where unknown."""

    context: str
    pair: Pair
    start: int | None = None
    source: str | None = None


def read_examples(path: str) -> list[TuningExample]:
    """The examples of JSON-lines files. Raises `InputError`, naming file and line, on a row of another shape."""
    return read_source(TuningSource(path=path), max_context_characters=None)[0]


def read_source(
    source: TuningSource, max_context_characters: int | None, max_contexts: int = MAX_CONTEXTS
) -> tuple[list[TuningExample], Counter[str]]:
    """The examples of `source`, in the order of the data, and how much was cut or left out, by reason.

    The reasons: `contexts_cut` (cut into windows), `windows_without_pairs` (of those), `duplicate_pairs` (the same
    instruction again, ignoring case), `empty_pairs`, `contexts_over_the_limit`.

    Raises:
        InputError: nothing matches the path, or a file is not what the format says.
    """
    counts: Counter[str] = Counter()
    gathered: dict[tuple[str, str], dict[str, Found]] = {}
    for found in _read(source):
        name = source.name or found.source or source.format.value
        instruction, response = found.pair.instruction.strip(), found.pair.response.strip()
        if not instruction or not response or not found.context.strip():
            counts["empty_pairs"] += 1
            continue
        pairs = gathered.setdefault((name, found.context), {})
        if instruction.casefold() in pairs:
            counts["duplicate_pairs"] += 1
            continue
        pairs[instruction.casefold()] = found._replace(pair=Pair(instruction, response))
    examples: list[TuningExample] = []
    for (name, context), pairs in gathered.items():
        examples += _windowed(name, context, list(pairs.values()), max_context_characters, counts)
    if not examples:
        raise InputError(
            f"no pairs in {source.path}", wanted=f"{source.format.value} data", fix="check path and format"
        )
    best = sorted(range(len(examples)), key=lambda i: -len(examples[i].pairs))[:max_contexts]
    counts["contexts_over_the_limit"] = len(examples) - len(best)
    return [examples[i] for i in sorted(best)], +counts


def _windowed(
    source: str, context: str, found: Sequence[Found], limit: int | None, counts: Counter[str]
) -> Iterator[TuningExample]:
    """The context as it is, or, where it is over `limit` characters, its windows that have pairs.

    A pair goes to the window in which its answer starts, and the window is drawn out to where the answer ends. A pair
    whose answer isn't a quotation goes to the window that shares the most words with it.
    """
    if limit is None or len(context) <= limit:
        yield TuningExample(source, context, tuple(item.pair for item in found))
        return
    counts["contexts_cut"] += 1
    last = list(accumulate(map(len, cut(context, limit, _characters))))
    spans = list(zip([0, *last], last, strict=False))
    words = [frozenset(re.findall(r"\w+", context[start:end].casefold())) for start, end in spans]
    held: list[list[Pair]] = [[] for _ in spans]
    ends = [end for _, end in spans]
    for item in found:
        start = item.start if item.start is not None else context.find(item.pair.response)
        if 0 <= start < len(context):
            window = next(i for i, (_, end) in enumerate(spans) if start < end)
            ends[window] = max(ends[window], min(start + len(item.pair.response), len(context)))
        else:
            asked = frozenset(re.findall(r"\w+", f"{item.pair.instruction} {item.pair.response}".casefold()))
            window = max(range(len(spans)), key=lambda i: len(words[i] & asked))
        held[window].append(item.pair)
    for (start, _), end, pairs in zip(spans, ends, held, strict=True):
        if pairs:
            yield TuningExample(source, context[start:end].strip(), tuple(pairs))
        else:
            counts["windows_without_pairs"] += 1


def _characters(text: str) -> list[tuple[int, int]]:
    """Offsets that make a window's budget one of characters: no tokenizer is known yet when sources are read."""
    return [(at, at + 1) for at in range(len(text))]


def _read(source: TuningSource) -> Iterator[Found]:
    paths = storage.expand([source.path])
    match source.format:
        case SourceFormat.EXAMPLES:
            return _examples(paths)
        case SourceFormat.SQUAD:
            return _squad(paths)
        case SourceFormat.PUBMEDQA:
            return _pubmedqa(paths)
        case SourceFormat.FAIRYTALEQA:
            return _fairytaleqa(paths)
        case SourceFormat.AQUA_RAT:
            return _aqua_rat(paths)
        case SourceFormat.COS_E:
            return _cos_e(paths)


def _examples(paths: Sequence[str]) -> Iterator[Found]:
    for path, line, row in _json_lines(paths):
        try:
            context, source, pairs = row["context"], row["source"], row["pairs"]
            fields = [context, source, *(pair[key] for pair in pairs for key in ("instruction", "response"))]
        except (KeyError, TypeError) as error:
            raise _malformed(path, line, f"missing or wrong: {error}") from error
        if not pairs or not all(isinstance(field, str) for field in fields):
            raise _malformed(path, line, "no pairs" if not pairs else "a field that is not text")
        for pair in pairs:
            yield Found(context, Pair(pair["instruction"], pair["response"]), source=source)


def _malformed(path: str, line: int, got: str) -> InputError:
    wanted = '{"source", "context", "pairs": [{"instruction", "response"}, ...]}'
    return InputError(f"{path}, line {line} is not a tuning example", wanted=wanted, got=got, fix="mend or remove it")


def _squad(paths: Sequence[str]) -> Iterator[Found]:
    """SQuAD's JSON: articles of paragraphs with questions; the first answer of each, with its place."""
    for path in paths:
        with _shape(path, "SQuAD JSON"):
            for article in _json(path)["data"]:
                for paragraph in article["paragraphs"]:
                    for question in paragraph["qas"]:
                        for answer in question["answers"][:1]:
                            pair = Pair(question["question"], answer["text"])
                            yield Found(paragraph["context"], pair, _answer_start(answer))


def _answer_start(answer: dict[str, Any]) -> int:
    """Where the answer's text starts once white space around it is gone."""
    text = answer["text"]
    return int(answer["answer_start"]) + len(text) - len(text.lstrip())


def _pubmedqa(paths: Sequence[str]) -> Iterator[Found]:
    """An abstract has one question, so formats take turns: the long answer, yes / no / maybe, that with a thought."""
    for path in paths:
        with _shape(path, "PubMedQA JSON"):
            rows = [row for row in _json(path).values() if isinstance(row, dict)]  # the test labels are bare strings
            for number, row in enumerate(rows):
                question, thought, answer = row["QUESTION"], row["LONG_ANSWER"], row["final_decision"]
                if number % 3 == 0:
                    pair = Pair(question, thought)
                else:
                    pair = _choice(question, ("yes", "no", "maybe"), answer, thought if number % 3 == 1 else None)
                yield Found("\n\n".join(row["CONTEXTS"]), pair)


def _fairytaleqa(paths: Sequence[str]) -> Iterator[Found]:
    """Two trees of CSV, `questions/` and `section-stories/`; a question's context is the sections that it names."""
    for path in (path for path in paths if path.endswith("-questions.csv")):
        story = path.replace("/questions/", "/section-stories/").removesuffix("-questions.csv") + "-story.csv"
        if story not in paths:
            raise InputError(f"{path} has no story", wanted=story, got="no such file", fix="name the folder of both")
        with _shape(path, "FairytaleQA CSV"):
            sections = {row["section"]: row["text"] for row in _csv(story)}
            for row in _csv(path):
                named = [part.strip() for part in row["cor_section"].split(",")]
                context = "\n\n".join(sections[section] for section in named)
                yield Found(context, Pair(row["question"], row["answer1"]))


def _aqua_rat(paths: Sequence[str]) -> Iterator[Found]:
    """Algebra problems without a context: the problem is the text, its last sentence with the options the instruction.

    The rationale gives the answer away, so it is never part of the text: in every other problem it is the thought of
    the response, in the rest it is not used.
    """
    for path, line, row in _json_lines(paths):
        with _shape(f"{path}, line {line}", "an AQuA-RAT problem"):
            options = [re.sub(r"^\s*[A-E]\s*\)\s*", "", option) for option in row["options"]]
            thought = row["rationale"] if line % 2 else None
            pair = _choice(_last_sentence(row["question"]), options, options["ABCDE".index(row["correct"])], thought)
            yield Found(row["question"], pair)


def _cos_e(paths: Sequence[str]) -> Iterator[Found]:
    """CommonsenseQA questions, with explanations in a second file, joined on `id`; the question is the text.

    As in AQuA-RAT, the explanation is a thought in every other question that has one, and never part of the text.
    """
    rows = list(_json_lines(paths))
    thoughts = {row["id"]: row["explanation"]["open-ended"] for _, _, row in rows if "explanation" in row}
    for path, line, row in rows:
        if "question" not in row:
            continue
        with _shape(f"{path}, line {line}", "a CommonsenseQA question"):
            question, choices = row["question"]["stem"], row["question"]["choices"]
            answer = next(choice["text"] for choice in choices if choice["label"] == row["answerKey"])
            thought = thoughts.get(row["id"]) if line % 2 else None
            pair = _choice(_last_sentence(question), [choice["text"] for choice in choices], answer, thought)
            yield Found(question, pair)


def _choice(question: str, options: Sequence[str], answer: str, thought: str | None) -> Pair:
    return Pair(instruction_text(question, options, thought is not None), response_text(answer, thought))


def _last_sentence(text: str) -> str:
    return re.split(r"(?<=[.?!])\s+", text.strip())[-1]


@contextmanager
def _shape(place: str, wanted: str) -> Iterator[None]:
    """Turns the errors of reading a foreign layout into an `InputError` that names the place."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
        got = f"{type(error).__name__}: {error}"
        raise InputError(f"{place} can't be read", wanted=wanted, got=got, fix="check `format`") from error


def _json(path: str) -> Any:
    return json.loads(storage.read_bytes(path))


def _csv(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(storage.read_bytes(path).decode("utf-8-sig"))))


def _json_lines(paths: Sequence[str]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Every row with its file and line, from 1; blank lines are no rows."""
    for path in paths:
        for number, line in enumerate(storage.read_bytes(path).splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number} is not JSON", got=str(error)) from error
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number} is not a JSON object", got=type(row).__name__)
            yield path, number, row
