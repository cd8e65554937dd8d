"""Ties the engine's own processes to the worker that started them: vLLM loads this as a plugin in each of them.

A worker that is killed can't end what it started, and an engine left behind keeps its GPU's memory from the next.
"""

from __future__ import annotations

import os
import signal
import sys

OWNER_VARIABLE = "IPT_STREAM_ENGINE_OWNER"
"""Environment variable with the process id of the worker that starts an engine."""


def die_with_owner() -> None:
    """In a process of an engine of this package, have the kernel kill it when its parent ends. Linux only."""
    owner = os.environ.get(OWNER_VARIABLE)
    if owner is None or int(owner) == os.getpid() or sys.platform != "linux":
        return
    from ipt_stream.process import die_with_parent

    die_with_parent(signal.SIGKILL)
    if not os.path.exists(f"/proc/{owner}"):  # It ended before the kernel was asked.
        os._exit(1)
