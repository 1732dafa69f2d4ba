"""Chunks of an answer between the function that makes them and a client that may be slow: a bounded queue.

Leaves to others: sending them (the fronts). Guarantees: every byte comes out once and in order; when WAITING_BYTES wait
the function is held up, so no more than that and one read of its pipe is ever held; chunks that wait next to each other
leave as one, up to JOINED_BYTES, so that a slow client gets few large ones.
"""

from __future__ import annotations

import asyncio
from collections import deque

WAITING_BYTES = 262_144
PIECE_BYTES = 64
"""What a piece counts for beside its bytes: many small ones take more memory than they say."""
JOINED_BYTES = 131_072


class _Chunk:
    """Bytes that leave as one."""

    __slots__ = ("order", "pieces", "size")

    def __init__(self, order: int) -> None:
        self.order = order
        self.pieces: list[bytes] = []
        self.size = 0


class Chunks:
    """The queue of one answer. `order` numbers whatever the front puts in between; a chunk keeps its first one's."""

    __slots__ = ("_bytes", "_queue", "_room")

    def __init__(self) -> None:
        self._queue: deque[_Chunk] = deque()
        self._bytes = 0
        self._room: asyncio.Future[None] | None = None  # what holds the function up

    @property
    def first_order(self) -> int | None:
        """The number of the next to come out; None if none waits."""
        return self._queue[0].order if self._queue else None

    @property
    def last_order(self) -> int | None:
        """The number of the newest; None if none waits."""
        return self._queue[-1].order if self._queue else None

    def add(self, data: bytes, order: int = 0, *, apart: bool = False) -> asyncio.Future[None] | None:
        """Put bytes in, `apart` from what is before them; see Sink.chunk for what is returned."""
        last = self._queue[-1] if self._queue else None
        if last is None or apart or last.size + len(data) > JOINED_BYTES:
            last = _Chunk(order)
            self._queue.append(last)
        last.pieces.append(data)
        last.size += len(data)
        self._bytes += len(data) + PIECE_BYTES
        if self._bytes < WAITING_BYTES:
            return None
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    def take(self) -> bytes:
        """The next. Raises IndexError if none waits."""
        chunk = self._queue.popleft()
        self._bytes -= chunk.size + PIECE_BYTES * len(chunk.pieces)
        if self._room is not None and self._bytes < WAITING_BYTES:
            self._room.set_result(None)
            self._room = None
        return chunk.pieces[0] if len(chunk.pieces) == 1 else b"".join(chunk.pieces)
