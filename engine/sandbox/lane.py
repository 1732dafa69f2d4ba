"""The lane of an event loop: through it all sandboxes of a pool are listened to, by one descriptor of the loop's.

What a lane is: native/sched/lane.h. Guarantees: it is opened on first use, on the loop that uses it, and closed once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.sandbox import box
from engine.sandbox.link import Ends
from engine.sandbox.parts import Parts

OnAnswer = Callable[[bytes, int, bool, int, int, int], None]
"""Told of a whole answer: its body, when it came (time.monotonic_ns()), whether something was written to the log before
it; then what was used by then: most memory in bytes (-1: to be asked for), CPU time in microseconds, bytes in /tmp."""


class LoopLane:
    """Opens it, and closes it."""

    def __init__(self) -> None:
        self._lane: box.Lane | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> box.Lane:
        """The running loop's. Raises SandboxFault where no descriptor is free."""
        if self._lane is None:
            self._loop = asyncio.get_running_loop()
            self._lane = box.Lane()
            self._loop.add_reader(self._lane.fileno(), self._lane.turn)
        return self._lane

    def close(self) -> None:
        """Listen to nobody any more. Safe to call again."""
        lane, self._lane = self._lane, None
        if lane is not None and self._loop is not None:
            self._loop.remove_reader(lane.fileno())
            lane.close()


def seat_of(
    lane: box.Lane,
    parts: Parts,
    on_answer: OnAnswer,
    on_fault: Callable[[BaseException], None],
    ends: Ends,
    on_data: Callable[[bytes | None], None],
) -> box.Seat:
    """A sandbox's. `on_data` is GuestLink's."""
    usage = (parts.leaf, parts.tmp.scratch)
    return box.Seat(lane, ends.answers, ends.events, parts.log, *usage, on_answer, on_data, on_fault)
