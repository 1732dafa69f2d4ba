"""One invocation's answer as it is made: chunks that leave at once, or are kept where the caller wants the whole.

Whether a handler streams is streaming.py's to see. Guarantees: a chunk is with the engine, or waits for a slow reader,
when `write` returns; nothing is written once the invocation has ended, whichever thread tries; an answer over its limit
is cut off there and says so.
"""

from __future__ import annotations

import errno
import io
import os

from . import errors, marshal, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .channel import Channel

_BYTES = (bytes, bytearray, memoryview)


class Overflow(Exception):
    """The answer is over its limit."""


class Answer:
    """Where the chunks of one invocation go."""

    __slots__ = ("_channel", "_kept", "_limit_bytes", "_live", "_pid", "_size", "ended", "overflowed", "used")

    def __init__(self, channel: Channel, stream_limit_bytes: int, result_limit_bytes: int) -> None:
        """Without a limit for a stream the caller wants the whole: chunks are kept, within a result's limit."""
        self._channel = channel
        self._live = stream_limit_bytes > 0
        self._limit_bytes = stream_limit_bytes or result_limit_bytes
        self._size = 0
        self._kept: list[bytes] = []
        self._pid = os.getpid()
        self.used = False  # chunks are the answer, not what the handler returns
        self.ended = False
        self.overflowed = False

    def write(self, data: memoryview) -> None:
        """Send or keep bytes. Raises Overflow; ValueError after the end of the invocation, or in a forked process."""
        with self._channel.lock:
            for chunk in self._chunks(data):
                self._channel.send(wire.CHUNK, chunk)

    def write_large(self, result: bytes) -> None:
        """Send a result for which one frame is too small: in a stream it may be as large as a stream."""
        try:
            self.write(memoryview(result))
        except Overflow:
            pass

    def begin(self, data: memoryview) -> list[memoryview]:
        """What `write` would send, for a sender that waits by other means. Raises as `write`."""
        with self._channel.lock:
            return self._chunks(data)

    def _chunks(self, data: memoryview) -> list[memoryview]:
        if self.ended or os.getpid() != self._pid:
            raise ValueError("the invocation that this stream belongs to has ended, or is another process's")
        self.used = True
        size = data.nbytes
        if self.overflowed or self._size + size > self._limit_bytes:
            self.overflowed = True
            raise Overflow
        self._size += size
        if not self._live:
            self._kept.append(bytes(data))
            return []
        if size <= wire.CHUNK_LIMIT_BYTES:
            return [data] if size else []
        return [data[at : at + wire.CHUNK_LIMIT_BYTES] for at in range(0, size, wire.CHUNK_LIMIT_BYTES)]

    def end(self) -> tuple[int, bytes]:
        """Write nothing more; the last frame of an answer that was made in chunks."""
        with self._channel.lock:
            self.ended = True
            kept, self._kept = self._kept, []
        return (wire.TOO_LARGE, b"") if self.overflowed else (wire.RESULT, b"".join(kept))


def chunk_of(value: Any) -> memoryview:
    """The bytes of what a handler yields: bytes as they are, text in UTF-8, everything else as a line of JSON.

    Raises Fault for what has no such form.
    """
    if isinstance(value, _BYTES):
        view = memoryview(value)
        return view if view.format == "B" and view.ndim == 1 and view.contiguous else memoryview(view.tobytes())
    try:
        data = value.encode() if isinstance(value, str) else marshal.encode(value) + b"\n"
    except Exception as error:
        raise errors.Fault(errors.MARSHAL_ERROR, f"Unable to marshal response: {error}") from None
    return memoryview(data)


class ResponseStream(io.RawIOBase):
    """A binary file whose bytes are the answer: `context.response_stream`.

    What is written leaves at once; write waits while the reader is slow, and with it an event loop: async handlers
    rather yield. Text is taken too, in UTF-8. Cannot seek.
    """

    mode = "wb"
    name = "<response>"

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def writable(self) -> bool:
        """It is, until the invocation ends."""
        return True

    def write(self, data: Any) -> int:
        """Send it; returns its length. Raises ValueError once closed, OSError over the answer's limit."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        try:
            self._answer.write(memoryview(data.encode()) if isinstance(data, str) else chunk_of(memoryview(data)))
        except Overflow:
            raise OSError(errno.EFBIG, "The answer is over its limit") from None
        return len(data) if isinstance(data, str) else memoryview(data).nbytes

    def close(self) -> None:
        """Nothing more comes. An answer that was closed is the stream's, even if nothing was written."""
        if not self.closed:
            self._answer.used = True
        super().close()
