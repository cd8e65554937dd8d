"""What is measured while a synthesizer is tuned, on contexts that are held out (paper, section 5.1, table 5).

loss_validation   mean loss a pair token, in nats
response_f1       response accuracy: F1 of the response to a gold instruction
pair_f1           pair quality, zero-shot: F1 of the pairs made from the text alone
pair_f1_few       the same after texts of the same source with their pairs
pairs_a_text      pairs made from the text alone
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from ipt_stream.config import Settings
from ipt_stream.draw import seeded, shuffled
from ipt_stream.errors import TrainingError
from ipt_stream.synthesis.prompt import Shot, format_prompt, neutralize
from ipt_stream.tuning.pairs import TuningExample
from ipt_stream.tuning.quality import (
    FEW,
    Generate,
    choose_examples,
    choose_pairs,
    choose_shots,
    mean,
    pair_quality,
    response_accuracy,
    response_prompt,
)
from ipt_stream.tuning.sequences import EncodedShot, Phase, encode_shots, plan_batches, shot_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ipt_stream.training.fit import Evaluation
    from ipt_stream.training.tune import TuneConfig
    from ipt_stream.training.tune_data import TuneData


class QualitySettings(Settings):
    """How the quality of the synthesizer is followed while it is tuned."""

    every_steps: int = Field(default=500, gt=0)
    """Steps between two measurements; the last step is always followed by one."""
    at_start: bool = False
    """Whether the base model is measured too, before the first step."""
    loss_contexts: int | None = Field(default=512, gt=0)
    """Held-out contexts that the loss is measured on; null: all."""
    contexts: int = Field(default=32, gt=0)
    """Held-out contexts that pairs are generated for, evenly of all sources."""
    responses: int = Field(default=64, gt=0)
    """Gold instructions of these contexts that a response is generated for."""
    shots: int = Field(default=FEW, ge=0)
    """Texts with their pairs before the text, few-shot (table 5: 3); 0 measures zero-shot alone."""
    max_new_tokens: int = Field(default=400, gt=0)
    """Tokens generated a prompt at most."""
    sequences: int = Field(default=16, gt=0)
    """Prompts that are generated for at a time."""


def evaluation_of(config: TuneConfig, data: TuneData, tokenizer: PreTrainedTokenizerBase, steps: int) -> Evaluation:
    """What `fit` measures: the loss alone at the end, or, as `config.quality` says, quality too.

    Raises:
        TrainingError: no held-out context fits in the length.
    """
    from ipt_stream.training.fit import Evaluation
    from ipt_stream.training.fit_settings import uses_bfloat16

    settings = config.quality
    bfloat16 = uses_bfloat16(config.fit.precision)
    most = settings.loss_contexts if settings is not None else None
    chosen = data.held_out if most is None else choose_examples(data.held_out, most, config.seed)
    shots, _ = encode_shots(chosen, tokenizer, config.max_seq_len)
    quality = None if settings is None else _quality(settings, config, data, tokenizer, bfloat16)

    def measure(model: PreTrainedModel) -> Mapping[str, float]:
        figures = {"loss_validation": validation_loss(model, shots, config, tokenizer, bfloat16)}
        return figures if quality is None else {**figures, **quality(model)}

    if settings is None:
        return Evaluation(every_steps=steps, measure=measure)
    return Evaluation(every_steps=settings.every_steps, measure=measure, at_start=settings.at_start)


def _quality(
    settings: QualitySettings,
    config: TuneConfig,
    data: TuneData,
    tokenizer: PreTrainedTokenizerBase,
    bfloat16: bool,
) -> Callable[[PreTrainedModel], Mapping[str, float]]:
    """The contexts, instructions and shots are chosen once, so that all measurements are of the same."""
    from ipt_stream.training.generate import greedy_generator

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    room = config.max_seq_len - settings.max_new_tokens
    fitting = [item for item in data.held_out if length(format_prompt([], neutralize(item.context))) <= room]
    examples = choose_examples(fitting, settings.contexts, config.seed)
    if not examples:
        raise TrainingError(
            "no held-out context leaves room to generate",
            wanted=f"contexts of at most {room:,} tokens: max_seq_len less quality.max_new_tokens",
            got=f"{len(data.held_out):,}, all longer",
            fix="lower quality.max_new_tokens, or max_context_characters",
        )
    pairs = choose_pairs(examples, settings.responses)
    asked = [(item, pair) for item, pair in pairs if length(response_prompt(item.context, pair.instruction)) <= room]
    before = choose_shots(examples, _pool(data, examples, config.seed), settings.shots, room, length)

    def measure(model: PreTrainedModel) -> Mapping[str, float]:
        generate: Generate = greedy_generator(
            model,
            tokenizer,
            max_new_tokens=settings.max_new_tokens,
            sequences=settings.sequences,
            bfloat16=bfloat16,
        )
        zero = pair_quality(examples, generate)
        figures = {"pair_f1": mean(zero), "pairs_a_text": sum(item.generated for item in zero) / len(zero)}
        if asked:
            figures["response_f1"] = mean(response_accuracy(asked, generate))
        if any(before):
            figures["pair_f1_few"] = mean(pair_quality(examples, generate, before))
        return figures

    return measure


def _pool(data: TuneData, examples: Sequence[TuningExample], seed: int) -> dict[str, list[Shot]]:
    """The shots of each source, from what is tuned on; of a source that isn't tuned on, from what else is held out."""
    asked = {item.document for item in examples}
    pool: dict[str, list[Shot]] = {}
    for source in sorted({item.source for item in examples}):
        found = [item for item in data.train if item.source == source and item.document not in asked]
        found = found or [item for item in data.held_out if item.source == source and item.document not in asked]
        chosen = shuffled(seeded(seed, f"shots:{source}"), found)[:256]
        pool[source] = [shot_of(item, item.pairs) for item in chosen]
    return pool


def validation_loss(
    model: PreTrainedModel,
    shots: Sequence[EncodedShot],
    config: TuneConfig,
    tokenizer: PreTrainedTokenizerBase,
    bfloat16: bool,
) -> float:
    """Mean loss a pair token over all of `shots`, in nats, one shot a sequence."""
    import torch

    from ipt_stream.training.batches import batch_loader, padding_of
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
    for batch in batch_loader(batches, shots, padding_of(tokenizer)):
        tokens, labels = batch["input_ids"].to(model.device), batch["labels"].to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
            loss = mean_loss(model, tokens, labels)
        count = count_tokens(batch)["loss_generating"]
        total += float(loss) * count
        counted += count
    return total / max(1, counted)
