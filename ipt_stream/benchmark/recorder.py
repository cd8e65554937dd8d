"""What each engine does over time, seen from its own seam: requests that went in and came out, and its pulse.

    Recorder(make, output)  is an engine factory, as the stage takes one; its engines keep a timeline each

A timeline is a row twice a second: counts of all requests that were answered so far, and what the engine is doing. It
is published every second, for its worker may be killed at any moment, as `timeline/NAME.json` of the benchmark's run.
Times are of the machine's clock, which on a cluster is the same on all nodes to within what the network's time gives.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from ipt_stream import storage
from ipt_stream.benchmark.floor import request_contexts, request_read
from ipt_stream.errors import StorageError
from ipt_stream.progress import log
from ipt_stream.synthesis.engine import Engine, EngineConfig, Generation, Pulse, RequestFailed
from ipt_stream.synthesis.parse import parse
from ipt_stream.synthesis.tokens import PromptTokenizer, load_tokenizer
from ipt_stream.synthesis.worker import EngineFactory

SAMPLE_SECONDS = 0.5
PUBLISH_SECONDS, REMOTE_PUBLISH_SECONDS = 1.0, 10.0
PARSED_A_SAMPLE = 4
"""Answers whose pairs are counted between two rows, at most: each takes a fifth of a millisecond."""
COUNTERS = (
    "requests", "failed", "documents", "raw_tokens", "prompt_tokens", "cached_tokens", "generated_tokens", "contexts",
    "read_tokens", "parsed", "parsed_pairs", "steps",
)  # fmt: skip
"""Sums since the start; `parsed` answers were looked at, and had `parsed_pairs` pairs."""
GAUGES = ("open", "running", "waiting", "kv_cache_usage")
"""What is going on: requests that were sent and not answered; the rest is the engine's `Pulse`."""
TIMELINES = "timeline"


@dataclass(frozen=True, slots=True)
class Recorder:
    """Makes engines that keep a timeline.

    Attributes:
        make: makes the engine itself.
        output: run directory of the benchmark.
    """

    make: EngineFactory
    output: str

    def __call__(self, config: EngineConfig, gpus: float, eos_token_id: int) -> RecordedEngine:
        """An engine, as the stage asks for one."""
        begun = time.time()
        tokenizer = load_tokenizer(config.model, config.revision)
        engine = self.make(config, gpus, eos_token_id)
        about = {"begun": begun, "ready": time.time(), "gpus": gpus, "max_num_seqs": config.max_num_seqs}
        return RecordedEngine(engine, tokenizer, self.output, about)


class RecordedEngine:
    """An engine, and its timeline."""

    def __init__(self, engine: Engine, tokenizer: PromptTokenizer, output: str, about: dict[str, Any]) -> None:
        self._engine, self._tokenizer = engine, tokenizer
        self._bos = tokenizer.contexts(["x"])[0][0]
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._open = self._parsed_now = 0
        self._rows: list[list[float]] = []
        name = uuid.uuid4().hex[:12]
        facts = {"name": name, "host": socket.gethostname(), "pid": os.getpid(), "facts": engine.facts()}
        self._about = {**about, **facts, "columns": ["time", *COUNTERS, *GAUGES]}
        self._path = storage.join(output, TIMELINES, f"{name}.json")
        self._every = REMOTE_PUBLISH_SECONDS if storage.is_remote(output) else PUBLISH_SECONDS
        self._ended = threading.Event()
        self._publish()
        self._thread = threading.Thread(target=self._sample, name="timeline", daemon=True)
        self._thread.start()

    async def generate(self, request_id: str, token_ids: list[int], priority: int) -> Generation:
        """The engine's own, counted."""
        self._open += 1
        try:
            made = await self._engine.generate(request_id, token_ids, priority)
        except RequestFailed:
            self._counts["failed"] += 1
            raise
        finally:
            self._open -= 1
        self._count(request_id, token_ids, made)
        return made

    def _count(self, request_id: str, token_ids: list[int], made: Generation) -> None:
        counts, prompt, generated = self._counts, len(token_ids), len(made.token_ids)
        cached = min(made.cached_tokens, prompt - 1)
        last_shot = token_ids[::-1].index(self._bos) + 1  # its tokens: all shots begin with one
        counts["requests"] += 1
        counts["documents"] += request_id.rsplit("/", 1)[-1].split(".")[1] == "0"  # a first piece, or the only one
        counts["raw_tokens"] += last_shot - self._tokenizer.context_overhead_tokens
        counts["prompt_tokens"] += prompt
        counts["cached_tokens"] += cached
        counts["generated_tokens"] += generated
        counts["contexts"] += request_contexts(prompt, cached, generated)
        counts["read_tokens"] += request_read(prompt, cached, generated)
        if self._parsed_now < PARSED_A_SAMPLE:
            self._parsed_now += 1
            counts["parsed"] += 1
            counts["parsed_pairs"] += len(parse(self._tokenizer.decode(made.token_ids)).pairs)

    def _sample(self) -> None:
        published = 0.0
        while not self._ended.wait(SAMPLE_SECONDS):
            self._row()
            if time.monotonic() - published > self._every or not self._open:
                self._publish()
                published = time.monotonic()

    def _row(self) -> None:
        pulse = self._engine.pulse()
        counts = {**self._counts, "steps": pulse.steps}
        gauges = (self._open, pulse.running, pulse.waiting, round(pulse.kv_cache_usage, 4))
        row = [round(time.time(), 3), *(counts[name] for name in COUNTERS), *gauges]
        self._parsed_now = 0
        if len(self._rows) > 1 and self._rows[-1][1:] == self._rows[-2][1:] == row[1:]:
            self._rows[-1] = row  # nothing goes on: only the time does
        else:
            self._rows.append(row)

    def _publish(self) -> None:
        try:
            storage.publish_json(self._path, {**self._about, "rows": list(self._rows)})
        except StorageError as error:
            log.warning("the timeline could not be written: %s", error)

    def pulse(self) -> Pulse:
        """What the engine is doing."""
        return self._engine.pulse()

    def facts(self) -> dict[str, Any]:
        """What the engine is."""
        return self._engine.facts()

    def kill(self) -> None:
        """End its processes."""
        self._engine.kill()

    def shutdown(self) -> None:
        """End the engine, and the timeline with its last row."""
        self._ended.set()
        self._thread.join()
        self._row()
        self._publish()
        self._engine.shutdown()
