"""HTTP/2 by hand, for what no gRPC client sends: frames of RFC 9113, headers without compression (RFC 7541, 6.2.2).

What comes is decompressed by libnghttp2 (nghttp2_hd_inflate_hd2).
"""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import struct
from collections.abc import Iterable
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
CALL = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/engine.v1.InvocationService/Invoke"),
    (":authority", "here"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


class Frame(NamedTuple):
    """One that came."""

    kind: int
    flags: int
    stream: int
    body: bytes


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """On the wire."""
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def headers(fields: Iterable[tuple[str, str]]) -> bytes:
    """A header block: literals that are not indexed, with lengths below 127, or of two bytes more."""
    block = b""
    for name, value in fields:
        block += b"\0" + _text(name.encode()) + _text(value.encode())
    return block


def _text(data: bytes) -> bytes:
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, length = len(data) - 127, b"\x7f"
    while rest >= 128:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return length + bytes([rest]) + data


def message(data: bytes, *, flag: int = 0, announced: int | None = None) -> bytes:
    """One of gRPC's."""
    return struct.pack(">BI", flag, len(data) if announced is None else announced) + data


class _Pair(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("name_size", ctypes.c_size_t),
        ("value_size", ctypes.c_size_t),
        ("flags", ctypes.c_uint8),
    )


class Inflater:
    """Of one connection's header blocks, which have to come in order."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(ctypes.util.find_library("nghttp2"))
        self._library.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
        self._state = ctypes.c_void_p()
        assert self._library.nghttp2_hd_inflate_new(ctypes.byref(self._state)) == 0

    def __del__(self) -> None:
        self._library.nghttp2_hd_inflate_del(self._state)

    def fields(self, block: bytes) -> dict[str, str]:
        """The names and values of a whole block."""
        found = {}
        pair, flags = _Pair(), ctypes.c_int()
        while True:
            used = self._library.nghttp2_hd_inflate_hd2(
                self._state, ctypes.byref(pair), ctypes.byref(flags), block, ctypes.c_size_t(len(block)), 1
            )
            assert used >= 0, used
            block = block[used:]
            if flags.value & 2:
                name = ctypes.string_at(pair.name, pair.name_size).decode()
                found[name] = ctypes.string_at(pair.value, pair.value_size).decode()
            if flags.value & 1:
                self._library.nghttp2_hd_inflate_end_headers(self._state)
                return found


class Client:
    """A connection that says what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.inflater = Inflater()
        self.fields: dict[str, str] = {}

    @classmethod
    async def open(cls, port: int, *settings: tuple[int, int]) -> Client:
        """With the preface sent."""
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.say(PREFACE, frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in settings)))
        return client

    def say(self, *parts: bytes) -> None:
        """Send."""
        self.writer.write(b"".join(parts))

    async def next(self) -> Frame | None:
        """The next frame; None where the server has closed."""
        try:
            head = await self.reader.readexactly(9)
            size = int.from_bytes(head[:3], "big")
            return Frame(head[3], head[4], int.from_bytes(head[5:9], "big"), await self.reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def until(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame of this kind; `fields` are the last headers."""
        while (found := await self.next()) is not None:
            if found.kind == HEADERS:
                self.fields = self.inflater.fields(found.body)
            if found.kind == kind and stream in (None, found.stream):
                return found
        raise AssertionError(f"closed without a frame of kind {kind}")

    async def closed(self) -> None:
        """Return when the server has closed."""
        while await self.next() is not None:
            pass

    async def close(self) -> None:
        """Leave."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


def begun(fields: Iterable[tuple[str, str]] = CALL) -> bytes:
    """A call's headers, in as many frames as they need."""
    block = headers(fields)
    rest = [block[at : at + 16_384] for at in range(16_384, len(block), 16_384)]
    first = frame(HEADERS, 0 if rest else END_HEADERS, 1, block[:16_384])
    return first + b"".join(frame(CONTINUATION, END_HEADERS, 1, part) for part in rest)


def ended(body: bytes) -> bytes:
    """The last of its data."""
    return frame(DATA, END_STREAM, 1, body)


LARGE = [(f"x{number}", "y" * 100) for number in range(160)]
WRONG = {
    "GET": (begun([(":method", "GET"), *CALL[1:]]) + ended(b""), ":status", "405"),
    "no gRPC": (begun([*CALL[:4], ("content-type", "text/html")]) + ended(b""), ":status", "415"),
    "gRPC alike": (begun([*CALL[:4], ("content-type", "application/grpcx")]) + ended(b""), ":status", "415"),
    "no request": (begun() + ended(b""), "grpc-message", "the request is missing"),
    "half a prefix": (begun() + ended(b"\0\0"), "grpc-message", "the last message is not whole"),
    "half a message": (begun() + ended(message(b"x", announced=9)), "grpc-message", "the last message is not whole"),
    "two requests": (
        begun() + ended(message(b"x") * 2),
        "grpc-message",
        "there is one request to this method, and more came",
    ),
    "flags": (begun() + ended(message(b"x", flag=7)), "grpc-message", "a message with unknown flags"),
    "huge": (begun() + ended(message(b"x", announced=2**32 - 1)), "grpc-status", "8"),
    "no gzip": (begun([*CALL, ("grpc-encoding", "gzip")]) + ended(message(b"x", flag=1)), "grpc-status", "13"),
    "encoding": (begun([*CALL, ("grpc-encoding", "snappy")]) + ended(message(b"x")), "grpc-status", "12"),
    "timeout": (begun([*CALL, ("grpc-timeout", "1")]) + ended(message(b"x")), "grpc-status", "13"),
    "head": (begun([*CALL, *LARGE]) + ended(message(b"x")), "grpc-message", "metadata too large"),
}
