"""How good synthesizers are, side by side, on texts whose pairs are known (paper, section 5.1, table 5, figure 5).

    held-out texts --chosen once--> prompts --each model's engine--> models/NAME.json --> table 5
                                                    `-- the pairs --> a language model's prompts --> figure 5

Seen sources are those that the synthesizer was tuned on (texts of them that it was not), unseen ones it has never met.
All models are asked about the same texts with the same shots: those that fit the window of each of them. The measures
are tuning's own (tuning/quality.py). What a model has answered is kept in `models/`, so that a run that was ended goes
on with the next model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.analysis.helpfulness import (
    RANDOM,
    WITHOUT,
    Helped,
    HelpfulnessSettings,
    Question,
    as_question,
    measure_help,
    random_pairs,
    to_json,
)
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.local_model import LocalModel, Model, identity_of
from ipt_stream.analysis.part import publish_part
from ipt_stream.analysis.synthesizer_data import GroupData, Lengths, choose_data, read_groups
from ipt_stream.analysis.synthesizer_report import figures_of, report_lines, synthesizer_part
from ipt_stream.config import Settings
from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import ConfigError
from ipt_stream.evaluation.settings import Name
from ipt_stream.progress import log
from ipt_stream.stage import Stage, StageReport, run_once
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.parse import parse
from ipt_stream.tuning.pairs import TuningSource, listing
from ipt_stream.tuning.quality import FEW, Generate, Scored, pair_quality, response_accuracy

Load = Callable[[EngineConfig], Model]


class SynthesizerSettings(Settings):
    """Which synthesizers are measured, on what, and how much."""

    models: dict[Name, EngineConfig] = Field(min_length=1)
    """The models by the names that tables show, the most important one first: a model folder, URL or hub id alone, or
    the settings of its engine."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Settings of the engine that all models share, the language model too: `{max_model_len: 2048}`."""
    baseline: Name | None = None
    """The one of `models` that the others are compared with: the base model (table 5)."""
    tuning: str | None = None
    """A finished tune stage's directory: what it held out is measured on, sources that it tuned on as seen ones and
    others as unseen ones; its shots are of what it tuned on."""
    seen: tuple[TuningSource, ...] = ()
    """Further texts of sources that were tuned on; not those texts that were."""
    unseen: tuple[TuningSource, ...] = ()
    """Further texts of sources that were not (the paper: `socialiqa`, `textbookqa`, `wikiwhy`, `fever`)."""
    shots_from: tuple[TuningSource, ...] = ()
    """Further texts that shots come from; those of `seen` and `unseen` that are not measured serve too."""
    max_context_characters: int | None = Field(2000, gt=0)
    """Longer contexts are cut into windows, as tuning does; null: left whole."""
    texts: int = Field(200, ge=1)
    """Texts of the seen sources that pairs are made for, evenly of all sources, and as many of the unseen ones."""
    responses: int = Field(400, ge=0)
    """Gold instructions about these texts that are answered, of either group."""
    shots: int = Field(FEW, ge=0)
    """Texts with their pairs before the text, few-shot (table 5: 3); 0 measures zero-shot alone."""
    helpfulness: HelpfulnessSettings | None = None
    """Whether the pairs help a language model (figure 5); null: not measured."""
    seed: int = 0
    """Of what is chosen."""

    @model_validator(mode="before")
    @classmethod
    def _shared(cls, given: Any) -> Any:
        """A model's name alone stands for `{model: ...}`; `engine` is what they do not say themselves."""
        if not isinstance(given, dict) or not isinstance(given.get("engine", {}), dict):
            return given
        shared, made = given.get("engine", {}), dict(given)

        def whole(model: Any) -> Any:
            own = {"model": model} if isinstance(model, str) else model
            return {**shared, **own} if isinstance(own, dict) else own

        if isinstance(made.get("models"), dict):
            made["models"] = {name: whole(model) for name, model in made["models"].items()}
        if isinstance(made.get("helpfulness"), dict) and "model" in made["helpfulness"]:
            made["helpfulness"] = {**made["helpfulness"], "model": whole(made["helpfulness"]["model"])}
        return made

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.baseline is not None and self.baseline not in self.models:
            raise ValueError(f"baseline {self.baseline} is none of the models {', '.join(self.models)}")
        taken = [name for name in (WITHOUT, RANDOM) if name in self.models]
        if taken:
            raise ValueError(f"a model of another name than {taken[0]}")
        return self


@dataclass(frozen=True, slots=True)
class Measured:
    """What one synthesizer did in one group.

    Attributes:
        responses: one score a gold instruction.
        zero: one a text, from the text alone.
        few: one a text, after shots; empty where there are none.
        pairs: what it made of each text, few-shot where there are shots.
    """

    responses: list[Scored]
    zero: list[Scored]
    few: list[Scored]
    pairs: list[tuple[Pair, ...]]


def analyze_synthesizer(
    inputs: Inputs, settings: SynthesizerSettings, output: str, load: Load = LocalModel, lengths: Lengths | None = None
) -> StageReport:
    """Measure the synthesizers of `settings` and publish `output`/part.json, `synthesizer.json` and `models/`.

    Args:
        inputs: of which `world` names the texts where the settings name none: those of its tuning data.
        settings: what to measure.
        output: the analysis' directory.
        load: starts a model.
        lengths: gives what counts a text's tokens for a model; None: its tokenizer.

    Raises:
        ConfigError: there is nothing to measure on, or no such model.
        InputError: a source can't be read, or none of its texts fits.
        EngineError: an engine can't start, or fails.
        LedgerError: the output belongs to other settings.
    """
    settings = _with_defaults(inputs, settings)
    sources = {
        "seen": settings.seen, "unseen": settings.unseen, "shots": settings.shots_from
    }  # fmt: skip
    named = {
        **settings.model_dump(mode="json", exclude={"models", "engine", "helpfulness", "seen", "unseen", "shots_from"}),
        "models": {name: identity_of(model) for name, model in settings.models.items()},
        "sources": {name: [listing(source) for source in found] for name, found in sources.items()},
    }
    if settings.tuning is not None:
        named["tuning"] = listing(TuningSource(path=storage.join(settings.tuning, "examples", "*.jsonl")))
    if settings.helpfulness is not None:
        named["helpfulness"] = {
            **settings.helpfulness.model_dump(mode="json", exclude={"model"}),
            "model": identity_of(settings.helpfulness.model),
        }
    return run_once(output, "analyze-synthesizer", named, lambda stage: _analyze(settings, stage, load, lengths))


