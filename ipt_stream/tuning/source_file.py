"""Source files: where the rows of a data set are, and how each becomes a pair about a context. One YAML file a source.

    # one row a question, as on the hub                    # as it was first published: rows within rows
    data: {hub: rajpurkar/squad, splits: [train]}          data: {files: ["*.json"], walk: [data, paragraphs, qas]}
    context: "{{ context }}"                               context: "{{ context }}"
    pairs:                                                 pairs:
      - instruction: "{{ question }}"                        - instruction: "{{ question }}"
        answer: "{{ answers.text[0] }}"                        answer: "{{ answers[0].text }}"
        start: answers.answer_start[0]                         start: answers[0].answer_start

Rows are read (rows.py), walked through, joined with rows of other files and grouped; then the templates (templates.py)
make of each its pairs, in any of the four formats of the paper's table 7: free-form or, with `options`, multiple
choice; either with a rationale as the thought that leads to the answer. The pairs of all rows that render the same
context belong together (pairs.py).

`ipt_stream/tuning/sources/` has the paper's 34 sources and the 4 that it keeps for evaluation (appendix A, section
5.1), by their names; `published/NAME` reads some of them as their authors published them.
"""

from __future__ import annotations

import difflib
from enum import StrEnum
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from ipt_stream import storage
from ipt_stream.config import Settings, build
from ipt_stream.errors import ConfigError
from ipt_stream.tuning.templates import expression, text_template

SEEN = (
    "qasper", "covid_qa", "convfinqa", "spartqa", "babi", "qasc", "ecqa", "pubmedqa",
    "squad", "topiocqa", "quac", "wikitablequestions", "qed", "hotpotqa",
    "fairytaleqa", "narrativeqa", "mctest",
    "nlquad", "newsqa",
    "triviaqa",
    "race", "race_c", "dream", "logiqa", "reclor", "aqua_rat",
    "tweetqa",
    "coqa", "doqa", "ropes", "quartz", "multirc", "quail", "cosmosqa",
)  # fmt: skip
"""What the paper tunes on (figure 7), domain by domain."""
UNSEEN = ("socialiqa", "textbookqa", "wikiwhy", "fever")
"""What it keeps for evaluation (section 5.1)."""


class FileFormat(StrEnum):
    """How a file holds rows."""

    JSON = "json"
    JSON_LINES = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class DataPlace(Settings):
    """Where rows are."""

    hub: str | None = None
    """A Hugging Face data set, by id; null: local files."""
    config: str | None = None
    """Of a hub id: its configuration, where it has several."""
    directory: str | None = None
    """Of a hub id: the folder in it that holds the data, where configurations are folders."""
    splits: tuple[str, ...] = ()
    """Of a hub id: its splits, in order (`train`, `train[:5000]`); none: `train`."""
    revision: str | None = None
    """Of a hub id: a commit or branch. `refs/convert/parquet` is what the hub itself converts data sets to that have
    a loading script, which is not run."""
    files: tuple[str, ...] = ()
    """Globs below the source's path (`**` spans folders); of a hub id: read these files of it, as they are."""
    format: FileFormat | None = None
    """What the files are; null: by their names' endings."""
    walk: tuple[str, ...] = ()
    """Expressions for lists within a row, from outside to inside: each element becomes a row that sees the columns of
    all around it, nearest first. In a mapping the values are walked through."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hub is None and (self.config or self.directory or self.splits or self.revision):
            raise ValueError("config, directory, splits and revision are for a hub id")
        if self.hub is not None and self.files and (self.config or self.directory or self.splits):
            raise ValueError("either files of a hub id, or its config, directory and splits")
        _check_expressions(*self.walk)
        return self


class Join(Settings):
    """Rows of other files that belong to a row."""

    name: str = Field(pattern=r"^[A-Za-z_]\w*$")
    """What templates call the list of them; empty where there are none."""
    data: DataPlace
    """Where they are, below the same path."""
    key: str
    """Expression on such a row..."""
    equals: str
    """... and the one on the row that it belongs to, of the same value."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.data.hub is not None:
            raise ValueError("joined rows are in files, not on the hub")
        _check_expressions(self.key, self.equals)
        return self


