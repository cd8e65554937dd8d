"""An object store in this process's memory that counts what is asked of it: `simulated://NAME/...`, through fsspec."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fsspec import register_implementation
from fsspec.spec import AbstractFileSystem

PROTOCOL = "simulated"


@dataclass(slots=True)
class Bucket:
    """The objects of one store, by directory and name, and what was asked of it.

    Attributes:
        objects: contents.
        requests: how many, by kind and directory.
        sent_bytes: bytes that were put, by directory.
    """

    objects: dict[str, dict[str, bytes]] = field(default_factory=dict)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    sent_bytes: Counter[str] = field(default_factory=Counter)

    def count(self, kind: str, directory: str) -> None:
        """Count one request."""
        self.requests[kind, directory.rpartition("/")[2]] += 1

    def put(self, directory: str, name: str, content: bytes, once: bool = False) -> bool:
        """Put an object, with `once` only where there is none; whether it was put."""
        self.count("put", directory)
        there = self.objects.setdefault(directory, {})
        if once and name in there:
            return False
        there[name] = bytes(content)
        self.sent_bytes[directory.rpartition("/")[2]] += len(content)
        return True

    def get(self, directory: str, name: str) -> bytes:
        """An object's content. Raises `KeyError`."""
        self.count("get", directory)
        return self.objects[directory][name]

    def head(self, directory: str, name: str) -> int | None:
        """An object's size, or None where there is none."""
        self.count("head", directory)
        content = self.objects.get(directory, {}).get(name)
        return None if content is None else len(content)


class SimulatedStore(AbstractFileSystem):  # type: ignore[misc,unused-ignore]
    """The few calls that `storage` makes of a store, each one request."""

    protocol = PROTOCOL
    buckets: ClassVar[dict[str, Bucket]] = {}
    """By name: fsspec makes a file system for each thread, and all see the same objects."""

    def _at(self, path: str) -> tuple[Bucket, str, str]:
        directory, _, name = self._strip_protocol(path).rpartition("/")
        return self.buckets[directory.partition("/")[0]], directory, name

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Put an object; with `mode="create"` only where there is none, else `FileExistsError`."""
        bucket, directory, name = self._at(path)
        if not bucket.put(directory, name, value, once=mode == "create"):
            raise FileExistsError(path)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """An object's content. Raises `FileNotFoundError`."""
        bucket, directory, name = self._at(path)
        try:
            return bucket.get(directory, name)[start:end]
        except KeyError as error:
            raise FileNotFoundError(path) from error

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name and size of an object. Raises `FileNotFoundError`."""
        bucket, directory, name = self._at(path)
        size = bucket.head(directory, name)
        if size is None:
            raise FileNotFoundError(path)
        return {"name": f"{directory}/{name}", "size": size, "type": "file"}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The objects of a directory; a thousand come with one request."""
        directory = self._strip_protocol(path)
        bucket = self.buckets[directory.partition("/")[0]]
        there = bucket.objects.get(directory, {})
        for _page in range(-(-max(len(there), 1) // 1000)):
            bucket.count("list", directory)
        found = [{"name": f"{directory}/{name}", "size": len(value), "type": "file"} for name, value in there.items()]
        return found if detail else [entry["name"] for entry in found]


def open_bucket(name: str) -> Bucket:
    """An empty store at `simulated://NAME`; what was there is gone."""
    register_implementation(PROTOCOL, SimulatedStore, clobber=True)
    SimulatedStore.buckets[name] = Bucket()
    return SimulatedStore.buckets[name]


def close_bucket(name: str) -> None:
    """Give its memory back."""
    SimulatedStore.buckets.pop(name, None)
