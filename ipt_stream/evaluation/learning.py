"""The `instruct` stage: models tuned on instructions side by side, and how soon each learns to answer (figure 4).

<output>/MODEL/model              the tuned model
<output>/MODEL/evaluations.jsonl  its scores, a line an evaluation
<output>/curves.json              all scores by model and step
<output>/curves.png               the same, a line a model

One process, or several that train together: `composer -n 8 -m ipt_stream.cli instruct CONFIG.yaml`. Each takes its part
of every batch, and what comes out is the same but for rounding.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.errors import EvaluationError, TrainingError
from ipt_stream.evaluation.quiet import calm_libraries, quiet
from ipt_stream.evaluation.settings import Name
from ipt_stream.evaluation.tasks import METRICS, Kind, Task, TaskSettings, load_task
from ipt_stream.stage import Figure, Stage, StageReport
from ipt_stream.synthesis.model_files import model_identity
from ipt_stream.training.fit import EVALUATIONS, Evaluation
from ipt_stream.training.instruct import InstructionTuning, tune_on_instructions
from ipt_stream.training.ranks import joined, on_first
from ipt_stream.training.running import HOW, check_loggers, run_on_ranks, with_own_checkpoints

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VERB = "instruct"
COLUMNS = 3
"""Most plots side by side."""
_HOW: Any = {"output": True, "models": True, "evaluation": {"tasks", "batch_size", "batch_tokens"}, **HOW}
"""Settings that say where and how, but not what (models and tasks go by their content): a run may go on with others."""


class LearningSettings(Settings):
    """What models are asked while they are tuned."""

    every_steps: int = Field(default=50, gt=0)
    """Steps between two evaluations; the model is also asked before the first step and after the last."""
    tasks: dict[Name, TaskSettings] = Field(min_length=1)
    """Question files, by the name that plots show."""
    limit: int | None = Field(default=None, ge=1)
    """Ask only the first so many questions of each task that has no limit of its own; null asks all."""
    batch_size: int = Field(default=128, ge=1)
    """Most sequences in one forward pass."""
    batch_tokens: int = Field(default=4096, ge=1)
    """Most tokens in one forward pass, padding included."""
    seed: int = 0
    """Seed of the draw of the shots."""


class InstructConfig(InstructionTuning):
    """Settings of the `instruct` stage."""

    output: str
    """A local directory."""
    models: dict[Name, str] = Field(min_length=1)
    """The pre-trained models, Hugging Face folders or hub ids, by the name that plots show."""
    evaluation: LearningSettings
    """What they are asked on the way."""


Curve = Sequence[Mapping[str, float]]
"""A model's evaluations in order: `step`, and the score of each task."""


def instruct(config: InstructConfig) -> StageReport:
    """Tune each of `config.models` on the same instructions in the same order, and draw how their scores rise.

    Asked again after a kill, it goes on where it was; models that are tuned already stay.

    Raises:
        InputError: instructions or questions are missing, or not what they should be.
        EvaluationError: a task can't be asked here.
        TrainingError: training fails.
        LedgerError: the output belongs to other settings, models or data.
    """
    if storage.is_remote(config.output):
        raise TrainingError("output must be a local directory", got=config.output, fix="upload it afterwards")
    check_loggers(config.loggers)
    asked = config.evaluation
    tasks = [load_task(name, settings, asked.limit) for name, settings in asked.tasks.items()]
    with joined():
        return run_on_ranks(config.output, VERB, lambda: _settings_of(config, tasks), partial(_run, config, tasks))


def _settings_of(config: InstructConfig, tasks: Sequence[Task]) -> dict[str, Any]:
    """All that decides what comes out."""
    return {
        **config.model_dump(mode="json", exclude=_HOW),
        "models": {name: model_identity(path, None) for name, path in config.models.items()},
        "listing": [[path, storage.size(path)] for path in config.data.files],
        "tasks": {task.name: task.identity for task in tasks},
    }


def _run(config: InstructConfig, tasks: Sequence[Task], stage: Stage) -> StageReport:
    calm_libraries(offline=all(task.kind is not Kind.LM_EVAL for task in tasks))
    figures: dict[str, Figure] = {}
    for name, path in config.models.items():
        own = {**stage.settings, "models": stage.settings["models"][name], "base_model": path}
        tune = partial(_tune, config, tasks, name, path)
        report = run_on_ranks(storage.join(config.output, name), VERB, partial(dict, own), tune)
        figures |= {f"{name}/{key}": value for key, value in report.figures.items()}
    return on_first(lambda: _finish(config, tasks, stage, figures))


def _finish(config: InstructConfig, tasks: Sequence[Task], stage: Stage, figures: dict[str, Figure]) -> StageReport:
    curves = {name: _read(storage.join(config.output, name, EVALUATIONS)) for name in config.models}
    chances = {task.name: _chance(task) for task in tasks}
    record = {"models": curves, "chance": chances, "questions": {task.name: len(task.rows) for task in tasks}}
    storage.publish_json(storage.join(config.output, "curves.json"), record)
    storage.publish_bytes(storage.join(config.output, "curves.png"), png(curves, chances))
    for name, curve in curves.items():
        for task in tasks:
            figures[f"{name}/{task.name}/first"] = round(curve[0][task.name], 4)
            figures[f"{name}/{task.name}/last"] = round(curve[-1][task.name], 4)
    return stage.finish(figures, tuple(table(curves)))


