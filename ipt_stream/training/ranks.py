"""The processes that train one model together: which one this is, and what only the first of them does.

Composer's launcher, torchrun and Ray Train say so in the environment (RANK, WORLD_SIZE, ...); without it there is
one. Stage files, metrics, logs and the model are written by rank 0 alone. What can fail there fails on all ranks, so
that none waits for another that has given up.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ipt_stream.errors import IptError, TrainingError
from ipt_stream.progress import log

PATIENCE_S = 7200.0
"""How long ranks wait for one another: the first may be writing a checkpoint of 100 GB."""

T = TypeVar("T")


def world_size() -> int:
    """How many processes train together."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """Which of them this is, from 0."""
    return _number("RANK", 0)


def is_first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def is_first_of_node() -> bool:
    """Whether this is the process that fetches files for its machine."""
    return _number("LOCAL_RANK", 0) == 0


@contextmanager
def joined() -> Iterator[None]:
    """Within, the ranks can talk to one another, and only the first logs. Does nothing where there is one process.

    Raises:
        TrainingError: the others can't be reached.
    """
    if world_size() == 1:
        yield
        return
    from torch import distributed

    found = distributed.is_initialized()  # Ray Train has done so, and undoes it
    level = log.level
    if not is_first():
        log.setLevel(logging.WARNING)
    try:
        if not found:
            _initialize()
        yield
        if not found:
            distributed.destroy_process_group()
    finally:
        log.setLevel(level)


def on_first(work: Callable[[], T]) -> T:
    """What `work` gives on rank 0, on all ranks; an error of ours that it raises there is raised on all."""
    if world_size() == 1:
        return work()
    result: T | None = None
    failure: IptError | None = None
    if is_first():
        try:
            result = work()
        except IptError as error:
            failure = error
    result, failure = _broadcast((result, failure))
    if failure is not None:
        raise failure
    return result  # type: ignore[return-value]


def on_each_node(work: Callable[[], None]) -> None:
    """Have the first process of each machine do `work`; what goes wrong on one of them is raised on all ranks."""
    failure: IptError | None = None
    if is_first_of_node():
        try:
            work()
        except IptError as error:
            failure = error
    failures = [found for found in gather(failure) if found is not None]
    if failures:
        raise failures[0]


def gather(value: T) -> list[T]:
    """The values of all ranks, in their order, on all ranks."""
    if world_size() == 1:
        return [value]
    from composer.utils import dist

    return list(dist.all_gather_object(value))


def _broadcast(value: T) -> T:
    from composer.utils import dist

    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def _initialize() -> None:
    from composer.utils import dist

    os.environ.setdefault("NODE_RANK", os.environ.get("GROUP_RANK", "0"))  # torchrun's name for it
    try:
        dist.initialize_dist(None, timeout=PATIENCE_S)
    except (RuntimeError, ValueError, OSError) as error:
        raise TrainingError(
            f"rank {rank()} of {world_size()} can't reach the others",
            wanted="processes that Composer's launcher or Ray Train started",
            got=str(error).strip().splitlines()[0],
            fix="unset RANK and WORLD_SIZE to train in one process, or start with `composer -n N -m ipt_stream.cli`",
        ) from error


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise TrainingError(f"{name} in the environment is no number", wanted="a launcher's number", got=value)
    return int(value)
