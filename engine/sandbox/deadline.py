"""One deadline after the other, by as few timers as there can be: a run that ends in time leaves the timer to the next.

Arming a timer and cancelling it costs each run 3 µs; one that fires early looks when it is due, and waits on. Leaves to
others: what happens then. Guarantees: `on_due` is called once for each deadline that passes, on the event loop, not
before it; `close` leaves no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_NEVER = float("inf")
_EARLY_S = 0.001
"""The loop's clock may be read a little before the moment that it was told to wake up at."""


class Deadline:
    """Of one sandbox."""

    __slots__ = ("_due", "_fires", "_loop", "_on_due", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._due = self._fires = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    def set(self, after_s: float) -> None:
        """The one that counts from here on."""
        due = self._due = self._loop.time() + after_s
        if due < self._fires:
            if self._timer is not None:
                self._timer.cancel()
            self._arm(due)

    def clear(self) -> None:
        """None counts."""
        self._due = _NEVER

    def close(self) -> None:
        """None will. Safe to call again."""
        self._due = self._fires = _NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float) -> None:
        self._fires = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        due, self._fires = self._due, _NEVER
        if due <= self._loop.time() + _EARLY_S:
            self._due = _NEVER
            self._on_due()
        elif due < _NEVER:
            self._arm(due)
