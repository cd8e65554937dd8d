"""The verbs of the command line: where each stage's settings and function are, without importing either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ipt_stream.config import Settings
from ipt_stream.stage import StageReport


@dataclass(frozen=True, slots=True)
class Verb:
    """A stage as the command line knows it.

    Attributes:
        module: where it is.
        config: name of its `Settings` class there.
        function: name of its function there; it takes the settings and gives a `StageReport`.
        help: what it does, in a line.
        example: a command that works after `make demo`, or shows the form.
        options: settings that are also options of the command: `dry_run` is `--dry-run`.
    """

    module: str
    config: str
    function: str
    help: str
    example: str
    options: tuple[str, ...] = ()

    def load_config_class(self) -> type[Settings]:
        """Import the stage's settings class."""
        loaded: type[Settings] = getattr(import_module(self.module), self.config)
        return loaded

    def load_function(self) -> Callable[[Any], StageReport]:
        """Import the stage's function."""
        loaded: Callable[[Any], StageReport] = getattr(import_module(self.module), self.function)
        return loaded


VERBS: dict[str, Verb] = {
    "tune": Verb(
        "ipt_stream.training.tune",
        "TuneConfig",
        "tune",
        "tune an instruction synthesizer on contexts with question-answer pairs",
        "ipt-stream tune jobs/configs/tune.yaml --dry-run",
        options=("dry_run",),
    ),
    "synthesize": Verb(
        "ipt_stream.synthesis.pipeline",
        "SynthesizeConfig",
        "synthesize",
        "write question-answer pairs for every document of raw shards",
        "ipt-stream synthesize jobs/configs/synthesize.yaml engine.model=out/synthesizer/model rounds=3",
    ),
    "benchmark": Verb(
        "ipt_stream.benchmark.benchmark",
        "BenchmarkConfig",
        "benchmark",
        "measure tokens per GPU-day and what a corpus will cost, sweep over settings, compare results",
        "ipt-stream benchmark jobs/configs/benchmark.yaml",
    ),
    "mix": Verb(
        "ipt_stream.mixture.mix",
        "MixConfig",
        "mix",
        "render, pack and plan what the trainer will stream",
        "ipt-stream mix jobs/configs/mix.yaml seed=1",
        options=("dry_run",),
    ),
    "pretrain": Verb(
        "ipt_stream.training.pretrain",
        "PretrainConfig",
        "pretrain",
        "pre-train a model on a mixture, new or going on from one",
        "ipt-stream pretrain jobs/configs/pretrain.yaml preset=scratch-500m dry_run=true",
    ),
    "instruct": Verb(
        "ipt_stream.evaluation.learning",
        "InstructConfig",
        "instruct",
        "tune pre-trained models on instructions, and draw how their scores rise",
        "ipt-stream instruct jobs/configs/instruct.yaml",
    ),
    "evaluate": Verb(
        "ipt_stream.evaluation.evaluate",
        "EvaluateConfig",
        "evaluate",
        "evaluate models on suites of tasks through lm-eval, side by side",
        "ipt-stream evaluate jobs/configs/evaluate.yaml",
    ),
    "analyze": Verb(
        "ipt_stream.analysis.analyze",
        "AnalyzeConfig",
        "analyze",
        "look at what a run made: the analyses that are named, and one report of them",
        "ipt-stream analyze jobs/configs/analyze.yaml",
    ),
    "sample-world": Verb(
        "ipt_stream.corpus.sample_world",
        "SampleWorldConfig",
        "write_sample_world",
        "write the shards, tuning data and tasks of a small made-up world",
        "ipt-stream sample-world out/world --seed 0 --documents 1000",
    ),
    "world-questions": Verb(
        "ipt_stream.analysis.world_questions",
        "WorldQuestionsConfig",
        "write_world_questions",
        "write questions about the sample world, by what became of each document",
        "ipt-stream world-questions jobs/configs/world-questions.yaml",
    ),
    "domain-questions": Verb(
        "ipt_stream.evaluation.domain_questions",
        "DomainQuestionsConfig",
        "write_domain_questions",
        "write public evaluation data as the question files of the suites biomedicine and finance",
        "ipt-stream domain-questions jobs/configs/domain-questions.yaml",
    ),
    "compare": Verb(
        "ipt_stream.analysis.compare",
        "CompareConfig",
        "compare",
        "compare ways of training over seeds: table, plot, and what it shows",
        "ipt-stream compare jobs/configs/compare.yaml",
    ),
}
