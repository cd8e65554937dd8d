"""A simulated cluster over RefinedWeb: finish time, idle and recomputed GPU time, load of driver, ledger and store.

    python benchmarks/simulate.py --gpus 10 100 1000 10000
    python benchmarks/simulate.py --gpus 10000 --set segment_documents=512 nodes.loss_hours=6

The real plan, orders, ledger and watch of a synthesis run (their CPU time is measured on this machine), with engines,
nodes and store in virtual time: `ipt_stream/simulation/`. What Ray's calls cost the driver comes from
`benchmarks/driver.py`, if that was run, else from the settings. Each run ends with the proof that every segment was
recorded once. What can be set is in `ipt_stream/simulation/settings.py`.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

from common import answer, measure, results, save


def ray_costs() -> dict[str, float]:
    """What `driver.py` measured, as settings; nothing where it was not run."""
    file = results() / "driver.json"
    return dict(json.loads(file.read_text())["costs"]) if file.exists() else {}


def run(gpus: int, overrides: list[str], costs: Mapping[str, float]) -> dict[str, Any]:
    """One simulated run, in this process."""
    from ipt_stream.config import build, merge
    from ipt_stream.simulation.settings import SimulationSettings
    from ipt_stream.simulation.simulate import simulate

    base: dict[str, Any] = {"driver": dict(costs), "nodes": {"gpus": gpus}}
    settings = build(SimulationSettings, merge(base, overrides, "simulate"), "simulate")

    def tell(now: float, tally: Any) -> None:
        print(f"  {now / 3600:8.2f} h  {tally.counts['segments']:>9,} segments", file=sys.stderr, flush=True)

    found = simulate(settings, tell)
    hours = found.hours
    requests = sum(found.requests.values())
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "GPUs": f"{gpus:,}",
        "segments (each recorded once)": f"{found.segments:,}",
        "hours": f"{hours:,.2f}",
        "hours, ideal": f"{found.ideal_hours:,.2f}",
        "GPU time at work": f"{found.useful:.1%}",
        "recomputed": f"{found.lost:.2%}",
        "idle": f"{found.idle:.1%}",
        "idle: starting": f"{found.starting:.1%}",
        "idle: waiting": f"{found.waiting:.1%}",
        "idle: tail": f"{found.tail:.1%}",
        "nodes lost": f"{found.nodes_lost:,}",
        "orders; at once an engine": f"{found.order_count:,}; {found.at_once[0]}",
        "driver, share of a core": f"{found.driver_core(settings):.3f}",
        "of it its own code, CPU s a simulated hour": f"{found.load.looks / hours:.2f}",
        "coordinator, share of a core": f"{found.coordinator_core(settings):.3f}",
        "planning, CPU s": f"{found.load.plan:.1f}",
        "orders as JSON, MiB": f"{found.load.orders_mib:.0f}",
        "store requests a second: mean; at most": f"{requests / hours / 3600:,.1f}; {found.load.most_requests:,.0f}",
        "of them to the ledger": f"{found.requests['put', 'ledger'] / hours / 3600:,.1f}",
        "ledger: files; MiB; MiB put": f"{found.ledger_parts:,}; {found.ledger_mib:,.0f}; {found.sent_mib:,.0f}",
        "reading the ledger, CPU s": f"{found.final_read:.1f}",
        "the simulation itself: s; MB": f"{found.simulated_in:.0f}; {held:,}",
    }


def main() -> None:
    """Simulate each size in a process of its own."""
    if answer({"run": run}):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--no-save", action="store_true", help="print the table only")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the simulation")
    options = parser.parse_args()
    costs = ray_costs()
    found = []
    for gpus in options.gpus:
        began = time.monotonic()
        found.append(measure("run", gpus, options.set, costs))
        print(f"{gpus:,} GPUs: simulated in {time.monotonic() - began:.0f} s", flush=True)
    table = {name: [column[name] for column in found] for name in found[0]}
    for name, values in table.items():
        print(f"| {name} | " + " | ".join(values) + " |")
    if not options.no_save:
        told = ", ".join(options.set) or "defaults"
        save(
            "simulate",
            "A simulated cluster over RefinedWeb (5,534 shards, where the settings don't say otherwise)",
            {name: " / ".join(values) for name, values in table.items()},
            f"Settings: {told}. Ray's costs: {'benchmarks/driver.py' if costs else 'defaults'}. SCALE.md reads it.",
        )


if __name__ == "__main__":
    main()