class PairTemplate(Settings):
    """One pair of a row. Of `answer`, `answer_index`, `answer_letter` and `response` exactly one is set."""

    instruction: str
    """Template for the question or task, without options."""
    options: str | tuple[str, ...] | None = None
    """Multiple choice: an expression for the list of options, or one template each."""
    labels: str | None = None
    """Expression for the options' letters, in their order, for `answer_letter`; null: A, B, C, ..."""
    answer: str | None = None
    """Template for the answer's text; with options, it must be one of them."""
    answer_index: str | None = None
    """Expression for the answer's place among the options, from 0."""
    answer_letter: str | None = None
    """Expression for the answer's letter; case does not matter."""
    response: str | None = None
    """Template for the whole response, where it is not one answer (several right options); without a rationale."""
    rationale: str | None = None
    """Template for the thought that leads to the answer; where it comes out empty there is none."""
    start: str | None = None
    """Expression for the character of the context where the answer begins; null or below 0 where that isn't known."""
    evidence: str | None = None
    """Template for what the context says that the answer follows from, where there is no `start`."""
    when: str | None = None
    """Expression: only rows for which it holds give this pair."""
    share: float = Field(default=1.0, gt=0)
    """With `pick_one`: how often it is this one, relative to the others."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in ("answer", "answer_index", "answer_letter", "response") if getattr(self, name)]
        if len(given) != 1:
            got = ", ".join(given) or "none"
            raise ValueError(f"exactly one of answer, answer_index, answer_letter and response (got {got})")
        if self.options is None and given[0] in ("answer_index", "answer_letter"):
            raise ValueError(f"{given[0]} needs options")
        if self.labels is not None and self.answer_letter is None:
            raise ValueError("labels are for answer_letter")
        if self.rationale is not None and self.response is not None:
            raise ValueError("a rationale goes with an answer, not with a whole response")
        listed, computed = (self.options, None) if isinstance(self.options, tuple) else ((), self.options)
        _check_templates(self.instruction, self.answer, self.response, self.rationale, self.evidence, *listed)
        _check_expressions(self.labels, self.answer_index, self.answer_letter, self.start, self.when, computed)
        return self


class SourceFile(Settings):
    """A source, as its YAML file has it."""

    domain: str | None = None
    """What its texts are about, as the paper's figure 7 has it."""
    data: DataPlace
    """Where its rows are."""
    joins: tuple[Join, ...] = ()
    """Rows of other files that belong to its rows."""
    group: str | None = None
    """Expression: rows of one value become one, the first, which sees all of them as the list `group`."""
    when: str | None = None
    """Expression: rows for which it doesn't hold are left out."""
    context: str
    """Template for the raw text; white space at its end is dropped."""
    pairs: tuple[PairTemplate, ...] = Field(min_length=1)
    """The pairs that a row gives."""
    pick_one: bool = False
    """Each row gives one of the pairs, drawn by a hash of its text, and not all."""
    thought_share: float = Field(default=1.0, ge=0, le=1)
    """In this share of the pairs that have a rationale, by a hash of their text, it is used as thought."""

    @field_validator("group", "when")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        _check_expressions(value)
        return value

    @field_validator("context")
    @classmethod
    def _renders(cls, value: str) -> str:
        _check_templates(value)
        return value


def packaged_sources() -> list[str]:
    """The names of the sources that come with the package: `squad`, ..., `published/squad`, ..."""
    names: list[str] = []
    for entry in _packaged().iterdir():
        if entry.is_dir():
            names += [f"{entry.name}/{inner.name[:-5]}" for inner in entry.iterdir() if inner.name.endswith(".yaml")]
        elif entry.name.endswith(".yaml"):
            names.append(entry.name[:-5])
    return sorted(names)


def load_source_file(name: str) -> SourceFile:
    """The packaged source `name`, or the one in the YAML file that `name` is the path of (it ends in .yaml or .yml).

    Raises:
        ConfigError: there is none, or it is wrong: it names the file, the key and, for an unknown key, the nearest.
    """
    import yaml

    if is_path(name):
        if not storage.exists(name):
            raise ConfigError(f"no source file {name}", wanted="a YAML file", got="nothing there", fix="check the path")
        content = storage.read_bytes(name)
    else:
        known = packaged_sources()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise ConfigError(
                f"no source '{name}'",
                wanted="a packaged source, or the path of a .yaml file",
                fix=f"did you mean '{near[0]}'?" if near else f"one of {', '.join(known)}",
            )
        content = _packaged().joinpath(f"{name}.yaml").read_bytes()
    try:
        mapping = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} can't be read", got=str(error), fix="mend the YAML there") from error
    if not isinstance(mapping, dict):
        raise ConfigError(f"{name} is no source file", wanted="a YAML mapping", got=type(mapping).__name__)
    return build(SourceFile, mapping, name)


def is_path(name: str) -> bool:
    """Whether a source's name is the path of a file, and not a packaged source."""
    return name.endswith((".yaml", ".yml"))


def source_name(name: str) -> str:
    """What examples of the source `name` are called: its last part, without the ending."""
    return Path(name).name.removesuffix(".yaml").removesuffix(".yml")


def _packaged() -> Traversable:
    return resources.files("ipt_stream.tuning").joinpath("sources")


def _check_templates(*sources: str | None) -> None:
    for source in sources:
        if source is not None:
            text_template(source)


def _check_expressions(*sources: str | None) -> None:
    for source in sources:
        if source is not None:
            expression(source)
