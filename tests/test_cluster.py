"""Synthesis on a real cluster of two nodes, one of which is lost in the middle of the run."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_synthesize import check_whole, settings

from ipt_stream.errors import ConfigError, IptError
from ipt_stream.ledger import read_ledger
from ipt_stream.synthesis.pipeline import SynthesizeConfig
from ipt_stream.synthesis.ray_session import check_shared, ensure_ray

DOCUMENTS = 120
PATIENCE_SECONDS = 300
RAY = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",  # A node that is gone is noticed after 5 s, one that is slow after 50 s.
    "RAY_health_check_timeout_ms": "10000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_metrics_report_interval_ms": "1000",
    "RAY_raylet_start_wait_time_s": "180",
}

# Two nodes of one core each, so that each has room for one engine.
CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
head = {**node, "include_dashboard": False, "node_ip_address": "127.0.0.2", "metrics_export_port": int(sys.argv[1])}
cluster = Cluster(initialize_head=True, head_node_args=head)
second = cluster.add_node(**node, node_ip_address="127.0.0.3")
raylet = second.all_processes["raylet"][0].process.pid
print(json.dumps({"address": cluster.address, "raylet": raylet}), flush=True)
sys.stdin.read()
cluster.shutdown()
"""

DRIVER = """
import sys
from scripted import Script
from test_cluster import on_two_nodes
from ipt_stream.synthesis.pipeline import synthesize
shards, output, model, log = sys.argv[1:]
synthesize(on_two_nodes(shards, output, model), Script(delay_s=0.8, log=log))
"""


@dataclass(frozen=True, slots=True)
class Nodes:
    """A cluster of two nodes.

    Attributes:
        address: what RAY_ADDRESS has to be.
        raylet: process id of the second node's raylet, the parent of all its workers.
        metrics: where the first node tells Prometheus its metrics.
        environment: for processes that are to join.
    """

    address: str
    raylet: int
    metrics: str
    environment: dict[str, str]

    def processes(self) -> set[int]:
        """Process ids of the second node."""
        with suppress(psutil.NoSuchProcess):
            raylet = psutil.Process(self.raylet)
            return {self.raylet, *(process.pid for process in raylet.children(recursive=True))}
        return set()


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    # Sockets below it have names of at most 107 characters; and no other session on this machine finds this cluster.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    # A token, for Ray listens on all addresses of the machine.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, **RAY, **token, "RAY_TMPDIR": folder}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", CLUSTER, str(port)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as cluster:  # type: ignore[call-overload]
        try:
            line = cluster.stdout.readline()
            if not line:  # Ray's own start has time limits that a busy machine exceeds
                pytest.skip(f"Ray could not start two nodes here: {last_words(Path(folder))}")
            told = json.loads(line)
            yield Nodes(told["address"], told["raylet"], f"http://127.0.0.1:{port}/metrics", environment)
        finally:
            started = psutil.Process(cluster.pid).children(recursive=True)
            cluster.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                cluster.wait(60)
            for process in started:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            cluster.kill()
            shutil.rmtree(folder, ignore_errors=True)


def last_words(folder: Path) -> list[str]:
    """The ends of the logs that tell why a cluster does not start."""
    found = (file for name in ("gcs_server.out", "raylet.out", "raylet.err") for file in folder.rglob(name))
    return [f"{file.name}: {file.read_text(errors='replace')[-1000:]}" for file in found if not file.is_symlink()]


def on_two_nodes(shards: Path | str, output: Path | str, model: Path | str) -> SynthesizeConfig:
    """Two engines of a core each, with one segment at a time."""
    config = settings(Path(shards), Path(output), Path(model), rounds=2, segment_documents=4)
    engine = config.engine.model_copy(update={"replicas": 2, "cpus": 1, "segments_in_flight": 1})
    return config.model_copy(update={"engine": engine})


def records(output: Path) -> dict[str, Any]:
    return {record["id"]: dict(record) for record in read_ledger(str(output))}


def modified(output: Path, found: dict[str, Any]) -> dict[str, int]:
    return {name: (output / record["path"]).stat().st_mtime_ns for name, record in found.items() if "path" in record}


def requests(log: Path) -> list[tuple[str, int, float]]:
    """What the engines answered: segment, process id and time of each request."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(line[0].split("/")[0], int(line[1]), float(line[2])) for line in lines if len(line) == 3]


def until(what: str, found: Callable[[], bool], driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not found():
        assert driver.poll() is None, f"the driver ended before {what}"
        assert time.monotonic() < deadline, f"{what}: not in {PATIENCE_SECONDS} s"
        time.sleep(0.1)


def test_a_lost_node_costs_nothing_but_what_it_had_in_flight(nodes: Nodes, tmp_path: Path, model_folder: Path) -> None:
    shards, output, log = tmp_path / "shards", tmp_path / "run", tmp_path / "log"
    shards.mkdir()
    lines = [json.dumps({"text": f"the miller of town {n}. " * (1 + n % 3), "id": f"d{n}"}) for n in range(DOCUMENTS)]
    (shards / "a.jsonl").write_text("\n".join(lines[:70]) + "\n")
    (shards / "b.jsonl").write_text("\n".join(lines[70:]) + "\n")

    command = [sys.executable, "-c", DRIVER, str(shards), str(output), str(model_folder), str(log)]
    environment = {**nodes.environment, "RAY_ADDRESS": nodes.address}
    driver = subprocess.Popen(command, env=environment)
    try:

        def both_work() -> bool:
            workers, second = {pid for _, pid, _ in requests(log)}, nodes.processes()
            return bool(workers & second and workers - second) and len(records(output)) >= 6

        until("both nodes had recorded segments", both_work, driver)
        for pid in nodes.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        lost = time.time()
        before = records(output)
        made = modified(output, before)
        assert 0 < len(made) < DOCUMENTS // 4
        until("the metrics told of documents", lambda: documents_told(nodes.metrics) > 0, driver)
        assert driver.wait(PATIENCE_SECONDS) == 0, "one node is enough to go on"
    finally:
        driver.kill()
        driver.wait()

    after = records(output)
    assert {name: after[name] for name in before} == before, "what was recorded stays as it was"
    assert modified(output, before) == made, "no file was written again"
    assert not {segment for segment, _, at in requests(log) if at > lost + 1} & before.keys(), "no segment made again"
    assert {path.name for path in (output / "segments").iterdir()} == {
        Path(record["path"]).name for record in after.values() if "path" in record
    }
    assert sum(record["rows"] for record in after.values() if record["kind"] == "segment") == DOCUMENTS
    check_whole(output, shards)


def documents_told(metrics: str) -> float:
    """What a node tells Prometheus of documents done; 0 while it tells nothing."""
    try:
        with urllib.request.urlopen(metrics, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except (urllib.error.URLError, OSError):
        return 0.0
    return max((float(line.split()[-1]) for line in lines if line.startswith("ray_ipt_stream_rows{")), default=0.0)


def test_a_relative_path_is_refused_on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    check_shared("out/run", "output")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    for path in ("/shared/run", "file:///shared/run", "s3://bucket/run"):
        check_shared(path, "output")
    for path in ("out/run", "file://out/run"):
        with pytest.raises(ConfigError, match=r"output=.* would be another place on each node"):
            check_shared(path, "output")


def test_an_address_that_is_no_clusters_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(IptError, match="can't join the Ray cluster at http"):
        ensure_ray()
