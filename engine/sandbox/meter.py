"""What a sandbox has used, read from the kernel after every invocation: nothing that a guest says counts."""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import SandboxFault
from engine.sandbox.parts import Parts

_AT_THE_LIMIT_BYTES = 4 << 20
"""A sandbox whose memory never came so close to its limit has had no process killed at it."""


class Used(NamedTuple):
    """Over one invocation, but for the peak, which is of the sandbox's life so far."""

    peak_memory_bytes: int
    cpu_us: int
    tmp_bytes: int  # by which what /tmp stores grew; 0 if it shrank
    network_in_bytes: int
    network_out_bytes: int


class Meter:
    """Reads and remembers."""

    __slots__ = (
        "_cpu_us",
        "_limit_bytes",
        "_memory_kills",
        "_parts",
        "_peak",
        "_raw_peak",
        "_tmp_bytes",
        "_traffic",
    )

    def __init__(self, parts: Parts, limit_bytes: int, cpu_us: int = 0) -> None:
        """`cpu_us` is what was used before and does not count."""
        self._parts = parts
        self._limit_bytes = limit_bytes
        self._memory_kills = 0
        self._raw_peak = self._peak = 0
        self._cpu_us = cpu_us
        self._traffic = (0, 0)
        self._tmp_bytes = parts.tmp.used()

    def read(self) -> Used:
        """What was used since the last call."""
        raw_peak, cpu_us = self._parts.leaf.usage()
        if raw_peak != self._raw_peak:
            self._raw_peak = raw_peak
            self._peak = max(self._peak, raw_peak - self._reclaimable())
        if raw_peak > self._limit_bytes - _AT_THE_LIMIT_BYTES:
            self._memory_kills = self._parts.leaf.oom_kills()
        tmp_bytes = self._parts.tmp.used()
        traffic = self._parts.network.traffic()
        used = Used(
            self._peak,
            cpu_us - self._cpu_us,
            max(0, tmp_bytes - self._tmp_bytes),
            traffic[0] - self._traffic[0],
            traffic[1] - self._traffic[1],
        )
        self._cpu_us, self._tmp_bytes, self._traffic = cpu_us, tmp_bytes, traffic
        return used

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed a process at the memory limit since the last `read`.

        A child that it killed earlier, and that the function outlived, does not count.
        """
        return self._parts.leaf.oom_kills() > self._memory_kills

    def _reclaimable(self) -> int:
        """The kernel's peak counts page cache it could give back; what of that is there now is taken off."""
        try:
            return self._parts.leaf.reclaimable()
        except SandboxFault:  # no descriptor is free: then the cache is counted
            return 0
