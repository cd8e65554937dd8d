"""Instruction data: JSON lines of any of the usual layouts, read into turns and made into tokens.

    instruction, input, output      input may be empty or absent; it follows the instruction on a line of its own
    question, response
    prompt, completion
    messages                        a list of {role, content}: system, user, assistant, by turns

The first layout whose columns a file's first row has is taken for all of the file, or the columns that the settings
name. A turn becomes `{prompt} {response}` and the tokenizer's EOS; the loss is on the response, from its leading space
on, and on the EOS. This is how mixtures render general instructions, and how questions are scored.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.corpus.bytestream import StreamBroken, chunks
from ipt_stream.errors import InputError, TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase


class Columns(Settings):
    """Which columns hold what: `prompt` and `response`, with or without `input`; or `messages` alone."""

    prompt: str | None = None
    """What is asked."""
    input: str | None = None
    """What it is asked about, put below the prompt; rows without it have none."""
    response: str | None = None
    """What is to be answered."""
    messages: str | None = None
    """A conversation: a list of `{"role": "system" | "user" | "assistant", "content": text}`."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.messages is None) == (self.prompt is None) or (self.prompt is None) != (self.response is None):
            raise ValueError("prompt and response, or messages")
        return self

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return tuple(name for name in (self.prompt, self.response, self.messages) if name is not None)


LAYOUTS = (
    Columns(prompt="instruction", input="input", response="output"),
    Columns(prompt="question", response="response"),
    Columns(prompt="prompt", response="completion"),
    Columns(messages="messages"),
)


class InstructionData(Settings):
    """Where instruction data is, and how it is laid out."""

    path: str | tuple[str, ...]
    """Files, globs or directories of JSON lines, plain, gzip or zstd; local, or object-store URLs."""
    columns: Columns | None = None
    """Which columns hold what; null: found out from the first row of each file."""
    limit: int | None = Field(default=None, gt=0)
    """Read only the first so many rows; null: all."""

    @property
    def files(self) -> list[str]:
        """The files in order. Raises `InputError` where nothing matches."""
        return storage.expand([self.path] if isinstance(self.path, str) else self.path)


Turn = tuple[str, str]
"""What is asked, and the response to it."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as tokens.

    Attributes:
        tokens: int32, shape (length,).
        counts: bool, shape (length,): which of them the loss is on.
    """

    tokens: NDArray[Any]
    counts: NDArray[Any]


def read_instructions(data: InstructionData) -> Iterator[tuple[Turn, ...]]:
    """The examples of `data`, each one turn or, of a conversation, several; a row without a response gives none.

    Raises:
        InputError: nothing matches, or a row is not what its file's layout says; names file, line and what is there.
    """
    left = data.limit
    for path in data.files:
        columns = data.columns
        for number, line in _lines(path):
            if left == 0:
                return
            where = f"{path}, line {number}"
            row = _row(line, where)
            columns = columns or _layout(row, where)
            yield _turns(row, columns, where)
            left = None if left is None else left - 1


def encode(
    examples: Iterator[tuple[Turn, ...]], tokenizer: PreTrainedTokenizerBase, max_seq_len: int
) -> tuple[list[Encoded], Counter[str]]:
    """The examples as tokens, and how many were cut or left out, by reason.

    Longer ones than `max_seq_len` lose their beginning (`cut`); where that would reach into the last response they are
    left out (`too_long`), as are those without a response (`no_response`).

    Raises:
        TrainingError: the tokenizer has no EOS, or can't tell where its tokens stand in a text.
    """
    import numpy as np

    if tokenizer.eos_token_id is None or not tokenizer.is_fast:
        got = "no EOS" if tokenizer.eos_token_id is None else "a slow tokenizer"
        raise TrainingError("the model's tokenizer can't be used", wanted="a fast tokenizer with an EOS", got=got)
    counts: Counter[str] = Counter()
    encoded: list[Encoded] = []
    for turns in examples:
        if not turns:
            counts["no_response"] += 1
            continue
        tokens: list[int] = []
        learned: list[bool] = []
        last = 0
        for index, (prompt, response) in enumerate(turns):
            made = tokenizer(f"{prompt} {response}", add_special_tokens=index == 0, return_offsets_mapping=True)
            is_response = [end > len(prompt) for _, end in made["offset_mapping"]]
            last = len(tokens) + (is_response.index(True) if True in is_response else len(is_response))
            tokens += [*made["input_ids"], tokenizer.eos_token_id]
            learned += [*is_response, True]
        over = len(tokens) - max_seq_len
        if over >= last:
            counts["too_long"] += 1
            continue
        counts["cut"] += over > 0
        over = max(0, over)
        encoded.append(Encoded(np.array(tokens[over:], np.int32), np.array(learned[over:], np.bool_)))
    return encoded, +counts


