"""The `tune` stage: a synthesizer that writes pairs about the text it is given (paper, section 2.1).

sources -> examples -> a tokenizer, trained or taken -> shots, sequences, batches -> fit -> <output>/model
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.config import Settings
from ipt_stream.progress import log
from ipt_stream.stage import Figure, Stage, StageReport, run_once
from ipt_stream.training.fit import FitSettings, fit
from ipt_stream.training.models import (
    ModelConfig,
    build_model,
    load_model,
    load_tokenizer,
    parameter_count,
    save_model_folder,
)
from ipt_stream.tuning.pairs import MAX_CONTEXTS, TuningExample, TuningSource, listing, read_source
from ipt_stream.tuning.sequences import EncodedShot, FewShot, Phase, batch_arrays, encode_shots, plan_batches

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast


class TuneConfig(Settings):
    """Settings of the `tune` stage."""

    sources: tuple[TuningSource, ...] = Field(min_length=1)
    """The data sets to tune on."""
    output: str
    """A local directory; the model goes into its `model`."""
    validation: tuple[TuningSource, ...] = ()
    """Data sets to measure the loss on at the end."""
    base_model: str | None = None
    """A Hugging Face folder or hub id to start from, with its tokenizer; null: from scratch, as `model` says."""
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
    """Of the weights and of the order of everything."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if storage.is_remote(self.output):
            raise ValueError(f"output must be a local directory, {self.output} is not; upload the model afterwards")
        if self.max_seq_len > self.tokens_per_batch:
            raise ValueError(f"max_seq_len {self.max_seq_len} is more than tokens_per_batch {self.tokens_per_batch}")
        if self.base_model is None and self.max_seq_len > self.model.max_position_embeddings:
            longest = self.model.max_position_embeddings
            raise ValueError(f"max_seq_len {self.max_seq_len} is more than model.max_position_embeddings {longest}")
        return self


def tune(config: TuneConfig) -> StageReport:
    """Train a synthesizer as `config` says and publish it at `<output>/model`; a killed run goes on where it was.

    Raises:
        InputError: a source can't be read. TrainingError: the data does not fit the settings, or training fails.
        LedgerError: the output directory was made with other settings.
    """
    settings = config.model_dump(mode="json", exclude={"output"})
    settings["listing"] = [listing(source) for source in (*config.sources, *config.validation)]
    return run_once(config.output, "tune", settings, lambda stage: _tune(config, stage))


def _tune(config: TuneConfig, stage: Stage) -> StageReport:
    examples, read_counts = _read(config, config.sources)
    if config.base_model is None:
        tokenizer: PreTrainedTokenizerBase = _trained_tokenizer(config, examples)
        model = build_model(config.model, tokenizer, config.seed)
    else:
        tokenizer = load_tokenizer(config.base_model)
        model = load_model(config.base_model)
    shots, encode_counts = encode_shots(examples, tokenizer, config.max_seq_len)
    batches = plan_batches(
        shots,
        config.phases,
        max_seq_len=config.max_seq_len,
        tokens_per_batch=config.tokens_per_batch,
        steps=config.steps,
        epochs=config.epochs,
        seed=config.seed,
    )
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    log.info("tune: %s", f"{parameter_count(model):,} parameters, {len(shots):,} shots, {len(batches):,} steps")
    summary = fit(
        model,
        batch_loader(batches, shots, padding),
        config.fit,
        steps=len(batches),
        output=config.output,
        seed=config.seed,
        name="tune",
    )
    figures: dict[str, Figure] = {
        "parameters": parameter_count(model),
        **{f"examples_{source}": n for source, n in sorted(Counter(e.source for e in examples).items())},
        **dict(sorted((read_counts + encode_counts).items())),
        "pairs": sum(len(example.pairs) for example in examples),
        "shots": len(shots),
        "sequences": sum(len(batch) for batch in batches),
        "steps": summary.steps,
        "resumed_from": summary.resumed_from,
        "tokens": summary.tokens,
        "tokens_per_second": round(summary.tokens_per_second),
        "loss_first": round(summary.first_loss, 4),
        "loss_last": round(summary.last_loss, 4),
    }
    if config.validation:
        held_out = encode_shots(_read(config, config.validation)[0], tokenizer, config.max_seq_len)[0]
        figures["loss_validation"] = round(_validation_loss(model, held_out, config, padding), 4)
    save_model_folder(model, tokenizer, storage.join(config.output, "model"))
    loss = f"loss {figures['loss_first']} -> {figures['loss_last']}"
    line = f"synthesizer: {figures['parameters']:,} parameters, {summary.tokens:,} tokens, {loss}"
    return stage.finish(figures, (line,))


def _read(config: TuneConfig, sources: Sequence[TuningSource]) -> tuple[list[TuningExample], Counter[str]]:
    examples: list[TuningExample] = []
    counts: Counter[str] = Counter()
    for source in sources:
        read, left = read_source(source, config.max_context_characters, config.max_contexts)
        examples += read
        counts += left
    return examples, counts


def _trained_tokenizer(config: TuneConfig, examples: Sequence[TuningExample]) -> PreTrainedTokenizerFast:
    from ipt_stream.synthesis.prompt import format_shot
    from ipt_stream.tuning.sequences import shot_of
    from ipt_stream.tuning.tokenizer import train_tokenizer

    return train_tokenizer((format_shot(shot_of(example, example.pairs)) for example in examples), config.vocab_size)


def batch_loader(
    batches: Sequence[Sequence[FewShot]], shots: Sequence[EncodedShot], padding: int
) -> DataLoader[dict[str, Tensor]]:
    """A loader of ready batches, in order: `input_ids`, `labels` and `attention_mask`, each (sequences, longest)."""
    import torch
    from torch.utils.data import DataLoader

    def tensors(batch: Sequence[FewShot]) -> dict[str, Tensor]:
        names = ("input_ids", "labels", "attention_mask")
        return dict(zip(names, map(torch.from_numpy, batch_arrays(batch, shots, padding)), strict=True))

    return DataLoader(batches, batch_size=None, shuffle=False, collate_fn=tensors)  # type: ignore[arg-type]


def _validation_loss(model: PreTrainedModel, shots: Sequence[EncodedShot], config: TuneConfig, padding: int) -> float:
    """Mean loss a pair token over all of `shots`, one a sequence."""
    import torch

    from ipt_stream.training.composer_parts import mean_loss
    from ipt_stream.training.fit import count_tokens

    batches = plan_batches(
        shots,
        [Phase(shots=1)],
        max_seq_len=config.max_seq_len,
        tokens_per_batch=config.tokens_per_batch,
        steps=None,
        epochs=1,
        seed=config.seed,
    )
    total, counted = 0.0, 0
    model.eval()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        for batch in batch_loader(batches, shots, padding):
            tokens = count_tokens(batch)["loss_generating"]
            total += float(mean_loss(model, batch["input_ids"], batch["labels"])) * tokens
            counted += tokens
    return total / max(1, counted)
