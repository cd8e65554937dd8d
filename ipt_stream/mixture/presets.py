"""The paper's mixtures by name, so that they can be compared: the same total in tokens, another content.

    vanilla          all documents as plain text                                   pre-training as usual
    mix              the same, and the tuning data 4 times                         table 2, "Mix PT"
    instruct         augmented and raw texts as they come, tuning data 4 times     section 3.1; a fifth is converted
    instruct-domain  augmented texts, and general instructions 1:1 by tokens       section 3.2; all are converted
    one-shot         instruct-domain, each text with its pairs alone               section 4.3, "1-shot"
    no-corpora       instruct-domain, without the raw texts                        section 4.3, "w/o Corpora"
    rule-based       instruct-domain, with pairs that rules find                   section 4.3, "Rule-based"

A preset names where its data is (`synthesis`, `tuning`, `general`) and gives the sources; what `sources` says of one of
them by the same name counts more. Where texts are seen at all, documents that yielded nothing come too. Set `tokens` to
the same number in all that are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Preset(StrEnum):
    """A mixture of the paper's."""

    VANILLA = "vanilla"
    MIX = "mix"
    INSTRUCT = "instruct"
    INSTRUCT_DOMAIN = "instruct-domain"
    ONE_SHOT = "one-shot"
    NO_CORPORA = "no-corpora"
    RULE_BASED = "rule-based"


TUNING_PASSES = 4
"""0.2B tokens of tuning data, 4 times in 100B (paper, section 3.1)."""
MAX_PASSES = 1e6
"""A preset repeats its data until the total is reached: what that means for the texts is the user's choice of total."""


def sources_of(preset: Preset, data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sources of `preset`, as settings.

    Args:
        preset: which mixture.
        data: its inputs by the names `synthesis`, `tuning`, `general`.

    Raises:
        ValueError: an input that it needs is not there.
    """
    is_domain = preset not in (Preset.VANILLA, Preset.MIX, Preset.INSTRUCT)
    needed = ["synthesis"]
    needed += ["tuning"] if preset in (Preset.MIX, Preset.INSTRUCT) else ["general"] if is_domain else []
    missing = [name for name in needed if not data.get(name)]
    if missing:
        raise ValueError(f"preset {preset} needs {', '.join(missing)} (got none)")

    def of_run(kind: str, **more: Any) -> dict[str, Any]:
        return {"kind": kind, "path": data["synthesis"], "fill": True, "max_passes": MAX_PASSES, **more}

    tuning = {"kind": "pairs", "path": data.get("tuning"), "passes": TUNING_PASSES}
    general = {"kind": "pairs", "path": data.get("general"), "max_passes": MAX_PASSES}
    match preset:
        case Preset.VANILLA:
            return {"documents": of_run("documents")}
        case Preset.MIX:
            return {"documents": of_run("documents"), "tuning": tuning}
        case Preset.INSTRUCT:
            return {"augmented": of_run("augmented"), "raw": of_run("raw"), "tuning": tuning}
        case Preset.RULE_BASED:
            return {"rules": of_run("rule-based"), "general": {**general, "ratio": {"to": "rules", "tokens": 1.0}}}
    changed: dict[Preset, dict[str, Any]] = {Preset.ONE_SHOT: {"shots": 1}, Preset.NO_CORPORA: {"with_text": False}}
    more = changed.get(preset, {})
    sources = {
        "augmented": of_run("augmented", **more),
        "general": {**general, "ratio": {"to": "augmented", "tokens": 1.0}},
    }
    return sources if preset is Preset.NO_CORPORA else {**sources, "raw": of_run("raw")}