def batch_arrays(batch: Sequence[Encoded], padding: int) -> dict[str, NDArray[Any]]:
    """A batch as `input_ids`, `labels` and `attention_mask`, each int64 of shape (examples, longest).

    Labels are the tokens where the loss counts and -100 elsewhere, unshifted as Hugging Face wants them; padding stands
    on the right.
    """
    import numpy as np

    shape = (len(batch), max(len(example.tokens) for example in batch))
    tokens, labels = np.full(shape, padding, np.int64), np.full(shape, -100, np.int64)
    mask = np.zeros(shape, np.int64)
    for row, example in enumerate(batch):
        end = len(example.tokens)
        tokens[row, :end] = example.tokens
        labels[row, :end] = np.where(example.counts, example.tokens, -100)
        mask[row, :end] = 1
    return {"input_ids": tokens, "labels": labels, "attention_mask": mask}


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that hold something, with their numbers from 1."""
    number, rest = 0, b""
    try:
        for chunk in chunks(path):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                number += 1
                if line.strip():
                    yield number, line
    except StreamBroken as error:
        raise InputError(f"{path} can't be decompressed", got=str(error), fix="fetch it again") from error
    if rest.strip():
        yield number + 1, rest


def _row(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON", got=str(error), fix="mend or remove it") from error
    if not isinstance(row, dict):
        raise InputError(f"{where} is not a JSON object", got=type(row).__name__, fix="mend or remove it")
    return row


def _layout(row: Mapping[str, Any], where: str) -> Columns:
    """The layout that the row has. Raises `InputError` where it has none."""
    for layout in LAYOUTS:
        if all(name in row for name in layout.needed):
            return layout
    raise InputError(
        f"{where} has no layout that is known",
        wanted="columns " + "; or ".join(", ".join(layout.needed) for layout in LAYOUTS),
        got=_told(row),
        fix="name them: data.columns.prompt=... data.columns.response=..., or data.columns.messages=...",
    )


def _turns(row: Mapping[str, Any], columns: Columns, where: str) -> tuple[Turn, ...]:
    missing = [name for name in columns.needed if name not in row]
    if missing:
        wanted = ", ".join(columns.needed)
        fix = "mend the row, or name its columns in data.columns"
        raise InputError(f"{where} has no column '{missing[0]}'", wanted=wanted, got=_told(row), fix=fix)
    if columns.messages is not None:
        return _conversation(row[columns.messages], where)
    prompt = _text(row, columns.prompt, where)
    about = _text(row, columns.input, where) if columns.input is not None and row.get(columns.input) else ""
    response = _text(row, columns.response, where)
    asked = f"{prompt}\n{about}" if about else prompt
    return ((asked, response),) if response else ()


def _text(row: Mapping[str, Any], column: str | None, where: str) -> str:
    value = row[column or ""]
    if not isinstance(value, str):
        raise InputError(f"{where}: column '{column}' is no text", wanted="a string", got=type(value).__name__)
    return value.strip()


def _conversation(messages: Any, where: str) -> tuple[Turn, ...]:
    """The turns of a conversation; what no assistant answers is left out, a system's text goes before what follows."""
    wanted = '[{"role": "system" | "user" | "assistant", "content": text}, ...]'
    if not isinstance(messages, list):
        raise InputError(f"{where} is no conversation", wanted=wanted, got=type(messages).__name__)
    turns: list[Turn] = []
    asked: list[str] = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise InputError(f"{where} has a message that is none", wanted=wanted, got=json.dumps(message)[:120])
        if role != "assistant":
            asked.append(content.strip())
        elif asked and content.strip():
            turns.append(("\n\n".join(asked), content.strip()))
            asked = []
    return tuple(turns)


def _told(row: Mapping[str, Any]) -> str:
    names = sorted(row)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"columns {', '.join(names[:20])}{more}" if names else "no columns"
