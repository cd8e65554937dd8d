"""The demo's world and synthesizer for benchmarks: those that `make demo` left, else quickly made ones.

A quick synthesizer is trained for a fifth of the demo's steps: it writes well-formed pairs, though not right ones.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml
from common import HERE

CONFIG = HERE.parent / "jobs" / "configs" / "demo.yaml"
STAGES = ("world", "synthesizer")
QUICK_STEPS = 440


def demo(given: Path | None) -> Path:
    """A directory with `world` and `synthesizer/model`: `given`, or what `make demo` made, or one made now."""
    if given is not None:
        return given
    whole = HERE.parent / "out" / "demo"
    if (whole / "synthesizer" / "model" / "config.json").exists() and (whole / "world" / "shards").is_dir():
        return whole
    folder = HERE.parent / "out" / "bench" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    recipe = yaml.safe_load(CONFIG.read_text("utf-8"))
    stages = {name: recipe["stages"][name] for name in STAGES}
    stages["synthesizer"] |= {"steps": QUICK_STEPS}
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**recipe, "output": str(folder), "stages": stages}, sort_keys=False))
    subprocess.run([sys.executable, "-m", "ipt_stream.cli", "run", str(file)], check=True, cwd=HERE.parent)
    return folder
