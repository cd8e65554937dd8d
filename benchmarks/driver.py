"""What Ray takes of the driver and of the coordinator: CPU time of an order, of a worker's beat and of a look at many.

    python benchmarks/driver.py

Orders of one segment go through `pipeline.hand_out`, as those of a run, to actors that do nothing. Beats are sent to
a real coordinator by this one process, and looked at as the driver does. `benchmarks/simulate.py` uses the result.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

from common import answer, measure, results, save

ACTORS = 2


class Nothing:
    """An actor that says at once that an order is done."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"result": [json.dumps({"error": None, "kind": ""}) for _ in batch["order"]]}


def orders(count: int) -> dict[str, Any]:
    """Hand `count` orders out to two actors."""
    from ipt_stream.corpus.formats import Format, ShardSpec
    from ipt_stream.synthesis.orders import Order, order_to_json
    from ipt_stream.synthesis.pipeline import hand_out
    from ipt_stream.synthesis.ray_session import ensure_ray

    ensure_ray()
    shards = [ShardSpec(f"s3://bucket/web/{n:05d}.parquet", n, f"{n:05d}.parquet", Format.PARQUET, "content", "url",
                        437_500_000, 175_000) for n in range(-(-count // 86))]  # fmt: skip
    made = [Order(shard, first, first + 1, frozenset()) for shard in shards for first in range(86)][:count]
    first = [order_to_json(order) for order in made[:8]]
    for _row in hand_out(first, Nothing, (), ACTORS, 4, 0.0, 1).iter_rows():  # workers and code are there
        pass
    before, began, held = time.process_time(), time.perf_counter(), _held_mib()
    dataset = hand_out([order_to_json(order) for order in made], Nothing, (), ACTORS, 4, 0.0, 1)
    queued, queued_mib = time.process_time(), _held_mib()
    done = sum(1 for _ in dataset.iter_rows())
    assert done == count
    return {
        "queue": (queued - before) / count,
        "order": (time.process_time() - queued) / count,
        "rate": count / (time.perf_counter() - began),
        "mib": max(_held_mib() - held, queued_mib - held),
    }


def beats(workers: int, sent: int) -> dict[str, Any]:
    """Send beats of so many workers to a coordinator, and look at them."""
    import psutil
    import ray

    from ipt_stream.synthesis.coordinator import start_coordinator
    from ipt_stream.synthesis.engine import Pulse
    from ipt_stream.synthesis.ray_session import ensure_ray
    from ipt_stream.synthesis.worker import Beat

    ensure_ray()
    coordinator = start_coordinator()
    in_flight = tuple(f"{shard:06d}-000042" for shard in range(5))
    made = [
        Beat(f"{n:012x}", f"node-{n // 8}", n, 180.0, Pulse(n, 512, 256, 0.8), in_flight, ()) for n in range(workers)
    ]

    def send(count: int) -> None:
        for start in range(0, count, 500):
            ray.get([coordinator.beat.remote(made[n % workers], f"actor-{n % workers}", f"node-{n % workers // 8}")
                     for n in range(start, min(start + 500, count))])  # fmt: skip

    send(workers)
    process = next(
        child for child in psutil.Process().children(recursive=True) if "ray::Coordinator" in " ".join(child.cmdline())
    )
    cpu = _cpu(process)
    send(sent)
    beat = (_cpu(process) - cpu) / sent
    looks = max(20, 20_000 // workers)
    driver, cpu = time.process_time(), _cpu(process)
    for _ in range(looks):
        _, seen = ray.get(coordinator.look.remote())
        assert len(seen) == workers
    return {
        "beat": beat,
        "look": (time.process_time() - driver) / looks,
        "told": (_cpu(process) - cpu) / looks,
    }


def _cpu(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _held_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure, each number of orders and of workers in a process of its own."""
    if answer({"orders": orders, "beats": beats}):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--beats", type=int, default=10_000)
    options = parser.parse_args()
    handed = {count: measure("orders", count) for count in options.orders}
    heard = {count: measure("beats", count, options.beats) for count in options.workers}
    most, many = max(handed), max(heard)
    figures: dict[str, Any] = {}
    for count, found in handed.items():
        figures[f"{count:,} orders: CPU of the driver for one, ms: queued; handed out and taken back"] = (
            f"{1000 * found['queue']:.2f}; {1000 * found['order']:.2f}"
        )
        figures[f"{count:,} orders: handed out a second, {ACTORS} actors; memory of the driver, MiB"] = (
            f"{found['rate']:.0f}; {found['mib']:.0f}"
        )
    for count, found in heard.items():
        figures[f"{count:,} workers: CPU of a beat, coordinator, ms"] = f"{1000 * found['beat']:.3f}"
        figures[f"{count:,} workers: CPU of a look, ms: driver; coordinator"] = (
            f"{1000 * found['look']:.1f}; {1000 * found['told']:.1f}"
        )
    save("driver", "What Ray takes of the driver and of the coordinator", figures)
    file = results() / "driver.json"
    costs = {
        "order_seconds": handed[most]["order"],
        "queue_seconds": handed[most]["queue"],
        "beat_seconds": heard[many]["beat"],
        "look_seconds": heard[many]["look"] / many,
    }
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "costs": costs}, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
