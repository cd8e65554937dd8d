"""Which settings are best: trials over all combinations of some values, short ones first.

    rung 1    every point, a short steady state each
    rung 2    those that may still be the best: the upper end of their range is within `keep_within` of the best rate
    ...       the last rung's best is the answer

A point that fails (out of memory, an argument that goes with no other) is recorded with its reason, and the others go
on. Every trial has a directory by its point and rung, so that an interrupted sweep does only what it has not done.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ipt_stream import storage
from ipt_stream.benchmark.settings import SweepSettings
from ipt_stream.config import fingerprint
from ipt_stream.errors import EngineError, IptError
from ipt_stream.progress import log

RunPoint = Callable[[Mapping[str, Any], float, str], Mapping[str, Any]]
"""Measures a point: its settings by dotted key, seconds of steady state, and a directory; gives the trial's figures."""
STATE = "sweep.json"


def points_of(settings: SweepSettings) -> list[dict[str, Any]]:
    """All combinations, in the order in which the values are given."""
    keys = list(settings.points)
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*settings.points.values())]


def with_point(mapping: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """`mapping` with each dotted key of `point` set; null leaves what is there."""
    changed = copy.deepcopy(dict(mapping))
    for key, value in point.items():
        if value is None:
            continue
        *path, last = key.split(".")
        inner = changed
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = copy.deepcopy(value)
    return changed


def sweep(settings: SweepSettings, output: str, run: RunPoint) -> list[dict[str, Any]]:
    """Run all rungs; gives a record a point: `point`, `rung` (from 0, the last it had), `state`, `rate`, `result`.

    `state` is "measured", "left out" (too slow to go on), or "failed: ..." with the reason.

    Raises:
        EngineError: no point could be measured.
    """
    records: list[dict[str, Any]] = [{"point": point, "rung": 0, "state": "waits"} for point in points_of(settings)]
    going = records
    for rung, seconds in enumerate(settings.rungs):
        for number, record in enumerate(going, 1):
            log.info("rung %d of %d, point %d of %d: %s", rung + 1, len(settings.rungs), number, len(going),
                     told(record["point"]))  # fmt: skip
            _try(record, rung, seconds, output, run)
            storage.publish_json(storage.join(output, STATE), short(records))
        going = survivors(going, settings.keep_within)
        for record in records:
            if record["state"] == "measured" and record["rung"] == rung and record not in going:
                record["state"] = "left out"
        storage.publish_json(storage.join(output, STATE), short(records))
        if not going:
            raise EngineError(
                "no point of the sweep could be measured", wanted="one that works", got=str(records[0]["state"])
            )
        if len(going) == 1:
            break
    return records


def survivors(records: Sequence[dict[str, Any]], keep_within: float) -> list[dict[str, Any]]:
    """The measured points that may be the best, the best first."""
    measured = [record for record in records if record["state"] == "measured"]
    best = max((record["rate"]["mean"] for record in measured), default=0.0)
    kept = [record for record in measured if record["rate"]["high"] >= (1 - keep_within) * best]
    return sorted(kept, key=lambda record: -record["rate"]["mean"])


def best_of(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The fastest of those that got furthest."""
    measured = [record for record in records if record["state"] == "measured"]
    return max(measured, key=lambda record: (record["rung"], record["rate"]["mean"]))


def told(point: Mapping[str, Any]) -> str:
    """A point in a line."""
    return ", ".join(f"{key}={value}" for key, value in point.items() if value is not None) or "as it is"


def _try(record: dict[str, Any], rung: int, seconds: float, output: str, run: RunPoint) -> None:
    where = storage.join(output, f"rung-{rung + 1}", f"point-{fingerprint(record['point'])}")
    try:
        result = run(record["point"], seconds, where)
    except IptError as error:
        record |= {"state": f"failed: {error}", "rung": rung}
        record.pop("rate", None)
        record.pop("result", None)
        log.warning("%s: %s", told(record["point"]), error)
        return
    record |= {"state": "measured", "rung": rung, "rate": result["total"]["raw_tokens_per_gpu_day"], "where": where}
    record["result"] = result


def short(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records without the trials' figures."""
    return [{key: value for key, value in record.items() if key != "result"} for record in records]
