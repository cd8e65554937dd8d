"""Keep the evaluation libraries to themselves: no network, no telemetry, no bars, nothing on standard output."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

_QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "true",
}
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def calm_libraries(offline: bool) -> None:
    """Set what the libraries read once, when they are first imported: call it before. What is set already stays.

    Args:
        offline: refuse every request to the hub, rather than try and wait for it.
    """
    for name, value in (_QUIET | _OFFLINE if offline else _QUIET).items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send what libraries print to standard error, and let only their errors be logged."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers", "datasets", "accelerate")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
