"""What a sandbox has used, read from the kernel after every invocation: nothing that a guest says counts."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from engine.errors import SandboxFault
from engine.model.invocation import FunctionError
from engine.model.outcome import Outcome
from engine.sandbox import box
from engine.sandbox.api import Ending, RunSink
from engine.sandbox.counts import Counts, Happening
from engine.sandbox.parts import Parts
from engine.sandbox.process_usage import process_usage
from engine.sandbox.scratch import Tmp

_DISK_FULL = b"cleave: the disk under /tmp is full: what was stored there may be lost\n"
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
        "_by_leaf",
        "_cpu_us",
        "_ended",
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
        # Where /tmp is memory too, the leaf's limit is both.
        self._limit_bytes = limit_bytes + (parts.tmp.size_mb << 20 if parts.tmp_in_memory else 0)
        self._by_leaf = "memory" in parts.limits and "cpu" in parts.limits
        self._ended: tuple[int, int] | None = None
        self._memory_kills = 0
        self._raw_peak = self._peak = 0
        self._cpu_us = cpu_us
        self._traffic = (0, 0)
        self._tmp_bytes = parts.tmp.used()

    def read(self) -> Used:
        """What was used since the last call."""
        return self._since(*self._usage(), self._parts.tmp.used())

    def told(self, raw_peak: int, cpu_us: int, tmp_bytes: int) -> Used:
        """The same, of what the leaf (raw_peak below 0: nobody) and /tmp were seen to have used."""
        if raw_peak < 0 or not self._by_leaf:
            return self.read()
        return self._since(raw_peak, cpu_us, tmp_bytes)

    def rest(self) -> tuple[int, int, int, int] | None:
        """Where it stands: most memory as the kernel counts it and as it is shown, CPU time in microseconds, bytes in
        /tmp. None where what a run uses cannot be told from these alone."""
        near = self._raw_peak > self._limit_bytes - _AT_THE_LIMIT_BYTES
        if near or not self._by_leaf or self._parts.network.metered:
            return None
        return self._raw_peak, self._peak, self._cpu_us, self._tmp_bytes

    def resume(self, cpu_us: int, tmp_bytes: int) -> None:
        """Others have counted until here."""
        self._cpu_us, self._tmp_bytes = cpu_us, tmp_bytes

    def _since(self, raw_peak: int, cpu_us: int, tmp_bytes: int) -> Used:
        if raw_peak != self._raw_peak:
            self._raw_peak = raw_peak
            kept = tmp_bytes if self._parts.tmp_in_memory else 0
            self._peak = max(self._peak, raw_peak - self._reclaimable() - kept)
        if raw_peak > self._limit_bytes - _AT_THE_LIMIT_BYTES:
            self._memory_kills = self._parts.leaf.oom_kills()
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

    def reap(self) -> int | None:
        """The wait status of process 1 if it has ended, else None."""
        ended = box.reap_used(self._parts.pidfd)
        if ended is None:
            return None
        self._ended = ended[1:]
        return ended[0]

    def ran_out_of_memory(self, status: int) -> bool:
        """Whether a guest that ended with this wait status did so for want of memory, since the last `read`.

        The kernel counts whom it killed at a cgroup's limit; a child that it killed earlier, and that the function
        outlived, does not count. Where there is none, whoever failed with all but the whole tier in use did.
        """
        if "memory" in self._parts.limits:
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            return killed and self._parts.leaf.oom_kills() > self._memory_kills
        peak = self._ended[0] if self._ended else 0
        return status != 0 and peak > self._limit_bytes - self._limit_bytes // 8

    def is_out_of_memory(self, error: FunctionError) -> bool:
        """Whether this error of the guest's is what the limit looks like from inside: where the kernel does not kill at
        it, it refuses."""
        return "memory" not in self._parts.limits and error.type == "MemoryError"

    def _usage(self) -> tuple[int, int]:
        """Most memory, and CPU time in microseconds: each as the leaf has it, else as the processes' own counters."""
        peak, cpu_us = self._parts.leaf.usage()
        if self._by_leaf:
            return peak, cpu_us
        own_peak, own_cpu_us = self._ended or process_usage(self._parts.pid)
        return peak or own_peak, cpu_us or max(own_cpu_us, self._cpu_us)

    def _reclaimable(self) -> int:
        """The kernel's peak counts page cache it could give back; what of that is there now is taken off."""
        try:
            return self._parts.leaf.reclaimable()
        except SandboxFault:  # no descriptor is free: then the cache is counted
            return 0


def plain_answer(body: bytes, began_ns: int, at_ns: int, used: Used) -> Ending:
    """The ending of a warm run that answered in one piece."""
    return Ending(
        Outcome.OK,
        True,
        body,
        handler_us=(at_ns - began_ns) // 1000,
        peak_memory_bytes=used.peak_memory_bytes,
        cpu_us=used.cpu_us,
        tmp_written_bytes=used.tmp_bytes,
        network_in_bytes=used.network_in_bytes,
        network_out_bytes=used.network_out_bytes,
        timeline=(("answered", at_ns),),
    )


def warn_of_full_disk(tmp: Tmp, used: Used, counts: Counts, sink: RunSink | None) -> None:
    """Say in the log of a run that has stored something why that failed, where the disk under its /tmp is full: its own
    error, if it got one, is an input or output error, which says nothing of the reason."""
    if used.tmp_bytes and tmp.disk_full():
        counts.happened(Happening.DISK_FULL)
        if sink is not None:
            sink.output(_DISK_FULL)
