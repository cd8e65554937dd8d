"""compare: means, deviations, intervals and words over seeds; checked by hand and against scipy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ipt_stream.analysis.compare import CompareConfig, cells, compare, difference, words
from ipt_stream.config import build
from ipt_stream.errors import ConfigError, InputError
from ipt_stream.evaluation.results import Result, Score, to_json

SCORES = {
    "vanilla": {"known": (0.24, 0.26, 0.25), "reading": (0.30, 0.20, 0.25)},
    "instruct": {"known": (0.61, 0.63, 0.62), "reading": (0.31, 0.26, 0.24)},
    "rules": {"known": (0.20, 0.21, 0.19), "reading": (0.25, 0.24, 0.26)},
}


def write_results(folder: Path, arm: str, seed: int, tasks: dict[str, float], identity: str = "i") -> None:
    place = folder / f"{arm}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    results = {
        task: to_json(
            Result("pretrained", task, 200, 0, 0.25, {"acc_norm": Score(value, 0.03, 200)}, {}, 0, 1.0, identity)
        )
        for task, value in tasks.items()
    }
    (place / "results.json").write_text(json.dumps({"results": {"pretrained": results}}), "utf-8")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    for arm, tasks in SCORES.items():
        for seed in range(3):
            write_results(tmp_path / "evaluations", arm, seed, {task: values[seed] for task, values in tasks.items()})
    return {
        "output": str(tmp_path / "comparison"),
        "evaluations": f"{tmp_path}/evaluations/{{arm}}-{{seed}}",
        "arms": list(SCORES),
        "seeds": [0, 1, 2],
        "baseline": "vanilla",
        "titles": {"known": "people it was told of, $ and <b>"},
    }


def test_the_table_the_words_and_the_plot_say_what_the_scores_say(settings: dict[str, Any]) -> None:
    report = compare(build(CompareConfig, settings, "test"))
    said = "\n".join(report.lines)
    assert "acc_norm, mean ± standard deviation over 3 seeds" in said
    assert "| known   | 200 | 0.250  | 0.250 ± 0.010 | 0.620 ± 0.010 | 0.200 ± 0.010 |" in said
    known, reading = said.split("people it was told of, $ and <b>:")[1].split("reading:")
    assert "instruct is better than vanilla by 37.0 points (95% interval +34.7 to +39.3)" in known
    assert "rules is worse than vanilla by 5.0 points" in known
    assert known.index("instruct") < known.index("rules")
    assert "no difference to vanilla can be told for instruct, rules (3 seeds; the 95% intervals hold zero)" in reading
    place = Path(settings["output"])
    assert (place / "comparison.md").read_text("utf-8").strip() == said.strip()
    assert (place / "comparison.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((place / "comparison.json").read_text("utf-8"))
    assert record["tasks"]["known"]["arms"]["instruct"]["values"] == [0.61, 0.63, 0.62]
    assert report.figures["known/instruct"] == 0.62
    assert compare(build(CompareConfig, settings, "test")).skipped


def test_the_interval_is_welchs() -> None:
    from scipy.stats import ttest_ind

    ours, theirs = (0.5, 0.61, 0.55, 0.58), (0.4, 0.43, 0.41)
    found = difference(ours, theirs, 0.9)
    wanted = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.mean == pytest.approx(0.56 - 0.41333333)
    same = difference((0.5, 0.5), (0.4, 0.4), 0.95)
    assert (same.low, same.mean, same.high) == pytest.approx((0.1, 0.1, 0.1)) and same.is_clear()


def test_one_seed_is_too_few() -> None:
    with pytest.raises(ConfigError, match="arm a has too few seeds"):
        cells({"a": (0.5,), "b": (0.4, 0.5)}, "b", 0.95)


def test_words_are_said_where_nothing_is_shown(settings: dict[str, Any]) -> None:
    config = build(CompareConfig, settings, "test")
    row = cells(dict.fromkeys(SCORES, (0.2, 0.3, 0.25)), "vanilla", 0.95)
    assert words(config, {"t": row}) == [
        "t:",
        "  no difference to vanilla can be told for instruct, rules (3 seeds; the 95% intervals hold zero)",
        "These are 2 differences, each with an interval of its own: where nothing differs, about 0.1 of them would"
        " still look clear.",
    ]


def test_what_is_missing_or_does_not_fit_is_named(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no evaluation of vanilla, seed 7; wanted: .*/vanilla-7/results.json"):
        compare(build(CompareConfig, {**settings, "seeds": [7, 8]}, "test"))
    write_results(tmp_path / "evaluations", "rules", 2, {"other": 0.5})
    with pytest.raises(InputError, match=r"rules-2 has other tasks .*wanted: known, reading; got: other"):
        compare(build(CompareConfig, settings, "test"))
    for wrong, message in (({"baseline": "none"}, "none of the arms"), ({"evaluations": "x/{arm}"}, "no {seed}")):
        with pytest.raises(ConfigError, match=message):
            build(CompareConfig, {**settings, **wrong}, "test")
