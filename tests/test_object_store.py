"""Object stores fail: nothing is lost, doubled or taken for absent by it, nothing hangs, and what remains is said.

Everything here talks to a real S3 server over HTTP, through a proxy that makes requests fail.
"""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from object_store import (
    READ_TIMEOUT_S,
    TRANSIENT,
    Fault,
    Store,
    always,
    at_first,
    environment,
    no_faults,
    now_and_then,
    reach,
    serve,
)

from ipt_stream import storage
from ipt_stream.corpus.readers import InputConfig, read_rows, resolve_shards
from ipt_stream.errors import ConfigError, InputError, StorageError
from ipt_stream.ledger import LedgerWriter, read_ledger
from ipt_stream.synthesis.model_files import local_model, model_identity


@pytest.fixture(scope="module")
def proxy() -> Iterator[Store]:
    with serve() as proxy:
        yield proxy


@pytest.fixture
def store(proxy: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with reach(proxy, monkeypatch, READ_TIMEOUT_S) as store:
        yield store


CALLS: dict[str, Callable[[str], object]] = {
    "exists": storage.exists,
    "size": storage.size,
    "list_directory": storage.list_directory,
    "list_objects": storage.list_objects,
    "expand": lambda path: storage.expand([path]),
    "expand a glob": lambda path: storage.expand([path + "/*"]),
    "open_read": lambda path: storage.open_read(path).__enter__(),
    "read_bytes": storage.read_bytes,
    "read_json": storage.read_json,
    "read_many": lambda path: list(storage.read_many([path])),
    "publish_bytes": lambda path: storage.publish_bytes(path, b"x"),
    "publish_json": lambda path: storage.publish_json(path, 1),
    "publish_once": lambda path: storage.publish_once(path, b"x"),
    "remove": storage.remove,
}


def set_s3(monkeypatch: pytest.MonkeyPatch, **config: object) -> None:
    """Configure s3fs's `config_kwargs` as a user may, in place of the short time-outs of these tests."""
    monkeypatch.setitem(fsspec.config.conf["s3"], "config_kwargs", config)


def at_once(calls: list[Callable[[], object]]) -> list[object]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def in_another_process(store: Store, code: str, **extra: str) -> subprocess.Popen[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FSSPEC_"))}
    variables = {**known, **environment(store), **extra}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={name: value for name, value in variables.items() if value},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out.strip()


def test_a_fault_at_every_first_request_changes_nothing(store: Store) -> None:
    content = random.Random(0).randbytes(100_000)
    roots = [f"{store.root}/{fault.name}-root" for fault in TRANSIENT]
    for root in roots:
        for name in ("a/1", "a/2", "a/deep/3"):
            storage.publish_bytes(f"{root}/{name}", content)
    seen = set()

    def script(method: str, path: str) -> Fault | None:
        first = (method, path) not in seen
        seen.add((method, path))
        return next(fault for fault in TRANSIENT if f"{fault.name}-root" in path) if first else None

    def publish_and_read(path: str) -> bytes:
        storage.publish_bytes(path, content)
        return storage.read_bytes(path)

    def read_open(path: str) -> bytes:
        with storage.open_read(path) as file:
            return file.read(10) + file.read()

    def calls(root: str) -> list[tuple[Callable[[], object], object]]:
        """What is asked, and what the answer must be."""
        one, two, three = (f"{root}/a/{name}" for name in ("1", "2", "deep/3"))
        return [
            (lambda: publish_and_read(f"{root}/b"), content),
            (lambda: storage.publish_once(f"{root}/c", content), True),
            (lambda: storage.list_directory(f"{root}/a"), [one, two]),
            (lambda: storage.expand([f"{root}/a/*/*"]), [three]),
            (lambda: storage.expand([f"{root}/a"]), [one, two, three]),
            (lambda: storage.exists(two), True),
            (lambda: storage.exists(f"{root}/a/deep"), True),
            (lambda: storage.exists(f"{root}/d"), False),
            (lambda: storage.size(two), len(content)),
            (lambda: read_open(three), content),
        ]

    store.script = script
    asked = [pair for root in roots for pair in calls(root)]
    assert at_once([call for call, _ in asked]) == [answer for _, answer in asked]
    assert store.injected >= 10 * len(TRANSIENT)


def test_what_remains_of_a_failure_is_a_storage_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_s3(monkeypatch, retries={"max_attempts": 0})  # also shows: the user's own settings win
    for name, call in CALLS.items():
        for fault in (Fault.ERROR, Fault.BUSY) + (Fault.CLOSE,) * (name in ("list_directory", "publish_once")):
            store.asked.clear()
            store.script = always(fault)
            with pytest.raises(StorageError, match=r"^can't .*; wanted: a store that answers; got: .*; fix: .*$"):
                call(f"{store.root}/a")
            assert fault is Fault.CLOSE or len(store.asked) == 1


def test_attempts_are_limited_by_the_environment_and_configuration_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.script = always(Fault.ERROR)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    with pytest.raises(StorageError):
        storage.publish_bytes(f"{store.root}/a", b"")
    assert len(store.asked) == 2


def test_a_store_that_says_nothing_ends_as_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_s3(monkeypatch, read_timeout=0.2, connect_timeout=0.2, retries={"max_attempts": 0})
    store.script, store.hang_s = always(Fault.HANG), 60
    calls = [CALLS["list_directory"], CALLS["publish_once"], lambda path: storage.publish_bytes(path, bytes(10**5))]

    def ends(call: Callable[[str], object]) -> None:
        with pytest.raises(StorageError, match="Read timeout"):
            call(f"{store.root}/a")

    at_once([lambda call=call: ends(call) for call in calls])


def test_a_store_that_can_not_be_reached_ends_as_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_s3(monkeypatch, retries={"max_attempts": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL"):
        storage.list_directory(f"{store.root}/a")


def test_a_missing_bucket_is_said_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_s3(monkeypatch)
    for call in CALLS.values():
        store.asked.clear()
        with pytest.raises(StorageError, match=r"fix: create the bucket, or correct its name$"):
            call("s3://no-such-bucket/a")
        assert len(store.asked) <= 2


def test_wrong_credentials_are_said_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_s3(monkeypatch)
    store.ask_directly("POST", "/moto-api/reset-auth", b"0")  # from now on moto checks them
    try:
        for call in CALLS.values():
            store.asked.clear()
            with pytest.raises(StorageError, match=r"fix: check them .*AWS_PROFILE"):
                call(f"{store.root}/a")
            assert len(store.asked) == 1
    finally:
        store.ask_directly("POST", "/moto-api/reset-auth", b"inf")


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"])
def test_missing_credentials_are_said_at_once(store: Store, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    if variable == "AWS_PROFILE":
        monkeypatch.setenv(variable, "nobody")
    else:
        monkeypatch.delenv(variable)
    with pytest.raises(StorageError, match=r"fix: check them .*AWS_PROFILE"):
        storage.publish_bytes(f"{store.root}/a", b"")
    assert store.asked == []


def test_a_missing_object_and_a_path_without_a_name_are_said(store: Store) -> None:
    with pytest.raises(StorageError, match="wanted: something at that path"):
        storage.read_bytes(f"{store.root}/nothing")
    with pytest.raises(StorageError, match="wanted: a bucket and a name in it"):
        storage.publish_bytes(store.root, b"")
    with pytest.raises(InputError, match="no input matches"):
        storage.expand([f"{store.root}/nothing"])
    storage.remove(f"{store.root}/nothing")


def test_a_listing_that_failed_is_never_an_incomplete_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_s3(monkeypatch, retries={"max_attempts": 0})
    for name in ("one/a.jsonl", "two/b.jsonl"):
        storage.publish_bytes(f"{store.root}/{name}", b"{}")
    for pattern in (f"{store.root}/*/*.jsonl", f"{store.root}/**/*.jsonl", f"{store.root}/*", store.root):
        store.script = at_first(*[Fault.ERROR] * 3, method="GET")
        with pytest.raises(StorageError):
            storage.expand([pattern])
    store.script = no_faults
    assert storage.expand([f"{store.root}/*/*.jsonl"]) == [f"{store.root}/one/a.jsonl", f"{store.root}/two/b.jsonl"]
    assert storage.expand([f"{store.root}/tw*/**"]) == [f"{store.root}/two/b.jsonl"]


def test_what_another_process_wrote_or_removed_is_seen_at_once(store: Store) -> None:
    def look() -> tuple[object, ...]:
        paths = storage.list_directory(f"{store.root}/a"), storage.expand([f"{store.root}/a"])
        return (*paths, storage.expand([f"{store.root}/a/*"]), storage.exists(f"{store.root}/a/2"))

    one, two = f"{store.root}/a/1", f"{store.root}/a/2"
    storage.publish_bytes(one, b"")
    assert look() == ([one], [one], [one], False)
    store.ask_directly("PUT", f"/{store.bucket}/a/2", b"new")
    assert look() == ([one, two], [one, two], [one, two], True)
    assert storage.read_bytes(two) == b"new"
    store.ask_directly("PUT", f"/{store.bucket}/a/2", b"newer")
    assert (storage.size(two), storage.read_bytes(two)) == (5, b"newer")
    store.ask_directly("DELETE", f"/{store.bucket}/a/2")
    assert look() == ([one], [one], [one], False)


def test_empty_objects_that_stand_for_directories_are_no_files(store: Store) -> None:
    for name in ("a/", "a/b/", "a/1", "a/b/2", "a/.hidden"):
        store.ask_directly("PUT", f"/{store.bucket}/{name}", b"")
    assert storage.list_directory(f"{store.root}/a") == [f"{store.root}/a/.hidden", f"{store.root}/a/1"]
    assert storage.list_directory(f"{store.root}/a/1") == []
    assert storage.expand([f"{store.root}/a"]) == [f"{store.root}/a/1", f"{store.root}/a/b/2"]
    assert storage.expand([f"{store.root}/a/*"]) == [f"{store.root}/a/.hidden", f"{store.root}/a/1"]


def test_many_objects_are_read_in_order_and_few_ahead(store: Store) -> None:
    paths = [f"{store.root}/many/{number:03}" for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: storage.publish_bytes(path, path.encode()), paths))
    store.asked.clear()
    reading = storage.read_many(paths)
    assert next(reading) == paths[0].encode()
    time.sleep(0.3)
    assert len(store.asked) <= 2 * storage.READ_THREADS + 1
    reading.close()
    store.script = now_and_then(0, 0.05)
    assert list(storage.read_many(paths)) == [path.encode() for path in paths]
    assert list(storage.read_many([])) == []


def test_a_hole_among_many_objects_is_an_error_after_those_before_it(store: Store, tmp_path: Path) -> None:
    for root in (store.root, str(tmp_path)):
        storage.publish_bytes(f"{root}/1", b"one")
        reading = storage.read_many([f"{root}/1", f"{root}/2"])
        assert next(reading) == b"one"
        with pytest.raises(StorageError, match=f"{root}/2"):
            next(reading)


def test_threads_and_a_forked_process_use_one_store(store: Store) -> None:
    def work(number: int) -> bytes:
        path = f"{store.root}/{number}/a"
        storage.publish_bytes(path, str(number).encode())
        assert storage.list_directory(f"{store.root}/{number}") == [path]
        return storage.read_bytes(path)

    assert at_once([lambda number=number: work(number) for number in range(16)]) == [b"%d" % n for n in range(16)]
    code = (
        f"import os, sys\nfrom ipt_stream import storage\npath = '{store.root}/3/a'\nstorage.read_bytes(path)\n"
        "child = os.fork()\nif not child: os._exit(storage.read_bytes(path) != b'3')\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    output(in_another_process(store, code))


@pytest.mark.parametrize("links", ["links", "no links"])
def test_one_of_many_publishes_a_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: str) -> None:
    if links == "no links":

        def refuse(*paths: str) -> None:
            raise OSError(errno.EPERM, "not on this file system")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "deep" / "claim"
    contents = [f"claimed by {number}".encode() for number in range(8)]
    won = at_once([lambda content=content: storage.publish_once(str(path), content) for content in contents])
    assert sorted(won) == [False] * 7 + [True]
    assert path.read_bytes() == contents[won.index(True)]
    assert list(path.parent.iterdir()) == [path]
    assert not storage.publish_once(str(path), path.read_bytes())
    with pytest.raises(StorageError, match="can't publish"):
        storage.publish_once(str(path / "below"), b"")


def test_a_local_link_that_was_made_but_reported_otherwise_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def twice(source: str, target: str) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert storage.publish_once(str(tmp_path / "a"), b"ours")


def test_one_of_many_publishes_an_object_through_faults(store: Store) -> None:
    faults = [Fault.LOSE, Fault.CLOSE, Fault.CONFLICT, Fault.SLOW, Fault.CUT]
    for attempt in range(4):
        trouble = now_and_then(attempt, 0.15 * attempt, faults)
        store.script = lambda method, path, trouble=trouble: trouble(method, path) if method == "PUT" else None
        path = f"{store.root}/claim-{attempt}"
        contents = [f"claimed by {number}".encode() for number in range(8)]
        won = at_once([lambda path=path, content=content: storage.publish_once(path, content) for content in contents])
        assert sorted(won) == [False] * 7 + [True]
        store.script = no_faults
        assert storage.read_bytes(path) == contents[won.index(True)]
        assert not storage.publish_once(path, b"late")
    assert store.injected


def test_a_store_without_conditional_requests_is_looked_at_first() -> None:
    path = f"memory://once-{random.random()}/a"
    assert (storage.publish_once(path, b"first"), storage.publish_once(path, b"second")) == (True, False)
    assert storage.read_bytes(path) == b"first"


ROWS = 5000


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """12 MB a shard of what does not compress: several requests to an object store."""
    draws = random.Random(0)
    texts = [draws.randbytes(2500).hex() for _ in range(ROWS)]
    lines = "".join(json.dumps({"id": f"n{number}", "text": text}) + "\n" for number, text in enumerate(texts))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.ZstdCompressor(1).compress(lines.encode()))
    table = pa.table({"id": [f"n{number}" for number in range(ROWS)], "text": texts})
    pq.write_table(table, tmp_path / "b.parquet", row_group_size=1000, compression="zstd", use_dictionary=False)
    return tmp_path


def test_shards_read_through_faults_give_the_rows_of_local_ones(store: Store, shards: Path) -> None:
    for file in shards.iterdir():
        storage.publish_bytes(f"{store.root}/shards/{file.name}", file.read_bytes())
    store.script = now_and_then(3, 0.25)
    local = resolve_shards(InputConfig(shards=(str(shards),)))
    remote = resolve_shards(InputConfig(shards=(f"{store.root}/shards/*",)))

    def same(here: object, there: object) -> int:
        rows = 0
        for ours, theirs in zip(read_rows(here), read_rows(there), strict=True):
            assert ours == theirs
            rows += 1
        return rows

    assert at_once([lambda pair=pair: same(*pair) for pair in zip(local, remote, strict=True)]) == [ROWS, ROWS]
    assert store.injected >= 5


def test_memory_does_not_grow_with_an_object(store: Store) -> None:
    code = (
        "import sys\nfrom ipt_stream import storage\n"
        "def peak():\n    return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024\n"
        "def read(path):\n    with storage.open_read(path) as file:\n"
        "        return sum(len(piece) for piece in iter(lambda: file.read(2**20), b''))\n"
        f"small = read('{store.root}/small')\nbefore = peak()\nlarge = read('{store.root}/large')\n"
        "print(small, large, peak() - before)"
    )
    for name, size in (("small", 20 * 2**20), ("large", 80 * 2**20)):
        store.ask_directly("PUT", f"/{store.bucket}/{name}", bytes(size))
    # The address comes from fsspec's own variable here.
    reader = in_another_process(store, code, AWS_ENDPOINT_URL="", FSSPEC_S3_ENDPOINT_URL=store.url)
    small, large, grown_mb = map(int, output(reader).split())
    assert (small, large) == (20 * 2**20, 80 * 2**20)
    assert grown_mb < 30


def test_an_object_that_is_replaced_while_it_is_read_is_an_error(store: Store) -> None:
    store.ask_directly("PUT", f"/{store.bucket}/a", bytes(20 * 2**20))
    with storage.open_read(f"{store.root}/a") as file:
        file.read(100)
        store.ask_directly("PUT", f"/{store.bucket}/a", bytes([1]) * (20 * 2**20))
        with pytest.raises(StorageError, match="can't read"):
            file.read()


def test_the_ledger_loses_and_doubles_nothing_through_faults(store: Store) -> None:
    store.script = now_and_then(1, 0.1)
    root = f"{store.root}/run"
    records = 15

    def drive(driver: int) -> None:
        writer = LedgerWriter(root)
        for number in range(records):
            writer.append({"id": f"{driver}-{number}", "n": number})

    at_once([lambda driver=driver: drive(driver) for driver in range(6)])
    found = [record["id"] for record in read_ledger(root)]
    assert sorted(found) == sorted(f"{driver}-{number}" for driver in range(6) for number in range(records))
    assert store.injected > 5


FILES = {"config.json": b"{}", "model.safetensors": bytes(10**5), "tokenizer/vocab.json": b"{}"}


def put_model(root: str, files: dict[str, bytes] = FILES) -> None:
    for name, content in files.items():
        storage.publish_bytes(f"{root}/{name}", content)


def files_in(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IPT_STREAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def test_a_model_on_a_store_is_copied_once(store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{store.root}/model/"
    put_model(f"{store.root}/model")
    store.ask_directly("PUT", f"/{store.bucket}/model/", b"")
    left = cache / f"{storage.TEMPORARY}{model_identity(url, None).removeprefix('sha256:')}-dead"
    left.mkdir(parents=True)
    store.script = now_and_then(5, 0.2)
    folder = local_model(url, None)
    assert files_in(folder) == FILES
    assert (Path(folder).parent, left.exists()) == (cache, False)
    set_s3(monkeypatch)
    store.script, store.asked = no_faults, []
    assert local_model(url, "any") == folder
    assert len(store.asked) == 1
    put_model(f"{store.root}/model", {"config.json": b"[]"})
    other = local_model(url, None)
    assert files_in(other) == {**FILES, "config.json": b"[]"}
    assert files_in(folder) == FILES
    assert model_identity(url, None).removeprefix("sha256:") == Path(other).name


def test_a_model_wanted_by_many_processes_is_copied_once(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_s3(monkeypatch)
    put_model(f"{store.root}/model")
    store.script = always(Fault.SLOW)
    code = f"from ipt_stream.synthesis.model_files import local_model\nprint(local_model('{store.root}/model', None))"
    others = [in_another_process(store, code) for _ in range(2)]
    folders = at_once([lambda: local_model(f"{store.root}/model", None)] * 4) + [output(other) for other in others]
    assert len(set(folders)) == 1
    assert files_in(str(folders[0])) == FILES
    gets = [path for method, path in store.asked if method == "GET" and path.endswith("model.safetensors")]
    assert len(gets) == 1
    assert [entry.name for entry in cache.iterdir() if entry.is_dir()] == [Path(str(folders[0])).name]


def test_a_model_that_can_not_be_copied_whole_is_not_there(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_s3(monkeypatch, retries={"max_attempts": 0})
    put_model(f"{store.root}/model")
    store.script = lambda method, path: Fault.ERROR if path.endswith("vocab.json") else None
    with pytest.raises(StorageError, match=r"can't open .*vocab\.json"):
        local_model(f"{store.root}/model", None)
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == []


def test_a_name_that_leads_out_of_the_folder_is_refused(store: Store, cache: Path) -> None:
    for number, name in enumerate(["../evil", "a/../../evil", "/evil", "a//evil", "./evil"]):
        put_model(f"{store.root}/{number}", {"config.json": b"{}", name: b"evil"})
        for call in (local_model, model_identity):
            with pytest.raises(StorageError, match="one that leads elsewhere"):
                call(f"{store.root}/{number}", None)
    assert not cache.exists()


def test_a_model_is_a_folder_or_a_pinned_hub_id(store: Store, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert local_model(str(tmp_path), None) == str(tmp_path)
    assert local_model("instruction-pretrain/instruction-synthesizer", commit) == (
        "instruction-pretrain/instruction-synthesizer"
    )
    for revision in (None, "main", commit[:39]):
        with pytest.raises(ConfigError, match=r"wanted: engine\.revision, a commit of 40 hex digits"):
            local_model("instruction-pretrain/instruction-synthesizer", revision)
    with pytest.raises(ConfigError, match="there is no model /no/such/folder"):
        local_model("/no/such/folder", commit)
    with pytest.raises(ConfigError, match="nothing below that URL"):
        local_model(f"{store.root}/nothing", None)


def test_a_model_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    known = "sha256:555dc36908b373a3f3e1"
    assert model_identity(str(tmp_path), None).startswith(known)
    assert model_identity("a/b", "c") == "a/b@c"
    (tmp_path / "config.json").write_bytes(b"[]")
    assert not model_identity(str(tmp_path), None).startswith(known)
