"""A streamed input as its handler reads it: `for chunk in event.stream`.

Guarantees: what is not read waits with its sender; nothing of the next event is taken, also by a thread that still
reads when the invocation has ended.
"""

from __future__ import annotations

import io

from . import errors, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .channel import Channel

_LIMITS = {wire.INPUT: wire.CHUNK_LIMIT_BYTES, wire.INPUT_END: 0}


class StreamingEvent(dict):  # type: ignore[type-arg]  # Any is not there at runtime
    """An event with an input: the JSON object that came with it, and `stream`."""

    def __init__(self, event: Any, stream: InputStream) -> None:
        """Raises Fault for an event that is no object."""
        if not isinstance(event, dict):
            message = "Unable to unmarshal input: the event of a conversation is a JSON object"
            raise errors.Fault(errors.UNMARSHAL_ERROR, message)
        super().__init__(event)
        self.stream = stream


class InputStream(io.RawIOBase):
    """The input: iterate for its chunks as they were sent (`for`, or `async for`), or read it as a binary file.

    An iteration ends when the sender has half-closed. For lines wrap it: io.TextIOWrapper(io.BufferedReader(stream)).
    """

    mode = "rb"
    name = "<input>"

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._rest = memoryview(b"")
        self._over = False  # the sender has half-closed
        self._ended = False  # the invocation has

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As of any raw file: what is there of a chunk, 0 at the end."""
        if not self._rest:
            self._rest = memoryview(self._receive())
        view = memoryview(buffer).cast("B")
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def __iter__(self) -> InputStream:
        return self

    def __next__(self) -> bytes:
        chunk = self._left() or self._receive()
        if not chunk:
            raise StopIteration
        return chunk

    def __aiter__(self) -> InputStream:
        return self

    async def __anext__(self) -> bytes:
        chunk = self._left()
        while not chunk and not self._over:
            await self._arrived()
            chunk = self._receive()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    def end(self) -> None:
        """The invocation is over: nothing more is read."""
        self._ended = True

    def _left(self) -> bytes:
        """What `readinto` has left of a chunk."""
        rest, self._rest = self._rest, memoryview(b"")
        return bytes(rest)

    def _receive(self) -> bytes:
        """The next chunk, b"" at the end. Empty ones are skipped."""
        channel = self._channel
        with channel.reading:
            while not self._over:
                kind = channel.next_kind()
                if not kind:
                    raise ConnectionResetError("who sends this stream has gone")
                if self._ended or kind not in _LIMITS:
                    raise ValueError("the invocation that this stream belongs to has ended")
                received = channel.receive(_LIMITS)
                if received is None or received[0] == wire.INPUT_END:
                    self._over = True
                elif received[1]:
                    return bytes(received[1])  # it is
        return b""

    async def _arrived(self) -> None:
        """Wait on the event loop until a frame is there, so that other tasks go on."""
        channel = self._channel
        if channel.has_frame() or self._ended:
            return
        from asyncio import get_running_loop

        loop = get_running_loop()
        while not channel.has_frame():
            readable: Any = loop.create_future()
            loop.add_reader(channel.events_fd, _wake, readable)
            try:
                await readable
            finally:
                loop.remove_reader(channel.events_fd)
            if not channel.read_once():
                return


def _wake(future: Any) -> None:
    if not future.done():
        future.set_result(None)
