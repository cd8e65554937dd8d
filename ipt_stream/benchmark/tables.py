"""Results for people: a short table of one, and several side by side. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipt_stream.benchmark.figures import DRIFT, RATES

NAMES = {
    "raw_tokens": "raw tokens",
    "prompt_tokens": "prompt tokens sent",
    "computed_tokens": "prompt tokens computed",
    "generated_tokens": "generated tokens",
    "pairs": "pairs",
    "documents": "documents",
    "requests": "requests",
}
SHOWN_DIFFERENCES = 40
SHOWN_ENGINES = 8


def result_lines(result: Mapping[str, Any]) -> tuple[str, ...]:
    """A result in about twenty lines: the headline, rates, several engines in a row each, where the time went, the
    floor, the cost."""
    total, seconds, engines = result["total"], result["seconds"], result["engines"]
    day = total["raw_tokens_per_gpu_day"]
    unit = "GPU" if any(engine["gpus"] for engine in engines) else "machine (no GPU: each engine counts as one)"
    devices = ", ".join(dict.fromkeys(engine["device"] for engine in engines))
    lines = [
        f"{_large(day['mean'])} raw tokens a day and {unit}, "
        f"95% between {_large(day['low'])} and {_large(day['high'])}",
        f"engines    {len(engines)} on {devices}, {engines[0]['dtype']}",
        "",
        *_grid(
            [["", "per second", "per GPU-day", "in the steady state"]]
            + [
                [
                    NAMES[name],
                    _number(total["per_second"][name]),
                    _large(total["per_gpu_day"][name]),
                    f"{total['counts'][name]:,.0f}",
                ]
                for name in RATES
            ]
        ),
        "",
        *_engine_lines(total, engines),
        f"cached     {total['cached_share']:.1%} of the prompt tokens",
        f"occupancy  {total['occupancy']:.1%} of max_num_seqs",
        f"seconds    start-up {seconds['startup']:.1f} (engine {seconds['engine_start']:.1f}), "
        f"warm-up {seconds['warm_up']:.1f}, steady {seconds['steady']:.1f}, tail {seconds['tail']:.1f}"
        + (" (told to stop)" if result["stopped"] else " (the sample's end)"),
    ]
    lines += _floor_lines(result)
    if abs(result["drift"]) > DRIFT:
        lines.append(
            f"not steady  the second half made {result['drift']:+.0%} of the first: raise warm_up_seconds and seconds"
        )
    if "cost" in result:
        lines += cost_lines(result["cost"])
    return tuple(lines)


def _engine_lines(total: Mapping[str, Any], engines: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row for each of several engines, and one for all of them; rates are per second, but for the first."""
    if len(engines) < 2:
        return []
    shown = engines[:SHOWN_ENGINES]
    names = [f"engine {number} on {engine['host']}" for number, engine in enumerate(shown, 1)]
    head = [
        "",
        "raw tokens a GPU-day",
        *(f"{NAMES[name]}/s" for name in RATES if name != "requests"),
        "cached",
        "occupancy",
    ]
    rows = [head]
    for name, one in zip([*names, f"all {len(engines)}"], [*shown, total], strict=True):
        rates = [_number(one["per_second"][rate]) for rate in RATES if rate != "requests"]
        day = _large(one["per_gpu_day"]["raw_tokens"])
        rows.append([name, day, *rates, _percent(one["cached_share"]), _percent(one["occupancy"])])
    hidden = len(engines) - len(shown)
    return [*_grid(rows), *([f"  and {hidden} more engines, in the result"] if hidden else []), ""]


def _floor_lines(result: Mapping[str, Any]) -> list[str]:
    total, engines = result["total"], result["engines"]
    if "utilisation" not in total:
        return ["FLOPs      not told: the model is no dense decoder that the formulas know, or the peak is not known"]
    first = engines[0]
    lines = [
        f"FLOPs      {total['model_flops_per_second'] / 1e12:,.3g} TFLOP/s of the model, "
        f"{total['utilisation']:.1%} of the peak in {first['compute']} ({first['peak_is']})"
    ]
    if "floor_share" in total:
        steady = result["seconds"]["steady"]
        lines.append(
            f"floor      {total['floor_share']:.1%}: the same work takes {first['floor_seconds']:.1f} s of "
            f"{steady:.1f} s at what the device reached ({first['floor_compute_seconds']:.1f} s to compute, "
            f"{first['floor_read_seconds']:.1f} s to read)"
        )
    return lines


