"""All that is measured where there is a GPU, from one settings file; the same on a CPU with a small shape.

    python benchmarks/gpu.py benchmarks/h200.yaml
    python benchmarks/gpu.py benchmarks/cpu.yaml [--only tokens share train]

tokens  raw tokens per GPU-day with dummy weights (`ipt-stream benchmark`), for each precision and number of rounds
share   the stage against the bare engine on the same prompts, and against round by round, on a corpus to its end
train   some Composer steps of a preset: tokens/s and utilisation; and the same with FSDP on the one device

Each measurement is in processes of its own; what it finds is saved at once, so that a lease that ends loses the rest
only. Ways of `share` take turns, --times times.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import yaml
from common import answer, measure, save
from ways import WAYS, parameters, prepare

SHARE = ("stage", "engine", "round-by-round")


def tokens(settings: dict[str, Any], name: str, folder: Path) -> None:
    """Raw tokens per GPU-day, by precision and rounds."""
    from ipt_stream.benchmark.benchmark import BenchmarkConfig, benchmark

    for precision, arguments in settings["precisions"].items():
        for rounds in settings["rounds"]:
            output = folder / f"{precision}-m{rounds}"
            synthesize = {
                "rounds": rounds,
                "segment_documents": settings["segment_documents"],
                "engine": _engine(settings, arguments),
            }
            config = BenchmarkConfig.model_validate(
                {"output": str(output), "synthesize": synthesize, "dummy": settings["dummy"], **settings["tokens"]}
            )
            report = benchmark(config)
            print("\n".join(report.lines), flush=True)
            result = yaml.safe_load((output / "result.json").read_text())
            total, day = result["total"], result["total"]["raw_tokens_per_gpu_day"]
            save(
                f"tokens-{name}-{precision}-m{rounds}",
                f"Raw tokens per GPU-day: dummy weights of {settings['dummy']['shape']}, {precision}, M={rounds}",
                {
                    "device": result["engines"][0]["device"],
                    "parameters": f"{parameters(settings['dummy']['shape']):,}",
                    "raw tokens a GPU-day": f"{day['mean']:,.0f}",
                    "95% of that mean": f"{day['low']:,.0f} to {day['high']:,.0f}",
                    "generated tokens/s": round(total["per_second"]["generated_tokens"]),
                    "prompt tokens/s: sent, computed": ", ".join(
                        f"{total['per_second'][key]:,.0f}" for key in ("prompt_tokens", "computed_tokens")
                    ),
                    "cached share of prompt tokens": round(total["cached_share"], 3),
                    "occupancy": round(total["occupancy"], 3),
                    "utilisation (peak: " + result["engines"][0].get("peak_is", "unknown") + ")": round(
                        total.get("utilisation", 0.0), 3
                    ),
                    "share of the floor": round(total.get("floor_share", 0.0), 3),
                    "seconds: start-up, steady, tail": ", ".join(
                        f"{result['seconds'][key]:.0f}" for key in ("startup", "steady", "tail")
                    ),
                },
            )


def share(settings: dict[str, Any], name: str, folder: Path, times: int) -> None:
    """The stage against the bare engine, and against round by round."""
    here = folder / "share"
    here.mkdir()
    given = {**settings, **settings["share"], "folder": str(here)}
    prepare(here, given)
    for precision, arguments in settings["precisions"].items():
        for rounds in settings["rounds"]:
            found: dict[str, list[dict[str, Any]]] = {way: [] for way in SHARE}
            for number in range(times):
                run = {**given, "rounds": rounds, "engine": _engine(settings, arguments)}
                run["output"] = str(here / f"run-{precision}-{rounds}-{number}")
                for way in SHARE:
                    found[way].append(measure(way, run))
                    print(
                        f"{precision} M={rounds} {number + 1}  {way:<15} {found[way][-1]['seconds']:.1f} s", flush=True
                    )
            seconds = {way: statistics.median(one["seconds"] for one in ones) for way, ones in found.items()}
            raw = found["stage"][-1]["raw_tokens"]
            save(
                f"share-{name}-{precision}-m{rounds}",
                f"The stage against the bare engine and round by round: {settings['dummy']['shape']}, {precision}, "
                f"M={rounds}, dummy weights",
                {
                    "texts, mean raw tokens a text": f"{given['documents']}, {raw / given['documents']:.0f}",
                    **{f"raw tokens/s: {way}": round(raw / seconds[way]) for way in SHARE},
                    "stage / bare engine (wanted: 0.97)": round(seconds["engine"] / seconds["stage"], 3),
                    "stage / round by round (wanted: 1.5)": round(seconds["round-by-round"] / seconds["stage"], 3),
                    "cached tokens: stage, bare engine, round by round": ", ".join(
                        f"{found[way][-1]['cached_tokens']:,}" for way in SHARE
                    ),
                },
                f"Medians of {times} runs of each, in turn, from the first request to the end of the last.",
            )


def train(settings: dict[str, Any], name: str) -> None:
    """Composer steps of a preset, on one device and with FSDP on one."""
    from ipt_stream.benchmark.devices import peak_flops

    device = measure("ceilings", {})
    for fsdp in (False, True):
        found = measure("train", {**settings["train"], "fsdp": fsdp})
        told = peak_flops(device["device"], found["compute"])
        peak = told or device["flops"][found["compute"]]
        save(
            f"train-{name}{'-fsdp' if fsdp else ''}",
            f"Composer steps of {settings['train']['preset']}{', FSDP on one device' if fsdp else ''}",
            {
                "device, compute": f"{device['device']}, {found['compute']}",
                "parameters": f"{found['parameters']:,}",
                "tokens/s": round(found["tokens/s"]),
                "seconds a step": round(found["seconds a step"], 3),
                f"utilisation (peak: {'the maker' if told else 'measured'})": round(found["FLOPs/s"] / peak, 3),
                "memory at most, GB": round(found["memory GB"], 1),
                "loss of the last step": round(found["loss"], 3),
            },
            "Median of the steps after the first; random tokens; masked positions count as FLOPs.",
        )


def _engine(settings: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    given = settings["engine"]
    return {**given, "arguments": {**given.get("arguments", {}), **arguments}}


def main() -> None:
    """Measure what is asked for."""
    if answer(WAYS):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path)
    parser.add_argument("--only", nargs="*", default=["train", "share", "tokens"])
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args()
    settings = yaml.safe_load(options.settings.read_text())
    name = options.settings.stem
    with tempfile.TemporaryDirectory() as scratch:
        if "train" in options.only:
            train(settings, name)
        if "share" in options.only:
            share(settings, name, Path(scratch), options.times)
        if "tokens" in options.only:
            tokens(settings, name, Path(scratch))


if __name__ == "__main__":
    main()
