"""Settings of `ipt-stream benchmark`."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from ipt_stream.config import Settings


class SampleSettings(Settings):
    """Which documents of the user's shards are measured on."""

    documents: int = Field(20_000, ge=1)
    """Documents in the sample, enough to keep all engines busy for the whole time; a sample that ends before is said
    to."""
    shards: int = Field(8, ge=1)
    """Shards that they are taken from, chosen by the seed; from each the first rows. They are mixed, so that every
    second of the measurement sees all of them."""
    seed: int = 0
    """Of the choice."""


class TextSettings(Settings):
    """Made-up texts, where there are no shards: lengths are log-normal, as those of web pages are about."""

    mean_tokens: float = Field(500, gt=0)
    """Mean length in tokens (RefinedWeb: about 500; paper, section 3.1: 200M texts of 100B tokens)."""
    spread: float = Field(1.0, ge=0)
    """Standard deviation of the lengths' logarithm: 1.0 makes the median 0.61 of the mean, and one text of a hundred
    six times as long as it."""
    most_tokens: int = Field(20_000, ge=8)
    """Longer ones have this length."""


class ResponseSettings(Settings):
    """What a dummy model is taken to answer."""

    pairs: float = Field(5.0, ge=1)
    """Mean number of pairs a text: one, and a Poisson number more (paper, section 3.1: about 5)."""
    pair_tokens: float = Field(52.0, ge=8)
    """Mean tokens a pair, markers included (paper, section 3.1: about 52)."""
    spread: float = Field(0.5, ge=0)
    """Standard deviation of the logarithm of a pair's length."""


class DummySettings(Settings):
    """Dummy weights of a real shape, in place of `engine.model`: nothing is downloaded. See `dummy.py`."""

    shape: str = "mistral-7b"
    """mistral-7b, llama-3-8b, small (10M parameters, for CPUs), or a Hugging Face `config.json` of a dense decoder."""
    responses: ResponseSettings = ResponseSettings()
    """How long its answers are. Pairs that would go beyond `max_new_tokens` are left out."""
    texts: TextSettings = TextSettings()
    """The texts, where there is no `input`."""
    seed: int = 0
    """Of the answers and the texts."""


class CorpusSettings(Settings):
    """The corpus whose cost is told."""

    raw_tokens: float = Field(100e9, gt=0)
    """Its raw tokens (paper, section 3.1: RefinedWeb's share, 100B)."""
    price_per_gpu_hour: float | None = Field(None, ge=0)
    """In any currency; null: no money is told."""
    gpus: int | None = Field(None, ge=1)
    """GPUs that would work on it at once, to tell the days on the clock; null: not told."""


class SweepSettings(Settings):
    """Trials over settings, each combination once; see `sweep.py`."""

    points: dict[str, list[Any]] = Field(min_length=1)
    """Values by dotted key of the synthesize settings: `engine.max_num_seqs`, `engine.max_num_batched_tokens`,
    `engine.arguments.quantization`, `engine.arguments.speculative_config`, `engine.gpus` (tensor parallel), `rounds`,
    or any other. A null value leaves the key as it is without the sweep."""
    rungs: tuple[float, ...] = Field((20.0, 60.0), min_length=1)
    """Seconds of steady state of each round of trials: all points have a trial of the first length, and the best of
    them one of the next."""
    keep_within: float = Field(0.15, ge=0, le=1)
    """A point goes on to the next rung where the upper end of its range is at most this share below the best rate."""
    most_points: int = Field(64, ge=1)
    """More combinations than this are refused: every trial starts an engine."""

    @field_validator("points")
    @classmethod
    def _check_points(cls, points: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in points.items():
            if not values:
                raise ValueError(f"at least one value for {key}")
        return points

    @field_validator("rungs")
    @classmethod
    def _check_rungs(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if any(seconds <= 0 for seconds in rungs) or list(rungs) != sorted(rungs):
            raise ValueError("seconds above 0, each rung at least as long as the one before")
        return rungs

    @model_validator(mode="after")
    def _check_number(self) -> Self:
        number = 1
        for values in self.points.values():
            number *= len(values)
        if number > self.most_points:
            raise ValueError(f"at most {self.most_points} combinations (most_points), these are {number}")
        return self


class BenchmarkConfig(Settings):
    """Settings of `ipt-stream benchmark`."""

    output: str
    """Directory of the results: a path, or on a cluster a URL such as s3://bucket/prefix."""
    base: str | None = None
    """A configuration file of `ipt-stream synthesize`: the run whose cost is to be known."""
    synthesize: dict[str, Any] = Field(default_factory=dict)
    """Settings of the synthesize stage over those of `base`, or all of them. `output` is the benchmark's own; with
    `dummy`, `engine.model` is too, and `input` may be left out."""
    seconds: float = Field(60, gt=0)
    """Steady state that is measured, after the warm-up; longer, where an engine needs longer for any answer at all."""
    warm_up_seconds: float = Field(30, ge=0)
    """From the moment that the engines are up: at least the time that a chain takes through all its rounds, so that
    first and later rounds are as mixed as they stay. It lasts until each engine has answered something."""
    tail_seconds: float = Field(30, ge=0)
    """After the measurement, at most this long for the segments in flight: the tail that a run ends with."""
    windows: int = Field(8, ge=2)
    """Parts of the steady state whose rates' spread makes the range of the cost."""
    sample: SampleSettings = SampleSettings()
    """The documents that are measured on."""
    dummy: DummySettings | None = None
    """Measure with dummy weights, without a model; null: with `engine.model`."""
    corpus: CorpusSettings = CorpusSettings()
    """The corpus whose cost is told."""
    sweep: SweepSettings | None = None
    """Measure many settings in place of one, and write the best; null: one measurement."""
    compare: tuple[str, ...] = ()
    """Results (`result.json` each) to show side by side; nothing is measured then."""
    keep_run: bool = False
    """Keep what the stage wrote; else it is removed after each measurement."""

    @model_validator(mode="after")
    def _check_what(self) -> Self:
        if not self.compare and self.base is None and not self.synthesize:
            raise ValueError("base or synthesize, which say what to run, or compare")
        if len(self.compare) == 1:
            raise ValueError("at least two results to compare")
        return self
