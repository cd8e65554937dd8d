"""Batches as the training loop takes them, each rank its part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ipt_stream.tuning.sequences import EncodedShot, FewShot, batch_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.utils.data import DataLoader
    from transformers import PreTrainedTokenizerBase

Batch = TypeVar("Batch")


def padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills sequences up; what it is makes no difference."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def batch_loader(
    batches: Sequence[Sequence[FewShot]], shots: Sequence[EncodedShot], padding: int, rank: int = 0, ranks: int = 1
) -> DataLoader[dict[str, Tensor]]:
    """A loader of this rank's part of each batch of shots (`rank_loader`)."""

    def arrays(batch: Sequence[FewShot]) -> dict[str, NDArray[Any]]:
        tokens, labels, mask = batch_arrays(batch, shots, padding)
        return {"input_ids": tokens, "labels": labels, "attention_mask": mask}

    return rank_loader(batches, arrays, padding, rank, ranks)


def rank_loader(
    batches: Sequence[Batch],
    arrays: Callable[[Batch], Mapping[str, NDArray[Any]]],
    padding: int,
    rank: int = 0,
    ranks: int = 1,
) -> DataLoader[dict[str, Tensor]]:
    """A loader of this rank's part of each batch, in order.

    Args:
        batches: what each step is made of.
        arrays: makes a whole batch of it: `input_ids`, `labels` and `attention_mask`, int64 of shape (sequences,
            length).
        padding: the token that fills sequences up.
        rank: which part, from 0.
        ranks: how many there are. All get as many sequences, so that they take as many steps together; where a batch
            has too few, the last ones get sequences of padding, which count nowhere.
    """
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, DistributedSampler

    fillers = {"input_ids": padding, "labels": -100, "attention_mask": 0}

    def part(rows: NDArray[Any], filler: int) -> Tensor:
        share = -(-len(rows) // ranks)
        missing = np.full((share * ranks - len(rows), rows.shape[1]), filler, rows.dtype)
        return torch.from_numpy(np.concatenate([rows, missing])[rank * share : (rank + 1) * share])

    def tensors(batch: Batch) -> dict[str, Tensor]:
        return {name: part(rows, fillers[name]) for name, rows in arrays(batch).items()}

    # Every rank goes through all batches; Composer wants to be told that this is meant.
    order: Any = DistributedSampler(batches, num_replicas=1, rank=0, shuffle=False)  # type: ignore[arg-type]
    return DataLoader(batches, batch_size=None, sampler=order, collate_fn=tensors)  # type: ignore[arg-type]
