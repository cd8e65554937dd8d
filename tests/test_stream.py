"""Global batch b is sequences [b * G, (b + 1) * G) of the planned order: for any ranks and workers, before and after a
resume. Every sequence of this mixture begins with its own sample id, so that batches can be compared with the order."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from object_store import Store

from ipt_stream import storage
from ipt_stream.errors import MixtureError
from ipt_stream.mixture import mds
from ipt_stream.mixture.order import training_order
from ipt_stream.mixture.plan import Plan, make_plan, save_plan
from ipt_stream.mixture.shares import Passes, Stock

EOS, LENGTH, G = 60_000, 6, 8
SIZES = {"raw": (31, 1.0), "augmented": (20, 1.5), "pairs": (7, 4.0)}


def make_mixture(root: Path, seed: int = 1, **more: Any) -> Plan:
    stocks, first = [], 0
    for name, (sequences, _) in SIZES.items():
        rows = np.arange(sequences * LENGTH, dtype=np.uint16).reshape(sequences, LENGTH) % 100
        rows[:, 0] = np.arange(first, first + sequences)
        rows[-1, 3:] = EOS  # the last sequence ends after 3 tokens, with its EOS and two of padding
        directory = str(root / "sources" / name)
        with mds.publish_mds(directory, mds.token_columns(rows.dtype, LENGTH), shard_bytes=200) as writer:
            writer.write_rows([rows])
        shard = mds.read_facts(directory)["shard_samples"]
        stocks.append(Stock(name, 5, rows.size - 2, sequences, mds.index_sha256(directory), shard))
        first += sequences
    demands = {name: Passes(passes) for name, (_, passes) in SIZES.items()}
    plan = make_plan(
        stocks, demands, total=None, sequence_length=LENGTH, seed=seed, vocabulary_size=60_001, eos_token_id=EOS,
        shuffle_shards=2, **more,
    )  # fmt: skip
    save_plan(str(root), plan)
    return plan


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixture")
    make_mixture(root)
    return root


def ids_of(loader: Any) -> list[list[int]]:
    return [batch["input_ids"][:, 0].tolist() for batch in loader]


def global_batches(order: np.ndarray) -> list[list[int]]:
    return order[: len(order) // G * G].reshape(-1, G).tolist()


@pytest.fixture
def order(mixture: Path) -> np.ndarray:
    from ipt_stream.mixture.plan import load_plan

    return training_order(load_plan(str(mixture)))


@settings(deadline=None, max_examples=120)
@given(
    sequences=st.integers(0, 300),
    shape=st.sampled_from([(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4), (4, 2), (1, 8)]),
    workers=st.integers(1, 5),
    done=st.integers(0, 40),
)
def test_batches_are_the_same_for_all_worlds_and_resumes(
    sequences: int, shape: tuple[int, int], workers: int, done: int
) -> None:
    from streaming.base.world import World

    from ipt_stream.training.stream import partition

    order = np.random.default_rng(0).permutation(sequences)
    nodes, ranks = shape
    work = partition(order, World(nodes, ranks, workers, 0), global_batch_size=G, start=done * G)
    assert work.shape[:3] == (nodes, ranks, workers) and work.shape[4] == G // (nodes * ranks)
    # A loader takes a batch from each of its workers in turn.
    steps = [work[:, :, turn % workers, turn // workers].reshape(-1) for turn in range(workers * work.shape[3])]
    seen = [step.tolist() for step in steps if (step >= 0).all()]
    assert all((step == -1).all() for step in steps[len(seen) :]), (
        "what is absent comes last, and for all ranks at once"
    )
    assert seen == global_batches(order)[done:]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_yields_the_planned_order(mixture: Path, order: np.ndarray, workers: int) -> None:
    from ipt_stream.training.stream import open_loader

    loader = open_loader(str(mixture), global_batch_size=G, start_workers=workers)
    assert len(loader) == len(order) // G
    assert ids_of(loader) == global_batches(order)
    assert ids_of(loader) == global_batches(order), "the next epoch follows the same order"


def test_a_resumed_loader_goes_on_where_it_was(mixture: Path, order: np.ndarray) -> None:
    from ipt_stream.training.stream import open_loader

    for done, workers in ((3, 0), (7, 2)):
        loader = open_loader(str(mixture), global_batch_size=G)
        batches = iter(loader)
        for _ in range(done):
            next(batches)
        state = loader.dataset.state_dict(done * G, True)  # as Composer asks for it
        assert state == loader.state_dict()
        del batches, loader
        resumed = open_loader(str(mixture), global_batch_size=G, start_workers=workers)
        resumed.load_state_dict(state)
        assert ids_of(resumed) == global_batches(order)[done:]


def batches_of(dataset: Any, nodes: int, ranks: int, workers: int) -> list[list[int]]:
    """The sample ids of every global batch that so many ranks load: as Streaming resumes and shares out the work of
    each of their workers, and as a loader takes a batch from each of its workers in turn."""
    from streaming.base.batching import generate_work
    from streaming.base.world import World

    by_rank = []
    for rank in range(nodes * ranks):
        by_worker = []
        for worker in range(workers):
            world = World(nodes, ranks, workers, rank * workers + worker)
            epoch, done = dataset._resume(world, dataset.next_epoch)
            work = generate_work(dataset.batching_method, dataset, world, epoch, done)
            own = work[world.node, world.rank_of_node, world.worker_of_rank].flatten()
            by_worker.append(own[own >= 0].reshape(-1, G // world.num_ranks).tolist())
        turns = range(sum(map(len, by_worker)))
        by_rank.append([by_worker[turn % workers][turn // workers] for turn in turns])
    return [[sample for own in step for sample in own] for step in zip(*by_rank, strict=True)]


@pytest.mark.parametrize(("nodes", "ranks"), [(1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (4, 2)])
def test_from_any_saved_step_all_worlds_load_the_batches_of_one_rank(
    mixture: Path, order: np.ndarray, nodes: int, ranks: int
) -> None:
    from streaming.base.world import World

    from ipt_stream.training.stream import open_loader

    begun = open_loader(str(mixture), global_batch_size=G)
    next(iter(begun))
    dataset = open_loader(str(mixture), global_batch_size=G).dataset
    assert batches_of(dataset, nodes, ranks, 1) == batches_of(dataset, 1, 1, 1) == global_batches(order)
    for done in (1, 3, 10):
        dataset.load_state_dict(begun.dataset.state_dict(done * G, True))
        rest = batches_of(dataset, 1, 1, 1)
        assert rest == global_batches(order)[done:] and rest
        assert all(batches_of(dataset, nodes, ranks, workers) == rest for workers in (1, 3))
        # And back: what these ranks save after one step more, one rank goes on from.
        dataset._parallel_rank_world = World(nodes, ranks, 1, 0)
        dataset.load_state_dict(dataset.state_dict(G, False))
        assert batches_of(dataset, 1, 1, 1) == rest[1:]


def test_only_padding_is_not_learned(mixture: Path) -> None:
    from ipt_stream.training.stream import open_loader

    padded = 0
    for batch in open_loader(str(mixture), global_batch_size=G):
        tokens, labels = batch["input_ids"], batch["labels"]
        assert tokens.dtype == labels.dtype and tokens.shape == labels.shape == (G, LENGTH)
        for row, wanted in zip(labels.tolist(), tokens.tolist(), strict=True):
            last = wanted[3:] == [EOS] * 3
            padded += last
            assert row == ([*wanted[:4], -100, -100] if last else wanted)
    assert padded > 0


def test_batches_say_which_document_a_token_is_of_where_the_plan_asks_for_it(tmp_path: Path) -> None:
    from ipt_stream.training.stream import Collate, open_loader

    make_mixture(tmp_path, document_ids=True)
    for batch in open_loader(str(tmp_path), global_batch_size=G):
        assert batch["document_ids"].shape == batch["input_ids"].shape
        assert ((batch["document_ids"] == -1) == (batch["labels"] == -100)).all()
    rows = [[1, 2, EOS, 3, EOS, EOS], [EOS, 1, 2, EOS, 3, 4], [1, 2, 3, 4, 5, EOS]]
    made = Collate(EOS, document_ids=True)([{"tokens": np.array(row, np.uint16)} for row in rows])
    assert made["document_ids"].tolist() == [[0, 0, 0, 1, 1, -1], [0, 1, 1, 1, 2, 2], [0] * 6]
    assert "document_ids" not in Collate(EOS)([{"tokens": np.array(rows[0], np.uint16)}])


def test_a_bounded_cache_fetches_shards_of_a_store_in_long_runs(store: Store, tmp_path: Path) -> None:
    """A mixture on an S3 server, larger than the cache: all of it is seen, in order, and the cache keeps its bound."""
    from ipt_stream.mixture.plan import load_plan
    from ipt_stream.training.stream import open_loader

    make_mixture(tmp_path / "mixture")
    url = f"s3://{store.bucket}/mixture"
    for file in sorted((tmp_path / "mixture").rglob("*")):
        if file.is_file():
            storage.publish_bytes(f"{url}/{file.relative_to(tmp_path / 'mixture')}", file.read_bytes())
    with pytest.raises(MixtureError, match=r"cache is too small .* cache_bytes=(\d+)") as raised:
        open_loader(url, global_batch_size=G, cache=str(tmp_path / "cache"), cache_bytes=100)
    bound = int(re.findall(r"cache_bytes=(\d+)", str(raised.value))[0])
    loader = open_loader(url, global_batch_size=G, cache=str(tmp_path / "cache"), cache_bytes=bound)
    most, seen = 0, []
    for batch in loader:
        seen.append(batch["input_ids"][:, 0].tolist())
        most = max(most, sum(f.stat().st_size for f in (tmp_path / "cache").rglob("*.mds*")))
    assert seen == global_batches(training_order(load_plan(url)))
    indexes = list((tmp_path / "mixture").rglob("index.json"))
    shards = [shard for index in indexes for shard in json.loads(index.read_text())["shards"]]
    unpacked = sum(shard["raw_data"]["bytes"] for shard in shards)
    assert 0 < most <= bound - sum(index.stat().st_size for index in indexes) < unpacked, "less than all of it"


@pytest.mark.parametrize(
    ("end", "learned"),
    [([5, 6, 7], 3), ([5, 6, EOS], 3), ([5, EOS, EOS], 2), ([EOS, EOS, EOS], 1), ([EOS, 5, EOS], 3), ([EOS, 5, 6], 3)],
)
def test_of_a_trailing_run_of_eos_the_first_is_learned(end: list[int], learned: int) -> None:
    from ipt_stream.training.stream import Collate

    labels = Collate(EOS)([{"tokens": np.array(end, np.uint16)}])["labels"]
    assert (labels != -100).sum() == learned and (labels[0, :learned] != -100).all()


def test_another_plan_is_refused_on_resume(mixture: Path, tmp_path: Path) -> None:
    from ipt_stream.training.stream import open_loader

    loader = open_loader(str(mixture), global_batch_size=G)
    next(iter(loader))
    state = loader.state_dict()
    assert state is not None
    make_mixture(tmp_path, seed=2)
    other = open_loader(str(tmp_path), global_batch_size=G)
    for wrong in (state, {key: value for key, value in state.items() if key != "plan"}):
        with pytest.raises(MixtureError, match="trained on another mixture"):
            other.load_state_dict(wrong)


def test_data_that_is_not_the_plans_is_refused(tmp_path: Path) -> None:
    from ipt_stream.training.stream import open_loader

    plan = make_mixture(tmp_path)
    changed = replace(plan.sources[1], index_sha256="f" * 64)
    save_plan(str(tmp_path), replace(plan, sources=(plan.sources[0], changed, plan.sources[2])))
    with pytest.raises(MixtureError, match="data of source augmented is not what"):
        open_loader(str(tmp_path), global_batch_size=G)


def test_batches_that_can_not_be_are_refused(mixture: Path) -> None:
    from streaming.base.world import World

    from ipt_stream.training.stream import open_loader, partition

    with pytest.raises(MixtureError, match="smaller than one global batch"):
        open_loader(str(mixture), global_batch_size=1000)
    with pytest.raises(MixtureError, match=r"can't be shared by 3 ranks.*set the global batch to 9"):
        partition(np.arange(50), World(1, 3, 1, 0), global_batch_size=G)
    with pytest.raises(MixtureError, match="within a global batch"):
        partition(np.arange(50), World(1, 1, 1, 0), global_batch_size=G, start=12)


def test_a_cache_keeps_the_mixture_as_it_is(mixture: Path, order: np.ndarray, tmp_path: Path) -> None:
    from ipt_stream.training.stream import open_loader

    make_mixture(tmp_path / "mixture")
    before = sorted(str(file) for file in (tmp_path / "mixture").rglob("*"))
    loader = open_loader(str(tmp_path / "mixture"), global_batch_size=G, cache=str(tmp_path / "cache"))
    assert ids_of(loader) == global_batches(order)
    assert sorted(str(file) for file in (tmp_path / "mixture").rglob("*")) == before


RANK = """
import os, signal, sys
from ipt_stream.training.stream import open_loader
loader = open_loader(sys.argv[1], global_batch_size=8)
for step, batch in enumerate(loader):
    print(batch["input_ids"][:, 0].tolist(), flush=True)
    if step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_two_ranks_see_the_order_and_being_killed_is_no_problem_for_the_next_start(
    mixture: Path, order: np.ndarray
) -> None:
    from ipt_stream.training import shared_memory, stream

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(mixture)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=300)[0].splitlines() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [-signal.SIGKILL] * 2
    both = [json.loads(a) + json.loads(b) for a, b in zip(*said, strict=True)]
    assert both == global_batches(order)[:3]

    left = shared_memory.SHARED_MEMORY / "987654_resume"  # what a kill leaves where Python's own tracker dies too
    left.write_bytes(b'{"epoch": 0, "sample_in_epoch": 16}\0')
    alive = stream.open_loader(str(mixture), global_batch_size=G)
    batches = iter(alive)
    first = next(batches)["input_ids"][:, 0].tolist()
    assert not left.exists()
    again = stream.open_loader(str(mixture), global_batch_size=G)
    assert ids_of(again) == global_batches(order)
    assert [first, *(batch["input_ids"][:, 0].tolist() for batch in batches)] == global_batches(order), (
        "a loader that is in use is left alone"
    )


def test_trainings_open_their_data_one_after_the_other() -> None:
    from ipt_stream.training.shared_memory import alone

    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with alone(is_local_leader=True):
            entered.set()
            leave.wait(60)

    with alone(is_local_leader=True):
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(60)
    leave.set()
    thread.join()
