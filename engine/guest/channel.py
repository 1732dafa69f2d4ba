"""The guest's end of the control stream: whole frames in and out, by blocking reads and writes.

What the frames mean is runtime.py's. Guarantees: a length over its limit is refused before anything is allocated for
it; a frame is written whole or the stream is lost.
"""

from __future__ import annotations

import os

from . import wire

_READ_BYTES = 65_536  # SPEC and the first EVENT of a small function arrive in one read
_READ_MAX_BYTES = 1_048_576


class ProtocolError(Exception):
    """The engine sent what a guest does not read: the stream cannot be followed any further."""


class Channel:
    """One descriptor to read frames from and one to write them to, which may be the same."""

    def __init__(self, events_fd: int, answers_fd: int) -> None:
        self._events_fd = events_fd
        self._answers_fd = answers_fd
        self._pending = b""  # read, not yet asked for

    def receive(self, kind: int, limit_bytes: int) -> bytes | None:
        """The body of the next frame, None where the engine has ended the stream between two frames.

        Raises ProtocolError for another kind of frame, a length over the limit, or an end within a frame; OSError
        where the descriptor is not usable any more.
        """
        if not self._fill(wire.HEADER.size):
            return None
        length, received = wire.HEADER.unpack_from(self._pending)
        if received != kind:
            raise ProtocolError(f"frame kind {received} where {kind} was due")
        if length > limit_bytes:
            raise ProtocolError(f"a frame of {length} bytes; the limit is {limit_bytes}")
        end = wire.HEADER.size + length
        self._fill(end)
        body = self._pending[wire.HEADER.size : end]
        self._pending = self._pending[end:]
        return body

    def _fill(self, wanted: int) -> bool:
        """Read until `wanted` bytes are pending; False at an end of the stream with nothing pending."""
        have = len(self._pending)
        if have >= wanted:
            return True
        pieces = [self._pending]
        while have < wanted:
            piece = os.read(self._events_fd, min(max(wanted - have, _READ_BYTES), _READ_MAX_BYTES))
            if not piece:
                if have:
                    raise ProtocolError("the stream ended within a frame")
                return False
            pieces.append(piece)
            have += len(piece)
        self._pending = b"".join(pieces)
        return True

    def send(self, kind: int, body: bytes = b"") -> None:
        """Write one frame. Raises OSError where the engine is gone or the descriptor was closed by user code."""
        header = wire.HEADER.pack(len(body), kind)
        written = os.writev(self._answers_fd, (header, body))  # no copy of a large body
        if written == len(header) + len(body):
            return
        rest = memoryview(header + body if written < len(header) else body)
        rest = rest[written if written < len(header) else written - len(header) :]
        while rest:
            rest = rest[os.write(self._answers_fd, rest) :]
