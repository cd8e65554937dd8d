"""Whether pairs keep to the domains of their texts (paper, appendix F, tables 11 and 12).

The domains of each sampled text and of each of its pairs are said by a judge, or by a small classifier that is trained
from labelled lines. Then, for a text with the domains T whose pairs have the domains I together:

    coverage                 |T and I| / |T|
    coverage, multi-domain   the same, where T has more than one
    overlap                  |T and I| / |T or I|

and each is averaged over the texts. A text about {news, code} with pairs about {news, fiction} is covered by a half and
overlaps by a third.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.analysis.domain_labels import (
    DOMAINS,
    ClassifierSettings,
    pair_question,
    pair_text,
    read_domains,
    read_labelled,
    text_question,
    train_classifier,
)
from ipt_stream.analysis.domains_report import domains_part, figures_of, report_lines
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.intervals import Estimate
from ipt_stream.analysis.judging.asking import Bill, OpenJudge, ask_all, cache_of, open_judge
from ipt_stream.analysis.judging.settings import JudgeSettings
from ipt_stream.analysis.part import publish_part
from ipt_stream.analysis.quality.analyze import JUDGEMENTS, read_judgements, run_identity, synthesis_of
from ipt_stream.analysis.quality.sample import SampledPair, SampledText, draw_sample, pairs_of
from ipt_stream.analysis.reopen import reopen
from ipt_stream.config import Settings
from ipt_stream.errors import ConfigError
from ipt_stream.stage import Stage, StageReport, finished_report, run_once
from ipt_stream.tuning.pairs import TuningSource

VERB = "analyze-domains"
LABELS = "domains.jsonl"


class DomainsSettings(Settings):
    """What is sorted into domains, and by whom."""

    texts: int = Field(500, ge=1)
    """Augmented texts in the sample; with the same number and seed as `quality` they are the same texts."""
    seed: int = 0
    """Of the sample, and of what a classifier is tested on."""
    judge: JudgeSettings | None = None
    """A model that says the domains..."""
    classifier: ClassifierSettings | None = None
    """... or a small classifier that is trained for it; one of the two."""
    domains: dict[str, str] = Field(default=DOMAINS, min_length=2)
    """The domains that a judge may say, each with what it means (table 12 has eight)."""
    tuning: tuple[TuningSource, ...] = ()
    """Sources that the synthesizer was tuned on, for table 12's first row: the domains that their source files state,
    source by source, without those that have several."""
    quality: str | None = None
    """A finished quality analysis' directory, for scenarios by domain; null: `quality` beside this one, where it is
    there."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.judge is None) == (self.classifier is None):
            raise ValueError("exactly one of judge and classifier")
        return self


