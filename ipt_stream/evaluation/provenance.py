"""Where results come from: fingerprints of the model, of the mixture that it was trained on, and of the code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import EvaluationError

_MIB = 1 << 20
_MODEL_FILES = (".json", ".safetensors", ".bin", ".model", ".txt")
_NOT_THE_MODEL = ("stage.json", "README.md", "generation_config.json")
_ONLY_SHOWN = ("plot.py", "table.py")  # no score follows from how it is shown
_MOST_STAGES = 16


def model_identity(name: str, folder: str) -> str:
    """A hash of a model folder: each file of config, tokenizer and weights by name, size, first and last MiB.

    Training changes every weight, so the ends of a file tell models apart without reading gigabytes.

    Raises:
        EvaluationError: it is no model folder.
    """
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise EvaluationError(
            f"model {name} can't be found",
            wanted="a Hugging Face model folder, with config.json",
            got=f"{folder}, without" if os.path.isdir(folder) else f"nothing at {folder}",
            fix="check models in the config, or export the model first",
        )
    digest = hashlib.sha256()
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.endswith(_MODEL_FILES) and entry.name not in _NOT_THE_MODEL:
            size = entry.stat().st_size
            with open(entry.path, "rb") as file:
                digest.update(f"{entry.name}:{size}:".encode() + file.read(_MIB))
                file.seek(max(0, size - _MIB))
                digest.update(file.read())
    return digest.hexdigest()[:16]


def mixture_of(folder: str) -> str | None:
    """The fingerprint of the plan that a model was pre-trained on, or None where that isn't known.

    `STAGE/model` is looked up in `STAGE/stage.json`; a stage that went on from another model without a mixture of its
    own (`base_model`) leads to that one's.

    Raises:
        StorageError: such a file is there and can't be read.
    """
    for _ in range(_MOST_STAGES):
        path = os.path.join(os.path.dirname(os.path.abspath(folder)), "stage.json")
        stage = storage.read_json(path) if os.path.isfile(path) else None
        settings = stage.get("settings") if isinstance(stage, Mapping) else None
        if not isinstance(settings, Mapping):
            return None
        if isinstance(settings.get("plan"), str):
            return str(settings["plan"])
        base = settings.get("base_model")
        if not isinstance(base, str) or not os.path.isdir(base):
            return None
        folder = base
    return None


@cache
def code_identity() -> dict[str, str]:
    """What asks and scores: this package's and lm-eval's versions, and a hash of the evaluation code and its tasks."""
    digest = hashlib.sha256()
    for name, content in sorted(_files(resources.files("ipt_stream.evaluation"))):
        digest.update(f"{name}:{len(content)}:".encode() + content)
    return {"ipt_stream": _version("ipt-stream"), "lm_eval": _version("lm-eval"), "hash": digest.hexdigest()[:16]}


def _files(folder: Any, prefix: str = "") -> list[tuple[str, bytes]]:
    """The Python and YAML files below a package's folder, by their names in it."""
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _files(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith((".py", ".yaml")) and prefix + entry.name not in _ONLY_SHOWN:
            found.append((prefix + entry.name, entry.read_bytes()))
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