def _tune(config: InstructConfig, tasks: Sequence[Task], name: str, path: str, stage: Stage) -> StageReport:
    def evaluation(tokenizer: PreTrainedTokenizerBase) -> Evaluation:
        return Evaluation(config.evaluation.every_steps, scorer(tasks, tokenizer, config.evaluation), at_start=True)

    own = with_own_checkpoints(config, f"{VERB}-{name}", stage.settings)
    summary = tune_on_instructions(own, path, stage.output, evaluation, name)
    figures: dict[str, Figure] = {
        "steps": summary.steps,
        "resumed_from": summary.resumed_from,
        "tokens": summary.tokens,
        "tokens_per_second": round(summary.tokens_per_second),
        "loss_first": round(summary.first_loss, 4),
        "loss_last": round(summary.last_loss, 4),
    }
    return on_first(lambda: stage.finish(figures))


def scorer(
    tasks: Sequence[Task], tokenizer: PreTrainedTokenizerBase, settings: LearningSettings
) -> Callable[[PreTrainedModel], dict[str, float]]:
    """What asks a model that is in memory the questions of `tasks`: its accuracy in each.

    Accuracy is `acc_norm` where choices follow one context, else `acc`, as in tables.
    """
    models: dict[int, Any] = {}

    def measure(model: PreTrainedModel) -> dict[str, float]:
        with quiet():
            from ipt_stream.evaluation.harness import ask
            from ipt_stream.evaluation.model import MeteredLM

            if id(model) not in models:
                sizes = {"batch_size": settings.batch_size, "batch_tokens": settings.batch_tokens}
                models[id(model)] = MeteredLM(model, tokenizer=tokenizer, **sizes)  # type: ignore[arg-type]
            answers = {task.name: ask(models[id(model)], task, settings.seed) for task in tasks}
            return {name: accuracy(name, answer.samples) for name, answer in answers.items()}

    return measure


def accuracy(task: str, samples: Sequence[Mapping[str, Any]]) -> float:
    """The mean over questions of `acc_norm`, or of `acc`. Raises `EvaluationError` where a task has neither."""
    metric = next((name for name in reversed(METRICS) if name in samples[0]), None)
    if metric is None:
        raise EvaluationError(
            f"task {task} has no score to draw",
            wanted=" or ".join(METRICS),
            got=", ".join(sorted(samples[0])),
            fix="take questions with choices",
        )
    return sum(float(sample[metric]) for sample in samples) / len(samples)


def table(curves: Mapping[str, Curve]) -> list[str]:
    """The scores as aligned lines: a row a step, a column a model and task."""
    names = [(model, task) for model, curve in curves.items() for task in curve[0] if task != "step"]
    by_step = {model: {int(point["step"]): point for point in curve} for model, curve in curves.items()}
    steps = sorted({step for points in by_step.values() for step in points})
    header = ["step", *(f"{model}: {task}" for model, task in names)]
    rows = [header]
    for step in steps:
        scores = (by_step[model][step].get(task) if step in by_step[model] else None for model, task in names)
        rows.append([f"{step:,}", *("" if score is None else f"{score:.3f}" for score in scores)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def draw(curves: Mapping[str, Curve], chances: Mapping[str, float | None]) -> Drawing:
    """The plot: steps across, scores up, a line a model, a panel a task; chance is dashed."""
    from matplotlib.figure import Figure as Drawing

    across = min(COLUMNS, len(chances))
    down = -(-len(chances) // across)
    drawing = Drawing(figsize=(1.0 + 4.2 * across, 0.4 + 3.4 * down), layout="constrained")
    panels = drawing.subplots(down, across, squeeze=False).flat
    for panel, (task, chance) in zip(panels, chances.items(), strict=False):
        for number, (model, curve) in enumerate(curves.items()):
            steps, scores = [point["step"] for point in curve], [point[task] for point in curve]
            panel.plot(steps, scores, marker="o", markersize=3, color=f"C{number % 10}", label=model)
        if chance is not None:
            panel.axhline(chance, color="black", linestyle="dashed", linewidth=1, label="chance")
        panel.set_title(task, parse_math=False)
        panel.set_xlabel("steps of instruction tuning")
        panel.set_ylabel("accuracy")
        panel.grid(alpha=0.3)
        for text in panel.legend(frameon=False).get_texts():
            text.set_parse_math(False)
    for panel in list(panels):
        panel.set_visible(False)
    return drawing


def png(curves: Mapping[str, Curve], chances: Mapping[str, float | None]) -> bytes:
    """The plot as a PNG: the same curves give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawing = draw(curves, chances)
    FigureCanvasAgg(drawing)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _chance(task: Task) -> float | None:
    """What guessing scores, where the questions are here to tell."""
    choices = [len(row.get("choices") or row.get("context_options") or ()) for row in task.rows[: task.limit]]
    return sum(1 / count for count in choices) / len(choices) if choices and all(choices) else None


def _read(path: str) -> Curve:
    return [json.loads(line) for line in storage.read_bytes(path).splitlines()]
