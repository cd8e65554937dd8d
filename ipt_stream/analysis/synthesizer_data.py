"""What synthesizers are measured on: texts with their gold pairs, and the shots before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipt_stream import storage
from ipt_stream.corpus.pair import Pair
from ipt_stream.draw import seeded, shuffled
from ipt_stream.errors import InputError
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.prompt import Shot, format_prompt, neutralize
from ipt_stream.tuning.pairs import TuningExample, read_examples, read_source
from ipt_stream.tuning.quality import choose_examples, choose_pairs, choose_shots, response_prompt
from ipt_stream.tuning.sequences import shot_of

if TYPE_CHECKING:
    from ipt_stream.analysis.synthesizer import SynthesizerSettings

SEEN, UNSEEN = "seen", "unseen"
GROUPS = (SEEN, UNSEEN)
POOL = 256
"""Texts of a source that shots are drawn from."""

Lengths = Callable[[EngineConfig], Callable[[str], int]]


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of a group's sources.

    Attributes:
        measured: texts that may be measured on.
        others: texts of them that shots come from first.
    """

    measured: list[TuningExample]
    others: list[TuningExample]


@dataclass(frozen=True, slots=True)
class GroupData:
    """What the models are asked in one group.

    Attributes:
        examples: the texts with their gold pairs.
        asked: the gold instructions.
        shots: for each text those before it, few-shot.
    """

    examples: list[TuningExample]
    asked: list[tuple[TuningExample, Pair]]
    shots: list[tuple[Shot, ...]]


def read_groups(settings: SynthesizerSettings) -> dict[str, Known]:
    """The texts of each group, and those that its shots come from.

    Raises:
        InputError: a source can't be read, or the tune stage held nothing out.
    """
    measured: dict[str, list[TuningExample]] = {SEEN: [], UNSEEN: []}
    others: list[TuningExample] = []
    if settings.tuning is not None:
        folder = storage.join(settings.tuning, "examples")
        others += read_examples(storage.join(folder, "train.jsonl"))
        tuned = {example.source for example in others}
        held_out = storage.join(folder, "held_out.jsonl")
        if not storage.exists(held_out) or not storage.size(held_out):
            raise InputError(
                f"the tune stage in {settings.tuning} held nothing out",
                wanted=f"examples in {held_out}",
                fix="name synthesizer.seen or synthesizer.unseen, or tune with held_out",
            )
        for example in read_examples(held_out):
            measured[SEEN if example.source in tuned else UNSEEN].append(example)
    for source in settings.seen:
        measured[SEEN] += read_source(source, settings.max_context_characters)[0]
    for source in settings.unseen:
        measured[UNSEEN] += read_source(source, settings.max_context_characters)[0]
    for source in settings.shots_from:
        others += read_source(source, settings.max_context_characters)[0]
    return {group: Known(found, others) for group, found in measured.items() if found}


def choose_data(
    settings: SynthesizerSettings, groups: Mapping[str, Known], lengths: Lengths | None
) -> tuple[dict[str, GroupData], Counter[str]]:
    """What all models are asked, and what was left out of it, by reason.

    Raises:
        InputError: no text of a group leaves every model room to generate.
    """
    configs = list(settings.models.values())
    measures = [(lengths or _tokens)(config) for config in configs]
    room = min(config.max_model_len - config.max_new_tokens for config in configs)

    def length(text: str) -> int:
        return max(measure(text) for measure in measures)

    left_out: Counter[str] = Counter()
    chosen: dict[str, GroupData] = {}
    for group, known in groups.items():
        drawn = choose_examples(known.measured, len(known.measured), settings.seed)
        examples: list[TuningExample] = []
        for example in drawn:
            if len(examples) == settings.texts:
                break
            if length(format_prompt([], neutralize(example.context))) <= room:
                examples.append(example)
            else:
                left_out[f"{group} texts that don't fit"] += 1
        if not examples:
            raise InputError(
                f"no {group} text leaves room to generate",
                wanted=f"texts of at most {room:,} tokens: max_model_len less max_new_tokens",
                got=f"{len(drawn):,}, all longer",
                fix="raise max_model_len, or lower max_new_tokens or max_context_characters",
            )
        pairs = choose_pairs(examples, settings.responses)
        asked = [
            (item, pair) for item, pair in pairs if length(response_prompt(item.context, pair.instruction)) <= room
        ]
        left_out[f"{group} instructions that don't fit"] = len(pairs) - len(asked)
        pool = _pool(examples, known, settings.seed)
        chosen[group] = GroupData(examples, asked, choose_shots(examples, pool, settings.shots, room, length))
    return chosen, +left_out


def _pool(examples: list[TuningExample], known: Known, seed: int) -> dict[str, list[Shot]]:
    """The shots of each source: of other texts first, then of those that could have been measured on and are not."""
    asked = {example.document for example in examples}
    pool: dict[str, list[Shot]] = {}
    for source in sorted({example.source for example in examples}):
        shots: list[Shot] = []
        for found in (known.others, known.measured):
            fitting = [item for item in found if item.source == source and item.document not in asked]
            drawn = shuffled(seeded(seed, f"shots:{source}"), fitting)[: POOL - len(shots)]
            shots += [shot_of(item, item.pairs) for item in drawn]
        pool[source] = shots
    return pool


def _tokens(config: EngineConfig) -> Callable[[str], int]:
    """What counts tokens as the model's tokenizer does. Raises `EngineError` where that can't write the format."""
    from ipt_stream.synthesis.model_files import local_model
    from ipt_stream.synthesis.tokens import load_tokenizer

    tokenizer = load_tokenizer(local_model(config.model, config.revision), config.revision).tokenizer
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
