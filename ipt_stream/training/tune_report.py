"""What a tuning would be, in words: `ipt-stream tune CONFIG --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ipt_stream.synthesis.prompt import format_shot
from ipt_stream.tuning.pairs import PairFormat, TuningExample
from ipt_stream.tuning.sequences import EncodedShot, FewShot, shot_of

if TYPE_CHECKING:
    from ipt_stream.training.tune import TuneConfig
    from ipt_stream.training.tune_data import SourceCounts, TuneData

HEADINGS = (
    "source",
    "contexts",
    "pairs",
    "free-form",
    "choice",
    "free, CoT",
    "choice, CoT",
    "held out",
    "cut or left out",
)


def dry_run_lines(
    config: TuneConfig,
    data: TuneData,
    shots: Sequence[EncodedShot],
    batches: Sequence[Sequence[FewShot]],
    too_long: Mapping[str, int],
) -> tuple[str, ...]:
    """Counts per source, sequences, tokens and steps, the settings, and one formatted example."""
    sequences = [sequence for batch in batches for sequence in batch]
    tokens = sum(len(shots[index].tokens) for sequence in sequences for index in sequence)
    counted = sum(len(shots[i].tokens) - shots[i].pairs_from for sequence in sequences for i in sequence)
    passes, held = sum(map(len, sequences)) / len(shots), sum(map(len, sequences)) / len(sequences)
    return (
        *source_table(data.sources),
        "",
        f"{len(shots):,} shots of at most {config.max_seq_len:,} tokens, seen {passes:.3g} times; too long: "
        f"{_reasons(too_long)}",
        f"{len(sequences):,} sequences, {len(sequences) / len(batches):.3g} a step, of {held:.3g} shots each",
        f"{tokens:,} tokens, of which the loss counts {counted:,}",
        f"{len(batches):,} steps of at most {config.tokens_per_batch:,} tokens",
        "",
        *settings_lines(config),
        "",
        "one example, as the model sees it:",
        "",
        *example_text(data.train).split("\n"),
    )


def source_table(sources: Sequence[SourceCounts]) -> list[str]:
    """A line a source, and one for all."""
    counts = [
        [
            source.contexts,
            sum(source.pairs.values()),
            *(source.pairs.get(kind, 0) for kind in PairFormat),
            source.held_out,
        ]
        for source in sources
    ]
    counts.append([sum(column) for column in zip(*counts, strict=True)])
    first = [HEADINGS[0], *(source.label for source in sources), "all"]
    numbers = [HEADINGS[1:-1], *([f"{count:,}" for count in row] for row in counts)]
    last = [HEADINGS[-1], *(_reasons(source.left_out) for source in sources), ""]
    width, widths = max(map(len, first)), [max(map(len, column)) for column in zip(*numbers, strict=True)]
    return [
        "  ".join([name.ljust(width), *map(str.rjust, row, widths), reasons]).rstrip()
        for name, row, reasons in zip(first, numbers, last, strict=True)
    ]


def _reasons(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items())) or "-"


def settings_lines(config: TuneConfig) -> list[str]:
    """The numbers of the paper's table 8, as this tuning has them."""
    fit = config.fit
    lora = config.lora
    model = config.model
    scratch = f"from scratch: {model.layers} layers of width {model.hidden_size}, vocabulary {config.vocab_size:,}"
    rows = {
        "base model": config.base_model or scratch,
        "trained": "all weights" if lora is None else f"LoRA, rank {lora.rank}, alpha {lora.alpha:g}",
        "epochs": "as many as the steps make" if config.steps is not None else f"{config.epochs:g}",
        "batch size": f"{config.tokens_per_batch:,} tokens",
        "max sequence length": f"{config.max_seq_len:,}",
        "max learning rate": f"{fit.learning_rate:g}",
        "optimizer": "AdamW",
        "beta weights": f"{fit.betas[0]:g}, {fit.betas[1]:g}",
        "learning rate scheduler": f"{fit.schedule}, down to {fit.final_share:g} of the highest",
        "weight decay": f"{fit.weight_decay:g}",
        "warm-up steps": f"{fit.warmup_steps:,}",
        "gradient clipping": f"{fit.clip:g}",
        "dropout": f"{config.model.dropout if config.base_model is None else config.dropout or 0:g}",
    }
    return [f"{name:<24}{value}" for name, value in rows.items()]


def example_text(examples: Sequence[TuningExample]) -> str:
    """One formatted example: of those with the most formats, the one of middling length."""
    formats = [len({PairFormat.of(pair) for pair in item.pairs}) for item in examples]
    best = [item for item, count in zip(examples, formats, strict=True) if count == max(formats)]
    chosen = sorted(best, key=lambda item: len(item.context))[len(best) // 2]
    return format_shot(shot_of(chosen, chosen.pairs))
