"""Whether the host has memory to spare for sandboxes that nobody has asked for yet.

Where it is short, what waits is given up and none is made, so that the memory goes to functions; starts fork meanwhile.
Guarantees: it is short until there is room for all that may wait beside what has to stay free, so that giving up does
not make room for making again; the kernel is asked at most once a second.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from engine.sandbox.counts import Counts, Happening

_ASK_EVERY_S = 1.0
_AVAILABLE = b"MemAvailable:"
_log = structlog.get_logger(__name__)


def available_mb() -> int | None:
    """What the kernel could give to programs without swapping, in MB: MemAvailable of proc_meminfo(5); None where it
    does not tell."""
    try:
        with open("/proc/meminfo", "rb", buffering=0) as file:
            for line in file.read(4_096).splitlines():
                if line.startswith(_AVAILABLE):
                    return int(line.split()[1]) >> 10
    except OSError:  # no descriptor is free, or there is no /proc
        pass
    return None


class HostMemory:
    """Asks the host, and remembers."""

    def __init__(
        self,
        free_mb: int,
        waiting_mb: int,
        counts: Counts,
        clock: Callable[[], float],
        available: Callable[[], int | None] = available_mb,
    ) -> None:
        """`free_mb` has to stay free; `waiting_mb` is what all that wait may take."""
        self._free_mb = free_mb
        self._waiting_mb = waiting_mb
        self._counts = counts
        self._clock = clock
        self._available = available
        self._asked_s = -_ASK_EVERY_S
        self._short = False

    @property
    def short(self) -> bool:
        """Whether nothing is to wait now. Where the host does not tell, it is as it was."""
        now = self._clock()
        if now - self._asked_s < _ASK_EVERY_S:
            return self._short
        self._asked_s = now
        available_mb = self._available()
        if available_mb is None:
            return self._short
        short = available_mb < self._free_mb + (self._waiting_mb if self._short else 0)
        if short and not self._short:
            self._counts.happened(Happening.MEMORY_SHORT)
            _log.warning("host_memory_short", available_mb=available_mb, parked_free_mb=self._free_mb)
        self._short = short
        return short
