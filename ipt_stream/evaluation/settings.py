"""The settings of the evaluate stage."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from ipt_stream.config import Settings
from ipt_stream.evaluation.suites import SuiteName, SuiteSettings
from ipt_stream.evaluation.tasks import TaskSettings, nearest

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Dtype(StrEnum):
    """Type of the weights while they are evaluated."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Backend(StrEnum):
    """What runs the models."""

    HF = "hf"
    VLLM = "vllm"


class EvaluateConfig(Settings):
    """Settings of `ipt-stream evaluate`."""

    output: str
    """Directory of the results."""
    models: dict[Name, str] = Field(min_length=1)
    """Hugging Face model folders, by the name that tables show."""
    suites: dict[SuiteName, SuiteSettings] = Field(default_factory=dict)
    """Lists of tasks, by name: `general`, `biomedicine`, `finance`, `sample-world`. A list of names where the hub has
    the data, or `NAME: {path: FOLDER, without: [TASK]}` for local data (suites.py)."""
    tasks: dict[Name, TaskSettings] = Field(default_factory=dict)
    """Further tasks, by the name that tables show."""
    limit: int | None = Field(default=None, ge=1)
    """Ask only the first so many questions of each task that has no limit of its own; null asks all."""
    seed: int = 0
    """Seed of the draw of the shots, and of bootstrapped standard errors."""
    backend: Backend = Backend.HF
    """`hf`: transformers, with contexts shared by their choices; `vllm`: vLLM's engine."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of vLLM's engine, by its names there: `{tensor_parallel_size: 2}`."""
    batch_size: int = Field(default=128, ge=1)
    """Most sequences in one forward pass."""
    batch_tokens: int = Field(default=4096, ge=1)
    """Most tokens in one forward pass, padding included; one sequence may be longer. Some 65,536 suit a GPU."""
    device: str | None = None
    """Where models run: `cpu`, `cuda`, `cuda:1`; null takes a GPU where there is one. vLLM finds its own."""
    dtype: Dtype = Dtype.AUTO
    """Type of the weights; `auto` is float32 on a CPU, elsewhere the folder's own."""
    add_bos_token: bool | None = None
    """Whether prompts begin with the tokenizer's BOS; null: those of the domain suites do (AdaptLLM's way), for others
    it is left to the tokenizer."""
    max_length: int | None = Field(default=None, ge=2)
    """Window in tokens; null is the model's own. What doesn't fit is cut from the left and counted."""

    @field_validator("suites", mode="before")
    @classmethod
    def _named_suites(cls, value: Any) -> Any:
        """A list of names stands for suites as the hub has them."""
        if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
            value = {name: {} for name in value}
        known = [suite.value for suite in SuiteName]
        for name in value if isinstance(value, Mapping) else ():
            if name not in known:
                near = nearest(str(name), known)
                raise ValueError(f"{', '.join(known)}, not '{name}'" + (f"; {near}" if near else ""))
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.suites and not self.tasks:
            raise ValueError("at least one suite or task")
        if self.engine and self.backend is not Backend.VLLM:
            raise ValueError("engine only with backend: vllm")
        return self

    def scoring(self) -> dict[str, Any]:
        """The settings that scores depend on; devices and batches change their rounding alone."""
        included = {"seed", "backend", "dtype", "add_bos_token", "max_length"}
        return self.model_dump(mode="json", include=included | ({"engine"} if self.engine else set()))
