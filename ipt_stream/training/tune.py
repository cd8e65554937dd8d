"""The `tune` stage: a synthesizer that writes pairs about the text it is given (paper, section 2.1).

    sources -> examples -> a tokenizer, trained or taken -> shots, sequences, batches -> fit -> <output>/model
       `-> held-out examples ------------------------------------> loss and quality, every so many steps

The examples are kept in `<output>/examples/`, `train.jsonl` and `held_out.jsonl`, in the project's own format: the one
for mixtures that the tuning data is part of, the other for whoever measures the synthesizer later.

One process, or several that train together: `composer -n 8 -m ipt_stream.cli tune CONFIG.yaml`. Each takes its part of
every batch, and what comes out is the same but for rounding and the draws of dropout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.progress import log
from ipt_stream.stage import Figure, Stage, StageReport
from ipt_stream.training.batches import batch_loader, padding_of
from ipt_stream.training.fit import FitSettings, FitSummary, fit
from ipt_stream.training.lora import ADAPTER, LoraSettings, add_adapters, merge, save_adapter, trained_model
from ipt_stream.training.models import ModelConfig, parameter_count, save_model_folder
from ipt_stream.training.ranks import joined, on_first, rank, world_size
from ipt_stream.training.running import HOW, RunSettings, check_loggers, run_on_ranks, with_own_checkpoints
from ipt_stream.training.tune_data import TuneData, read_data
from ipt_stream.training.tune_measure import QualitySettings, evaluation_of
from ipt_stream.training.tune_model import tuning_model, tuning_tokenizer
from ipt_stream.training.tune_presets import TunePreset, expanded
from ipt_stream.training.tune_report import dry_run_lines
from ipt_stream.tuning.pairs import MAX_CONTEXTS, TuningSource, examples_text, listing
from ipt_stream.tuning.sequences import EncodedShot, FewShot, Phase, encode_shots, plan_batches

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EXAMPLES, TRAIN_FILE, HELD_OUT_FILE, MODEL = "examples", "train.jsonl", "held_out.jsonl", "model"
_HOW: Any = {"output": True, "dry_run": True, "preset": True, **HOW}
"""Settings that say where and how, but not what: a run may go on with others."""


class TuneConfig(RunSettings):
    """Settings of the `tune` stage."""

    preset: TunePreset | None = None
    """Settings of the paper's (tune_presets.py), of which this file says what is different; null: none."""
    sources: tuple[TuningSource, ...] = Field(min_length=1)
    """The data sets to tune on."""
    output: str
    """A local directory; the model goes into its `model`."""
    held_out: float = Field(default=0.0, ge=0, lt=1)
    """Share of the contexts that is not tuned on but measured on, by a hash of the seed and the context."""
    validation: tuple[TuningSource, ...] = ()
    """Data sets to measure on besides, such as the paper's unseen ones."""
    quality: QualitySettings | None = None
    """How often, and on how much of what is held out, loss and quality are measured; null: the loss alone, on all of
    it, at the end."""
    base_model: str | None = None
    """A Hugging Face folder or hub id to start from, with its tokenizer; null: from scratch, as `model` says."""
    base_revision: str | None = None
    """Commit of a hub id."""
    lora: LoraSettings | None = None
    """Train adapters beside the base model's layers (`{}` takes the defaults); null: all weights."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of the base model's attention weights while training; null: as its configuration says."""
    model: ModelConfig = ModelConfig()
    """The architecture, where there is no `base_model`."""
    vocab_size: int = Field(default=2048, gt=0)
    """Size of the vocabulary that is learned from the sources, where there is no `base_model`."""
    max_contexts: int = Field(default=MAX_CONTEXTS, gt=0)
    """At most so many contexts a source, those with the most pairs (paper, appendix B)."""
    max_context_characters: int | None = Field(default=2000, gt=0)
    """Longer contexts are cut into windows, each with the pairs that are about it; null: left whole."""
    max_seq_len: int = Field(default=1024, gt=0)
    """The longest sequence, in tokens (the paper: 4,096)."""
    phases: tuple[Phase, ...] = Field(default=(Phase(shots=1, share=0.4), Phase(shots=(1, 3), share=0.6)), min_length=1)
    """How many shots a sequence holds, by part of training."""
    tokens_per_batch: int = Field(default=2048, gt=0)
    """Tokens a step at most, padding counted (the paper: 16,384)."""
    epochs: float = Field(default=5.0, gt=0)
    """How often every shot is seen; not used where `steps` is set."""
    steps: int | None = Field(default=None, gt=0)
    """Exactly so many steps instead of `epochs`; null: as `epochs` says."""
    fit: FitSettings = FitSettings()
    """Optimizer, schedule, precision and checkpoints."""
    seed: int = 0
    """Of the weights, of the order of everything, and of what is held out."""
    dry_run: bool = False
    """Only say what the tuning would be, with one formatted example, and write nothing."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("preset") not in list(TunePreset):
            return given
        return expanded(TunePreset(given["preset"]), given)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if storage.is_remote(self.output):
            raise ValueError(f"output must be a local directory, {self.output} is not; upload the model afterwards")
        if self.max_seq_len > self.tokens_per_batch:
            raise ValueError(f"max_seq_len {self.max_seq_len} is more than tokens_per_batch {self.tokens_per_batch}")
        if self.base_model is None and self.max_seq_len > self.model.max_position_embeddings:
            longest = self.model.max_position_embeddings
            raise ValueError(f"max_seq_len {self.max_seq_len} is more than model.max_position_embeddings {longest}")
        if self.base_model is None and (self.lora is not None or self.dropout is not None):
            raise ValueError("lora and dropout are for a base_model; a new model has model.dropout")
        if self.lora is not None and self.fsdp:
            raise ValueError("fsdp is for all weights, and adapters are trained beside a whole model: leave one out")
        if self.quality is not None and not self.held_out and not self.validation:
            raise ValueError("quality is measured on what is held out: set held_out, or validation")
        if self.quality is not None and self.quality.max_new_tokens >= self.max_seq_len:
            raise ValueError(f"quality.max_new_tokens must leave room in max_seq_len {self.max_seq_len}")
        return self


def tune(config: TuneConfig) -> StageReport:
    """Train a synthesizer as `config` says and publish it at `<output>/model`; a killed run goes on where it was.

    Adapters (`lora`) are published at `<output>/adapter`, and at `<output>/model` only where they are to be merged.

    Raises:
        InputError: a source can't be read. TrainingError: the data does not fit the settings, or training fails.
        LedgerError: the output directory was made with other settings.
    """
    check_loggers(config.loggers)
    if config.dry_run:
        data = read_data(config)
        planned = _planned(config, data, tuning_tokenizer(config, data.train))
        return StageReport({}, dry_run_lines(config, data, *planned), stopped=True)
    settings = config.model_dump(mode="json", exclude=_HOW)
    settings["listing"] = [listing(source) for source in (*config.sources, *config.validation)]
    with joined():
        return run_on_ranks(config.output, "tune", lambda: settings, partial(_tune, config))


def _tune(config: TuneConfig, stage: Stage) -> StageReport:
    from ipt_stream.training.sharding import gathered_state

    data = read_data(config)
    on_first(lambda: _keep_examples(config, data))
    tokenizer = on_first(lambda: tuning_tokenizer(config, data.train))
    shots, batches, left = _planned(config, data, tokenizer)
    model = tuning_model(config, tokenizer)
    adapted = None
    if config.lora is not None:
        adapted = add_adapters(model, config.lora, str(config.base_model), config.seed)
        model = trained_model(adapted)
    parameters = parameter_count(model)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    log.info("tune: %s", f"{trained:,} parameters to train, {len(shots):,} shots, {len(batches):,} steps")
    summary = fit(
        model,
        batch_loader(batches, shots, padding_of(tokenizer), rank(), world_size()),
        config.fit,
        steps=len(batches),
        output=config.output,
        seed=config.seed,
        name="tune",
        evaluation=evaluation_of(config, data, tokenizer, len(batches)) if data.held_out else None,
        run=with_own_checkpoints(config, "tune", stage.settings),
    )
    figures = _figures(config, data, shots, batches, summary, left)
    figures |= {"parameters": parameters, "parameters_trained": trained}
    save = partial(_save, config, model, adapted, tokenizer, gathered_state(model))
    return on_first(lambda: _finish(stage, data, summary, figures, save))


def _keep_examples(config: TuneConfig, data: TuneData) -> None:
    for name, examples in ((TRAIN_FILE, data.train), (HELD_OUT_FILE, data.held_out)):
        storage.publish_bytes(storage.join(config.output, EXAMPLES, name), examples_text(examples))


def _save(
    config: TuneConfig,
    model: PreTrainedModel,
    adapted: PeftModel | None,
    tokenizer: PreTrainedTokenizerBase,
    state: Mapping[str, Tensor] | None,
) -> None:
    """Publish what was trained; `state` holds the weights where the ranks have them in parts."""
    if adapted is not None:
        save_adapter(adapted, tokenizer, storage.join(config.output, ADAPTER))
    if adapted is None or (config.lora is not None and config.lora.merged):
        whole: PreTrainedModel = model if adapted is None else merge(adapted)
        save_model_folder(whole, tokenizer, storage.join(config.output, MODEL), state)


def _finish(
    stage: Stage, data: TuneData, summary: FitSummary, figures: dict[str, Figure], save: Callable[[], None]
) -> StageReport:
    save()
    loss = f"loss {figures['loss_first']} -> {figures['loss_last']}"
    lines = [f"synthesizer: {figures['parameters']:,} parameters, {summary.tokens:,} tokens, {loss}"]
    if summary.evaluations:
        measured = [f"{name} {value:.3g}" for name, value in summary.evaluations[-1].items() if name != "step"]
        lines.append(f"held out: {len(data.held_out):,} contexts, {', '.join(measured)}")
    return stage.finish(figures, tuple(lines))


def _planned(
    config: TuneConfig, data: TuneData, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[EncodedShot], list[list[FewShot]], Counter[str]]:
    """The shots, the batches of all steps, and how many examples were cut or left out for their length."""
    shots, left = encode_shots(data.train, tokenizer, config.max_seq_len)
    batches = plan_batches(
        shots,
        config.phases,
        max_seq_len=config.max_seq_len,
        tokens_per_batch=config.tokens_per_batch,
        steps=config.steps,
        epochs=config.epochs,
        seed=config.seed,
    )
    return shots, batches, left


def _figures(
    config: TuneConfig,
    data: TuneData,
    shots: Sequence[EncodedShot],
    batches: Sequence[Sequence[FewShot]],
    summary: FitSummary,
    left: Counter[str],
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {
        **{f"examples_{source}": n for source, n in sorted(Counter(e.source for e in data.train).items())},
        **dict(sorted((data.left_out() + left).items())),
        "pairs": sum(len(example.pairs) for example in data.train),
        "held_out": len(data.held_out),
        "shots": len(shots),
        "sequences": sum(len(batch) for batch in batches),
        "steps": summary.steps,
        "resumed_from": summary.resumed_from,
        "tokens": summary.tokens,
        "tokens_per_second": round(summary.tokens_per_second),
        "loss_first": round(summary.first_loss, 4),
        "loss_last": round(summary.last_loss, 4),
    }
    measured = summary.evaluations[-1] if summary.evaluations else {}
    return figures | {name: round(value, 4) for name, value in measured.items() if name != "step"}
