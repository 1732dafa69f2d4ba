"""What the engine asks of its own process: open files, and memory that is kept."""

from __future__ import annotations

import contextlib
import os
import resource

KEPT_BYTES = 16_777_216
"""The largest block of memory that is not given back at once, so that a payload of 6 MB and its copies are none."""


def keep_memory() -> None:
    """Have the C library keep some megabytes that were freed: given back after each large payload and taken anew, they
    would cost more than all else that is done with it. See _keep_memory in engine/guest/channel.py."""
    with contextlib.suppress(OSError):
        os.read(-1, KEPT_BYTES)


def raise_open_files() -> None:
    """A sandbox needs some eight descriptors of the engine: take what the host grants."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
