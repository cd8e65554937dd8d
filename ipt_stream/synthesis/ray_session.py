"""Joining a Ray cluster, or starting one in this process: the same settings for every stage that uses Ray."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ipt_stream import storage
from ipt_stream.errors import ConfigError, IptError

OBJECT_STORE_BYTES = 512 * 2**20
"""Shared memory of a local session; a cluster has its own."""


LOOPBACK = "127.0.0.2"
"""Nothing outside this machine has business with a local session. (Ray takes 127.0.0.1 for the outer address.)"""


def ensure_ray(num_cpus: int | None = None) -> None:
    """Connect to the cluster that RAY_ADDRESS (or `ray job submit`) names, or start a local session; once a process.

    Args:
        num_cpus: cores of a local session; None: all.

    Raises:
        IptError: the cluster doesn't answer, or doesn't take this process in.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # A busy machine needs more than the default 30 s.
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    # `log_to_driver`: workers report what matters; what else they write lies on their nodes, and would be noise here.
    if address:
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "3")  # attempts, of 40 s each; by default 20
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of this process; what matters is raised
        try:
            with _handlers_kept():
                ray.init(logging_level=logging.ERROR, log_to_driver=False)
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise IptError(
                f"can't join the Ray cluster at {address}",
                wanted="a cluster that answers and takes this process in",
                got=str(error).strip().splitlines()[-1],
                fix="correct RAY_ADDRESS, or unset it to work on this machine alone; where the cluster asks for a "
                "token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
            ) from error
    else:
        # Nobody looks at a session of its own from outside: what Ray would tell takes a twentieth of a core.
        os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
        os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "60000")
        # By default workers are niced to 15, and an engine on a CPU waits for whatever else the machine does.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # Ray refuses an object store below 75 MB, and one is plenty here: blocks hold one segment each.
        with _handlers_kept(), _nothing_for_clusters():
            ray.init(
                "local",  # never a cluster that `ray start` left on this machine
                num_cpus=num_cpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                _node_ip_address=LOOPBACK,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Leave SIGTERM to whoever handles it already.

    Ray puts two handlers in its place: one in Python, which ends the process, and one in C++, which writes where it
    was, calls what was there before, and aborts the process if it still lives three seconds later.
    """
    from ray._private import utils

    before, ours = utils.set_sigterm_handler, signal.getsignal(signal.SIGTERM)
    if callable(ours):
        utils.set_sigterm_handler = lambda handler: None  # type: ignore[assignment,unused-ignore]
    try:
        yield
    finally:
        utils.set_sigterm_handler = before
        if callable(ours) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)


@contextmanager
def _nothing_for_clusters() -> Iterator[None]:
    """Start a session without the autoscaler's monitor, the monitor of logs and the dashboard's server.

    Nobody asks them anything in a session of its own, and they take half of the time that one takes to start, and some
    of a core while it lasts. Ray has no switches for them; in a version that calls them otherwise they are started.
    """
    from ray._private.node import Node

    def no_server(self: Any, **_: Any) -> None:
        self._webui_url = None

    left_out = {
        "start_monitor": lambda self: None,
        "start_log_monitor": lambda self: None,
        "start_api_server": no_server,
    }
    before = {name: getattr(Node, name) for name in left_out if hasattr(Node, name)}
    for name in before:
        setattr(Node, name, left_out[name])
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(Node, name, method)


def check_shared(path: str, name: str) -> None:
    """On a cluster, refuse a path that each node would take for a place of its own.

    A job that `ray job submit` started, and each of its workers, works in its node's own copy of the job's files, which
    Ray deletes some time later.

    Args:
        path: a directory, or an object-store URL.
        name: of the setting that names it.

    Raises:
        ConfigError: it is a relative path, and this process belongs to a cluster.
    """
    if os.environ.get("RAY_ADDRESS") and not storage.is_remote(path) and not os.path.isabs(storage.local(path)):
        raise ConfigError(
            f"{name}={path} would be another place on each node of the cluster",
            wanted="an object-store URL, or the full path of a directory that all nodes share",
            got="a relative path",
            fix=f"set {name} to s3://BUCKET/PREFIX or /FULL/PATH",
        )
