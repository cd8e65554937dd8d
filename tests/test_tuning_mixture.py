"""Source files in mixtures: pairs of a data set as it was published, rendered like the project's own examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_tuning_source_files import make_published
from tuning_rows import MILL

from ipt_stream.config import build
from ipt_stream.errors import ConfigError
from ipt_stream.mixture.sources import ExamplesUnit, SourceConfig, _pairs


def examples(path: Path, **settings: Any) -> list[tuple[str, str, list[tuple[str, str]]]]:
    config = build(SourceConfig, {"kind": "pairs", "path": str(path), "passes": 1, **settings}, "mix.yaml")
    units = [unit for unit in _pairs("tuning", config) if isinstance(unit, ExamplesUnit)]
    found = [example for unit in units for example in unit.examples]
    return [
        (item.example_id, item.source, [(item.shots[0].text, pair.response) for pair in item.shots[0].pairs])
        for item in found
    ]


def test_a_mixture_takes_pairs_through_a_source_file(tmp_path: Path) -> None:
    make_published(tmp_path)
    assert examples(tmp_path / "squad", format="published/squad") == [("tuning:0#0", "squad", [(MILL, "Ada")])]
    own = tmp_path / "mine.yaml"
    pair = {"instruction": "{{ q }}", "answer": "{{ a }}"}
    own.write_text(json.dumps({"data": {"files": ["*.jsonl"]}, "context": "{{ t }}", "pairs": [pair]}))
    (tmp_path / "rows.jsonl").write_text('{"t": "T", "q": "Q?", "a": "A"}\n')
    assert examples(tmp_path / "rows.jsonl", format=str(own)) == [("tuning:0#0", "mine", [("T", "A")])]
    with pytest.raises(ConfigError, match="did you mean 'published/squad'"):
        examples(tmp_path / "squad", format="published/squadd")
