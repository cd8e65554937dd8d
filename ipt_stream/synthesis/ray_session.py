"""Joining a Ray cluster, or starting one in this process: the same settings for every stage that uses Ray."""

from __future__ import annotations

import logging
import os

OBJECT_STORE_BYTES = 512 * 2**20
"""Shared memory of a local session; a cluster has its own."""


LOOPBACK = "127.0.0.2"
"""Nothing outside this machine has business with a local session. (Ray takes 127.0.0.1 for the outer address.)"""


def ensure_ray(num_cpus: int | None = None) -> None:
    """Connect to the cluster that RAY_ADDRESS (or `ray job submit`) names, or start a local session; once a process.

    Args:
        num_cpus: cores of a local session; None: all.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # A busy machine needs more than the default 30 s.
    import ray

    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=True, logging_level=logging.ERROR)
    else:
        # Ray refuses an object store below 75 MB, and one is plenty here: blocks hold one segment each.
        ray.init(
            num_cpus=num_cpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _node_ip_address=LOOPBACK,
            logging_level=logging.ERROR,
        )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
