"""The engine's end of a guest's control socket: frames out without blocking, frames in within their limits.

What the frames mean is LinuxSandbox's; how they look is engine.guest.wire's. A guest is hostile: a length over its
limit, an unknown kind or a torn frame is a ProtocolError, and no byte of it is allocated before the length is checked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping

from engine.guest import wire

_HEADER = wire.HEADER
_READ_BYTES = 65_536
_READS_A_TURN = 64  # so that a guest that floods its socket does not have the loop to itself


class ProtocolError(Exception):
    """The guest does not keep to the wire's rules."""


def _nobody(*_: object) -> None:
    """Who listens to a closed link."""


class GuestLink:
    """One control socket, on the event loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        limits: Mapping[int, int],
        on_frame: Callable[[int, bytes | bytearray], None],
        on_end: Callable[[Exception | None], None],
    ) -> None:
        """`limits` maps the kinds that may come to the most bytes of their bodies. `on_end` is called once, when
        nothing more will come: None at a clean end of the stream, ProtocolError where the guest broke it, and whatever
        `on_frame` raised: nothing is raised from here."""
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._limits = limits
        self._on_frame = on_frame
        self._on_end = on_end
        self._head = bytearray()  # the bytes of an unfinished header, or of small whole frames
        self._kind = 0
        self._body: bytearray | None = None  # the large body that is being filled
        self._filled = 0
        self._unsent = memoryview(b"")
        self._open = True
        loop.add_reader(self._fd, self.read)

    def send(self, data: bytes) -> bool:
        """Send, or as much as the socket takes and the rest when it takes more. False if nobody is there to read."""
        if self._unsent:
            self._unsent = memoryview(bytes(self._unsent) + data)
            return True
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self._loop.add_writer(self._fd, self._send_more)
        return True

    def _send_more(self) -> None:
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = memoryview(b"")
        if not self._unsent:
            self._loop.remove_writer(self._fd)

    def read(self) -> None:
        """Take what is there, at most a share of it: the rest comes with the loop's next turn."""
        try:
            for _ in range(_READS_A_TURN):
                if not self._open or not self._read_once():
                    return
        except Exception as error:
            self._end(error)

    def read_to_end(self) -> None:
        """Take what is left in the socket of a process that has ended."""
        try:
            while self._open and self._read_once():
                pass
        except Exception as error:
            self._end(error)

    def _read_once(self) -> bool:
        """One read; False when there is nothing more now."""
        try:
            if self._body is not None:
                got = self._sock.recv_into(memoryview(self._body)[self._filled :])
            else:
                data = self._sock.recv(_READ_BYTES)
                got = len(data)
        except BlockingIOError:
            return False
        except OSError:
            got = 0
        if got == 0:
            self._end(ProtocolError("a frame was cut off") if self._head or self._body is not None else None)
            return False
        if self._body is None:
            self._parse(data)
            return got == _READ_BYTES or self._body is not None
        self._filled += got
        if self._filled == len(self._body):
            body, self._body = self._body, None
            self._on_frame(self._kind, body)
        return True

    def _parse(self, data: bytes) -> None:
        if self._head:
            data = bytes(self._head) + data
            self._head.clear()
        offset, size = 0, len(data)
        while self._open and size - offset >= _HEADER.size:
            length, kind = _HEADER.unpack_from(data, offset)
            if length > self._limits.get(kind, -1):
                raise ProtocolError(f"a frame of kind {kind} with {length} bytes")
            start = offset + _HEADER.size
            if size - start >= length:
                offset = start + length
                self._on_frame(kind, data[start:offset])
                continue
            # Large bodies are read straight into their place.
            self._kind, self._body = kind, bytearray(length)
            self._filled = size - start
            self._body[: self._filled] = data[start:]
            return
        self._head += data[offset:]

    def _end(self, error: Exception | None) -> None:
        if self._open:
            on_end = self._on_end
            self.close()
            on_end(error)

    def close(self) -> None:
        """Read and send nothing more. Safe to call again."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._sock.close()
            # They lead back to the sandbox that has this link: without them it is freed at once, not at a collection.
            self._on_frame = self._on_end = _nobody
