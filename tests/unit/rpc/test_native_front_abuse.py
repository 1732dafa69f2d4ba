"""The engine's own gRPC front and clients that mean it ill: each gets its answer, and nobody else notices."""

from __future__ import annotations

import asyncio
import ctypes
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.remains import until
from tests.unit.rpc import wire
from tests.unit.rpc.native import PATH, Served, serving
from tests.unit.rpc.wire import (
    CALL,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    WRONG,
    Client,
    frame,
    message,
)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


@pytest.mark.parametrize("what", WRONG)
async def test_a_wrong_call_gets_its_answer_and_its_connection_goes_on(served: Served, what: str) -> None:
    client = await Client.open(served.port)
    said, name, value = WRONG[what]
    client.say(said)
    assert (await client.until(HEADERS, 1)).flags & END_STREAM
    assert client.fields[name] == value
    client.say(frame(HEADERS, END_HEADERS, 3, wire.headers(CALL)), frame(DATA, END_STREAM, 3, message(b"next")))
    assert message(b"next") == (await client.until(DATA, 3)).body
    await client.close()
    await served.idle()
    await served.echoes()


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        bytes(10_000),
        wire.PREFACE + frame(DATA, 0, 1, b"x"),
        wire.PREFACE + frame(wire.SETTINGS, 0, 0, b"\0"),
        wire.PREFACE + frame(wire.SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, b"\xff" * 100),
        wire.PREFACE + frame(wire.SETTINGS, 0, 0) + frame(wire.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
        wire.PREFACE + frame(wire.SETTINGS, 0, 0) + b"\xff\xff\xff\0\0\0\0\0\1",
        wire.PREFACE + frame(wire.SETTINGS, 0, 0) + frame(HEADERS, 0, 1) + frame(wire.PING, 0, 0, bytes(8)),
    ],
)
async def test_what_is_no_http2_loses_its_connection_and_nothing_else(served: Served, said: bytes) -> None:
    client = Client(*await asyncio.open_connection("127.0.0.1", served.port))
    client.say(said)
    await client.closed()
    await client.close()
    await served.echoes()
    await served.idle()


async def test_frames_in_any_order_and_shape_harm_nobody(served: Served, counts: dict[str, int]) -> None:
    chance = random.Random(17)
    for _ in range(counts["frames"] // 5):
        client = await Client.open(served.port)
        for _ in range(chance.randrange(1, 40)):
            kind = chance.choice([DATA, DATA, HEADERS, HEADERS, RST_STREAM, 4, 6, 8, 9, chance.randrange(16)])
            fields = [*CALL[:2], (":path", chance.choice([PATH, "/t/Flood", "/t/Chat", "/t/Hang"])), *CALL[3:]]
            body = {
                HEADERS: wire.headers(fields),
                DATA: message(b"7") if chance.random() < 0.5 else chance.randbytes(chance.randrange(50)),
                RST_STREAM: bytes(4),
                4: b"",
                6: bytes(8),
                8: b"\0\0\1\0",
            }.get(kind, chance.randbytes(chance.randrange(30)))
            flags = chance.choice([0, END_HEADERS, END_HEADERS | END_STREAM, chance.randrange(256)])
            stream = 0 if kind in (4, 6) else chance.choice([1, 3, 5, 7, chance.randrange(20)])
            client.say(frame(kind, flags, stream, body))
        if chance.random() < 0.5:
            client.writer.transport.abort()
        else:
            await client.close()
    await served.echoes()
    await until(lambda: not served.server.calls, within_s=60, what="no call is left")


async def test_calls_that_are_reset_as_soon_as_they_are_made_leave_nothing(served: Served) -> None:
    client = await Client.open(served.port)
    fields = wire.headers([*CALL[:2], (":path", "/t/Hang"), *CALL[3:]])
    for stream in range(1, 4_001, 2):
        client.say(
            frame(HEADERS, END_HEADERS, stream, fields),
            frame(DATA, END_STREAM, stream, message(b"")),
            frame(RST_STREAM, 0, stream, bytes(4)),
        )
    client.say(frame(HEADERS, END_HEADERS, 4_001, wire.headers(CALL)), frame(DATA, END_STREAM, 4_001, message(b"x")))
    assert (await client.until(DATA, 4_001)).body == message(b"x")
    await client.close()
    await served.idle()


async def test_connections_that_come_and_go_leave_no_descriptor(served: Served) -> None:
    await served.echoes()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        client = await Client.open(served.port)
        client.say(frame(HEADERS, END_HEADERS, 1, wire.headers(CALL)))
        await client.until(wire.SETTINGS)
        client.writer.transport.abort()
    await served.idle()
    await until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before, what="the descriptors are closed")


async def test_a_server_that_stops_says_goodbye(served: Served) -> None:
    client = await Client.open(served.port)
    client.say(frame(HEADERS, END_HEADERS, 1, wire.headers(CALL)), frame(DATA, END_STREAM, 1, message(b"x")))
    await client.until(DATA, 1)
    await served.server.stop(0)
    await client.until(GOAWAY)
    await client.close()


class Heap(ctypes.Structure):
    """struct mallinfo2 of malloc.h."""

    _fields_ = tuple((f"field{number}", ctypes.c_size_t) for number in range(10))


async def test_calls_that_are_over_leave_no_memory_on_the_heap(served: Served) -> None:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Heap
    client = await Client.open(served.port, (4, 1 << 30))
    client.say(frame(wire.WINDOW_UPDATE, 0, 0, b"\x3f\0\0\0"))
    block = wire.headers(CALL)

    async def calls(first: int, count: int) -> int:
        for stream in range(first, first + 2 * count, 2):
            client.say(frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, message(b"x" * 600)))
            await client.until(DATA, stream)
        await served.idle()
        served.methods.contexts.clear()
        return int(mallinfo2().field7)  # uordblks: bytes in use

    await calls(1, 500)
    before = await calls(1_001, 500)
    assert await calls(2_001, 2_000) < before + 100_000
    await client.close()
