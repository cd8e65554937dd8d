"""What the tests of the quality and domain analyses share: a finished synthesis run, a scripted judge behind an HTTP
endpoint on loopback, and one that is asked directly.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ipt_stream import storage
from ipt_stream.analysis.judging.asking import Answer, Question
from ipt_stream.analysis.judging.settings import JudgeSettings
from ipt_stream.corpus.formats import Format, ShardSpec
from ipt_stream.corpus.pair import Pair
from ipt_stream.corpus.sample_world import document_id
from ipt_stream.corpus.world.facts import Population, World
from ipt_stream.corpus.world.pairs import pairs_for
from ipt_stream.corpus.world.wording import document_text
from ipt_stream.ledger import LedgerWriter
from ipt_stream.stage import open_stage
from ipt_stream.synthesis import segment
from ipt_stream.synthesis.plan import RunPlan, save_plan, segment_path
from ipt_stream.synthesis.read_segments import SegmentInput
from ipt_stream.synthesis.rounds import SegmentResult
from ipt_stream.synthesis.segment import SegmentRow, Status
from ipt_stream.synthesis.worker import describe

WORLD = World(0)


def world_row(position: int, source: str, row: int, round_: int, pairs: tuple[Pair, ...] | None = None) -> SegmentRow:
    """The document of the world's person at `position`, with its true pairs or with `pairs`."""
    index = Population.CORPUS.index(position)
    made = pairs_for(WORLD, index) if pairs is None else pairs
    return plain_row(document_text(WORLD, index), made, source, row, round_, document_id(index))


def plain_row(
    text: str, pairs: tuple[Pair, ...], source: str, row: int, round_: int, source_id: str | None = None
) -> SegmentRow:
    return SegmentRow(
        document_id=f"{source}:{row}",
        source_id=source_id,
        source=source,
        row=row,
        piece=0,
        chain=0,
        round=round_,
        text=text,
        pairs=pairs,
        inherits=round_ > 0,
        status=Status.AUGMENTED if pairs else Status.NO_PAIRS,
        reason="" if pairs else "unfinished",
        prompt_tokens=100,
        cached_tokens=0,
        generated_tokens=10,
        generation="",
    )


def synthesis_run(output: Path, shards: Sequence[Sequence[Sequence[SegmentRow]]]) -> Path:
    """A finished run: shards of segments of rows."""
    stage = open_stage(str(output), "synthesize", {})
    specs = tuple(
        ShardSpec(f"/shard{i}", i, segments[0][0].source, Format.JSONL, "text", "id", 9, sum(map(len, segments)))
        for i, segments in enumerate(shards)
    )
    save_plan(str(output), RunPlan(specs, 8, 2, 1.0, 0))
    ledger = LedgerWriter(str(output))
    for shard, segments in enumerate(shards):
        start = 0
        for number, rows in enumerate(segments):
            content = segment.encode(rows)
            storage.publish_bytes(str(output / segment_path(shard, number)), content)
            given = SegmentInput(shard, number, start, len(rows), (), {})
            record = describe(given, SegmentResult(tuple(rows), 300, 80, {}))
            record |= {"path": segment_path(shard, number), "sha256": hashlib.sha256(content).hexdigest()}
            ledger.append(record)
            start += len(rows)
    stage.finish({"documents_in": 1, "augmented": 1}, ())
    return output


@contextmanager
def endpoint(
    answer: Callable[[int, dict[str, Any]], tuple[int, Any, dict[str, str]]],
) -> Iterator[tuple[str, list[Any]]]:
    """An HTTP server on loopback; yields its base URL and the requests that it got: (path, headers, body).

    Args:
        answer: from the number of the request (from 0) and its body the status, the body (JSON, or a text as it is) and
            further headers.
    """
    requests: list[Any] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(requests)
                requests.append((self.path, self.headers, body))
            status, content, headers = answer(number, body)
            sent = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            try:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)
            except (BrokenPipeError, ConnectionResetError):
                pass  # whoever asked has given up

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(content: str | None, tokens_in: int = 100, tokens_out: int = 10, **message: Any) -> dict[str, Any]:
    """A chat completion of that content."""
    return {
        "id": "c", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content, **message}}
        ],
        "usage": {
            "prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out
        },
    }  # fmt: skip


def quality_answer(relevant: bool = True, accurate: bool = True, category: str = "Question Answering") -> str:
    return json.dumps({"relevant": relevant, "accurate": accurate, "category": category})


class ScriptedJudge:
    """Answers as `say` does, asked directly; counts how often it was opened and what it was asked."""

    def __init__(self, say: Callable[[Question], str | Answer]) -> None:
        self.say, self.opened, self.asked = say, 0, 0

    def __call__(self, settings: JudgeSettings) -> ScriptedJudge:
        self.opened += 1
        return self

    def __enter__(self) -> ScriptedJudge:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        for index, question in reversed(list(enumerate(questions))):
            self.asked += 1
            said = self.say(question)
            yield index, said if isinstance(said, Answer) else Answer(said, 100, 10)


def judge(**settings: Any) -> JudgeSettings:
    given = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "key_variable": None, **settings}
    return JudgeSettings.model_validate({"endpoint": given})