def cost_lines(cost: Mapping[str, Any]) -> list[str]:
    """What a corpus costs."""
    what = _large(cost["raw_tokens"]) + " raw tokens"
    if cost["fraction"] < 1:
        what += f", {cost['fraction']:.0%} of them converted"
    lines = [f"cost       {what}: {_range(cost['gpu_days'])} GPU-days"]
    if "money" in cost:
        lines[0] += f", {_range(cost['money'])} in money"
    if "days" in cost:
        lines.append(f"           {_range(cost['days'])} days on the clock")
    return lines


def compare_lines(names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Results side by side, each with its ratio to the first, and the settings in which they differ."""
    rows = [["", *names]]
    rows += [
        ["raw tokens a GPU-day", *_with_ratio([r["total"]["raw_tokens_per_gpu_day"]["mean"] for r in results])],
        ["  95% from", *(_large(r["total"]["raw_tokens_per_gpu_day"]["low"]) for r in results)],
        ["  to", *(_large(r["total"]["raw_tokens_per_gpu_day"]["high"]) for r in results)],
    ]
    rows += [
        [f"{NAMES[name]}/s", *(_number(r["total"]["per_second"][name]) for r in results)]
        for name in RATES
        if name != "raw_tokens"
    ]
    for name in ("cached_share", "occupancy", "utilisation", "floor_share"):
        rows.append([name.replace("_", " "), *(_percent(r["total"].get(name)) for r in results)])
    for name in ("startup", "steady", "tail"):
        rows.append([f"seconds of {name}", *(f"{r['seconds'][name]:.1f}" for r in results)])
    lines = [*_grid(rows), "", "settings that differ"]
    found = differences([r["settings"] for r in results])
    shown = [["", *names], *([key, *map(str, values)] for key, values in found.items())]
    lines += _grid(shown[: SHOWN_DIFFERENCES + 1]) if found else ["  none"]
    if len(found) > SHOWN_DIFFERENCES:
        lines.append(f"  and {len(found) - SHOWN_DIFFERENCES} more")
    return tuple(lines)


def differences(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The dotted keys whose values are not the same in all, with the value of each; None where it has none."""
    flat = [dict(_flatten(one)) for one in settings]
    keys = sorted({key for one in flat for key in one})
    found = {key: [one.get(key) for one in flat] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def sweep_lines(records: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> tuple[str, ...]:
    """All points, the best first, with what became of each; below them why points failed, each reason once."""
    keys = list(records[0]["point"]) if records else []
    rows = [[*keys, "raw tokens a GPU-day", "95% from", "to", "rung", ""]]
    reasons: list[str] = []

    def order(record: Mapping[str, Any]) -> tuple[int, float]:
        rate = record.get("rate")
        return (-record["rung"], -(rate["mean"] if rate else 0.0))

    for record in sorted(records, key=order):
        rate = record.get("rate")
        told = [_large(rate[name]) for name in ("mean", "low", "high")] if rate else ["-", "-", "-"]
        is_best = best is not None and record["point"] == best["point"]
        values = ["" if value is None else str(value) for value in record["point"].values()]
        state = "best" if is_best else record["state"]
        if state.startswith("failed: "):
            if state not in reasons:
                reasons.append(state)
            state = f"failed [{reasons.index(state) + 1}]"
        rows.append([*values, *told, str(record["rung"] + 1), state])
    return (*_grid(rows), *(f"[{number}] {reason}" for number, reason in enumerate(reasons, 1)))


def _flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        return [(prefix, value)]
    return [pair for key, inner in value.items() for pair in _flatten(inner, f"{prefix}.{key}".lstrip("."))]


def _with_ratio(values: Sequence[float]) -> list[str]:
    return [_large(values[0]), *(f"{_large(value)} ({value / max(values[0], 1e-9):.2f}x)" for value in values[1:])]


def _grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def _range(values: Mapping[str, float | None]) -> str:
    low, mean, high = (values[name] for name in ("low", "mean", "high"))
    assert mean is not None and low is not None
    return f"{_number(mean)} ({_number(low)} to {'no end' if high is None else _number(high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _large(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return _number(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
