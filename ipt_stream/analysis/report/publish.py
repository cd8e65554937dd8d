"""`publish_report`: reads the parts of finished analyses, draws examples, and writes the page unless it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

from pydantic import Field

from ipt_stream import storage
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import read_part
from ipt_stream.analysis.report.checks import CheckColumns
from ipt_stream.analysis.report.examples import Examples, collect
from ipt_stream.analysis.report.page import Facts, Section, assemble
from ipt_stream.analysis.report.sample import draw_examples
from ipt_stream.config import Settings, fingerprint
from ipt_stream.errors import InputError
from ipt_stream.mixture.sources import Kind, Making
from ipt_stream.progress import log
from ipt_stream.stage import StageReport
from ipt_stream.synthesis.results import SegmentReference, list_segments

RECORD = "report.json"
DEFAULT_TITLE = "Instruction pre-training: what the run made"


class ReportSettings(Settings):
    """Settings of the report."""

    file: str | None = None
    """The page; null: `report.html` in the output of the analysis."""
    title: str = DEFAULT_TITLE
    """Its heading."""
    examples: int = Field(1000, ge=0)
    """Augmented examples to take along, where there is a synthesis run: about 2 kB of page each for three texts of 250
    words. 10,000 open in the same time; 0: none."""
    example_characters: int = Field(20_000, ge=100)
    """Longer texts are cut there."""
    seed: int = Field(0, ge=0)
    """Which examples."""


def publish_report(inputs: Inputs, settings: ReportSettings, output: str, analyses: Mapping[str, str]) -> StageReport:
    """Write the page for the finished `analyses` (directory by name, in the order of its sections).

    It is made anew only where something in it would differ; `report.json` in `output` says what it was made of.

    Raises:
        InputError: the synthesis run has no finished segment, or files of it or of the checks were altered.
        StorageError: something can't be read or written.
    """
    file = settings.file or storage.join(output, "report.html")
    sections = [_section(directory) for directory in analyses.values()]
    references = _references(inputs, settings)
    making = _making(inputs.mixture)
    checks = analyses.get("checks")
    content = {
        "settings": settings.model_dump(mode="json"),
        "inputs": inputs.model_dump(mode="json"),
        "sections": [fingerprint([repr(section.part), section.settings]) for section in sections],
        "segments": fingerprint([reference.sha256 for reference in references]),
        "making": [making.seed, making.shots, making.with_text],
        "checks": checks is not None,
        "code": _code(),
    }
    known = _known(output, content, file)
    if known is not None:
        return known
    examples = None
    if references:
        log.info("report: drawing %s examples of %s segments", f"{settings.examples:,}", f"{len(references):,}")
        drawn = draw_examples(references, settings.examples, settings.seed)
        found = None if checks is None else CheckColumns(checks)
        examples = collect(drawn, making, found, settings.example_characters)
    facts = Facts(settings.title, _places(inputs), _program(), _about(examples, settings, references))
    page = assemble(sections, examples, facts)
    storage.publish_bytes(file, page)
    count = len(examples.pairs) if examples is not None else 0
    figures = {"examples": count, "bytes": len(page)}
    record = {"content": content, "sha256": hashlib.sha256(page).hexdigest(), "figures": figures, "file": file}
    storage.publish_json(storage.join(output, RECORD), record)
    return StageReport(figures, (_line(file, figures),))


def _known(output: str, content: Mapping[str, Any], file: str) -> StageReport | None:
    """The report that is there already, of just this content."""
    path = storage.join(output, RECORD)
    if not storage.exists(path) or not storage.exists(file):
        return None
    record = storage.read_json(path)
    if fingerprint(record["content"]) != fingerprint(content) or record["file"] != file:
        return None
    if hashlib.sha256(storage.read_bytes(file)).hexdigest() != record["sha256"]:
        return None
    return StageReport(record["figures"], (_line(file, record["figures"]),), skipped=True)


def _line(file: str, figures: Mapping[str, Any]) -> str:
    of = f", {figures['examples']:,} examples" if figures["examples"] else ""
    return f"{file} ({figures['bytes'] / 1e6:.1f} MB{of})"


def _section(directory: str) -> Section:
    stage = storage.read_json(storage.join(directory, "stage.json"))
    return Section(read_part(directory), directory, stage["settings"], stage["figures"].get("stage_seconds"))


def _references(inputs: Inputs, settings: ReportSettings) -> list[SegmentReference]:
    if inputs.synthesis is None or not settings.examples:
        return []
    references = list_segments(inputs.synthesis)
    if not references:
        raise InputError(
            f"no finished segments in {inputs.synthesis}", wanted="a synthesis run", fix="run ipt-stream synthesize"
        )
    return references


def _making(mixture: str | None) -> Making:
    """How the mixture renders augmented examples; as by default where there is none."""
    if mixture is None:
        return Making(0)
    path = storage.join(mixture, "stage.json")
    settings = storage.read_json(path)["settings"]
    try:
        augmented = [source for source in settings["sources"].values() if source["kind"] == Kind.AUGMENTED]
        seed = int(settings["seed"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not of a mixture", wanted="the output of mix", got=str(error)) from error
    first = augmented[0] if augmented else {}
    return Making(seed, first.get("shots"), first.get("with_text", True))


def _code() -> str:
    """A hash of what makes the page."""
    found = sorted(
        (file.name, file.read_bytes()) for file in files("ipt_stream.analysis.report").iterdir() if file.is_file()
    )
    return fingerprint([(name, hashlib.sha256(content).hexdigest()) for name, content in found])


def _program() -> str:
    try:
        return f"ipt-stream {version('ipt-stream')}"
    except PackageNotFoundError:  # run from a source tree
        return "ipt-stream"


def _places(inputs: Inputs) -> dict[str, str]:
    named = {"Synthesis": inputs.synthesis, "Sample world": inputs.world, "Mixture": inputs.mixture,
             "Evaluation": inputs.evaluation}  # fmt: skip
    return {name: path for name, path in named.items() if path is not None}


def _about(examples: Examples | None, settings: ReportSettings, references: Sequence[SegmentReference]) -> str:
    if examples is None:
        return ""
    count = len(examples.pairs)
    chosen = f"{count:,} examples drawn with seed {settings.seed}" if count == settings.examples else f"All {count:,}"
    cut = f" Texts are cut at {settings.example_characters:,} characters." if examples.shortened else ""
    return (
        f"{chosen} of {len(references):,} segment{'s' * (len(references) != 1)}, the same number of each as far as "
        f"they have them.{cut} An example is what training sees as one text: raw texts with their pairs, each round "
        "inheriting those before it."
    )
