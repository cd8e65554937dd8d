"""Attention kept inside documents: what a token sees where a sequence holds several of them.

    document_ids   0 0 0 1 1 -1        position   0 1 2 0 1 0
    token 4 sees   . . . x x  .        (x: seen)

Positions begin anew with each document, so that it is read as if it stood alone; with rotary positions, which tell
distances, that is a matter of rounding. Padding is a document of its own, which no loss counts. A document's first
token is learned like all others, from the EOS before it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def document_attention(document_ids: Tensor) -> dict[str, Tensor]:
    """The model's arguments that keep attention inside documents.

    Args:
        document_ids: (batch, length) int64, which document each token is of; a document's tokens stand side by side.

    Returns:
        `attention_mask`, bool of shape (batch, 1, length, length), true where a query (third axis) sees a key (fourth);
        `position_ids`, (batch, length).
    """
    length = document_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=document_ids.device).tril()
    same = document_ids[:, :, None] == document_ids[:, None, :]  # (batch, query, key)
    index = torch.arange(length, device=document_ids.device).expand_as(document_ids)
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    start = torch.where(begins, index, 0).cummax(dim=1).values  # of each token's document
    return {"attention_mask": (same & causal)[:, None], "position_ids": index - start}
