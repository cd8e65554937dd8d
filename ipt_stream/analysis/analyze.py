"""`ipt-stream analyze`: runs the analyses that the configuration names over one run, and makes one report of them.

    output: out/analysis
    synthesis: out/segments            # what they look at: analysis/inputs.py
    summary: {}                        # one section an analysis, with its settings; what is not named is not run
    report: {file: out/report.html}

Each analysis owns a directory of its own below `output` and can be asked again: a finished one answers at once, one
with other settings is refused, and one that is named for the first time is added. The report is made of all those that
are named, anew where something in it would differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from pydantic import Field, model_validator

from ipt_stream import storage
from ipt_stream.analysis.checks.analyze import ChecksSettings, analyze_checks
from ipt_stream.analysis.contamination.analyze import analyze_contamination
from ipt_stream.analysis.contamination.settings import ContaminationSettings
from ipt_stream.analysis.diversity.analyze import analyze_diversity
from ipt_stream.analysis.diversity.settings import DiversitySettings
from ipt_stream.analysis.domains import DomainsSettings, analyze_domains
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import read_part
from ipt_stream.analysis.quality.analyze import QualitySettings, analyze_quality
from ipt_stream.analysis.report.publish import ReportSettings, publish_report
from ipt_stream.analysis.summary import SummarySettings, analyze_summary
from ipt_stream.analysis.synthesizer import SynthesizerSettings, analyze_synthesizer
from ipt_stream.config import Settings
from ipt_stream.progress import log
from ipt_stream.stage import Figure, StageReport, open_stage

S = TypeVar("S", bound=Settings)


class AnalyzeConfig(Inputs):
    """Settings of the analyses: what they look at, and a section for each that is to be made."""

    output: str
    """Directory of the analyses, `NAME/` each, and of the report."""
    summary: SummarySettings | None = None
    """Counts, the speed of each stage, scores: analysis/summary.py."""
    checks: ChecksSettings | None = None
    """What can be told of each pair without a judge: analysis/checks."""
    synthesizer: SynthesizerSettings | None = None
    """How good synthesizers are on texts whose pairs are known: analysis/synthesizer.py."""
    quality: QualitySettings | None = None
    """What a judge, people or the sample world's truth say of a sample of pairs: analysis/quality."""
    domains: DomainsSettings | None = None
    """What texts and pairs are about: analysis/domains.py."""
    contamination: ContaminationSettings | None = None
    """Which evaluation examples the data holds: analysis/contamination."""
    diversity: DiversitySettings | None = None
    """How varied texts and pairs are, and what each round yields: analysis/diversity."""
    report: ReportSettings = Field(default_factory=ReportSettings)
    """The page that shows them all: analysis/report."""

    @model_validator(mode="after")
    def _names_some(self) -> Self:
        if not named_analyses(self):
            known = ", ".join(name for name in type(self).model_fields if name not in {*Inputs.model_fields, *OTHERS})
            raise ValueError(f"name at least one analysis ({known}), such as `summary: {{}}`")
        return self

    def inputs(self) -> Inputs:
        """What all analyses look at."""
        return Inputs.model_validate({name: getattr(self, name) for name in Inputs.model_fields})


OTHERS = ("output", "report")
"""Fields of the configuration that are neither inputs nor analyses."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """An analysis that was named: its name, and what makes it in a directory."""

    name: str
    run: Callable[[str], StageReport]


def named_analyses(config: AnalyzeConfig) -> tuple[Analysis, ...]:
    """The analyses that `config` names, in the order in which they are made and shown."""
    inputs = config.inputs()
    found = (
        _analysis("summary", inputs, config.summary, analyze_summary),
        _analysis("checks", inputs, config.checks, analyze_checks),
        _analysis("synthesizer", inputs, config.synthesizer, analyze_synthesizer),
        _analysis("quality", inputs, config.quality, analyze_quality),
        _analysis("domains", inputs, config.domains, analyze_domains),
        _analysis("contamination", inputs, config.contamination, analyze_contamination),
        _analysis("diversity", inputs, config.diversity, analyze_diversity),
    )
    return tuple(analysis for analysis in found if analysis is not None)


def _analysis(
    name: str, inputs: Inputs, settings: S | None, analyze: Callable[[Inputs, S, str], StageReport]
) -> Analysis | None:
    """`analyze` with its settings; None where it has none, and so is not to be made."""
    return None if settings is None else Analysis(name, lambda output: analyze(inputs, settings, output))


def analyze(config: AnalyzeConfig) -> StageReport:
    """Make the analyses that `config` names, then the report; gives what each of them has to say, and where it lies.

    Figures are those of the analyses, `NAME/figure` each, and the report's.

    Raises:
        InputError: an analysis can't read what it looks at.
        LedgerError: the output is another stage's, or an analysis there was made with other settings.
    """
    # The analyses may become more from time to time; each guards its own settings.
    stage = open_stage(config.output, "analyze", {})
    named = named_analyses(config)
    reports: dict[str, StageReport] = {}
    directories = {analysis.name: storage.join(config.output, analysis.name) for analysis in named}
    for number, analysis in enumerate(named, 1):
        log.info("analysis %d of %d: %s", number, len(named), analysis.name)
        report = analysis.run(directories[analysis.name])
        if report.stopped:
            return report
        reports[analysis.name] = report
    page = publish_report(config.inputs(), config.report, config.output, directories)
    known = stage.finished
    if known is not None and page.skipped and all(report.skipped for report in reports.values()):
        return known
    figures: dict[str, Figure] = {
        f"{name}/{key}": value for name, report in reports.items() for key, value in report.figures.items()
    }
    figures |= {f"report/{key}": value for key, value in page.figures.items()}
    lines = [line for name, report in reports.items() for line in _said(name, report, directories[name])]
    places = {**config.stages, **directories}
    lines += ["", "Where it lies", "", *_places(places, page)]
    return replace(stage.finish(figures, tuple(lines)), skipped=False)


def _said(name: str, report: StageReport, directory: str) -> list[str]:
    """The lines of an analysis, below its title; the summary has headings of its own."""
    if not report.lines or name == "summary":
        return list(report.lines)
    return ["", read_part(directory).title, "", *(f"  {line}".rstrip() for line in report.lines)]


def _places(places: Mapping[str, str], page: StageReport) -> list[str]:
    width = max(len(name) for name in [*places, "report"]) + 2
    return [f"  {name:<{width}}{place}" for name, place in places.items()] + [
        f"  {'report':<{width}}{line}" for line in page.lines
    ]
