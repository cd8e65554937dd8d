"""From timelines to figures: rates, occupancy, utilisation, the floor, and what a corpus would cost. Pure.

The range of a rate is the 95% interval of its mean by batch means: the steady state is cut into equal windows, whose
rates are taken as independent draws, with Student's t for so few. It says how sure the mean of this sample is, on this
machine at this hour; not how unlike the sample the corpus is. A window should be longer than a request takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ipt_stream.benchmark.devices import peak_flops
from ipt_stream.benchmark.floor import COUNTS, Shape, precision_of, work_of
from ipt_stream.benchmark.settings import CorpusSettings
from ipt_stream.benchmark.timelines import Timeline, steady_state
from ipt_stream.errors import InputError

SECONDS_A_DAY = 86_400
CONFIDENCE = 0.95
RATES = ("raw_tokens", "prompt_tokens", "computed_tokens", "generated_tokens", "pairs", "documents", "requests")
LEAST_WINDOW_SECONDS = 0.5
DRIFT = 0.1
"""Where the second half is faster or slower than the first by more than this, the state was not steady."""


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and the ends of its 95% interval: mean -+ t x s / sqrt(n), s and t with n - 1 degrees of freedom."""
    from scipy.special import stdtrit

    number = len(values)
    mean = sum(values) / number
    if number < 2:
        return mean, mean, mean
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (number - 1))
    half = float(stdtrit(number - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(number)
    return mean, max(mean - half, 0.0), mean + half


def devices_of(line: Timeline) -> float:
    """GPUs that an engine counts as: its own, or one where it computes on cores."""
    return line.gpus or 1.0


def counts_between(line: Timeline, start: float, end: float) -> dict[str, float]:
    """An engine's counts in that time, with those that follow from others: `computed_tokens`, `pairs`."""
    found = line.between(start, end)
    found["computed_tokens"] = found["prompt_tokens"] - found["cached_tokens"]
    share = found["parsed_pairs"] / found["parsed"] if found["parsed"] else 0.0
    found["pairs"] = share * found["requests"]
    return found


def measure(
    lines: Sequence[Timeline],
    *,
    begun: float,
    least: int,
    warm_up: float,
    stopped: float | None,
    windows: int,
    model: Mapping[str, Any],
    shape: Shape | None,
    ceilings: Mapping[str, Any],
) -> dict[str, Any]:
    """All figures of one trial, as JSON.

    Args:
        lines: in the order in which the engines came up.
        begun: when the trial began, seconds since the epoch.
        least: engines that were waited for; others are not counted.
        warm_up: seconds, at least (`timelines.steady_from`).
        stopped: when it was told to stop; None: it came to its end.
        windows: parts of the steady state.
        model: the model's `config.json`.
        shape: its shape, or None where no formula holds for it: then there are no FLOPs and no floor.
        ceilings: what was measured of one device (`devices.Ceilings`).

    Raises:
        InputError: there is no steady state: the sample ended before.
    """
    lines = [line for line in lines if line.rows]
    if len(lines) < least:
        raise InputError("no engine has answered anything", wanted=f"{least} at work", got=str(len(lines)))
    lines = lines[:least]
    start, end = steady_state(lines, warm_up, stopped)
    if end - start < windows * LEAST_WINDOW_SECONDS:
        raise InputError(
            "the sample was done before there was a steady state",
            wanted=f"{warm_up:g} s of warm-up and {windows * LEAST_WINDOW_SECONDS:g} s more with all engines busy",
            got=f"{max(end - start + warm_up, 0):.1f} s",
            fix="raise sample.documents, or lower warm_up_seconds",
        )
    engines = [_engine(line, start, end, model, shape, ceilings) for line in lines]
    devices = sum(devices_of(line) for line in lines)
    edges = [start + (end - start) * number / windows for number in range(windows + 1)]
    raw = [
        sum(line.at(until, "raw_tokens") - line.at(since, "raw_tokens") for line in lines) / (until - since)
        for since, until in pairwise(edges)
    ]
    mean, low, high = interval(raw)
    first, second = sum(raw[: windows // 2]), sum(raw[-(windows // 2) :])
    last = max(line.ended() for line in lines)
    ready = max(line.ready for line in lines)
    total = _sum(engines, end - start, devices)
    total["raw_tokens_per_gpu_day"] = {
        "mean": mean * SECONDS_A_DAY / devices,
        "low": low * SECONDS_A_DAY / devices,
        "high": high * SECONDS_A_DAY / devices,
    }
    return {
        "seconds": {
            "startup": ready - begun,
            "engine_start": max(line.ready - line.begun for line in lines),
            "warm_up": start - ready,
            "steady": end - start,
            "tail": max(last - end, 0.0),
        },
        "stopped": stopped is not None,
        "devices": devices,
        "window_raw_tokens_per_second": raw,
        "drift": (second - first) / max(first, 1e-9),
        "total": total,
        "engines": engines,
        "ceilings": dict(ceilings),
    }


def _engine(
    line: Timeline, start: float, end: float, model: Mapping[str, Any], shape: Shape | None, ceilings: Mapping[str, Any]
) -> dict[str, Any]:
    seconds, counts = end - start, counts_between(line, start, end)
    found: dict[str, Any] = {
        "name": line.name,
        "host": line.host,
        "device": line.facts.get("device", ceilings.get("device", "")),
        "gpus": line.gpus,
        "dtype": line.facts.get("dtype", ""),
        "start_seconds": line.ready - line.begun,
        "counts": {name: round(value, 3) for name, value in counts.items()},
        **_rates(counts, seconds, devices_of(line)),
        "occupancy": line.mean("running", start, end) / line.max_num_seqs,
        "kv_cache_usage": line.mean("kv_cache_usage", start, end),
        "sequences_a_step": counts["generated_tokens"] / counts["steps"] if counts["steps"] else 0.0,
    }
    if shape is not None and found["dtype"]:
        arguments = line.facts.get("arguments", {})
        precision = precision_of(found["dtype"], arguments, model)
        work = work_of(shape, precision, {name: counts[name] for name in COUNTS})
        found |= _floor(work.flops, work.bytes, seconds, precision.compute, found["device"], line, ceilings)
    return found


def _floor(
    flops: float, bytes_: float, seconds: float, compute: str, device: str, line: Timeline, ceilings: Mapping[str, Any]
) -> dict[str, Any]:
    """Model FLOPs, their share of the peak, and the least time for them and for the bytes."""
    number = devices_of(line)
    measured = ceilings.get("flops", {}).get(compute)
    told = peak_flops(device, compute)
    peak = told or measured
    found: dict[str, Any] = {
        "compute": compute,
        "model_flops_per_second": flops / seconds,
        "bytes_per_second": bytes_ / seconds,
        "peak_flops": None if peak is None else peak * number,
        "peak_is": "the maker's figure" if told else "measured",
        "utilisation": None if peak is None else flops / seconds / (peak * number),
    }
    if measured and ceilings.get("bandwidth"):
        compute_seconds = flops / (measured * number)
        read_seconds = bytes_ / (ceilings["bandwidth"] * number)
        found |= {
            "floor_compute_seconds": compute_seconds,
            "floor_read_seconds": read_seconds,
            "floor_seconds": max(compute_seconds, read_seconds),
            "floor_share": max(compute_seconds, read_seconds) / seconds,
        }
    return found


def _rates(counts: Mapping[str, float], seconds: float, devices: float) -> dict[str, Any]:
    return {
        "per_second": {name: counts[name] / seconds for name in RATES},
        "per_gpu_day": {name: counts[name] / seconds * SECONDS_A_DAY / devices for name in RATES},
        "cached_share": counts["cached_tokens"] / max(counts["prompt_tokens"], 1),
    }


def _sum(engines: Sequence[Mapping[str, Any]], seconds: float, devices: float) -> dict[str, Any]:
    """All engines together; of shares the mean, weighted by devices where they have peaks."""
    counts: dict[str, float] = {}
    for engine in engines:
        for name, value in engine["counts"].items():
            counts[name] = counts.get(name, 0.0) + value
    found: dict[str, Any] = {"counts": counts, **_rates(counts, seconds, devices)}
    found["occupancy"] = sum(engine["occupancy"] for engine in engines) / len(engines)
    if all(engine.get("peak_flops") for engine in engines):
        found["model_flops_per_second"] = sum(engine["model_flops_per_second"] for engine in engines)
        found["utilisation"] = found["model_flops_per_second"] / sum(engine["peak_flops"] for engine in engines)
    if all("floor_share" in engine for engine in engines):
        found["floor_share"] = sum(engine["floor_share"] for engine in engines) / len(engines)
    return found


def cost(figures: Mapping[str, Any], corpus: CorpusSettings, fraction: float) -> dict[str, Any]:
    """GPU-days, money and days on the clock for a corpus, each with its range.

    GPU-days = raw tokens x fraction / (raw tokens a GPU-day), and the range has the ends of that rate's (null: no end
    above, where the interval of the rate reaches zero). Start-up and
    tail are added once a GPU where the number of GPUs is given: they cost a long run nothing, a short one much.

    Raises:
        InputError: nothing was worked through.

    Args:
        figures: as `measure` gives them.
        corpus: what is to be converted.
        fraction: of its documents, how many are.
    """
    rate = figures["total"]["raw_tokens_per_gpu_day"]
    tokens = corpus.raw_tokens * fraction
    if not rate["mean"]:
        raise InputError("no raw tokens were worked through in the steady state", fix="raise seconds")
    around = (figures["seconds"]["startup"] + figures["seconds"]["tail"]) / SECONDS_A_DAY * (corpus.gpus or 0)
    days = {
        "mean": tokens / rate["mean"] + around,
        "low": tokens / rate["high"] + around,
        "high": tokens / rate["low"] + around if rate["low"] else None,
    }
    found: dict[str, Any] = {"raw_tokens": corpus.raw_tokens, "fraction": fraction, "gpu_days": days}
    if corpus.price_per_gpu_hour is not None:
        found["money"] = _times(days, 24 * corpus.price_per_gpu_hour)
    if corpus.gpus is not None:
        found["days"] = _times(days, 1 / corpus.gpus)
    return found


def _times(range_: Mapping[str, float | None], factor: float) -> dict[str, float | None]:
    return {name: None if value is None else value * factor for name, value in range_.items()}
