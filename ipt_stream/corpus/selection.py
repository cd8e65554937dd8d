"""Which documents are converted: a fixed share of them, chosen by a hash, so that no order and no neighbour matters.

The paper converts 1/5 of its texts when it trains from scratch. Any process comes to the same choice for
a document, whatever it read before, and raising the fraction keeps all documents chosen so far.
"""

from __future__ import annotations

from hashlib import blake2b

from ipt_stream.corpus.document import Document
from ipt_stream.errors import ConfigError


def is_selected(seed: int, key: str, fraction: float) -> bool:
    """Whether the document named `key` is among the `fraction` that is converted.

    The hash of (seed, key) is a number uniform in [0, 2^64); it is chosen when that is below `fraction * 2^64`. So 1.0
    chooses all, 0.0 none, and a larger fraction chooses a superset. `key` repeated is chosen each time or never.

    Raises:
        ConfigError: `fraction` is not in [0, 1].
    """
    if not 0.0 <= fraction <= 1.0:
        raise ConfigError("fraction can't be used", wanted="a share from 0 to 1", got=repr(fraction))
    digest = blake2b(f"{seed}:{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def selection_key(document: Document) -> str:
    """What a document is chosen by: its own id where it has one, so that a change of shards keeps the choice."""
    return document.source_id if document.source_id is not None else document.document_id
