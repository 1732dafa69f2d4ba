"""What a process that speaks HTTP and the engine say to each other: ASGI's messages, over one socket for all requests.

    worker → engine   Opened, Body …, Gone, and Taken for what it has sent on of an answer
    engine → worker   Started, Piece …, Cut, and Taken for what it has read of a body; Leave, once

A request is known by the number that its worker gave it, from Opened to its last Piece or Cut. Guarantees: of a body or
an answer no more than WINDOW_BYTES are on their way at a time, beside one piece, so that who reads slowly holds up who
writes and nothing is kept without bounds; frames of one side come in the order in which they were sent.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import msgspec

WINDOW_BYTES = 1 << 20
PIECE_BYTES = 262_144
FRAME_BYTES = 16 << 20
"""Of one frame at most: a result, and what is around it."""
_LENGTH = struct.Struct("<I")
_READ_ON_AT = 4 << 20


class Opened(msgspec.Struct, tag=1, array_like=True, gc=False):
    """A request, with its body where that is short and there. `more`: it goes on, once the engine asks by Taken."""

    number: int
    method: str
    path: bytes  # as it was sent
    query: bytes
    headers: list[tuple[bytes, bytes]]
    client: tuple[str, int] | None
    body: bytes = b""
    more: bool = False
    resumed: tuple[str, str, bool, bytes | None] | None = None
    """Its function was run past ASGI, or is about to have been: request id, version, whether by a URL, and its result
    where it is known; else the engine may know the request id."""


class Body(msgspec.Struct, tag=2, array_like=True, gc=False):
    """The next of a request's body."""

    number: int
    body: bytes
    more: bool


class Taken(msgspec.Struct, tag=3, array_like=True, gc=False):
    """So many bytes have been taken; more may be sent."""

    number: int
    count: int


class Gone(msgspec.Struct, tag=4, array_like=True, gc=False):
    """The client has left."""

    number: int


class Started(msgspec.Struct, tag=5, array_like=True, gc=False):
    """An answer's head."""

    number: int
    status: int
    headers: list[tuple[bytes, bytes]]


class Piece(msgspec.Struct, tag=6, array_like=True, gc=False):
    """The next of an answer's body; not `more`: the last."""

    number: int
    body: bytes
    more: bool


class Cut(msgspec.Struct, tag=7, array_like=True, gc=False):
    """The answer ends without its end: the connection is closed."""

    number: int


class Leave(msgspec.Struct, tag=8, array_like=True, gc=False):
    """Accept nothing more, and end once every request has its answer, at most after so many seconds."""

    grace_s: float


class Forgotten(msgspec.Struct, tag=10, array_like=True, gc=False):
    """Nobody asks for what the engine goes on with under this request id."""

    request_id: str


class Ready(msgspec.Struct, tag=9, array_like=True, gc=False):
    """The worker accepts connections."""


Frame: TypeAlias = Opened | Body | Taken | Gone | Started | Piece | Cut | Leave | Ready | Forgotten
_DECODE = msgspec.msgpack.Decoder(Frame).decode
_ENCODE = msgspec.msgpack.Encoder().encode_into


class Link(asyncio.Protocol):
    """One end. `take` gets each frame of the other, `lost` is called once when that is gone."""

    def __init__(self, take: Callable[[Frame], None], lost: Callable[[], None]) -> None:
        self._take = take
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._held = bytearray()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._transport.set_write_buffer_limits(_READ_ON_AT)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. What is no frame ends the connection, as whatever is raised here does."""
        held = self._held
        held += data
        at, end = 0, len(held)
        with memoryview(held) as view:
            while end - at >= _LENGTH.size:
                (size,) = _LENGTH.unpack_from(view, at)
                if size > FRAME_BYTES:
                    raise ValueError(f"a frame of {size} bytes")
                if end - at - _LENGTH.size < size:
                    break
                at += _LENGTH.size
                self._take(_DECODE(view[at : at + size]))
                at += size
        del held[:at]

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        self._writable.set()
        self._lost()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable.set()

    def send(self, frame: Frame) -> None:
        """Nothing happens where the other is gone."""
        if self._transport is not None and not self._transport.is_closing():
            data = bytearray(_LENGTH.size)
            _ENCODE(frame, data, _LENGTH.size)
            _LENGTH.pack_into(data, 0, len(data) - _LENGTH.size)
            self._transport.write(data)

    async def drain(self) -> None:
        """Return once the other reads again, or is gone."""
        if not self._writable.is_set():
            await self._writable.wait()

    def close(self) -> None:
        """What was sent still goes out."""
        if self._transport is not None:
            self._transport.close()


class Credit:
    """What may be sent of one body or answer."""

    def __init__(self) -> None:
        self._left = WINDOW_BYTES
        self._news: asyncio.Event | None = None
        self.endless = False

    def took(self, count: int) -> None:
        """The other side has."""
        self._left += count
        if self._news is not None and self._left > 0:
            self._news.set()

    def lift(self) -> None:
        """Nobody reads any longer: nothing is sent and nothing waits."""
        self.endless = True
        if self._news is not None:
            self._news.set()

    async def spend(self, count: int) -> None:
        """Return once something may be sent; what is, may be more than that."""
        while self._left <= 0 and not self.endless:
            self._news = self._news or asyncio.Event()
            self._news.clear()
            await self._news.wait()
        self._left -= count


def plain_headers(headers: Any) -> list[tuple[bytes, bytes]]:
    """ASGI's headers, which are any pairs."""
    return [(name, value) for name, value in headers]
