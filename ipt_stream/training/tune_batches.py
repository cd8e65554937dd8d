"""Batches of shots as the training loop takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ipt_stream.tuning.sequences import EncodedShot, FewShot, batch_arrays

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader
    from transformers import PreTrainedTokenizerBase


def padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills sequences up; what it is makes no difference."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def batch_loader(
    batches: Sequence[Sequence[FewShot]], shots: Sequence[EncodedShot], padding: int
) -> DataLoader[dict[str, Tensor]]:
    """A loader of ready batches, in order: `input_ids`, `labels` and `attention_mask`, each (sequences, longest)."""
    import torch
    from torch.utils.data import DataLoader

    def tensors(batch: Sequence[FewShot]) -> dict[str, Tensor]:
        names = ("input_ids", "labels", "attention_mask")
        return dict(zip(names, map(torch.from_numpy, batch_arrays(batch, shots, padding)), strict=True))

    return DataLoader(batches, batch_size=None, shuffle=False, collate_fn=tensors)  # type: ignore[arg-type]
