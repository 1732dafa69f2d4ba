"""What this process has open, for tests that hold it to leaving nothing open.

A test run is one process: what an earlier test left to the garbage collector or to another library's threads may close
in the middle of a later one. So only what is there and was not before counts as left.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections import Counter


def opened() -> Counter[str]:
    """What kinds of things are open, how many of each; garbage is collected before."""
    gc.collect()
    return _now()


def left_open(before: Counter[str]) -> list[str]:
    """What is open beyond `before`."""
    more = _now() - before
    return sorted(more.elements())


def _now() -> Counter[str]:
    found: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found[os.readlink(f"/proc/self/fd/{fd}").partition("[")[0]] += 1
    return found
