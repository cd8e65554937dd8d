"""Kills, hangs and starves a synthesis run at random moments, and proves each time that nothing was lost or doubled.

    python benchmarks/faults.py driver --times 20            # an engine with a pace, no model: quick
    python benchmarks/faults.py engine --times 20 --model out/demo/synthesizer/model --shards out/demo/world/shards

Faults: driver (kill -9), worker (kill -9 of the Ray worker that holds the engine), engine (kill -9 of vLLM's own
process), hang (SIGSTOP of it), hung-worker (SIGSTOP of the Ray worker), sigterm (of the driver), node (one of a cluster
of two is killed with all its processes, and another joins), disk (full while publishing; mounts a small one, as root).
Between two faults the run may do a random amount of work. After each: what was recorded is still there, to the byte
and to the file's time; in the end every document is in one place, with its own text. A run that comes to its end too
soon is checked, and another one begun, until all faults were injected.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from common import HERE, save, write_shards, write_tokenizer

DRIVER = f"""
import json, signal, sys
sys.path.insert(0, {str(HERE)!r})
from common import Paced
from ipt_stream.errors import IptError
from ipt_stream.progress import set_up_logging
from ipt_stream.synthesis.pipeline import SynthesizeConfig, synthesize
set_up_logging()
settings = json.loads(sys.argv[1])
pace = settings.pop("pace")
try:
    synthesize(SynthesizeConfig.model_validate(settings), *([Paced(pace)] if pace else []))
except IptError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # all is done; what comes now is too late
"""
ENDLESS = 900.0
TOO_LATE = "nobody left"
# A head and a second node of one core each: at every line on stdin another second node, whose raylet's pid is printed.
CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
head = {**node, "include_dashboard": False, "node_ip_address": "127.0.0.2"}
cluster = Cluster(initialize_head=True, head_node_args=head)
print(cluster.address, flush=True)
for line in sys.stdin:
    second = cluster.add_node(**node, node_ip_address="127.0.0.3")
    print(second.all_processes["raylet"][0].process.pid, flush=True)
cluster.shutdown()
"""
PATIENCE = {
    "RAY_health_check_initial_delay_ms": "0", "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "10000", "RAY_health_check_failure_threshold": "5",
    "RAY_raylet_start_wait_time_s": "180",
}  # fmt: skip


