"""The engine's ends of a guest's two pipes: frames out without blocking, frames in within their limits.

What the frames mean is LinuxSandbox's; how they look is engine.guest.wire's. A guest is hostile: a length over its
limit, an unknown kind or a torn frame is a ProtocolError, and no byte of it is allocated before the length is checked.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import termios
from collections.abc import Callable, Mapping

from engine.guest import wire
from engine.sandbox.box import EMPTY, END, FULL, GONE, Carrier, Seat

Undiverted = Callable[[Carrier, bool], None]
"""Told of a carrier that takes nothing more, and whether its client is gone."""

_HEADER = wire.HEADER
_READ_BYTES = 65_536  # as much as a pipe holds
_WIDE_BYTES = 1_048_576  # what an ordinary user may widen a pipe to: /proc/sys/fs/pipe-max-size
_CARRIED_BYTES = 262_144  # as much as a carrier reads at a time
_READS_A_TURN = 64  # so that a guest that floods its socket does not have the loop to itself
_WINDOW_S = 0.01
_FRAMES_A_WINDOW = 500  # nor one that floods it with tiny frames, of which a read holds thousands: some 2 ms of work
_LAST_FRAMES = 10_000  # of a process that has ended


class ProtocolError(Exception):
    """The guest does not keep to the wire's rules."""


def _widen(pipe: int, wide_bytes: int = _WIDE_BYTES) -> None:
    """A large frame goes through in few turns: each costs both sides a wake-up. The kernel takes memory only for what
    is in a pipe."""
    try:
        if fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) < wide_bytes:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, wide_bytes)
    except OSError:  # its user has too many wide ones: pipe(7)
        pass


def _nobody(*_: object) -> None:
    """Who listens to a closed link."""


class Ends:
    """The engine's ends of the pipes: `answers` to read, `events` to write."""

    __slots__ = ("answers", "events")

    def __init__(self, answers: int, events: int) -> None:
        self.answers = answers
        self.events = events

    def close(self) -> None:
        """Safe to call again."""
        answers, events, self.answers, self.events = self.answers, self.events, -1, -1
        for fd in (answers, events):
            if fd >= 0:
                os.close(fd)


