"""Google's object store, by its JSON API on loopback: `gs://` URLs through gcsfs, where that is installed."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import fsspec
import pytest
from shards import PLAIN, resolve, write

from ipt_stream import claim as claims
from ipt_stream import storage
from ipt_stream.claim import claim
from ipt_stream.corpus.readers import read_rows
from ipt_stream.errors import LedgerError, StorageError
from ipt_stream.ledger import LedgerWriter, read_ledger

pytest.importorskip("gcsfs", reason="gcsfs is not installed: the extra `gcs`")

ROOT = "gs://bucket"


class Store(ThreadingHTTPServer):
    """Objects by name, each with its generation.

    Attributes:
        objects: of the one bucket that there is, `bucket`.
        asked: the requests so far, as (method, path with query).
        lose: uploads that are still to be done without an answer.
        refuse: uploads that are still to be answered by 503, and not done.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.lose = self.refuse = 0
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that ends early is what some tests want."""


class _Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def _answer(self) -> None:
        self.server.asked.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        place = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", parts.path)
        assert place is not None, self.path
        bucket, name = place[2], unquote(place[3] or "")
        if bucket != "bucket":
            self._fail(404, "The specified bucket does not exist.")
        elif place[1] == "/upload":
            self._upload(query, body)
        elif not name and not parts.path.endswith("/o"):
            self._send({"kind": "storage#bucket", "name": bucket})
        elif not name:
            self._list(query)
        elif name not in self.server.objects:
            self._fail(404, f"No such object: {bucket}/{name}")
        elif self.command == "DELETE":
            del self.server.objects[name]
            self._send_bytes(204, b"")
        elif query.get("alt") == "media":
            self._download(self.server.objects[name])
        else:
            self._send(self._described(name))

    do_GET = do_POST = do_DELETE = _answer

    def _upload(self, query: dict[str, str], body: bytes) -> None:
        """A multipart one: JSON of its name, then the content."""
        assert query["uploadType"] == "multipart"
        boundary = b"--" + (self.headers.get_param("boundary", header="Content-Type") or "").encode()  # type: ignore[union-attr]
        described, content = (part.partition(b"\n\n")[2] for part in body.split(boundary, 2)[1:])
        name = json.loads(described)["name"]
        content = content[: content.rindex(b"\n" + boundary + b"--")]
        with self.server.lock:
            if self.server.refuse:
                self.server.refuse -= 1
                self._fail(503, "We encountered an internal error. Please try again.")
                return
            if query.get("ifGenerationMatch") == "0" and name in self.server.objects:
                self._fail(412, "At least one of the pre-conditions you specified did not hold.")
                return
            self.server.objects[name] = content
            if self.server.lose:
                self.server.lose -= 1
                self.close_connection = True
                return
        self._send(self._described(name))

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, prefixes = [], set()
        for name in sorted(self.server.objects):
            if not name.startswith(prefix):
                continue
            below, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if cut:
                prefixes.add(prefix + below + delimiter)
            else:
                items.append(self._described(name))
        self._send({"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})

    def _download(self, content: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._send_bytes(200, content)
        elif int(wanted[1]) >= len(content):
            self._fail(416, "The requested range cannot be satisfied.")
        else:
            self._send_bytes(206, content[int(wanted[1]) : int(wanted[2]) + 1 if wanted[2] else None])

    def _described(self, name: str) -> dict[str, Any]:
        content = self.server.objects[name]
        tag = hashlib.md5(content).hexdigest()
        at = "2026-01-01T00:00:00.000Z"
        return {
            "kind": "storage#object", "id": f"bucket/{name}/1", "name": name, "bucket": "bucket", "generation": "1",
            "size": str(len(content)), "etag": tag, "timeCreated": at, "updated": at, "storageClass": "STANDARD",
        }  # fmt: skip

    def _send(self, value: dict[str, Any]) -> None:
        self._send_bytes(200, json.dumps(value).encode(), "application/json")

    def _fail(self, status: int, message: str) -> None:
        told = {"error": {"code": status, "message": message, "errors": [{"message": message}]}}
        self._send_bytes(status, json.dumps(told).encode(), "application/json")

    def _send_bytes(self, status: int, content: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests look at `asked`."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty bucket, `gs://bucket`."""
    import gcsfs

    async def no_zones(self: Any, bucket: str) -> Any:
        from gcsfs.extended_gcsfs import BucketType

        return BucketType.NON_HIERARCHICAL

    if hasattr(gcsfs.GCSFileSystem, "_get_bucket_type"):  # it asks another service what kind of bucket it is
        monkeypatch.setattr(gcsfs.GCSFileSystem, "_get_bucket_type", no_zones)
    with Store() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{made.server_port}"
        settings = {"token": "anon", "endpoint_url": url}
        for protocol in ("gs", "gcs"):
            monkeypatch.setitem(fsspec.config.conf, protocol, settings)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield made
        gcsfs.GCSFileSystem.clear_instance_cache()
        made.shutdown()


