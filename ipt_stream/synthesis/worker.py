"""The actor that holds an engine: segments in, published segment files and their ledger records out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ipt_stream import storage
from ipt_stream.progress import log
from ipt_stream.synthesis import segment
from ipt_stream.synthesis.engine import Engine, EngineConfig, EngineDied, VllmEngine
from ipt_stream.synthesis.plan import RunPlan, segment_id, segment_path
from ipt_stream.synthesis.read_segments import SegmentInput
from ipt_stream.synthesis.results import is_selected_document
from ipt_stream.synthesis.rounds import SegmentResult, run_segment
from ipt_stream.synthesis.segment import SegmentRow, Status
from ipt_stream.synthesis.tokens import PromptTokenizer, load_tokenizer

EngineFactory = Callable[[EngineConfig, float, int], Engine]
ENGINE_DIED_EXIT_CODE = 70


class SegmentSynthesizer:
    """One engine and what it takes to turn segments into files. Several threads may call it at once.

    The engine lives in an event loop of its own thread; each call hands its segment to that loop and waits, so that
    several segments are in flight on one engine.
    """

    def __init__(
        self, config: EngineConfig, plan: RunPlan, output: str, gpus: float, make_engine: EngineFactory = VllmEngine
    ) -> None:
        if not gpus:
            # The CPU engine computes on all cores, whatever number of them Ray reserved for this actor.
            os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        self._config, self._plan, self._output = config, plan, output
        self._tokenizer: PromptTokenizer = load_tokenizer(config.model, config.revision)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="engine", daemon=True).start()
        started = time.monotonic()
        self._engine = asyncio.run_coroutine_threadsafe(self._start(make_engine, gpus), self._loop).result()
        self.engine_start_seconds = time.monotonic() - started

    async def _start(self, make_engine: EngineFactory, gpus: float) -> Engine:
        return make_engine(self._config, gpus, self._tokenizer.eos_token_id)

    def synthesize(self, item: SegmentInput) -> dict[str, Any]:
        """Make, publish and describe one segment. Ends the process where the engine has died, to be restarted whole."""
        started = time.time()
        future = asyncio.run_coroutine_threadsafe(self._run(item), self._loop)
        try:
            result = future.result()
        except EngineDied as error:
            # An actor with a dead engine would be given segment after segment: only a new process can go on.
            log.error("%s; this worker ends and is started again", error)
            os._exit(ENGINE_DIED_EXIT_CODE)
        content = segment.encode(result.rows)
        path = segment_path(item.shard, item.number)
        storage.publish_bytes(storage.join(self._output, path), content)
        record = describe(item, result)
        record |= {"path": path, "sha256": hashlib.sha256(content).hexdigest()}
        return record | {"started": round(started, 3), "seconds": round(time.time() - started, 3)}

    async def _run(self, item: SegmentInput) -> SegmentResult:
        selected = [document for document in item.documents if is_selected_document(self._plan, document)]
        return await run_segment(
            self._engine,
            self._tokenizer,
            selected,
            segment_id=segment_id(item.shard, item.number),
            rounds=self._plan.rounds,
            budget_tokens=self._config.max_model_len - self._config.max_new_tokens,
        )

    def shutdown(self) -> None:
        """End the engine."""
        self._engine.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)


def describe(item: SegmentInput, result: SegmentResult) -> dict[str, Any]:
    """The ledger record of a segment: its counts, and every document that is in no output, by reason."""
    outcome = segment.outcomes(result.rows)
    count = Counter(outcome.values())
    rejected = {reason: list(rows) for reason, rows in item.rejected.items()}
    for row in result.rows:
        if outcome[row.document_id] is Status.FAILED and row.piece == 0:
            rejected.setdefault("failed", []).append(row.row)
    return {
        "id": segment_id(item.shard, item.number),
        "kind": "segment",
        "shard": item.shard,
        "number": item.number,
        "start_row": item.start_row,
        "rows": item.rows,
        "augmented": count[Status.AUGMENTED],
        "raw": len(item.documents) - count[Status.AUGMENTED] - count[Status.FAILED],
        "unselected": len(item.documents) - len(outcome),
        "rejected": rejected,
        "pieces": len(result.rows),
        "no_pairs": _reasons(result.rows),
        "pairs": sum(len(row.pairs) for row in result.rows),
        "dropped": result.dropped,
        "raw_tokens": result.raw_tokens,
        "prompt_tokens": sum(row.prompt_tokens for row in result.rows),
        "cached_tokens": sum(row.cached_tokens for row in result.rows),
        "generated_tokens": sum(row.generated_tokens for row in result.rows),
    }


def _reasons(rows: tuple[SegmentRow, ...]) -> dict[str, int]:
    return dict(Counter(row.reason for row in rows if row.status is Status.NO_PAIRS))
