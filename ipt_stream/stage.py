"""What every stage has in common: it owns one output directory, it can be asked again, and it ends with a report.

A stage's directory holds `stage.json`: the fingerprint of the settings that it was made with, and, once it is
finished, its figures. Asked again with the same settings a finished stage answers from that file; asked with other
settings it refuses and says what differs, so that no output is ever a mix of two configurations.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ipt_stream import storage
from ipt_stream.config import fingerprint
from ipt_stream.errors import LedgerError

Figure = float | int | str


@dataclass(frozen=True, slots=True)
class StageReport:
    """What a stage ends with.

    Attributes:
        figures: counts and rates by name, units in the names; what the next stage or a summary needs to know.
        lines: text for a person, printed at the end.
        skipped: whether the stage was already finished, so that nothing was done.
        stopped: whether it was told to stop before its end; it is not finished then.
    """

    figures: Mapping[str, Figure]
    lines: tuple[str, ...] = ()
    skipped: bool = False
    stopped: bool = False


@dataclass(slots=True)
class Stage:
    """The claim of one stage on its output directory. Use `open_stage` to get one."""

    output: str
    verb: str
    settings: Mapping[str, Any]
    finished: StageReport | None = None
    _started: float = field(default_factory=time.monotonic)

    def finish(self, figures: Mapping[str, Figure], lines: tuple[str, ...] = ()) -> StageReport:
        """Record that the stage is done, with its figures and the time it took (`stage_seconds`, `peak_memory_mb`)."""
        full = dict(figures)
        full.setdefault("stage_seconds", round(time.monotonic() - self._started, 1))
        full.setdefault("peak_memory_mb", _peak_memory_mb())
        record = _record(self.verb, self.settings)
        storage.publish_json(_path(self.output), {**record, "finished": True, "figures": full, "lines": list(lines)})
        self.finished = StageReport(full, lines)
        return self.finished


def open_stage(output: str, verb: str, settings: Mapping[str, Any]) -> Stage:
    """Claim `output` for `verb` with `settings` (all that changes the output; inputs by content or listing).

    `Stage.finished` is the report, marked as skipped, where the same stage is already done there.

    Raises:
        LedgerError: the directory holds another stage, or this one with other settings; names what differs.
    """
    record = _record(verb, settings)
    path = _path(output)
    # Of two that come at once with other settings, one makes the file, and the other is refused by it.
    begun = json.dumps({**record, "finished": False}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if not storage.exists(path) and storage.publish_once(path, begun.encode()):
        return Stage(output, verb, settings)
    known = storage.read_json(path)
    if known["fingerprint"] != record["fingerprint"]:
        raise LedgerError(
            f"{output} was made with other settings",
            wanted=_differences(known, record, "settings"),
            got=f"fingerprint {known['fingerprint']} there, {record['fingerprint']} now",
            fix="go back to those settings, or name another output directory",
        )
    done = StageReport(known["figures"], tuple(known["lines"]), skipped=True) if known["finished"] else None
    return Stage(output, verb, settings, done)


def finished_report(output: str) -> StageReport | None:
    """The report of the finished stage in `output`, marked as skipped, or None where there is none."""
    if not storage.exists(_path(output)):
        return None
    known = storage.read_json(_path(output))
    return StageReport(known["figures"], tuple(known["lines"]), skipped=True) if known["finished"] else None


def finished_figures(output: str) -> Mapping[str, Figure] | None:
    """The figures of the finished stage in `output`, or None where there is none."""
    report = finished_report(output)
    return None if report is None else report.figures


def run_once(output: str, verb: str, settings: Mapping[str, Any], work: Callable[[Stage], StageReport]) -> StageReport:
    """`work(stage)`, unless the same stage is already finished: then its report from before."""
    stage = open_stage(output, verb, settings)
    return stage.finished or work(stage)


def peak_memory_bytes(pid: int | str = "self") -> int:
    """The most that a process has held since it was started; 0 where it is gone, or the system does not tell."""
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def _peak_memory_mb() -> int:
    """The most that this process has held. `ru_maxrss` is a second choice: it counts what its parent held too."""
    return peak_memory_bytes() >> 20 or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _path(output: str) -> str:
    return storage.join(output, "stage.json")


def _record(verb: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"verb": verb, "settings": dict(settings), "fingerprint": fingerprint({"verb": verb, **settings})}


def _differences(known: Mapping[str, Any], now: Mapping[str, Any], key: str) -> str:
    """The keys whose values differ, as `key was old, is new`, at most five of them."""
    old, new = dict(_flatten(known.get(key, {}))), dict(_flatten(now.get(key, {})))
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    if known["verb"] != now["verb"]:
        changed.insert(0, "verb")
        old["verb"], new["verb"] = known["verb"], now["verb"]
    shown = [f"{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in changed[:5]]
    return "the same settings (" + ", ".join(shown) + (f", and {len(changed) - 5} more" * (len(changed) > 5)) + ")"


def _flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        return [(prefix, value)]
    return [pair for key, inner in value.items() for pair in _flatten(inner, f"{prefix}.{key}".lstrip("."))]