def _with_defaults(inputs: Inputs, settings: SynthesizerSettings) -> SynthesizerSettings:
    """The settings, with the sample world's tuning data where they name no text."""
    if settings.tuning is not None or settings.seen or settings.unseen:
        return settings
    if inputs.world is None:
        raise ConfigError(
            "there is nothing to measure synthesizers on",
            wanted="synthesizer.tuning (a tune stage that held something out), synthesizer.seen or synthesizer.unseen",
            got="none of them, and no sample world",
            fix="name sources whose pairs are known",
        )
    folder = storage.join(inputs.world, "tuning")
    chosen = {
        "seen": (TuningSource(path=storage.join(folder, "validation.jsonl")),),
        "shots_from": (*settings.shots_from, TuningSource(path=storage.join(folder, "train.jsonl"))),
    }
    return settings.model_copy(update=chosen)


def _analyze(settings: SynthesizerSettings, stage: Stage, load: Load, lengths: Lengths | None) -> StageReport:
    groups, left_out = choose_data(settings, read_groups(settings), lengths)
    measured = {name: _measured(settings, name, groups, stage.output, load) for name in settings.models}
    helped: list[Helped] = []
    if settings.helpfulness is not None:
        helped, not_fitting = _helped(settings, settings.helpfulness, groups, measured, stage.output, load)
        left_out["questions that don't fit the language model"] = not_fitting
    part = synthesizer_part(settings, groups, measured, helped, +left_out)
    figures = figures_of(settings, measured, helped)
    record = {"figures": figures, "left_out": dict(left_out), "texts": {g: len(d.examples) for g, d in groups.items()}}
    storage.publish_json(storage.join(stage.output, "synthesizer.json"), record)
    publish_part(stage.output, part)
    return stage.finish(figures, report_lines(part))


def _measured(
    settings: SynthesizerSettings, name: str, groups: Mapping[str, GroupData], output: str, load: Load
) -> dict[str, Measured]:
    """What model `name` did, by group; asked once, then read from its file."""
    path = storage.join(output, "models", f"{name}.json")
    if not storage.exists(path):
        config = settings.models[name]
        log.info("synthesizer %s: asked about %d texts", name, sum(len(data.examples) for data in groups.values()))
        model = load(config)
        try:
            found = {group: _measure(model, config.max_new_tokens, data) for group, data in groups.items()}
        finally:
            model.close()
        storage.publish_json(path, {group: asdict(done) for group, done in found.items()})
    return {group: _from_json(record) for group, record in storage.read_json(path).items()}


def _measure(model: Model, max_new_tokens: int, data: GroupData) -> Measured:
    made: list[tuple[Pair, ...]] = []

    def generate(prompts: Sequence[str], stop: str) -> list[str]:
        return [reply.text for reply in model.generate(prompts, max_new_tokens, (stop,))]

    def kept(prompts: Sequence[str], stop: str) -> list[str]:
        texts = generate(prompts, stop)
        made[:] = [parse(text).pairs for text in texts]
        return texts

    asking: Generate = generate
    keeping: Generate = kept
    responses = response_accuracy(data.asked, asking)
    zero = pair_quality(data.examples, keeping)
    few = pair_quality(data.examples, keeping, data.shots) if any(data.shots) else []
    return Measured(responses, zero, few, list(made))


def _from_json(record: Mapping[str, Any]) -> Measured:
    scored = {key: [Scored(**item) for item in record[key]] for key in ("responses", "zero", "few")}
    return Measured(**scored, pairs=[tuple(Pair(**pair) for pair in pairs) for pairs in record["pairs"]])


def _helped(
    settings: SynthesizerSettings,
    helping: HelpfulnessSettings,
    groups: Mapping[str, GroupData],
    measured: Mapping[str, Mapping[str, Measured]],
    output: str,
    load: Load,
) -> tuple[list[Helped], int]:
    """What the language model answered, and how many questions it can't be asked; asked once, then read."""
    path = storage.join(output, "helpfulness.json")
    if not storage.exists(path):
        questions: list[Question] = []
        pairs: dict[str, list[tuple[Pair, ...]]] = {kind: [] for kind in (WITHOUT, RANDOM, *measured)}
        for group, data in groups.items():
            for number, example in enumerate(data.examples[: helping.questions]):
                question = as_question(group, example, example.pairs[0])
                questions.append(question)
                pairs[WITHOUT].append(())
                pairs[RANDOM].append(random_pairs(question, data.examples, settings.seed))
                for name, found in measured.items():
                    pairs[name].append(found[group].pairs[number])
        log.info("helpfulness: %d questions, each with %d kinds of pairs", len(questions), len(pairs))
        model = load(helping.model)
        try:
            helped, left_out = measure_help(model, questions, pairs, helping.max_new_tokens)
        finally:
            model.close()
        storage.publish_json(path, {"answers": to_json(helped), "left_out": left_out})
    record = storage.read_json(path)
    return [Helped(**answer) for answer in record["answers"]], int(record["left_out"])
