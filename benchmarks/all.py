"""All benchmarks that need no GPU, one after another, and the page of their results: what `make bench` runs.

    python benchmarks/all.py
    python benchmarks/all.py order resume       # these alone

Sizes are such that all of them take less than 40 minutes on 2 cores, and their records are in `results/brief/`; each
script's own defaults are larger, and what it writes when run by itself, in `results/`, is on the page too. One that
fails is on the page with its last line, the others are run all the same, and the exit code is 1. What they print is in
`out/bench/NAME.log`. Benchmarks of faults, and those that need a GPU, are run by hand; the page has their results too.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import page
from common import FOLDER, HERE, results, write_record

LOGS = HERE.parent / "out" / "bench"
PATIENCE = 3
"""A benchmark that takes so many times its minutes, and five more, is ended."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A benchmark.

    Attributes:
        name: of its script.
        title: of its result where it fails.
        arguments: that it is run with.
        minutes: that it takes on 2 cores.
        result: the file in `results/` that it writes.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    minutes: float
    result: str

    @property
    def script(self) -> Path:
        """The script."""
        return HERE / f"{self.name}.py"

    @property
    def command(self) -> str:
        """As the page names it."""
        return shlex.join(["python", f"benchmarks/{self.name}.py", *self.arguments])


BENCHES = (
    Bench("overhead", "The synthesize stage around an engine that answers at once",
          ("--times", "1", "--documents", "20000"), 3, "overhead"),
    Bench("engine_share", "The synthesize stage against the engine alone, and against round-by-round batches",
          ("--times", "1", "--texts", "72"), 9, "engine-share"),
    Bench("tokens_per_gpu_day", "Tokens per GPU-day, a small shape on the CPU engine",
          (), 4, "tokens-per-gpu-day"),
    Bench("resume", "Planning and resuming a run of a million segments, half of them done",
          ("--times", "2"), 1, "resume"),
    Bench("driver", "What Ray takes of the driver and of the coordinator", (), 4, "driver"),
    Bench("simulate", "A simulated cluster over a tenth of RefinedWeb's shards",
          ("--gpus", "1000", "--set", "corpus.shards=553"), 1, "simulate"),
    Bench("mixing", "The mix stage against the bare tokenizer",
          ("--segments", "4", "--times", "3"), 6, "mixing"),
    Bench("packing", "How full packed sequences are", (), 1, "packing"),
    Bench("order", "Building the training order, on one core", ("--times", "1"), 1, "order"),
    Bench("loading", "Loading in the planned order, against Streaming's own shuffling",
          ("--sequences", "20000", "--times", "2"), 2, "loading"),
    Bench("contamination", "Evaluation examples searched for in a corpus", (), 2, "contamination"),
    Bench("report", "The analyses and their report", (), 1, "report"),
)  # fmt: skip


def run(bench: Bench) -> str | None:
    """Run it, its output in a log; gives the last line where it failed."""
    result = results() / f"{bench.result}.json"
    result.unlink(missing_ok=True)
    log = LOGS / f"{bench.name}.log"
    limit = 60 * (PATIENCE * bench.minutes + 5)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(bench.script), *bench.arguments],
            stdout=file, stderr=subprocess.STDOUT, cwd=HERE.parent, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"ended after {limit / 60:.0f} minutes"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code == 0 and result.exists():
        return None
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    return f"exit code {code}: {last}" if code else f"it wrote no {result.name}: {last}"


def keep(bench: Bench, minutes: float, failed: str | None) -> None:
    """Have the record of the result say how long it took, or that it failed."""
    result = results() / f"{bench.result}.json"
    if failed is not None:
        write_record(bench.result, bench.title, bench.command, minutes=round(minutes, 1), failed=failed)
        return
    record = json.loads(result.read_text())
    result.write_text(json.dumps({**record, "minutes": round(minutes, 1)}, indent=2, ensure_ascii=False) + "\n")


def main(benches: Sequence[Bench] = BENCHES) -> int:
    """Run all, or those that are named; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(bench.name for bench in benches))
    options = parser.parse_args()
    unknown = set(options.names) - {bench.name for bench in benches}
    if unknown:
        parser.error(f"no benchmark is called {min(unknown)}")
    chosen = [bench for bench in benches if not options.names or bench.name in options.names]
    LOGS.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER] = str(page.folders()[1])
    began = time.monotonic()
    failures = 0
    for number, bench in enumerate(chosen, 1):
        left = sum(other.minutes for other in chosen[number - 1 :])
        so_far = (time.monotonic() - began) / 60
        print(
            f"{number:2} of {len(chosen)}  {bench.name:<20} {so_far:5.1f} min so far, about {left:.0f} left", flush=True
        )
        started = time.monotonic()
        failed = run(bench)
        minutes = (time.monotonic() - started) / 60
        keep(bench, minutes, failed)
        if failed is not None:
            failures += 1
            print(f"          failed after {minutes:.1f} min: {failed}; see {LOGS / bench.name}.log", flush=True)
    page.main()
    print(f"{len(chosen) - failures} done, {failures} failed, {(time.monotonic() - began) / 60:.1f} min")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
