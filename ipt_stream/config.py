"""Strict configuration: a YAML file and `dotted.key=value` overrides become one frozen model.

Each stage declares its settings beside the code that uses them, as a `Settings` subclass. Unknown keys are refused and
the nearest known one is named; YAML is read with a safe loader; interpolations (`${output}/world`) are resolved once,
here. `fingerprint` names a set of settings by its content.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ipt_stream.errors import ConfigError


class Settings(BaseModel):
    """Base of all configuration models: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())


S = TypeVar("S", bound=Settings)


def load_config(kind: type[S], path: str | Path, overrides: Sequence[str] = ()) -> S:
    """Read `path`, apply `overrides` (each `dotted.key=value`, the value in YAML), and build `kind`.

    Raises:
        ConfigError: the file is missing or not YAML, an override has no `=`, a key is unknown or a value is wrong.
    """
    return build(kind, load_mapping(path, overrides), str(path))


def load_mapping(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The resolved YAML mapping of `path` with `overrides` applied. Raises `ConfigError` as `load_config` does."""
    file = Path(path)
    if not file.is_file():
        raise ConfigError(
            f"no configuration file {path}", wanted="a YAML file", got="nothing there", fix="check the path"
        )
    return merge(file, overrides, str(path))


def merge(base: Path | dict[str, Any], overrides: Sequence[str], where: str) -> dict[str, Any]:
    """A YAML file or a mapping with `overrides` applied and interpolations resolved; `where` names it in errors.

    Raises:
        ConfigError: the YAML can't be read, or an override has no `=`.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise ConfigError("an override can't be read", wanted="dotted.key=value", got=repr(override))
    try:
        config = OmegaConf.create(base.read_text("utf-8") if isinstance(base, Path) else base)
        if not OmegaConf.is_dict(config):
            raise ConfigError(f"{where} is not a configuration", wanted="a YAML mapping", got=type(config).__name__)
        merged = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
        mapping = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} can't be read", got=str(error), fix="mend the YAML there") from error
    except TypeError as error:
        wanted = "a list in place of a list, a mapping of a mapping"
        raise ConfigError(f"{where}: an override is of another kind than what is there", wanted=wanted) from error
    if not isinstance(mapping, dict):
        raise ConfigError(f"{where} is not a configuration", wanted="a YAML mapping", got=type(mapping).__name__)
    return {str(key): value for key, value in mapping.items()}


def build(kind: type[S], mapping: dict[str, Any], where: str) -> S:
    """Validate `mapping` as `kind`; `where` names its origin in errors. Raises `ConfigError`."""
    try:
        return kind.model_validate(mapping)
    except ValidationError as error:
        raise ConfigError(_explain(kind, error, where)) from error


def _explain(kind: type[Settings], error: ValidationError, where: str) -> str:
    """One line for the first thing that is wrong, with the nearest known key where a key is unknown."""
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(kind, path[:-1])
        return f"{where}: unknown key '{key}'{_nearest(path, known)}{more}"
    if first["type"] == "missing":
        return f"{where}: missing key '{key}'; fix: set it in the file or as {key}=VALUE{more}"
    return f"{where}: wrong value for '{key}'; wanted: {first['msg']}; got: {first['input']!r}{more}"


def _nearest(path: list[str], known: list[str]) -> str:
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean '{'.'.join([*path[:-1], near[0]])}'?"
    return f"; known keys there: {', '.join(known)}" if known else ""


def _known_keys(kind: type[Settings], path: list[str]) -> list[str]:
    """The keys that the model at `path` below `kind` knows; list indices and map keys are stepped through."""
    current: Any = kind
    for part in path:
        fields = getattr(current, "model_fields", None)
        if fields is None or part not in fields:
            continue
        current = _model_within(fields[part].annotation)
    return sorted(getattr(current, "model_fields", {}))


def _model_within(annotation: Any) -> Any:
    """The first model named in an annotation such as `Model | None` or `dict[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_within(inner)
        if found is not None:
            return found
    return None


def fingerprint(value: Any) -> str:
    """A name for `value` (a model, or anything JSON can hold) by its content: 16 hex digits of its SHA-256."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
