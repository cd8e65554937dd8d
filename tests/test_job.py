"""A Ray job as a user submits it: to a head node and a second one, with this source and nothing installed for it."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from test_synthesize import check_whole

from ipt_stream.ledger import read_ledger
from ipt_stream.stage import finished_report

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 600
DOCUMENTS = 12


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Head:
    """A head node with its dashboard, and a second node: each as `ray start` makes it."""

    def __init__(self, folder: str, processes: ExitStack) -> None:
        self.dashboard = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "token",  # Ray listens on all addresses of the machine
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_raylet_start_wait_time_s": "180",
        }
        self.environment.pop("PYTHONPATH", None)  # what a job needs, it brings along
        self._processes = processes
        port = free_port()
        dashboard = self.dashboard.rsplit(":", 1)[1]
        self._start("--head", f"--port={port}", f"--dashboard-port={dashboard}", "--node-ip-address=127.0.0.1")
        self._wait_for_dashboard()
        self._start(f"--address=127.0.0.1:{port}", "--node-ip-address=127.0.0.2")

    def _start(self, *arguments: str) -> None:
        size = ["--num-cpus=1", f"--object-store-memory={80 * 2**20}", "--disable-usage-stats", "--block"]
        agent = f"--dashboard-agent-listen-port={free_port()}"  # its default is taken where two nodes share a machine
        command = [str(BIN / "ray"), "start", *arguments, agent, *size]
        node = subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._processes.callback(end, node)

    def _wait_for_dashboard(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with suppress(urllib.error.HTTPError, OSError):
                request = urllib.request.Request(f"{self.dashboard}/api/version")
                request.add_header("Authorization", f"Bearer {self.environment['RAY_AUTH_TOKEN']}")
                with urllib.request.urlopen(request, timeout=10):
                    return
            time.sleep(0.5)
        pytest.fail("the dashboard never answered")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command of this environment, in the project's root."""
        found = [str(BIN / command[0]), *command[1:]]
        return subprocess.run(
            found, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )

    def submit(self, *entrypoint: str) -> subprocess.CompletedProcess[str]:
        """What the README says, and then the job's own command."""
        options = ["--address", self.dashboard, "--runtime-env", "jobs/runtime_env.yaml"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            done = self.run("ray", "job", "submit", *options, "--", *entrypoint)
            if "No available agent" not in done.stderr or time.monotonic() > deadline:  # it starts after the dashboard
                return done
            time.sleep(1)


def end(node: subprocess.Popen[bytes]) -> None:
    started = psutil.Process(node.pid).children(recursive=True)
    node.terminate()
    with suppress(subprocess.TimeoutExpired):
        node.wait(5)
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    node.kill()
    node.wait()


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets below it have names of at most 107 characters
    with ExitStack() as processes:
        processes.callback(shutil.rmtree, folder, ignore_errors=True)
        yield Head(folder, processes)


def test_a_job_brings_its_source_along_and_makes_all_segments(head: Head, tmp_path: Path, model_folder: Path) -> None:
    shards, output = tmp_path / "shards", tmp_path / "run"
    shards.mkdir()
    lines = [json.dumps({"text": f"the miller of town {n} was old"}) for n in range(DOCUMENTS)]
    (shards / "a.jsonl").write_text("\n".join(lines) + "\n")
    changes = {
        "output": output, "input.shards": json.dumps([str(shards)]), "rounds": 2, "segment_documents": 6,
        "engine.model": model_folder, "engine.max_model_len": 512, "engine.max_new_tokens": 32,
    }  # fmt: skip
    settings = [f"{key}={value}" for key, value in changes.items()]
    where = ["python", "-c", "import ipt_stream; print(ipt_stream.__file__)"]
    job = ["python", "jobs/synthesize.py", "jobs/configs/synthesize.yaml", *settings]
    done = head.submit("bash", "-c", f"{shlex.join(where)} && {shlex.join(job)}")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    [found] = [line for line in done.stdout.splitlines() if line.endswith("ipt_stream/__init__.py")]
    assert "/runtime_resources/working_dir_files/" in found
    assert "succeeded" in done.stdout
    assert finished_report(str(output)) is not None
    assert len([record for record in read_ledger(str(output)) if record["kind"] == "segment"]) == 2
    check_whole(output, shards)
