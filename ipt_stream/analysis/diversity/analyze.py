"""The analysis: segments are counted one by one, on all cores, and the sums become tables and plots."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ipt_stream import storage
from ipt_stream.analysis.diversity.settings import DiversitySettings
from ipt_stream.analysis.fan_out import read_results, work_through
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import publish_part
from ipt_stream.config import fingerprint
from ipt_stream.errors import ConfigError
from ipt_stream.stage import Figure, Stage, StageReport, run_once

if TYPE_CHECKING:
    from ipt_stream.analysis.diversity.count import Counts
    from ipt_stream.mixture.sources import FinishedRun
    from ipt_stream.synthesis.tally import Tally

VERB = "analyze-diversity"


def analyze_diversity(inputs: Inputs, settings: DiversitySettings, output: str) -> StageReport:
    """Count what a synthesis run made: openings, formats, lengths, distinct n-grams, yield and rejections.

    Reads `inputs.synthesis`, and the tokenizer of `inputs.mixture` where the settings name none.

    Raises:
        ConfigError: there is no synthesis run, or no tokenizer where one is named.
        InputError: the run is not finished, or a segment was altered.
        LedgerError: the output belongs to other settings.
    """
    from ipt_stream.mixture.sources import open_run

    if inputs.synthesis is None:
        raise ConfigError("there is nothing to count", wanted="a synthesis run", got="no synthesis", fix="name one")
    run = open_run(inputs.synthesis)
    tokenizer = _definition(inputs, settings)
    made_from = {
        **settings.model_dump(mode="json", exclude={"tokenizer", "cores"}),
        "tokenizer": None if tokenizer is None else hashlib.sha256(tokenizer.encode()).hexdigest()[:16],
        "segments": fingerprint([reference.sha256 for reference in run.references]),
    }
    return run_once(output, VERB, made_from, lambda stage: _analyze(settings, run, tokenizer, stage))


def _definition(inputs: Inputs, settings: DiversitySettings) -> str | None:
    """The `tokenizer.json` to count lengths with. Raises `ConfigError` where there is none in the folder."""
    from ipt_stream.auto_tokenizer import TOKENIZER_FILE
    from ipt_stream.mixture.mix import TOKENIZER

    folder = settings.tokenizer
    if folder is None and inputs.mixture is not None:
        folder = storage.join(inputs.mixture, TOKENIZER)
    if folder is None:
        return None
    path = storage.join(folder, TOKENIZER_FILE)
    if not storage.exists(path):
        raise ConfigError(
            f"no tokenizer in {folder}",
            wanted=f"a folder with {TOKENIZER_FILE}",
            got="no such file",
            fix="set diversity.tokenizer to a model or tokenizer folder",
        )
    return storage.read_bytes(path).decode()


def _analyze(settings: DiversitySettings, run: FinishedRun, tokenizer: str | None, stage: Stage) -> StageReport:
    from ipt_stream.analysis.diversity.count import SETS, Counting, Counts, SegmentPart, add, count_segment
    from ipt_stream.analysis.diversity.distinct import Distinct
    from ipt_stream.analysis.diversity.tables import make_part, summary
    from ipt_stream.ledger import read_ledger
    from ipt_stream.mixture.sources import ABOUT_BYTES_A_ROW
    from ipt_stream.synthesis.tally import tally

    made = tally(read_ledger(run.output))
    level = _level(made, settings.distinct_kept)
    share = min(settings.length_texts / max(made.counts["pieces"], 1), 1.0)
    counting = Counting(tokenizer, share, settings.distinct_kept, level)
    parts = [SegmentPart(reference) for reference in run.references]
    size = sum(reference.rows for reference in run.references) * ABOUT_BYTES_A_ROW
    work_through(
        stage.output, parts, count_segment, counting, cores=settings.cores, size_bytes=size, name="diversity"
    )  # fmt: skip
    counts = Counts(distinct={name: Distinct(settings.distinct_kept, level) for name in SETS})
    dropped = sum(add(counts, result, settings.openings_kept) for result in read_results(stage.output, parts))
    unit = "words" if tokenizer is None else "tokens"
    found = summary(counts, made, unit, share, dropped)
    storage.publish_json(storage.join(stage.output, "diversity.json"), found)
    openings = [[*key, count] for key, count in sorted(counts.openings.items(), key=lambda item: (-item[1], item[0]))]
    storage.publish_json(storage.join(stage.output, "openings.json"), openings)
    publish_part(stage.output, make_part(found, settings.openings))
    return stage.finish(_figures(found), _lines(found, counts))


def _level(made: Tally, kept: int) -> int:
    """From which level n-grams are sampled: such that all that are held, repeated ones too, are about `kept`.

    An n-gram is a word, and a word is a token at least; where there are fewer tokens, nothing is sampled.
    """
    return max(-(-made.counts["generated_tokens"] // kept) - 1, 0).bit_length()


def _figures(found: Mapping[str, Any]) -> dict[str, Figure]:
    total = found["total"]
    figures: dict[str, Figure] = {
        "texts": total["texts"], "pairs": total["pairs"], "openings": found["openings"]["different"],
    }  # fmt: skip
    for name, one in found["distinct"].items():
        if one["share"] is not None:
            figures[f"distinct {name}".replace(" ", "_")] = round(one["share"], 4)
    return figures


def _lines(found: Mapping[str, Any], counts: Counts) -> tuple[str, ...]:
    total, top = found["total"], counts.openings.most_common(3)
    shown = ", ".join(f"{first} {second}".strip() for (_, first, second), _ in top)
    return (
        f"diversity: {total['pairs']:,} pairs from {total['texts']:,} texts,"
        f" {found['openings']['different']:,} openings (most often: {shown or 'none'})",
    )
