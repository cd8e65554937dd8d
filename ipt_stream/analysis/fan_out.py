"""Work on the parts of a corpus: independently, on as many cores as there are, each part's result a file of its own.

A part whose file is there is not done again: so a killed analysis goes on where it was. Results come as files and not
through the driver, whose memory therefore does not grow with the corpus.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ipt_stream import storage
from ipt_stream.errors import StorageError
from ipt_stream.progress import meter

RESULTS = "results"
IN_PROCESS_BYTES = 32 << 20
"""Below this much text, starting workers takes longer than they save."""


class Part(Protocol):
    """A part of a corpus."""

    @property
    def name(self) -> str:
        """Names its result."""


P = TypeVar("P", bound=Part)
S = TypeVar("S")
Result = Mapping[str, Any]


def result_path(output: str, name: str) -> str:
    """Where the result of the part `name` is published."""
    return storage.join(output, RESULTS, f"{name}.json.gz")


def read_results(output: str, parts: Sequence[Part]) -> Iterator[Result]:
    """The results of `parts`, in order, one at a time. Raises `StorageError` where one is not there or is no result."""
    paths = [result_path(output, part.name) for part in parts]
    for path, content in zip(paths, storage.read_many(paths), strict=True):
        try:
            yield json.loads(gzip.decompress(content))
        except (ValueError, OSError, EOFError) as error:
            raise StorageError(f"{path} is no result", got=str(error), fix="remove it and run again") from error


def work_through(
    output: str,
    parts: Sequence[P],
    work: Callable[[P, S], Result],
    shared: S,
    *,
    cores: int | None,
    size_bytes: int,
    name: str,
) -> int:
    """Publish `work(part, shared)` of each part that has no result yet; gives how many those were.

    Args:
        output: the analysis' directory.
        parts: all parts; tasks of Ray Data take them one by one.
        work: a function of a module, so that workers find it; what it gives is kept as JSON.
        shared: what it needs for every part; workers of one machine share its arrays.
        cores: how many tasks run at once; 0: all in this process; None: as many as there are cores, where that pays.
        size_bytes: about how much text the parts are.
        name: what is being done, for the progress.

    Raises:
        IptError: what `work` raised, as it was.
    """
    storage.remove_temporaries(storage.join(output, RESULTS))
    done = {path.rsplit("/", 1)[-1] for path in storage.list_directory(storage.join(output, RESULTS))}
    missing = [part for part in parts if f"{part.name}.json.gz" not in done]
    if cores is None and size_bytes * len(missing) < IN_PROCESS_BYTES * len(parts):
        cores = 0
    with meter(name, len(parts), "parts", resumed=len(parts) - len(missing)) as shown:
        for _ in _each(output, missing, work, shared, cores):
            shown.update(1)
    return len(missing)


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker needs besides its part."""

    output: str
    work: Callable[[Any, Any], Result]
    shared: Any

    def do(self, part: Part) -> None:
        """Work on `part`, and publish what comes of it."""
        content = json.dumps(self.work(part, self.shared), ensure_ascii=False, separators=(",", ":"))
        storage.publish_bytes(
            result_path(self.output, part.name), gzip.compress(content.encode(), compresslevel=3, mtime=0)
        )


def _each(
    output: str, parts: Sequence[P], work: Callable[[P, S], Result], shared: S, cores: int | None
) -> Iterator[None]:
    job = _Job(output, work, shared)
    if cores == 0 or not parts:
        for part in parts:
            job.do(part)
            yield
        return
    import ray

    from ipt_stream.mixture.encode import own_error
    from ipt_stream.synthesis.ray_session import ensure_ray

    ensure_ray(cores)
    items = [{"part": part} for part in parts]
    task: Any = _in_worker
    tasks = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        task, batch_size=1, fn_args=(ray.put(job),), concurrency=None if cores is None else min(cores, len(items))
    )
    try:
        for _ in tasks.iter_rows():
            yield
    except ray.exceptions.RayError as error:
        raise own_error(error) or error from error


def _in_worker(batch: dict[str, Any], shared: Any) -> dict[str, list[str]]:
    import ray

    job: _Job = ray.get(shared)
    for part in batch["part"]:
        job.do(part)
    return {"done": [part.name for part in batch["part"]]}
