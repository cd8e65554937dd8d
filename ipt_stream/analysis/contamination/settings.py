"""The settings of the search for evaluation examples in what a model is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from ipt_stream.config import Settings
from ipt_stream.corpus.readers import InputConfig
from ipt_stream.evaluation.settings import Name
from ipt_stream.evaluation.suites import SuiteName, SuiteSettings
from ipt_stream.evaluation.tasks import TaskSettings
from ipt_stream.tuning.source_file import FileFormat
from ipt_stream.tuning.templates import expression


class ExamplesSettings(Settings):
    """Evaluation examples in local files of any layout; one row, one example."""

    path: str
    """A file, a glob or a directory of JSON lines, JSON, CSV or Parquet files."""
    columns: tuple[str, ...] = Field(min_length=1)
    """What an example is made of, in this order: names of columns, or expressions on them (`answers.text[0]`). The
    elements of a list follow each other."""
    format: FileFormat | None = None
    """What the files are; null: by their names' endings."""
    walk: tuple[str, ...] = ()
    """Where examples lie within a row: expressions for lists, from outside to inside; `this.value` walks through the
    values of a file that is one mapping (tuning/source_file.py)."""

    @field_validator("columns", "walk")
    @classmethod
    def _readable(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if value.isidentifier() or "." in value or "[" in value:
                expression(value)
        return values


class ContaminationSettings(Settings):
    """What is searched for, where, and how. With none of the first three: the sample world's own questions."""

    examples: dict[Name, ExamplesSettings] = Field(default_factory=dict)
    """Evaluation examples in files, by the name that tables show."""
    suites: dict[SuiteName, SuiteSettings] = Field(default_factory=dict)
    """Suites of tasks, as the evaluate stage takes them: each example is a question with its right answer."""
    tasks: dict[Name, TaskSettings] = Field(default_factory=dict)
    """Further tasks, local or of lm-eval by name."""
    limit: int | None = Field(default=None, ge=1)
    """Search for the first so many examples of each only; null: all."""
    shards: InputConfig | None = None
    """Raw shards to search too; null: the synthesis run alone."""
    substrings: int = Field(default=3, ge=1)
    """Substrings drawn of an example; one that is found counts (GPT-4 report, appendix C: 3)."""
    substring_characters: int = Field(default=50, ge=1)
    """Letters and digits of a substring; a shorter example is one substring, whole (GPT-4 report: 50)."""
    minimum_characters: int = Field(default=20, ge=1)
    """Examples of fewer letters and digits are counted and not searched for: a few common words are found everywhere,
    and say nothing of contamination. The lower this is, the slower a search."""
    ignore_case: bool = False
    """Whether A and a are one letter in substrings; the GPT-4 report removes spaces and symbols alone."""
    ngram_words: int | None = Field(default=13, ge=1)
    """Words of an n-gram in the second view, case and punctuation ignored (GPT-3: 13); null: no such view."""
    ngram_share: float = Field(default=0.7, gt=0.0, le=1.0)
    """An example counts in the second view when this share of its n-grams is found (PaLM, section 8: 0.7)."""
    seed: int = 0
    """Of the draw of substrings."""
    examples_a_document: int = Field(default=100, ge=1)
    """Of a document in which more examples are found, only so many are listed; all are counted."""
    cores: int | None = Field(default=None, ge=0)
    """Cores to use; 0: this process alone; null: all, where there is much to do. The result is the same."""

    @field_validator("suites", mode="before")
    @classmethod
    def _named_suites(cls, value: Any) -> Any:
        """A list of names stands for suites as the hub has them."""
        if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
            return {name: {} for name in value}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.minimum_characters > self.substring_characters:
            raise ValueError(
                f"minimum_characters of at most substring_characters, {self.substring_characters}"
                f" (got {self.minimum_characters})"
            )
        named = [*self.examples, *self.tasks]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"different names for examples and tasks (twice: {', '.join(twice)})")
        return self

    def method(self) -> Mapping[str, Any]:
        """The settings that decide what is found."""
        return self.model_dump(mode="json", exclude={"examples", "suites", "tasks", "limit", "shards", "cores"})
