"""Checkpoints in an object store: a run that lost its disk goes on from there, to the same bits."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from object_store import Fault, Store, at_first
from pretrain_world import Stopped, batches, config, losses, make_mixture, stop_at

from ipt_stream import storage
from ipt_stream.errors import StorageError, TrainingError
from ipt_stream.training.pretrain import pretrain

pytestmark = [
    pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file .*mds:ResourceWarning"),  # Streaming, unpacking a shard
]


def test_a_run_goes_on_from_the_store_where_the_disk_is_empty(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture, url = make_mixture(tmp_path), f"{store.root}/checkpoints"
    whole, lost = tmp_path / "whole", tmp_path / "lost"
    pretrain(config(mixture, whole, steps=20, dropout=0.1))
    settings = config(mixture, lost, steps=20, dropout=0.1, checkpoint_folder=url)
    store.script = at_first(Fault.BUSY, Fault.CLOSE, method="PUT")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(14, patch)
        pretrain(settings)
    names = {storage.join(url, entry.name).removeprefix(url).split("/")[2] for entry in storage.list_objects(url)}
    assert names == {"step-000000008.pt", "step-000000012.pt", "metrics.jsonl"}, "the newest two, and the figures"
    here = sorted(path.name for path in (lost / "checkpoints").iterdir())
    assert here == ["step-000000008.pt", "step-000000012.pt"]

    shutil.rmtree(lost)
    assert pretrain(settings).figures["resumed_from"] == 12
    assert batches(lost) == batches(whole), "from the first step on"
    assert losses(lost) == losses(whole)
    weights = [path / "model" / "model.safetensors" for path in (lost, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


class Harmful:
    """What would run a command, were it unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.mark}",))


def test_a_checkpoint_is_data_and_never_code(tmp_path: Path) -> None:
    import torch

    mixture, output, mark = make_mixture(tmp_path, rows=60), tmp_path / "out", tmp_path / "mark"
    (output / "checkpoints").mkdir(parents=True)
    torch.save({"state": {"model": Harmful(mark)}}, output / "checkpoints" / "step-000000004.pt")
    with pytest.raises(TrainingError, match=r"step-000000004\.pt is no checkpoint of a training"):
        pretrain(config(mixture, output, steps=12))
    assert not mark.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_files_go_to_a_store_and_back_whole(store: Store, tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "deep" / "copy"
    source.write_bytes(bytes(range(256)) * 5000)
    for target in (f"{store.root}/a/file", str(tmp_path / "b" / "file")):
        storage.publish_file(target, str(source))
        storage.fetch_file(target, str(copy))
        assert copy.read_bytes() == source.read_bytes()
        copy.unlink()
    with pytest.raises(StorageError, match="can't open"):
        storage.fetch_file(f"{store.root}/none", str(copy))
    assert list(copy.parent.iterdir()) == []
