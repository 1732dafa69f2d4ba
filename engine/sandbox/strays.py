"""Sandboxes that nobody told the engine of: a zygote was killed after it had cloned one and before it said so.

Such a process is the engine's child like any other (CLONE_PARENT) and sits in the leaf that was made for it, by which
it is found. Leaves to others: ending the zygote first, so that no more can come.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from engine.sandbox import box


def bury_strays(host: box.Host, leaf: box.Leaf) -> int:
    """Kill and reap whatever child of this process is in `leaf`; returns how many there were."""
    slice_name = os.path.basename(next(path for path in host.directories.values() if path))
    suffix = f"/{slice_name}/{leaf.name}"
    strays = [child.pid for child in psutil.Process().children() if _is_in(child.pid, suffix)]
    if strays:
        leaf.set_cpu(0)  # a throttled process dies only in its next period
    for pid in strays:
        os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        os.waitpid(pid, 0)
    return len(strays)


def _is_in(pid: int, suffix: str) -> bool:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return False
    return any(line.removesuffix(" (deleted)").endswith(suffix) for line in lines)
