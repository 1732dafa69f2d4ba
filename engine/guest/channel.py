"""The guest's end of the control stream: whole frames in and out, by blocking reads and writes.

What the frames mean is runtime.py's. Guarantees: a length over its limit is refused before anything is allocated for
it; a frame is written whole or the stream is lost, whichever threads write: of one that was begun with `begin`, the
next write first writes what is left.
"""

from __future__ import annotations

import os
from _thread import RLock

from . import wire

_READ_BYTES = 16_384  # SPEC and the first EVENT of a small function in one read, and no room that the heap grows for
_READ_MAX_BYTES = 1_048_576
_KEPT_BYTES = 4_194_304  # and twice as much at the end of the heap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def _keep_memory() -> None:
    """Have the C library keep some megabytes that were freed, rather than give them back after each large payload: each
    page that is taken anew costs 2 µs. It sets its thresholds by the largest block that it has given back: mallopt(3),
    M_MMAP_THRESHOLD. A read that fails has its buffer for a moment, and touches none of it."""
    try:
        os.read(-1, _KEPT_BYTES)
    except OSError:
        pass


class ProtocolError(Exception):
    """The engine sent what a guest does not read: the stream cannot be followed any further."""


class Channel:
    """One descriptor to read frames from and one to write them to, which may be the same."""

    def __init__(self, events_fd: int, answers_fd: int) -> None:
        self.events_fd = events_fd
        self.answers_fd = answers_fd
        self._pending = b""  # read, not yet asked for
        self._keeps_memory = False
        self._begun = memoryview(b"")  # what is left of a frame that is being written
        self.lock = RLock()  # held while something is written
        self.reading = RLock()  # held while something is read, also while that waits

    def receive(self, limits: Mapping[int, int]) -> tuple[int, bytes | bytearray] | None:
        """The kind and body of the next frame, None where the engine has ended the stream between two frames. `limits`
        maps the kinds that may come to the most bytes of their bodies.

        Raises ProtocolError for another kind of frame, a length over the limit, or an end within a frame; OSError
        where the descriptor is not usable any more.
        """
        with self.reading:
            if not self._fill(wire.HEADER.size):
                return None
            length, kind = wire.HEADER.unpack_from(self._pending)
            if kind not in limits:
                raise ProtocolError(f"frame kind {kind} where {' or '.join(map(str, limits))} was due")
            if length > limits[kind]:
                raise ProtocolError(f"a frame of {length} bytes; the limit is {limits[kind]}")
            end = wire.HEADER.size + length
            if length > wire.CHUNK_LIMIT_BYTES and len(self._pending) < end:
                return kind, self._receive_large(length)
            self._fill(end)
            body = self._pending[wire.HEADER.size : end]
            self._pending = self._pending[end:]
            return kind, body

    def _receive_large(self, length: int) -> bytearray:
        """A body that is read straight into its place."""
        if not self._keeps_memory:
            self._keeps_memory = True
            _keep_memory()
        body = bytearray(length)
        view = memoryview(body)
        have = len(self._pending) - wire.HEADER.size
        view[:have] = self._pending[wire.HEADER.size :]
        self._pending = b""
        while have < length:
            got = os.readv(self.events_fd, (view[have:],))
            if not got:
                raise ProtocolError("the stream ended within a frame")
            have += got
        return body

    def next_kind(self) -> int:
        """Wait for the next frame's header; its kind, 0 at the end of the stream."""
        with self.reading:
            return wire.HEADER.unpack_from(self._pending)[1] if self._fill(wire.HEADER.size) else 0

    def has_frame(self) -> bool:
        """Whether a whole frame is here: `receive` does not have to wait."""
        with self.reading:
            if len(self._pending) < wire.HEADER.size:
                return False
            length: int = wire.HEADER.unpack_from(self._pending)[0]
            return len(self._pending) >= wire.HEADER.size + length

    def read_once(self) -> bool:
        """Take what is there, at most once; False at the end of the stream. Waits only where nothing is there."""
        with self.reading:
            piece = os.read(self.events_fd, _READ_BYTES)
            self._pending += piece
            return bool(piece)

    def _fill(self, wanted: int) -> bool:
        """Read until `wanted` bytes are pending; False at an end of the stream with nothing pending."""
        have = len(self._pending)
        if have >= wanted:
            return True
        pieces = [self._pending]
        while have < wanted:
            piece = os.read(self.events_fd, min(max(wanted - have, _READ_BYTES), _READ_MAX_BYTES))
            if not piece:
                if have:
                    raise ProtocolError("the stream ended within a frame")
                return False
            pieces.append(piece)
            have += len(piece)
        self._pending = b"".join(pieces)
        return True

    def send(self, kind: int, body: bytes | memoryview = b"") -> None:
        """Write one frame. Raises OSError where the engine is gone or the descriptor was closed by user code."""
        with self.lock:
            if self._begun:
                self._finish()
            if not self._write(kind, body):
                self._finish()

    def begin(self, kind: int, body: bytes | memoryview) -> bool:
        """Write as much of a frame as the pipe takes, which is all where this returns True; `go_on` writes the rest.
        The descriptor is non-blocking meanwhile."""
        with self.lock:
            if self._begun:
                self._finish()
            return self._write(kind, body)

    def go_on(self) -> bool:
        """Write more of what was begun; whether nothing is left of it."""
        with self.lock:
            try:
                while self._begun:
                    self._begun = self._begun[os.write(self.answers_fd, self._begun) :]
            except BlockingIOError:
                return False
            return True

    def _write(self, kind: int, body: bytes | memoryview) -> bool:
        header = wire.HEADER.pack(len(body), kind)
        try:
            written = os.writev(self.answers_fd, (header, body))  # no copy of a large body
        except BlockingIOError:
            written = 0
        if written == len(header) + len(body):
            return True
        if written < len(header):
            self._begun = memoryview(header + bytes(body))[written:]
        else:
            self._begun = memoryview(body)[written - len(header) :]
        return False

    def _finish(self) -> None:
        """Write what is left, waiting for room where the descriptor is non-blocking."""
        while not self.go_on():
            import select

            room = select.poll()
            room.register(self.answers_fd, select.POLLOUT)
            room.poll()
