"""`ipt-stream analyze`: what is named is made, once; the report is of all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from report_world import plain_rows, write_run

from ipt_stream.analysis.analyze import AnalyzeConfig, analyze, named_analyses
from ipt_stream.analysis.report.publish import ReportSettings
from ipt_stream.analysis.summary import SummarySettings
from ipt_stream.cli import main
from ipt_stream.config import build
from ipt_stream.errors import ConfigError, LedgerError
from ipt_stream.recipe import load_recipe

CONFIGS = Path(__file__).parents[1] / "jobs" / "configs"
NAMES = ("summary", "checks", "synthesizer", "quality", "domains", "contamination", "diversity")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "segments", {"web": [plain_rows("web", 20)]})


def config_of(run: Path, **changes: object) -> AnalyzeConfig:
    given = {"output": str(run.parent / "analysis"), "synthesis": str(run), "summary": {}, **changes}
    return AnalyzeConfig.model_validate(given)


def test_an_analysis_in_its_directory_and_the_report_beside(run: Path) -> None:
    report = analyze(config_of(run, stages={"segments": str(run)}))
    output = run.parent / "analysis"
    assert (output / "summary" / "part.json").exists()
    page = (output / "report.html").read_text()
    assert "<h2" in page and "Summary</h2>" in page
    assert report.figures["summary/pairs"] == 30
    assert report.figures["report/examples"] == 10
    text = "\n".join(report.lines)
    assert "Documents and pairs" in text
    assert text.index("Where it lies") < text.index(f"report    {output}/report.html")
    assert f"segments  {run}" in text


def test_asked_again_it_answers_at_once(run: Path) -> None:
    config = config_of(run)
    first = analyze(config)
    again = analyze(config)
    assert (first.skipped, again.skipped) == (False, True)
    assert again.lines == first.lines
    (run.parent / "analysis" / "report.html").unlink()
    assert not analyze(config).skipped
    assert (run.parent / "analysis" / "report.html").exists()


def test_other_settings_of_an_analysis_are_refused_those_of_the_report_are_not(run: Path) -> None:
    analyze(config_of(run))
    with pytest.raises(LedgerError, match="examples was 2, is 3"):
        analyze(config_of(run, summary={"examples": 3}))
    file = run.parent / "page.html"
    report = analyze(config_of(run, report={"file": str(file), "title": "Another <title>", "examples": 0}))
    assert not report.skipped
    assert "Another &lt;title&gt;" in file.read_text()
    assert 'id="examples"' not in file.read_text()


def test_a_configuration_without_an_analysis_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"name at least one analysis \(summary"):
        build(AnalyzeConfig, {"output": "x", "synthesis": str(run)}, "it.yaml")


def test_a_misspelt_setting_of_an_analysis_is_named() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'summary\.examples'"):
        build(AnalyzeConfig, {"output": "x", "summary": {"exmples": 2}}, "it.yaml")


def test_the_verb_runs_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run.parent / "it.yaml"
    file.write_text(yaml.safe_dump({"output": str(run.parent / "a"), "synthesis": str(run), "summary": None}))
    assert main(["analyze", str(file), "summary.examples=1", "report.examples=3"]) == 0
    assert "3 examples" in capsys.readouterr().out
    assert main(["analyze", str(file)]) == 2


def test_the_commented_settings_of_the_example_are_ready_to_use() -> None:
    text = (CONFIGS / "analyze.yaml").read_text()
    assert build(AnalyzeConfig, yaml.safe_load(text), "analyze.yaml").synthesizer is None
    uncommented = re.sub(r"(?m)^#(?! \S)", "", text)
    config = build(AnalyzeConfig, yaml.safe_load(uncommented), "analyze.yaml")
    assert [analysis.name for analysis in named_analyses(config)] == list(NAMES)
    assert config.quality is not None and config.quality.judge is not None and config.quality.judge.endpoint is not None
    endpoint = config.quality.judge.endpoint
    assert (endpoint.price_in, endpoint.price_out, endpoint.currency) == (0.15, 0.6, "USD")
    assert endpoint.key_variable == "OPENAI_API_KEY"
    assert config.quality.labels == {"ada": "out/sheet-ada.csv"}
    assert config.domains is not None and config.domains.classifier is not None
    assert config.synthesizer is not None and config.synthesizer.helpfulness is not None
    assert config.synthesizer.models["tuned"].max_model_len == 1536
    assert config.synthesizer.helpfulness.model.max_model_len == 512


def test_the_demo_analyzes_its_synthesizer_in_brief() -> None:
    step = load_recipe(str(CONFIGS / "demo.yaml")).steps[-1]
    assert step.verb == "analyze" and {"world", "synthesizer"} <= set(step.upstream)
    config = build(AnalyzeConfig, dict(step.settings), "demo.yaml")
    assert config.synthesizer is not None
    assert [analysis.name for analysis in named_analyses(config)] == [name for name in NAMES if name != "domains"]
    assert config.synthesizer.models["tuned"].model == "out/demo/synthesizer/model"
    assert config.synthesizer.texts <= 30 and config.synthesizer.responses <= 60, "a minute of the demo"
    assert config.world == "out/demo/world", "whose tuning data it is measured on"


def test_sections_have_defaults() -> None:
    config = AnalyzeConfig.model_validate({"output": "x", "summary": {}})
    assert config.summary == SummarySettings()
    assert config.report == ReportSettings()