def uploads(store: Store) -> list[str]:
    return [path for method, path in store.asked if method == "POST"]


def test_of_many_that_publish_once_one_does(store: Store) -> None:
    contents = [f"by {number}".encode() for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda content: storage.publish_once(f"{ROOT}/run/driver.json", content), contents))
    assert made.count(True) == 1
    assert store.objects == {"run/driver.json": contents[made.index(True)]}, "and it stays as it was"
    assert all("ifGenerationMatch=0" in path for path in uploads(store)), "by one conditional request each"


def test_an_upload_whose_answer_was_lost_meets_itself_and_one_that_was_refused_is_made(store: Store) -> None:
    store.lose = 1
    assert storage.publish_once(f"{ROOT}/lost", b"mine")
    store.refuse = 1
    assert storage.publish_once(f"{ROOT}/refused", b"mine too")
    assert store.objects == {"lost": b"mine", "refused": b"mine too"}
    assert len(uploads(store)) == 4, "each was sent twice"
    assert not storage.publish_once(f"{ROOT}/lost", b"another's")


def test_what_storage_does_elsewhere_it_does_there(store: Store, tmp_path: Path) -> None:
    for name in ("a/1.jsonl", "a/2.jsonl", "a/b/3.jsonl", "c"):
        storage.publish_bytes(f"{ROOT}/{name}", name.encode())
    storage.publish_bytes(f"{ROOT}/c", b"another")
    assert storage.read_bytes(f"{ROOT}/c") == b"another", "replaced"
    assert storage.list_directory(f"{ROOT}/a") == [f"{ROOT}/a/1.jsonl", f"{ROOT}/a/2.jsonl"]
    assert storage.list_directory(f"{ROOT}/none") == []
    assert [stored.name for stored in storage.list_objects(f"{ROOT}/a")] == ["1.jsonl", "2.jsonl", "b/3.jsonl"]
    assert storage.expand([f"{ROOT}/a/*.jsonl"]) == [f"{ROOT}/a/1.jsonl", f"{ROOT}/a/2.jsonl"]
    assert (storage.exists(f"{ROOT}/c"), storage.exists(f"{ROOT}/d"), storage.size(f"{ROOT}/c")) == (True, False, 7)
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    storage.publish_file(f"{ROOT}/file", str(tmp_path / "file"))
    with storage.open_read(f"{ROOT}/file") as file:
        file.seek(299_990)
        assert file.read() == b"x" * 10
    storage.remove(f"{ROOT}/c")
    storage.remove(f"{ROOT}/c")
    assert not storage.exists(f"{ROOT}/c")
    with pytest.raises(StorageError, match="can't read gs://bucket/c"):
        storage.read_bytes(f"{ROOT}/c")
    with pytest.raises(StorageError, match="can't publish gs://elsewhere/c"):
        storage.publish_bytes("gs://elsewhere/c", b"")


def test_shards_are_read_and_a_run_is_claimed_and_recorded_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl.zst", PLAIN)
    storage.publish_bytes(f"{ROOT}/in/a.jsonl.zst", path.read_bytes())
    assert list(read_rows(resolve(f"{ROOT}/in/*")[0], 3)) == list(read_rows(resolve(path)[0], 3))

    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(claims, "LOOK_SECONDS", 0.02)
    run = f"{ROOT}/run"
    with claim(run), pytest.raises(LedgerError, match="another driver is at work in gs://bucket/run"), claim(run):
        raise AssertionError("two drivers")
    assert "run/driver.json" not in store.objects, "given back"
    writer = LedgerWriter(run)
    for number in range(3):
        writer.append({"id": f"{number}"})
    assert [record["id"] for record in read_ledger(run)] == ["0", "1", "2"]
