"""The engine's clock comes before what it ends.

On a machine where every CPU is taken, a loop of ordinary priority comes to its timers tens of milliseconds late: a
timeout, a kill and every answer would wait for the very processes that they end. Only the calling thread is raised, and
what it starts from then on; a zygote goes back to the ordinary priority first thing (engine.guest.zygote), so that no
sandbox has any of it. Guarantees: without the privilege nothing changes.
"""

from __future__ import annotations

import contextlib
import os

_NICE = -15


def come_first() -> None:
    """Raise the calling thread over ordinary processes."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
