"""A real S3 server on loopback behind a proxy that fails as stores do, for tests of everything that talks to one.

A test module makes fixtures of `serve`, once, and `reach`, for each test; see test_object_store.py.
"""

from __future__ import annotations

import http.client
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import fsspec
import pytest
import s3fs

READ_TIMEOUT_S, PATIENT_S = 1.0, 60.0
"""For tests of stores that hang, and for all others: on a busy machine an answer takes a while, and is not asked for
twice."""
SLOW_S = 0.05


class Fault(StrEnum):
    """What the proxy does to a request instead of answering it."""

    ERROR = "500"
    BUSY = "503"
    SLOW_DOWN = "503 SlowDown"
    CONFLICT = "409"
    CLOSE = "the connection is closed before the request reaches the store"
    LOSE = "the store does what it is asked, and the answer is lost"
    CUT = "half of the answer, then the connection is closed"
    HANG = "no answer for longer than the read time-out"
    SLOW = "a late answer"


TRANSIENT = [fault for fault in Fault if fault is not Fault.CONFLICT]
_CODES = {
    Fault.ERROR: (500, "InternalError"),
    Fault.BUSY: (503, "ServiceUnavailable"),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.CONFLICT: (409, "ConditionalRequestConflict"),
}

Script = Callable[[str, str], Fault | None]
"""From a request's method and path to what goes wrong with it."""


def no_faults(method: str, path: str) -> None:
    """Every request is answered."""


def now_and_then(seed: int, rate: float, faults: list[Fault] = TRANSIENT) -> Script:
    """Each request fails with probability `rate`, in a way drawn from `faults`."""
    draws = random.Random(seed)

    def script(method: str, path: str) -> Fault | None:
        return draws.choice(faults) if draws.random() < rate else None

    return script


def at_first(*faults: Fault, method: str | None = None) -> Script:
    """The first requests (of `method`) fail so, one after the other; the rest are answered."""
    rest = list(faults)

    def script(asked: str, path: str) -> Fault | None:
        return rest.pop(0) if rest and method in (None, asked) else None

    return script


def always(fault: Fault, method: str | None = None) -> Script:
    """Every request (of `method`) fails so."""
    return lambda asked, path: fault if method in (None, asked) else None


class Store(ThreadingHTTPServer):
    """The proxy. Set `script` and `hang_s` at any time.

    Attributes:
        asked: the requests so far, as (method, path).
        injected: how many of them were made to fail.
        root: URL of the bucket of this test.
    """

    daemon_threads = True

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), _Proxy)
        self.upstream = upstream
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.puts = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """A new empty bucket, no faults."""
        self.script: Script = no_faults
        self.hang_s = 3 * READ_TIMEOUT_S
        self.asked: list[tuple[str, str]] = []
        self.injected = 0
        self.bucket = f"bucket-{uuid.uuid4().hex[:12]}"
        self.root = f"s3://{self.bucket}"
        self.ask_directly("PUT", f"/{self.bucket}")

    def ask_directly(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The answer of the server behind the proxy."""
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        signed = "AWS4-HMAC-SHA256 Credential=a-key/20000101/us-east-1/s3/aws4_request"
        connection.request(method, path, body, {"Authorization": signed})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert answer.status < 300, content
        return content

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what some tests want."""


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store
    _SKIPPED: ClassVar = {"connection", "transfer-encoding", "content-length", "date", "server"}

    def setup(self) -> None:
        super().setup()
        self._decided: Fault | None = None

    def _fault(self) -> Fault | None:
        self.server.asked.append((self.command, self.path))
        fault = self.server.script(self.command, self.path)
        self.server.injected += fault is not None
        return fault

    def handle_expect_100(self) -> bool:
        """What hangs or closes does so before the client has sent its content, and is told to."""
        self._decided = self._fault()
        if self._decided in (Fault.CLOSE, Fault.HANG):
            self._drop(self._decided)
            return False
        return super().handle_expect_100()

    def _drop(self, fault: Fault) -> None:
        time.sleep(self.server.hang_s if fault is Fault.HANG else 0)
        self.close_connection = True

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        expected = self.headers.get("Expect") is not None
        fault = self._decided if expected else self._fault()
        if fault in _CODES:
            status, code = _CODES[fault]
            text = f"<Error><Code>{code}</Code><Message>{code}, says the test</Message></Error>".encode()
            self._send(status, [("Content-Type", "application/xml")], text)
        elif fault in (Fault.CLOSE, Fault.HANG):
            self._drop(fault)
        else:
            time.sleep(SLOW_S if fault is Fault.SLOW else 0)
            status, headers, content = self._forward(body)
            if fault is Fault.LOSE:
                self.close_connection = True
            else:
                self._send(status, headers, content, cut=fault is Fault.CUT)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")}
        # moto looks whether an object is there and then puts it: make that one step, as it is in S3.
        with self.server.puts if self.command == "PUT" else nullcontext():
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
        self.send_response(status)
        length = str(len(content))
        for name, value in headers:
            if self.command == "HEAD" and name.lower() == "content-length":
                length = value
            if name.lower() not in self._SKIPPED:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests look at `asked`."""


@contextmanager
def serve() -> Iterator[Store]:
    """The server, and the proxy before it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with Store(server.get_host_and_port()[1]) as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        yield store
        store.shutdown()
    server.stop()


@contextmanager
def reach(store: Store, monkeypatch: pytest.MonkeyPatch, read_timeout_s: float = PATIENT_S) -> Iterator[Store]:
    """An empty bucket; s3:// URLs reach it through the proxy, with this read time-out."""
    store.reset()
    for name, value in environment(store).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": read_timeout_s}})
    s3fs.S3FileSystem.clear_instance_cache()
    yield store
    s3fs.S3FileSystem.clear_instance_cache()


def environment(store: Store) -> dict[str, str]:
    """What a process needs in its environment to reach `store`."""
    return {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_ACCESS_KEY_ID": "a-key",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
