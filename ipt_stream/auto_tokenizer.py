"""A folder's tokenizer, as transformers' `AutoTokenizer` gives it, without what only models need.

`AutoTokenizer` imports the machinery of all models, PyTorch too: ten seconds of a slow core in each process that counts
a few tokens. A folder whose `tokenizer_config.json` names the class of tokenizers that are all in their
`tokenizer.json`, as `save_pretrained` has written it since transformers 5, needs none of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILE = "tokenizer.json"
PLAIN = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Classes that are all in their `tokenizer.json`, by their names of now and before."""
OTHER_FORMAT = "tekken.json"
"""Where a folder holds this, `AutoTokenizer` may prefer it."""


def auto_tokenizer(model: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub id.

    Raises:
        OSError: there is none.
        ValueError: it can't be loaded, or only with code of its own.
    """
    found: PreTrainedTokenizerBase
    if _is_plain(Path(model)):
        from transformers import PreTrainedTokenizerFast

        found = PreTrainedTokenizerFast.from_pretrained(model)
    else:
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(model, revision=revision)
    return found


def _is_plain(folder: Path) -> bool:
    """Whether `AutoTokenizer` would come to the plain class, too."""
    if not (folder / TOKENIZER_FILE).is_file() or (folder / OTHER_FORMAT).exists():
        return False
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("tokenizer_class") in PLAIN and "auto_map" not in config
