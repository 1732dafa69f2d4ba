"""What a dead engine left where no cgroup names its sandboxes: found by their root.

Every process of a sandbox, whatever it does, sees the root that its zygote made, and the kernel shows by which name
that was mounted (proc_pid_mountinfo(5)): on such hosts the name is the engine's. The parent-death signal takes them
along already; this is for those that got around it.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_WITHIN_S = 5.0


def end_strays(name: str, *, within_s: float = _WITHIN_S) -> int:
    """Kill every process whose root is called `name`, until none is left, at most so long; returns how many were found.
    None of them may be a sandbox of a living engine: hold its lock."""
    found: set[int] = set()
    until = time.monotonic() + within_s
    while ended := _end_once(name):
        found |= ended
        if time.monotonic() > until:
            break
        time.sleep(0.005)
    return len(found)


def _end_once(name: str) -> set[int]:
    """Kill those that are there now."""
    mark, found = f" - tmpfs {name} ", set()
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            pidfd = os.pidfd_open(int(path.name))
        except OSError:  # it is gone
            continue
        try:
            if mark in (path / "mountinfo").read_text():
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                found.add(int(path.name))
        except OSError:  # it is gone, a zombie, or somebody else's
            continue
        finally:
            os.close(pidfd)
    return found