class Nodes:
    """A Ray cluster of two nodes on this machine, the second of which can be killed and replaced."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # names of sockets below it must be short
        self.environment = {
            **PATIENCE, "RAY_TMPDIR": self._folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }  # fmt: skip
        self._cluster = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], env={**os.environ, **self.environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.environment["RAY_ADDRESS"] = self._line()
        self.add()

    def _line(self) -> str:
        assert self._cluster.stdout is not None
        line = self._cluster.stdout.readline().strip()
        assert line, "Ray could not start a node"
        return line

    def add(self) -> None:
        """A second node joins."""
        assert self._cluster.stdin is not None
        self._cluster.stdin.write("add\n")
        self._cluster.stdin.flush()
        self._raylet = int(self._line())

    def processes(self) -> list[psutil.Process]:
        """Those of the second node."""
        raylet = psutil.Process(self._raylet)
        return [raylet, *raylet.children(recursive=True)]

    def close(self) -> None:
        """End the cluster, and every process of it."""
        left = psutil.Process(self._cluster.pid).children(recursive=True)
        assert self._cluster.stdin is not None
        self._cluster.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._cluster.wait(60)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._cluster.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class Run:
    """One run directory, its driver, and all that was ever seen recorded in it."""

    def __init__(self, folder: Path, settings: dict[str, Any], nodes: Nodes | None = None) -> None:
        self.output = Path(settings["output"])
        self.nodes = nodes
        self._settings, self._folder = settings, folder
        self._environment = nodes.environment if nodes else {}
        self._seen: dict[str, tuple[str, int]] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a driver."""
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, json.dumps(self._settings)],
                stdout=log, stderr=log, env={**os.environ, **self._environment}, start_new_session=True,
            )  # fmt: skip

    def log(self) -> str:
        """What all drivers have said."""
        return (self._folder / "log").read_text()

    def recorded(self) -> dict[str, tuple[str, int]]:
        """Segments in the ledger: their hashes, and the times of their files."""
        from ipt_stream.ledger import read_ledger

        found = {}
        for record in read_ledger(str(self.output)):
            if record["kind"] == "segment":
                file = self.output / record["path"]
                found[record["id"]] = (record["sha256"], file.stat().st_mtime_ns)
        return found

    def check(self) -> int:
        """Nothing that was ever recorded is gone, changed or made again; gives how many segments are recorded."""
        now = self.recorded()
        changed = [name for name, known in self._seen.items() if now.get(name) != known]
        assert not changed, f"recorded segments changed: {changed}"
        self._seen = now
        return len(now)

    def wait_for_more(self, least: int, seconds: float = ENDLESS) -> None:
        """Wait until `least` more segments are recorded than when last checked, or the driver ends."""
        deadline = time.monotonic() + seconds
        while len(self.recorded()) < len(self._seen) + least:
            assert self.process is not None
            if self.process.poll() is not None:
                return
            assert time.monotonic() < deadline, "no progress: see " + str(self._folder / "log")
            time.sleep(0.1)

    def wait(self, seconds: float = ENDLESS) -> int:
        """Wait for the driver's end; its exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self) -> None:
        """kill -9 of the driver, and nothing else."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def below(self, word: str) -> list[psutil.Process]:
        """Processes that the driver has started, by a word of their title."""
        assert self.process is not None
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if any(word in part for part in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def check_whole(self, shards: Path) -> int:
        """Every document of the input is in exactly one place, with its own text; gives how many there are."""
        from ipt_stream.corpus.formats import RejectedRow
        from ipt_stream.corpus.readers import InputConfig, read_rows, resolve_shards
        from ipt_stream.synthesis.results import list_segments, load_segment

        wanted, rejected = {}, 0
        for shard in resolve_shards(InputConfig(shards=(str(shards),))):
            for row in read_rows(shard):
                if isinstance(row, RejectedRow):
                    rejected += 1
                else:
                    wanted[row.document_id] = hashlib.sha256(row.text.encode()).digest()
        found: dict[str, bytes] = {}
        for reference in list_segments(str(self.output)):
            content = load_segment(reference)
            texts: dict[str, str] = {}
            for example in content.examples:
                for document, shot in zip(example.document_ids, example.shots, strict=True):
                    texts[document] = texts.get(document, "") + shot.text
            for raw in content.raw:
                assert raw.document_id not in texts, f"{raw.document_id} is raw and augmented"
                texts[raw.document_id] = raw.text
            twice = texts.keys() & found.keys()
            assert not twice, f"in two segments: {twice}"
            found |= {name: hashlib.sha256(text.encode()).digest() for name, text in texts.items()}
        assert found == wanted, f"{len(wanted.keys() - found.keys())} lost, {len(found.keys() - wanted.keys())} strange"
        files = {path.name for path in (self.output / "segments").iterdir()}
        assert len(files) == len(self.recorded()), "files that are in no record"
        return len(wanted) + rejected


def _is_at_work(run: Run, chosen: random.Random) -> bool:
    """Let the run get on a little; False where it came to its end meanwhile."""
    run.wait_for_more(1)
    time.sleep(chosen.random())
    assert run.process is not None
    return run.process.poll() is None


def fault_driver(run: Run, chosen: random.Random) -> str:
    from ipt_stream.stage import finished_report

    if not _is_at_work(run, chosen):
        return TOO_LATE
    run.kill()
    if finished_report(str(run.output)) is None:  # nobody cleans up after a run that had come to its end
        (run.output / "segments" / ".tmp-torn").write_text("what a killed worker leaves")
    run.check()
    run.start()
    return "killed"


def fault_sigterm(run: Run, chosen: random.Random) -> str:
    if not _is_at_work(run, chosen):
        return TOO_LATE
    assert run.process is not None
    run.process.send_signal(signal.SIGTERM)
    code = run.wait(120)
    assert code == 0, f"exit code {code}"
    run.check()
    run.start()
    return "stopped with 0"


def _signal_one(run: Run, word: str, number: signal.Signals, chosen: random.Random) -> str:
    if not _is_at_work(run, chosen):
        return TOO_LATE
    assert run.process is not None
    while not (found := run.below(word)):
        if run.process.poll() is not None:
            return TOO_LATE
        time.sleep(0.1)
    victim = chosen.choice(found)
    victim.send_signal(number)
    run.check()
    return f"{number.name}"


def fault_worker(run: Run, chosen: random.Random) -> str:
    return _signal_one(run, "ray::MapWorker", signal.SIGKILL, chosen)


def fault_engine(run: Run, chosen: random.Random) -> str:
    return _signal_one(run, "VLLM::EngineCore", signal.SIGKILL, chosen)


def fault_hang(run: Run, chosen: random.Random) -> str:
    return _signal_one(run, "VLLM::EngineCore", signal.SIGSTOP, chosen)


def fault_hung_worker(run: Run, chosen: random.Random) -> str:
    return _signal_one(run, "ray::MapWorker", signal.SIGSTOP, chosen)


def fault_disk(run: Run, chosen: random.Random) -> str:
    """Fill the file system that the run directory lies on; the run fails with one line; then make room again."""
    if not _is_at_work(run, chosen):
        return TOO_LATE
    filler = run.output.parent / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass
    code = run.wait(120)
    filler.unlink()
    if code == 0:  # its last segment was in its place before the disk was full
        return TOO_LATE
    run.check()
    run.start()
    return f"exit {code}"


def fault_node(run: Run, chosen: random.Random) -> str:
    """Kill every process of the second node while an engine of it is at work; another node joins."""
    assert run.nodes is not None and run.process is not None
    while not any("ray::MapWorker" in " ".join(process.cmdline()) for process in run.nodes.processes()):
        if run.process.poll() is not None:
            return TOO_LATE
        time.sleep(0.1)
    if not _is_at_work(run, chosen):
        return TOO_LATE
    for process in run.nodes.processes():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    run.check()
    run.nodes.add()
    return "killed"


FAULTS = {
    "driver": fault_driver, "worker": fault_worker, "engine": fault_engine, "hang": fault_hang,
    "hung-worker": fault_hung_worker, "sigterm": fault_sigterm, "disk": fault_disk,
    "node": fault_node,
}  # fmt: skip


def main() -> None:
    """Run one kind of fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="+", choices=sorted(FAULTS), metavar="FAULT", help="several take turns")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--no-save", action="store_true", help="print the result only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a synthesizer for vLLM; without one, an engine with a pace and no model")
    parser.add_argument("--shards", help="shards for it")
    parser.add_argument("--new-tokens", type=int, default=256, help="generated a text at most, with --model")
    parser.add_argument("--rows", type=int, default=400, help="made-up documents a fault, without --shards")
    options = parser.parse_args()
    nodes = Nodes() if "node" in options.faults else None
    chosen = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        place = folder / "disk"
        place.mkdir()
        if "disk" in options.faults:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=True)
        try:
            _run(options, folder, place, chosen, nodes)
        finally:
            if nodes:
                nodes.close()
            if "disk" in options.faults:
                subprocess.run(["umount", "-l", str(place)], check=True)


def _run(options: argparse.Namespace, folder: Path, place: Path, chosen: random.Random, nodes: Nodes | None) -> None:
    if options.model:
        shards, model = Path(options.shards), options.model
        tokens = options.new_tokens
        sizes = {"max_model_len": 1024, "max_new_tokens": tokens, "max_num_seqs": 32, "max_num_batched_tokens": 2048}
        segment_documents = 6
    else:
        shards = write_shards(folder / "shards", 4, options.times * options.rows // 4, (20, 120))
        model = str(folder / "model")
        write_tokenizer(folder / "model")
        sizes = {"max_model_len": 1024, "max_new_tokens": 64, "max_num_seqs": 32, "max_num_batched_tokens": 2048}
        segment_documents = 25
    settings = {
        "pace": 0 if options.model else 0.1, "input": {"shards": [str(shards)]},
        "rounds": 3, "fraction": 0.8, "segment_documents": segment_documents, "grace_seconds": 20,
        "engine": {
            "model": model, "gpus": 0, "segments_in_flight": 3, **sizes,
            "stall_seconds": 20 if options.model else 10,  # a real engine's start can keep two cores from all else
            **({"replicas": 2, "cpus": 1} if nodes else {}),
        },
    }  # fmt: skip
    outcomes: list[str] = []
    between: list[float] = []
    counts: set[int] = set()
    segments = runs = 0
    while len(outcomes) < options.times:
        run = Run(folder, {**settings, "output": str(place / f"run-{runs}")}, nodes)
        run.start()
        try:
            while len(outcomes) < options.times:
                fault = options.faults[len(outcomes) % len(options.faults)]
                began = time.monotonic()
                outcome = FAULTS[fault](run, chosen)
                if outcome == TOO_LATE:
                    break
                outcomes.append(f"{fault} {outcome}")
                between.append(time.monotonic() - began)
                print(f"{len(outcomes):3} {outcomes[-1]} after {between[-1]:.0f} s, {run.check()} segments", flush=True)
            code = run.wait()
            assert code == 0, f"exit code {code}"
            counts.add(run.check_whole(shards))
        except AssertionError:
            print(run.log()[-4000:], file=sys.stderr)
            raise
        segments += run.check()
        runs += 1
        left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(place) in " ".join(p.info["cmdline"] or [])]
        assert not left, f"processes left behind: {left}"
        shutil.rmtree(run.output)
    assert len(counts) == 1, f"runs of other sizes: {counts}"
    named = " ".join(options.faults)
    figures = {
        "faults injected": len(outcomes),
        "outcomes": ", ".join(sorted(set(outcomes))),
        "runs": runs,
        "documents of a run, each in exactly one place": counts.pop(),
        "segments, none made twice after it was recorded": segments,
        "median seconds from one fault to the next": round(statistics.median(between), 1),
    }
    title = f"Faults: {named} ({'vLLM' if options.model else 'an engine with a pace'})"
    if options.no_save:
        print(json.dumps(figures))
    else:
        save("faults-" + named.replace(" ", "-"), title, figures)


if __name__ == "__main__":
    main()
