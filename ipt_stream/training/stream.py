"""A StreamingDataset that follows a planned order: global batch b is sequences [b * G, (b + 1) * G) of it, always.

Any number of nodes, ranks and workers, before and after a resume, the batches are the same:

    order      0 1 2 3 4 5 6 7 ...       G = 4, two ranks, so 2 a rank
    rank 0     0 1     4 5     ...       worker 0 of W takes batches 0, W, 2W, ...
    rank 1         2 3     6 7           worker 1 takes 1, W + 1, ...

What is left over at the end and fills no global batch is not seen. Every epoch follows the same order. Importing this
module imports torch and Streaming: do so in the function that trains.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from streaming import Stream, StreamingDataLoader, StreamingDataset
from streaming.base.batching import batching_methods
from streaming.base.world import World

from ipt_stream import storage
from ipt_stream.errors import MixtureError
from ipt_stream.mixture.mds import INDEX_FILE, SOURCES, index_sha256
from ipt_stream.mixture.order import training_order
from ipt_stream.mixture.pack import padding
from ipt_stream.mixture.plan import Plan, load_plan
from ipt_stream.progress import log
from ipt_stream.training.shared_memory import alone, remove_orphans

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORED_LABEL = -100
HASH = "xxh64"
_METHOD = "ipt_stream_planned"


def open_loader(
    mixture: str,
    *,
    global_batch_size: int,
    start_workers: int = 0,
    cache: str | None = None,
    cache_bytes: int | None = None,
) -> StreamingDataLoader:
    """The batches of this rank, in the planned order; Composer saves and resumes it within an epoch.

    Args:
        mixture: a finished mixture: a local directory, or an object-store URL.
        global_batch_size: sequences a step over all ranks.
        start_workers: loader processes a rank; 0 loads in the training process.
        cache: a local directory for shards; needed for a remote mixture. None: shards are unpacked beside themselves.
        cache_bytes: the most that `cache` may hold; shards that were not used for longest go first. None: no bound.

    Returns:
        A loader of `{"input_ids": (batch, length) int64, "labels": the same, padding as -100}`, and on the plan's
        request `"document_ids"` (`Collate`); `len` the steps of an epoch.

    Raises:
        MixtureError: no mixture there, its data is not what the plan says, or the batch size doesn't divide.
    """
    plan = load_plan(mixture)
    dataset = PlannedDataset(mixture, plan, global_batch_size=global_batch_size, cache=cache, cache_bytes=cache_bytes)
    return StreamingDataLoader(
        dataset,
        batch_size=dataset.batch_size,
        num_workers=start_workers,
        collate_fn=Collate(plan.eos_token_id, plan.document_ids),
        persistent_workers=False,
    )


def partition(order: NDArray[np.int64], world: World, *, global_batch_size: int, start: int = 0) -> NDArray[np.int64]:
    """Who loads what from sequence `start` on: (nodes, ranks a node, workers a rank, batches a worker, rank's batch).

    A worker's last batch may be absent, shown as -1. Loaders take from their workers in turn, so the batches of a
    rank come out in order.

    Raises:
        MixtureError: the ranks can't share a global batch evenly, or `start` is within one.
    """
    if global_batch_size < 1 or global_batch_size % world.num_ranks:
        raise MixtureError(
            f"a global batch of {global_batch_size} can't be shared by {world.num_ranks} ranks",
            wanted="a multiple of the ranks",
            got=str(global_batch_size),
            fix=f"set the global batch to {-(-global_batch_size // world.num_ranks) * world.num_ranks}",
        )
    if start % global_batch_size:
        raise MixtureError(
            f"training stopped after {start:,} sequences, which is within a global batch of {global_batch_size}",
            wanted="a global batch that divides it",
            got=str(global_batch_size),
            fix="resume with the global batch size that the training started with",
        )
    stop = len(order) // global_batch_size * global_batch_size
    batch = global_batch_size // world.num_ranks
    steps = order[min(start, stop) : stop].reshape(-1, world.num_nodes, world.ranks_per_node, batch)
    missing = -len(steps) % world.workers_per_rank
    padding = np.full((missing, *steps.shape[1:]), -1, np.int64)
    turns = np.concatenate([steps, padding]).reshape(-1, world.workers_per_rank, *steps.shape[1:])
    return turns.transpose(2, 3, 1, 0, 4)


class PlannedDataset(StreamingDataset):  # type: ignore[misc,unused-ignore]
    """The sequences of a mixture in its planned order.

    Args:
        mixture: the mixture's directory or URL.
        plan: its plan.
        global_batch_size: sequences a step over all ranks.
        cache: where shards are kept, or None to use them where they lie.
        cache_bytes: the most that `cache` may hold.

    Raises:
        MixtureError: as `open_loader`.
    """

    def __init__(
        self,
        mixture: str,
        plan: Plan,
        *,
        global_batch_size: int,
        cache: str | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        world = World.detect()
        partition(np.empty(0, np.int64), world, global_batch_size=global_batch_size)
        self.plan = plan
        self.steps = plan.sequences // global_batch_size
        self._global_batch_size = global_batch_size
        if not self.steps:
            raise MixtureError(
                f"the mixture in {mixture} is smaller than one global batch",
                wanted=f"at least {global_batch_size:,} sequences",
                got=f"{plan.sequences:,}",
                fix=f"set the global batch to at most {plan.sequences}, or mix more",
            )
        _check_data(mixture, plan)
        if cache_bytes is not None:
            _check_cache(mixture, plan, cache, cache_bytes)
        with alone(world.is_local_leader):
            if world.is_local_leader:
                remove_orphans()
            try:
                super().__init__(
                    streams=_streams(mixture, plan, cache),
                    batch_size=global_batch_size // world.num_ranks,
                    num_canonical_nodes=1,
                    shuffle=False,
                    validate_hash=HASH,
                    cache_limit=cache_bytes,
                )
            except ValueError as error:
                fix = "give each training that runs on this machine a cache directory of its own"
                raise MixtureError(f"{mixture} can't be opened", got=str(error), fix=fix) from error
        batching_methods[_METHOD] = _generate_work
        self.batching_method = _METHOD
        self.length = self.steps * global_batch_size // world.num_ranks

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """Streaming's state, and the fingerprint of the plan that it belongs to."""
        state: dict[str, Any] = super().state_dict(num_samples, from_beginning)
        return {**state, "plan": self.plan.fingerprint}

    def load_state_dict(self, obj: dict[str, Any]) -> None:
        """Go on from a state. Raises `MixtureError` where it belongs to another plan."""
        if obj.get("plan") != self.plan.fingerprint:
            raise MixtureError(
                "the checkpoint was trained on another mixture",
                wanted=f"plan {obj.get('plan')}",
                got=f"plan {self.plan.fingerprint}",
                fix="resume with that mixture, or start a training of its own for this one",
            )
        super().load_state_dict(obj)

    def work(self, world: World, start: int) -> NDArray[np.int64]:
        """`partition` of the planned order. Called once a node and epoch, in its first worker."""
        left = self.plan.sequences - self.steps * self._global_batch_size
        if left and not start:
            log.info("the last %d of %d sequences fill no batch and are not seen", left, self.plan.sequences)
        return partition(
            training_order(self.plan).astype(np.int64), world, global_batch_size=self._global_batch_size, start=start
        )


def _generate_work(dataset: StreamingDataset, world: World, epoch: int, sample_in_epoch: int) -> NDArray[np.int64]:
    """Streaming's hook for an order of one's own; every epoch follows the same one."""
    if not isinstance(dataset, PlannedDataset):
        raise TypeError(f"{_METHOD} batching is for PlannedDataset, not {type(dataset).__name__}")
    return dataset.work(world, sample_in_epoch)


@dataclass(frozen=True, slots=True)
class Collate:
    """Stacks samples into a batch, labels included.

    A packed sequence is padded by repeating the EOS that ends its last document, so all of a trailing run of EOS but
    the first is padding: no document is empty, and none holds an EOS of its own. For the same reason a token's document
    is known by how many EOS stand before it:

        tokens         a b . c . . .        document_ids   0 0 0 1 1 -1 -1
    """

    eos_token_id: int
    document_ids: bool = False

    def __call__(self, samples: list[dict[str, NDArray[np.unsignedinteger]]]) -> dict[str, torch.Tensor]:
        """`{"input_ids", "labels"}`, each (batch, length) int64; and `"document_ids"` of that shape, -1 for padding."""
        stacked = np.stack([sample["tokens"] for sample in samples])
        padded = torch.from_numpy(padding(stacked, self.eos_token_id))
        input_ids = torch.from_numpy(stacked.astype(np.int64))
        batch = {"input_ids": input_ids, "labels": input_ids.masked_fill(padded, IGNORED_LABEL)}
        if self.document_ids:
            ends = input_ids == self.eos_token_id
            batch["document_ids"] = (ends.cumsum(dim=1) - ends.long()).masked_fill(padded, -1)
        return batch


def _streams(mixture: str, plan: Plan, cache: str | None) -> list[Stream]:
    directories = {source.name: storage.join(mixture, SOURCES, source.name) for source in plan.streamed}
    if cache is None:
        if storage.is_remote(mixture):
            raise MixtureError(f"{mixture} is remote", wanted="a local cache directory", got="none", fix="set cache")
        return [Stream(local=storage.local(directory)) for directory in directories.values()]
    # The plan's fingerprint in the path: shards of another mixture are never taken for these.
    return [
        Stream(remote=directory, local=os.path.join(cache, plan.fingerprint, name))
        for name, directory in directories.items()
    ]


def _check_cache(mixture: str, plan: Plan, cache: str | None, cache_bytes: int) -> None:
    """Raises `MixtureError` where a bounded cache can't hold what is read from at a time (order.py), or there is none.

    Twice the shards that a pass shuffles together, of each source: one group follows another, and loading runs ahead.
    """
    if cache is None:
        raise MixtureError("a bound on the cache, but no cache", wanted="cache", got="none", fix="set cache")
    needed = largest = 0
    for source in plan.streamed:
        index = storage.join(mixture, SOURCES, source.name, INDEX_FILE)
        shards = storage.read_json(index)["shards"]
        sizes = sorted((shard["raw_data"]["bytes"] + (shard["zip_data"] or {"bytes": 0})["bytes"]) for shard in shards)
        needed += sum(sizes[-2 * plan.shuffle_shards :]) + storage.size(index)
        largest = max(largest, *sizes)
    needed = max(needed, 4 * largest)  # Streaming asks for as much
    if cache_bytes < needed:
        raise MixtureError(
            "the cache is too small for the shards that are read from at a time",
            wanted=f"{needed:,} bytes or more: {2 * plan.shuffle_shards} shards of each source",
            got=f"{cache_bytes:,}",
            fix=f"cache_bytes={needed}, or mix with fewer shuffle_shards or smaller shard_bytes",
        )


def _check_data(mixture: str, plan: Plan) -> None:
    for source in plan.streamed:
        directory = storage.join(mixture, SOURCES, source.name)
        found = index_sha256(directory) if storage.exists(storage.join(directory, INDEX_FILE)) else "nothing there"
        if found != source.index_sha256:
            raise MixtureError(
                f"the data of source {source.name} is not what {mixture} was planned with",
                wanted=f"{INDEX_FILE} with sha256 {source.index_sha256[:16]}",
                got=found[:16],
                fix="run ipt-stream mix again",
            )
