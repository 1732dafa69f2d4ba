"""How fast a streamed answer may leave: as fast as it is read, or by a rate after a free start, as on AWS.

Leaves to others: how slow a reader is (the front's sink). Source: docs.aws.amazon.com/lambda/latest/dg/
configuration-response-streaming.html, "Bandwidth limits for response streaming". Guarantees: no chunk is held back, the
function is: it makes the next one when the rate has room for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

Chunk = Callable[[bytes], asyncio.Future[None] | None]


class PaceLimits(NamedTuple):
    """What a stream may do; 0 bytes a second for no limit."""

    bytes_per_s: float
    free_bytes: int = 6 << 20


NO_PACE = PaceLimits(0)


class Pace:
    """Before a sink's `chunk`, for one answer."""

    __slots__ = ("_began", "_chunk", "_limits", "_loop", "_sent")

    def __init__(self, limits: PaceLimits, chunk: Chunk, loop: asyncio.AbstractEventLoop) -> None:
        self._limits = limits
        self._chunk = chunk
        self._loop = loop
        self._sent = 0
        self._began = 0.0  # when the free start was over

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        """Pass it on. The future is done when the reader has room and the rate has."""
        slow = self._chunk(data)
        self._sent += len(data)
        over = self._sent - self._limits.free_bytes
        if over <= 0:
            return slow
        now = self._loop.time()
        self._began = self._began or now
        due = self._began + over / self._limits.bytes_per_s
        if due <= now:
            return slow
        room: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_at(due, _settle, room, slow)
        return room


def _settle(room: asyncio.Future[None], slow: asyncio.Future[None] | None) -> None:
    """It is due; a reader that is slower still is waited for."""
    if slow is None or slow.done():
        room.set_result(None)
    else:
        slow.add_done_callback(lambda _: room.set_result(None))