@dataclass(frozen=True, slots=True)
class Sorted:
    """The domains of one text of the sample and of its pairs.

    Attributes:
        text: of the text; None where that isn't said.
        pairs: of each pair.
    """

    text: frozenset[str] | None
    pairs: tuple[frozenset[str] | None, ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """What said the domains of everything, and how good it is.

    Attributes:
        by: its name.
        names: the domains that it may say.
        found: by text of the sample.
        accuracy: a classifier's, on lines held out.
        bill: a judge's.
    """

    by: str
    names: tuple[str, ...]
    found: list[Sorted]
    accuracy: Estimate | None
    bill: Bill | None


def analyze_domains(
    inputs: Inputs, settings: DomainsSettings, output: str, open_judge: OpenJudge = open_judge
) -> StageReport:
    """Sort a sample of `inputs.synthesis` into domains and publish `output`/part.json and `domains.jsonl`.

    Args:
        inputs: `synthesis`.
        settings: what is sorted, and by whom.
        output: the analysis' directory.
        open_judge: gives the judge of its settings.

    Raises:
        ConfigError: there is no synthesis run, no quality analysis where one is named, or no key for the judge.
        InputError: the run is not finished or has no pairs, or the labelled lines can't train a classifier.
        EvaluationError, EngineError: the judge does not answer.
        LedgerError: the output belongs to other settings.
    """
    run = synthesis_of(inputs, "domains")
    quality = _quality_of(settings, output)
    named: dict[str, Any] = {
        **settings.model_dump(mode="json", exclude={"judge", "classifier", "quality"}),
        "judge": None if settings.judge is None else {**settings.judge.identity(), "attempts": settings.judge.attempts},
        "quality": None if quality is None else _digest([storage.join(quality, JUDGEMENTS)]),
        "segments": run_identity(run),
        "classifier": None,
    }
    if settings.classifier is not None:
        named["classifier"] = {
            **settings.classifier.model_dump(mode="json", exclude={"labelled"}),
            "labelled": _digest(storage.expand([settings.classifier.labelled])),
        }
    reopen(output, VERB, named, {"quality"})
    return run_once(output, VERB, named, lambda stage: _analyze(run, quality, settings, stage, open_judge))


def _quality_of(settings: DomainsSettings, output: str) -> str | None:
    """The quality analysis to look at, if any."""
    beside = storage.join(posixpath.dirname(output.rstrip("/")), "quality")
    directory = settings.quality or beside
    report = finished_report(directory)
    if report is not None and storage.exists(storage.join(directory, JUDGEMENTS)):
        return directory
    if settings.quality is not None:
        raise ConfigError(
            f"no quality analysis in {directory}",
            wanted="a finished one",
            fix="run it first, or leave domains.quality out",
        )
    return None


def _digest(paths: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(storage.read_bytes(path)).digest())
    return digest.hexdigest()


def _analyze(
    run: str, quality: str | None, settings: DomainsSettings, stage: Stage, open_judge: OpenJudge
) -> StageReport:
    texts = draw_sample(run, settings.texts, settings.seed)
    pairs = pairs_of(texts)
    labels = (
        _judged(texts, pairs, settings, stage, open_judge) if settings.judge else _classified(texts, pairs, settings)
    )
    _publish(stage.output, texts, labels)
    scenarios = [] if quality is None else _scenarios(pairs, labels, read_judgements(quality))
    part = domains_part(labels, tuning_domains(settings.tuning), scenarios, settings.judge)
    figures = figures_of(labels)
    record = {"figures": figures, "bill": None if labels.bill is None else asdict(labels.bill)}
    storage.publish_json(storage.join(stage.output, "domains.json"), record)
    publish_part(stage.output, part)
    return stage.finish(figures, report_lines(labels))


def _judged(
    texts: Sequence[SampledText],
    pairs: Sequence[SampledPair],
    settings: DomainsSettings,
    stage: Stage,
    open_judge: OpenJudge,
) -> Labels:
    assert settings.judge is not None  # DomainsSettings holds one of the two
    questions = [text_question(text.text, settings.domains) for text in texts]
    questions += [pair_question(pair.pair, settings.domains) for pair in pairs]
    cache = cache_of(settings.judge, stage.output)
    asked = ask_all(questions, settings.judge, cache, read_domains, open_judge)
    found = _gathered(texts, asked.values)
    return Labels(settings.judge.name(), tuple(settings.domains), found, None, asked.bill)


def _classified(texts: Sequence[SampledText], pairs: Sequence[SampledPair], settings: DomainsSettings) -> Labels:
    assert settings.classifier is not None  # DomainsSettings holds one of the two
    made = train_classifier(settings.classifier, read_labelled(settings.classifier), settings.seed)
    values = made.label([*(text.text for text in texts), *(pair_text(pair.pair) for pair in pairs)])
    by = f"a classifier trained on {made.trained:,} labelled lines"
    return Labels(by, made.domains, _gathered(texts, values), made.accuracy, None)


def _gathered(texts: Sequence[SampledText], values: Sequence[frozenset[str] | None]) -> list[Sorted]:
    """`values` are of all texts, then of the pairs of the first text, and so on."""
    found, at = [], len(texts)
    for number, text in enumerate(texts):
        found.append(Sorted(values[number], tuple(values[at : at + len(text.pairs)])))
        at += len(text.pairs)
    return found


def tuning_domains(sources: Sequence[TuningSource]) -> Counter[str]:
    """How many of the sources are of each domain; those of several, or that state none, are left out (table 12)."""
    stated = [source.file.domain for source in sources if source.file is not None and source.file.domain is not None]
    return Counter(domain for domain in stated if domain not in ("several", "unseen"))


def _scenarios(
    pairs: Sequence[SampledPair], labels: Labels, judgements: Sequence[dict[str, Any]]
) -> list[tuple[str, str, str]]:
    """(domain, category, scenario) of every pair that has both, once a domain that it has."""
    said: dict[str, tuple[str, str]] = {}
    for record in judgements:
        rated = [rating for rating in record["ratings"].values() if rating and rating["category"]]
        if rated:
            said[record["id"]] = (rated[0]["category"], rated[0]["scenario"])
    domains = [domains for found in labels.found for domains in found.pairs]
    return [
        (domain, *said[pair.id])
        for pair, its in zip(pairs, domains, strict=True)
        if its is not None and pair.id in said
        for domain in sorted(its)
    ]


def _publish(output: str, texts: Sequence[SampledText], labels: Labels) -> None:
    lines = []
    for text, found in zip(texts, labels.found, strict=True):
        record = {
            "document_id": text.document_id,
            "piece": text.piece,
            "source": text.source,
            "round": text.round,
            "domains": None if found.text is None else sorted(found.text),
            "pairs": [None if domains is None else sorted(domains) for domains in found.pairs],
        }
        lines.append(json.dumps(record) + "\n")
    storage.publish_bytes(storage.join(output, LABELS), "".join(lines).encode())
