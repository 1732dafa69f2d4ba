"""When a guest did what, and how many page faults its process had: for an event that asks for a timeline.

Leaves to others: what becomes of it (the engine believes none of it where it cannot be). An event that does not ask
costs one look into its meta.
"""

from __future__ import annotations

import time

from . import wire

READ, PREPARED, IMPORTED, READY, ANSWERED = range(5)
_COUNTED = (READ, READY, ANSWERED)


class Moments:
    """Of one event."""

    def __init__(self) -> None:
        self._ns = [0] * 5
        self._faults = dict.fromkeys(_COUNTED, (0, 0))
        self.mark(READ)

    def mark(self, moment: int) -> None:
        """It is reached."""
        if moment in self._faults:
            self._faults[moment] = _faults()
        self._ns[moment] = time.monotonic_ns()

    def frame(self) -> bytes:
        """All of them, as the body of a TIMELINE frame."""
        counts = [count for moment in _COUNTED for count in self._faults[moment]]
        return wire.MOMENTS.pack(*self._ns, *counts)


def _faults() -> tuple[int, int]:
    """Minor and major ones of this process so far: fields 10 and 12 of proc_pid_stat(5)."""
    try:
        with open("/proc/self/stat", "rb", buffering=0) as file:
            fields = file.readall().rpartition(b")")[2].split()
    except OSError:  # user code may have used up the descriptors
        return 0, 0
    return int(fields[7]), int(fields[9])
