"""A mixture made from a run in an object store and written to one: the same bytes as on a disk, whatever fails."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import s3fs
from mixture_world import make_questions, make_run, make_tokenizer, make_tuning
from object_store import Fault, Store, at_first, no_faults

from ipt_stream import storage
from ipt_stream.config import build
from ipt_stream.errors import MixtureError, StorageError
from ipt_stream.mixture.mix import MixConfig, mix
from ipt_stream.mixture.plan import load_plan


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_run(root, documents=60)
    make_tuning(root)
    make_questions(root, rows=250)
    make_tokenizer(root)
    return root


def config_of(world: Path, run: str, output: str) -> MixConfig:
    sources: dict[str, Any] = {
        "augmented": {"kind": "augmented", "path": run, "passes": 1},
        "raw": {"kind": "raw", "path": run, "passes": 1},
        "tuning": {"kind": "pairs", "path": str(world / "tuning.jsonl"), "passes": 2},
        "general": {"kind": "pairs", "path": str(world / "general.jsonl"), "passes": 1},
    }
    settings = {
        "sources": sources, "tokenizer": str(world / "tokenizer"), "sequence_length": 64, "cores": 0,
        "text_mds": True, "shard_bytes": 2500, "output": output,
    }  # fmt: skip
    return build(MixConfig, settings, "test")


@pytest.fixture(scope="module")
def wanted(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the mixture holds on a disk, made from a run on a disk; but for how long it took."""
    output = tmp_path_factory.mktemp("mixture")
    mix(config_of(world, str(world / "segments"), str(output)))
    files = {str(file.relative_to(output)): file.read_bytes() for file in output.rglob("*") if file.is_file()}
    del files["stage.json"]
    assert "sources/augmented/shard.00001.mds.zstd" in files and "sources/general/shard.00002.mds.zstd" in files
    return files


def put_run(world: Path, store: Store) -> str:
    url = f"{store.root}/segments"
    for file in (world / "segments").rglob("*"):
        if file.is_file():
            storage.publish_bytes(f"{url}/{file.relative_to(world / 'segments')}", file.read_bytes())
    return url


def contents(url: str) -> dict[str, bytes]:
    names = [item.name for item in storage.list_objects(url) if item.name != "stage.json"]
    return dict(zip(names, storage.read_many([f"{url}/{name}" for name in names]), strict=True))


def puts(store: Store) -> list[str]:
    """The objects that were put, in order."""
    return [path for method, path in store.asked if method == "PUT"]


def test_a_run_and_a_mixture_in_a_store_give_the_bytes_of_a_disk(
    world: Path, store: Store, wanted: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, output = put_run(world, store), f"{store.root}/mixture"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    staged: set[str] = set()
    fails = at_first(Fault.BUSY, Fault.CLOSE, Fault.LOSE)

    def watched(method: str, path: str) -> Fault | None:
        if "shard." in path and method == "PUT":
            staged.update(os.listdir(tmp_path))
            return fails(method, path)
        return None

    store.script = watched
    report = mix(config_of(world, run, output))
    assert store.injected == 3, "what fails shortly is tried again"
    assert staged == set(), "nothing of a source waits on this machine"
    assert contents(output) == wanted
    assert load_plan(output).sequences == report.figures["sequences"]
    order = [name for name in puts(store) if "/sources/augmented/" in name]
    assert [name.rsplit("/", 1)[1] for name in order[-2:]] == ["index.json", "facts.json"], "what makes it whole"

    asked = len(store.asked)
    again = mix(config_of(world, run, output))
    assert again.skipped and not [path for method, path in store.asked[asked:] if method == "PUT"]


def test_after_a_store_failed_in_the_middle_a_rerun_gives_the_same_bytes(
    world: Path, store: Store, wanted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, output = put_run(world, store), f"{store.root}/mixture"
    config = config_of(world, run, output)
    store.script = lambda method, path: Fault.ERROR if "/sources/general/shard.00002" in path else None
    with monkeypatch.context() as impatient:
        impatient.setenv("AWS_MAX_ATTEMPTS", "2")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(StorageError, match=r"can't publish s3://\S+/sources/general/shard.00002"):
            mix(config)
    s3fs.S3FileSystem.clear_instance_cache()
    store.script = no_faults
    left = contents(output)
    assert "sources/general/shard.00001.mds.zstd" in left and "sources/general/index.json" not in left
    with pytest.raises(MixtureError, match="no mixture in"):
        load_plan(output)
    # What killed writers may leave besides: a shard more than there will be, half of one, a source of another name.
    for name in ("general/shard.00999.mds.zstd", "general/shard.00000.mds.zstd", "old/shard.00000.mds.zstd"):
        storage.publish_bytes(f"{output}/sources/{name}", b"half")

    store.asked.clear()
    assert not mix(config).skipped
    assert contents(output) == wanted
    written = [name for name in puts(store) if "/sources/" in name]
    assert written and all("/sources/general/" in name for name in written), "a finished source is not written again"
