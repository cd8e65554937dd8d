"""Tokens per GPU-day of the synthesize stage, with dummy weights on a machine without a GPU: `ipt-stream benchmark`.

    python benchmarks/tokens_per_gpu_day.py [CONFIG.yaml] [dotted.key=value ...]

Without a configuration it takes `jobs/configs/benchmark.yaml`: a shape of 10M parameters, about two minutes on 2 cores.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from common import save

DEFAULT = Path(__file__).parents[1] / "jobs" / "configs" / "benchmark.yaml"


def main() -> None:
    """Measure, and keep the headline for the page."""
    from ipt_stream.benchmark.benchmark import BenchmarkConfig, benchmark
    from ipt_stream.config import load_config

    given = [word for word in sys.argv[1:] if "=" not in word]
    changes = [word for word in sys.argv[1:] if "=" in word]
    with tempfile.TemporaryDirectory() as scratch:
        if not any(change.startswith("output=") for change in changes):
            changes.append(f"output={scratch}/out")
        config = load_config(BenchmarkConfig, given[0] if given else DEFAULT, changes)
        print("\n".join(benchmark(config).lines), flush=True)
        result = json.loads(Path(config.output, "result.json").read_text())
    total, day, seconds = result["total"], result["total"]["raw_tokens_per_gpu_day"], result["seconds"]
    counts = total["counts"]
    shape = config.dummy.shape if config.dummy is not None else config.synthesize.get("engine", {}).get("model")
    save(
        "tokens-per-gpu-day",
        "Raw tokens per GPU-day (without a GPU: per day of this machine), by `ipt-stream benchmark`",
        {
            "model": f"{shape}, {result['engines'][0]['dtype']}" + (", dummy weights" if config.dummy else ""),
            "mean tokens a text: raw, generated": ", ".join(
                f"{counts[name] / counts['requests']:.0f}" for name in ("raw_tokens", "generated_tokens")
            ),
            "raw tokens a day": f"{day['mean']:,.0f}",
            "95% of that mean": f"{day['low']:,.0f} to {day['high']:,.0f}",
            "raw tokens/s, generated tokens/s": ", ".join(
                f"{total['per_second'][name]:,.0f}" for name in ("raw_tokens", "generated_tokens")
            ),
            "cached share of prompt tokens": round(total["cached_share"], 3),
            "occupancy of the engine": round(total["occupancy"], 3),
            "utilisation of the peak; share of the floor": ", ".join(
                f"{total.get(name, 0):.3f}" for name in ("utilisation", "floor_share")
            ),
            "seconds: start-up, warm-up, steady, tail": ", ".join(
                f"{seconds[name]:.0f}" for name in ("startup", "warm_up", "steady", "tail")
            ),
        },
        f"Range: 95% interval over {config.windows} windows of the steady state. Peak and floor: a product and a copy.",
    )


if __name__ == "__main__":
    main()
