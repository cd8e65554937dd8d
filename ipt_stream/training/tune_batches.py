"""Batches of shots as the training loop takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ipt_stream.tuning.sequences import EncodedShot, FewShot, batch_arrays

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader
    from transformers import PreTrainedTokenizerBase


def padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills sequences up; what it is makes no difference."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def batch_loader(
    batches: Sequence[Sequence[FewShot]], shots: Sequence[EncodedShot], padding: int, rank: int = 0, ranks: int = 1
) -> DataLoader[dict[str, Tensor]]:
    """A loader of this rank's part of each batch, in order: `input_ids`, `labels` and `attention_mask`.

    Each is of shape (sequences, longest of the whole batch). All ranks get as many sequences, so that they take as many
    steps together; where a batch has too few, the last ones get sequences of padding, which count nowhere.
    """
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, DistributedSampler

    def part(rows: np.ndarray[Any, Any], filler: int) -> Tensor:
        share = -(-len(rows) // ranks)
        missing = np.full((share * ranks - len(rows), rows.shape[1]), filler, rows.dtype)
        return torch.from_numpy(np.concatenate([rows, missing])[rank * share : (rank + 1) * share])

    def tensors(batch: Sequence[FewShot]) -> dict[str, Tensor]:
        tokens, labels, mask = batch_arrays(batch, shots, padding)
        return {"input_ids": part(tokens, padding), "labels": part(labels, -100), "attention_mask": part(mask, 0)}

    # Every rank goes through all batches; Composer wants to be told that this is meant.
    order: Any = DistributedSampler(batches, num_replicas=1, rank=0, shuffle=False)  # type: ignore[arg-type]
    return DataLoader(batches, batch_size=None, sampler=order, collate_fn=tensors)  # type: ignore[arg-type]
