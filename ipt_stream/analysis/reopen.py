"""Asking a finished analysis again with something more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ipt_stream import storage


def reopen(output: str, verb: str, settings: Mapping[str, Any], may_differ: Collection[str]) -> None:
    """Let the analysis in `output` be done again where nothing but the settings `may_differ` are others than before.

    For what is added later and costs little, such as people's ratings of a sample: what cost much is kept elsewhere.
    """
    path = storage.join(output, "stage.json")
    if not storage.exists(path):
        return
    known = storage.read_json(path)
    before, now = known["settings"], dict(settings)
    if known["verb"] != verb or before == now:
        return
    if all(before.get(key) == now.get(key) for key in before.keys() | now.keys() if key not in may_differ):
        storage.remove(path)
