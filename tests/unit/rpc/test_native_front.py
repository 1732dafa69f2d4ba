"""The engine's own gRPC front: what its clients may rely on."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.remains import until
from tests.unit.rpc import wire
from tests.unit.rpc.native import LIMIT, PATH, Served, serving
from tests.unit.rpc.wire import (
    CALL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    Client,
    frame,
    message,
)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


async def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    return await call.code(), await call.details()


async def test_the_four_kinds_of_calls_are_served(served: Served) -> None:
    channel = served.channel
    for size in (0, 1, 16_384, 1_000_000):
        await served.echoes(os.urandom(size))
    got = [len(part) async for part in channel.unary_stream("/t/Flood")(b"3")]
    assert got == [65_536] * 3

    async def requests() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield bytes(30_000)

    assert await channel.stream_unary("/t/Count")(requests()) == b"1500000"
    chat = channel.stream_stream("/t/Chat")()
    for word in (b"a", b"", b"c" * 70_000):
        await chat.write(word)
        assert await chat.read() == word
    await chat.done_writing()
    assert await chat.read() is grpc.aio.EOF
    assert await chat.code() is grpc.StatusCode.OK


async def test_a_status_keeps_its_words_and_its_metadata(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.channel.unary_unary("/t/Fail")(b"")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "nöt here: 100 %\n")
    assert list(caught.value.trailing_metadata() or ()) == [("why-bin", b"\0\xff"), ("plain", "x")]


async def test_what_a_client_says_of_itself_reaches_the_method(served: Served) -> None:
    await served.channel.unary_unary(PATH)(b"", metadata=(("a", "1"), ("b-bin", b"\0\1\2\3")), timeout=100)
    (context,) = served.methods.contexts
    assert {("a", "1"), ("b-bin", b"\0\1\2\3")} <= set(context.invocation_metadata())
    assert 0 < context.time_remaining() <= 102  # clients round up
    assert context.peer().startswith("ipv4:127.0.0.1:")


async def test_a_method_that_raises_ends_its_call_and_tells_the_loop(served: Served) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what["exception"]))
    call = served.channel.unary_unary("/t/Raise")(b"")
    code, details = await status_of(call)
    assert (code, "ZeroDivisionError" in details) == (grpc.StatusCode.UNKNOWN, True)
    assert [type(error) for error in told] == [ZeroDivisionError]


async def test_a_method_that_is_not_there_is_unimplemented(served: Served) -> None:
    code, details = await status_of(served.channel.unary_unary("/t/None")(b""))
    assert (code, details) == (grpc.StatusCode.UNIMPLEMENTED, "there is no method /t/None")


@pytest.mark.parametrize("path", ["/t/Hang", "/t/Deaf"])
async def test_a_client_that_leaves_cancels_its_method(served: Served, path: str) -> None:
    call = served.channel.stream_unary(path)() if path == "/t/Deaf" else served.channel.unary_unary(path)(b"")
    await served.methods.begun.wait()
    call.cancel()
    await served.methods.cancelled.wait()
    await until(lambda: served.methods.done == 1)
    await served.idle()


async def test_a_connection_that_is_lost_cancels_its_methods(served: Served) -> None:
    client = await Client.open(served.port)
    fields = [*CALL[:2], (":path", "/t/Hang"), *CALL[3:]]
    client.say(
        frame(HEADERS, END_HEADERS, 1, wire.headers(fields)),
        frame(DATA, END_STREAM, 1, message(b"")),
    )
    await served.methods.begun.wait()
    await client.close()
    await served.methods.cancelled.wait()
    await served.idle()


async def test_a_deadline_that_passes_cancels_the_method_and_says_so(served: Served) -> None:
    client = await Client.open(served.port)
    fields = [*CALL[:2], (":path", "/t/Hang"), *CALL[3:], ("grpc-timeout", "50m")]
    client.say(frame(HEADERS, END_HEADERS, 1, wire.headers(fields)), frame(DATA, END_STREAM, 1, message(b"")))
    await served.methods.cancelled.wait()
    await client.until(HEADERS, 1)
    assert client.fields["grpc-status"] == "4"
    await client.close()
    await served.idle()


@pytest.mark.parametrize("encoding", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_messages_are_taken(served: Served, encoding: grpc.Compression) -> None:
    data = b"again and " * 10_000
    assert await served.channel.unary_unary(PATH)(data, compression=encoding) == data


async def test_a_message_over_the_limit_is_refused_before_it_is_kept(served: Served) -> None:
    code, details = await status_of(served.channel.unary_unary(PATH)(bytes(LIMIT + 1)))
    assert (code, details) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"Received message larger than max ({LIMIT + 1} vs. {LIMIT})",
    )
    await served.echoes()


@pytest.mark.parametrize(
    "packed", [gzip.compress(bytes(64 << 20)), zlib.compress(bytes(64 << 20))], ids=["gzip", "zlib"]
)
async def test_a_bomb_of_compressed_zeros_is_refused_at_the_limit(served: Served, packed: bytes) -> None:
    client = await Client.open(served.port)
    fields = [*CALL, ("grpc-encoding", "gzip" if packed[:2] == b"\x1f\x8b" else "deflate")]
    client.say(frame(HEADERS, END_HEADERS, 1, wire.headers(fields)))
    body = message(packed, flag=1)
    for at in range(0, len(body), 16_384):
        client.say(frame(DATA, END_STREAM if at + 16_384 >= len(body) else 0, 1, body[at : at + 16_384]))
    await client.until(HEADERS, 1)
    assert client.fields["grpc-status"] == "8"
    await client.close()
    assert served.methods.contexts == []
    await served.echoes()


async def test_a_refusal_in_the_middle_of_a_stream_ends_its_method(served: Served) -> None:
    call = served.channel.stream_unary("/t/Deaf")()
    await served.methods.begun.wait()
    await call.write(bytes(LIMIT + 1))
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await served.methods.cancelled.wait()
    await served.idle()


async def test_a_stop_waits_for_clients_to_read_their_answers(served: Served) -> None:
    client = await Client.open(served.port, (4, 1 << 30))
    client.say(frame(wire.WINDOW_UPDATE, 0, 0, b"\x3f\0\0\0"))
    fields = [*CALL[:2], (":path", "/t/Flood"), *CALL[3:]]
    client.say(frame(HEADERS, END_HEADERS, 1, wire.headers(fields)), frame(DATA, END_STREAM, 1, message(b"400")))
    await client.until(DATA, 1)
    stopping = asyncio.ensure_future(served.server.stop(30))
    size = 0
    while (found := await client.next()) is not None and found.kind != HEADERS:
        size += len(found.body) if found.kind == DATA else 0
    assert client.inflater.fields(found.body if found else b"")["grpc-status"] == "0"
    assert size > 390 * 65_536
    await stopping
    await client.close()


async def test_a_slow_reader_holds_the_method_up(served: Served) -> None:
    client = await Client.open(served.port)
    fields = [*CALL[:2], (":path", "/t/Flood"), *CALL[3:]]
    client.say(frame(HEADERS, END_HEADERS, 1, wire.headers(fields)), frame(DATA, END_STREAM, 1, message(b"100000")))
    await client.until(DATA, 1)  # and then it reads no more, and gives no credit
    before = -1
    while served.methods.written != before:
        before = served.methods.written
        await asyncio.sleep(0.2)
    # The window of a stream that was given no more is 64 KiB; what is queued for it is bounded.
    assert served.methods.written * 65_536 <= 65_536 + 262_144 + 2 * 65_536
    await client.close()
    await until(lambda: served.methods.done == 1)
    await served.idle()


async def test_a_method_that_does_not_read_holds_its_client_up_and_no_other(served: Served) -> None:
    call = served.channel.stream_unary("/t/Deaf")()
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while True:
            await call.write(bytes(65_536))
            sent += 65_536

    pouring = asyncio.ensure_future(pour())
    before = -1
    while sent != before or not sent:
        before = sent
        await asyncio.sleep(0.2)
    assert sent <= 8 << 20
    await served.echoes(bytes(500_000))  # on the same connection
    pouring.cancel()
    call.cancel()
    await served.methods.cancelled.wait()
    await served.idle()


async def test_thousands_of_calls_at_once_on_one_connection_are_answered(served: Served) -> None:
    call = served.channel.unary_unary(PATH)
    answers = await asyncio.gather(*(call(b"%d" % number) for number in range(3_000)))
    assert answers == [b"%d" % number for number in range(3_000)]
    assert served.methods.done == 3_000


async def test_a_stop_lets_calls_end_within_its_grace_and_cancels_the_rest(served: Served) -> None:
    chat = served.channel.stream_stream("/t/Chat")()
    await chat.write(b"here")
    assert await chat.read() == b"here"
    hanging = served.channel.unary_unary("/t/Hang")(b"")
    await served.methods.begun.wait()
    stopping = asyncio.ensure_future(served.server.stop(0.5))
    await chat.write(b"still")
    assert await chat.read() == b"still"
    await chat.done_writing()
    assert await chat.code() is grpc.StatusCode.OK
    await stopping
    assert await hanging.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    assert served.methods.cancelled.is_set()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", served.port)
