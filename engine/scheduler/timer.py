"""The one timer of a scheduler: it fires when the native scheduler has something due.

Guarantees: while it is armed, a warm start does not touch it; when nothing is due, there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.sandbox.box import Lane
from engine.scheduler.core import Core


class Timer:
    """Ticks `core`, then calls `obey`."""

    def __init__(self, core: Core, monotonic_ns: Callable[[], int], obey: Callable[[], None]) -> None:
        self._core = core
        self._now = monotonic_ns
        self._obey = obey
        self._handle: asyncio.TimerHandle | None = None
        self._at = 0  # nanoseconds, where it is armed
        self._stopped = False
        self.off = True  # not armed
        self._lane: Lane | None = None

    def tell(self, lane: Lane) -> None:
        """Let it know whether this is armed."""
        self._lane = lane
        lane.timed = not self.off

    def arm(self) -> None:
        """For the next thing that is due, unless it fires before that anyway."""
        due = self._core.due
        if due < 0 or self._stopped:
            return
        at = self._now() + due
        if self._handle is not None:
            if self._at <= at:
                return
            self._handle.cancel()
        self._at = at
        self._handle = asyncio.get_running_loop().call_later(due / 1e9, self._ring)
        self._is(off=False)

    def stop(self) -> None:
        """For good."""
        self._stopped = True
        self._disarm()

    def fire(self, at_ns: int = 0) -> None:
        """Look at what is due now, or by `at_ns` if that is later."""
        self._disarm()
        self._core.tick(max(self._now(), at_ns))
        self._obey()

    def _ring(self) -> None:
        # The clock may be read a little before the moment that the loop was told to wake up at.
        self.fire(self._at)

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        self._is(off=True)

    def _is(self, *, off: bool) -> None:
        self.off = off
        if self._lane is not None:
            self._lane.timed = not off