class GuestLink:
    """The control stream of one guest, on the event loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ends: Ends,
        limits: Mapping[int, int],
        on_frame: Callable[[int, bytes | bytearray], None],
        on_end: Callable[[Exception | None], None],
        make_seat: Callable[[Ends, Callable[[bytes | None], None]], Seat] | None = None,
    ) -> None:
        """Closes `ends` with itself. `limits` maps the kinds that may come to the most bytes of their bodies. The seat
        in a lane that `make_seat` makes takes whole answers to `call` past it.

        `on_end` is called once, when nothing more will come: None at a clean end of the stream, ProtocolError where the
        guest broke it, and whatever `on_frame` raised: nothing is raised from here.
        """
        os.set_blocking(ends.answers, False)
        os.set_blocking(ends.events, False)
        self._loop = loop
        self._ends = ends
        self._limits = limits
        self._on_frame = on_frame
        self._on_end = on_end
        self._head = bytearray()  # the bytes of an unfinished header, or of small whole frames
        self._kind = 0
        self._body: bytearray | None = None  # the large body that is being filled
        self._filled = 0
        self._unsent = memoryview(b"")
        self._drained: asyncio.Future[None] | None = None
        self._frames_left = _FRAMES_A_WINDOW
        self._window_end = 0.0
        self._ending = False
        self._until: asyncio.Future[None] | None = None  # what it waits for before it takes more
        self._carrier: Carrier | None = None  # what takes chunks past `on_frame`
        self._undiverted: Undiverted = _nobody  # told when it does so no longer
        self._client_fd = -1  # that the carrier writes to, while it takes no more
        self._open = True
        self._sent_bytes = 0  # the last that was sent
        self.untouched = False  # once it is closed: nothing of that had been read
        self.seat = None if make_seat is None else make_seat(ends, self._heard)
        self._watch(True)

    def call(self, head: bytes, payload: bytes) -> bool:
        """Send an event whose answer may come in one piece, past `on_frame` then; as `send`."""
        seat = self.seat
        if seat is None or self._unsent or self._head or self._body is not None or self._until is not None:
            return self.send(head, payload)
        size = self._sent_bytes = len(head) + len(payload)
        if size > _READ_BYTES:
            _widen(self._ends.events)
        sent = seat.call(head, payload)
        if 0 <= sent < size:
            self._send_later(head, payload, sent)
        return sent >= 0

    def adopt(self, head: bytes, payload: bytes, sent: int) -> None:
        """Its seat was called with this, and so much of it was sent."""
        size = self._sent_bytes = len(head) + len(payload)
        if self._open and sent < size:
            self._send_later(head, payload, sent)

    def offer(self, rest: tuple[int, int, int, int] | None) -> None:
        """Whoever calls its seat may do so past this link from here on, where `rest` says what was used by now, and
        nothing is under way on either pipe."""
        idle = not (self._unsent or self._head or self._body is not None or self._until is not None)
        if self.seat is not None and rest is not None and idle and self._open:
            self.seat.offer(*rest)

    def refuse(self, size: int) -> None:
        """What its seat took was larger than it may be."""
        self._end(ProtocolError(f"a result of {size} bytes"))

    def send(self, head: bytes, body: bytes = b"") -> bool:
        """Send, or as much as the pipe takes and the rest when it takes more. False if nobody is there to read. A large
        body is not copied, and is kept until it is sent."""
        size = self._sent_bytes = len(head) + len(body)
        if self._unsent:
            self._unsent = memoryview(b"".join((self._unsent, head, body)))
            return True
        parts = (head + body,) if size <= _READ_BYTES else (head, body)
        if size > _READ_BYTES:
            _widen(self._ends.events)
        try:
            sent = os.writev(self._ends.events, parts)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        if sent < size:
            self._send_later(head, body, sent)
        return True

    def _send_later(self, head: bytes, body: bytes, sent: int) -> None:
        self._unsent = memoryview(body)[sent - len(head) :] if sent >= len(head) else memoryview(head + body)[sent:]
        self._loop.add_writer(self._ends.events, self._send_more)

    def _send_more(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._ends.events, self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = memoryview(b"")
        if not self._unsent:
            self._loop.remove_writer(self._ends.events)
            self._tell_drained()

    async def drained(self) -> None:
        """Wait until the pipe has all that was sent, or nothing more will be. One caller at a time."""
        if self._unsent and self._open:
            self._drained = self._loop.create_future()
            await self._drained

    def _tell_drained(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def pause(self, until: asyncio.Future[None]) -> None:
        """Take no further frame until this is done: the guest waits in its write once the pipe is full. A process that
        has ended is not waited for."""
        if self._open and not self._ending:
            self._watch(False)
            self._until = until
            until.add_done_callback(self._resume)

    def _resume(self, until: asyncio.Future[None]) -> None:
        if self._until is until and self._open:
            self._until = None
            try:
                self._parse(b"")
                self._listen()
            except Exception as error:
                self._end(error)

    def _listen(self) -> None:
        if self._open and self._until is None:
            self._watch(True)

    def _watch(self, watch: bool) -> None:
        if self.seat is not None:
            self.seat.watch(watch)
        elif watch:
            self._loop.add_reader(self._ends.answers, self.read)
        else:
            self._loop.remove_reader(self._ends.answers)

    def _heard(self, data: bytes | None) -> None:
        """What the seat has read of something else than a whole answer, or that there is something to read."""
        try:
            if data is None or (self._took(data) and self._open and self._until is None):
                self.read()
        except Exception as error:
            self._end(error)

    def divert(self, carrier: Carrier, client_fd: int, left_bytes: int, undiverted: Undiverted) -> bool:
        """Have chunks taken past `on_frame`, up to so many bytes of them, until something else comes, the client is
        gone or `rejoin` is called: then `undiverted(carrier, gone)` is. False where that cannot be."""
        if not self._open or self._ending or (self._body is not None and self._kind != wire.CHUNK):
            return False
        read = bytes(self._head)
        if self._body is not None:
            read = _HEADER.pack(len(self._body), self._kind) + self._body[: self._filled]
        if not carrier.take(self._ends.answers, left_bytes, read):
            return False
        self._head.clear()
        self._body = self._until = None
        _widen(self._ends.answers, _CARRIED_BYTES)
        self._carrier, self._undiverted, self._client_fd = carrier, undiverted, client_fd
        self._watch(True)
        self.read()
        return True

    def rejoin(self) -> None:
        """Take chunks as any other frame again."""
        if self._carrier is not None:
            try:
                self._parse(self._undivert(False))
                self._listen()
            except Exception as error:
                self._end(error)

    def _undivert(self, gone: bool) -> bytes:
        """What the carrier has read of the guest and has not taken."""
        carrier, self._carrier = self._carrier, None
        assert carrier is not None
        self._loop.remove_writer(self._client_fd)
        rest = carrier.rest()
        self._undiverted(carrier, gone)
        self._undiverted = _nobody
        return rest

    def _carry_turn(self, carrier: Carrier) -> None:
        found = carrier.turn()
        if found == FULL:
            self._watch(False)
            self._loop.add_writer(self._client_fd, self._room)
        elif found != EMPTY:
            self._parse(self._undivert(found == GONE))
            if found == END:
                self._took(b"")
            else:
                self._listen()

    def _room(self) -> None:
        """The client's socket takes more."""
        self._loop.remove_writer(self._client_fd)
        if self._carrier is not None:
            self._watch(True)
            self.read()

    def read(self) -> None:
        """Take what is there, at most a share of it: the rest comes with the loop's next turn."""
        try:
            if self._carrier is not None:
                self._carry_turn(self._carrier)
                return
            for _ in range(_READS_A_TURN):
                if not self._open or self._until is not None or not self._read_once():
                    return
        except Exception as error:
            self._end(error)

    def read_to_end(self) -> None:
        """Take what is left in the pipe of a process that has ended, up to _LAST_FRAMES."""
        if self.seat is not None:
            self.seat.leave()
        self._ending, self._until, self._frames_left = True, None, _LAST_FRAMES
        try:
            self._parse(b"" if self._carrier is None else self._undivert(False))
            while self._open and self._frames_left and self._read_once():
                pass
        except Exception as error:
            self._end(error)

    def _read_once(self) -> bool:
        """One read; False when there is nothing more now."""
        body, data, got = self._body, b"", 0
        try:
            if body is not None:
                got = os.readv(self._ends.answers, (memoryview(body)[self._filled :],))
            else:
                data = os.read(self._ends.answers, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            pass
        if body is None or not got:
            return self._took(data)
        self._filled += got
        if self._filled == len(body):
            self._body = None
            self._on_frame(self._kind, body)
        return True

    def _took(self, data: bytes) -> bool:
        """What was read, b"" at the end; whether there may be more."""
        if not data:
            self._end(ProtocolError("a frame was cut off") if self._head or self._body is not None else None)
            return False
        self._parse(data)
        return len(data) == _READ_BYTES or self._body is not None

    def _parse(self, data: bytes) -> None:
        if self._head:
            data = bytes(self._head) + data
            self._head.clear()
        offset, size = 0, len(data)
        while self._open and self._until is None and size - offset >= _HEADER.size:
            if not self._frames_left and not self._next_window():
                break
            self._frames_left -= 1
            length, kind = _HEADER.unpack_from(data, offset)
            if length > self._limits.get(kind, -1):
                raise ProtocolError(f"a frame of kind {kind} with {length} bytes")
            start = offset + _HEADER.size
            if size - start >= length:
                offset = start + length
                self._on_frame(kind, data[start:offset])
                continue
            # Large bodies are read straight into their place.
            if length > _READ_BYTES and kind != wire.CHUNK:  # a stream's reader may be slow: it is held up early
                _widen(self._ends.answers)
            self._kind, self._body = kind, bytearray(length)
            self._filled = size - start
            self._body[: self._filled] = data[start:]
            return
        self._head += data[offset:]

    def _next_window(self) -> bool:
        """Whether more frames may be taken; if not, the link pauses until they may."""
        if self._ending:
            return False
        now = self._loop.time()
        if now < self._window_end:
            room: asyncio.Future[None] = self._loop.create_future()
            self._loop.call_at(self._window_end, room.set_result, None)
            self.pause(room)
            return False
        self._window_end = now + _WINDOW_S
        self._frames_left = _FRAMES_A_WINDOW
        return True

    def _end(self, error: Exception | None) -> None:
        if self._open:
            on_end = self._on_end
            self.close()
            on_end(error)

    def close(self) -> None:
        """Read and send nothing more. Safe to call again."""
        if self._open:
            self._open = False
            if self._carrier is not None:
                self._undivert(False)
            unread = array.array("i", [0])
            fcntl.ioctl(self._ends.events, termios.FIONREAD, unread)
            self.untouched = 0 < self._sent_bytes <= unread[0] + len(self._unsent)
            if self.seat is not None:
                self.seat.close()
            else:
                self._loop.remove_reader(self._ends.answers)
            self._loop.remove_writer(self._ends.events)
            self._ends.close()
            self._tell_drained()
            # They lead back to the sandbox that has this link: without them it is freed at once, not at a collection.
            self._on_frame = self._on_end = _nobody
