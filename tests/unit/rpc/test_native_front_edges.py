"""The engine's own gRPC front where things meet: ends in the middle, what is too large to say, clients that leave while
they are written to."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.remains import until
from tests.unit.rpc import wire
from tests.unit.rpc.native import LIMIT, PATH, Served, serving
from tests.unit.rpc.wire import CALL, DATA, END_HEADERS, END_STREAM, HEADERS, Client, frame, message


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


def begun(path: str, stream: int = 1, *more: tuple[str, str]) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, wire.headers([*CALL[:2], (":path", path), *CALL[3:], *more]))


@pytest.mark.parametrize("path", ["/t/Hang", "/t/Deaf"])
async def test_requests_that_end_within_a_message_leave_no_method_running(served: Served, path: str) -> None:
    client = await Client.open(served.port)
    client.say(begun(path))
    client.say(frame(DATA, END_STREAM, 1, message(b"whole") + message(b"x", announced=9)))
    await client.until(HEADERS, 1)
    assert (client.fields["grpc-status"], client.fields["grpc-message"]) == ("13", "the last message is not whole")
    await served.idle()
    await client.close()


@pytest.mark.parametrize(
    "trailing",
    [(("a", "x" * 70_000),), (("a", "x" * 40_000), ("b", "y" * 40_000)), tuple((f"n{n}", "") for n in range(90))],
    ids=["one", "two", "many"],
)
@pytest.mark.parametrize("early", [False, True], ids=["at once", "after headers"])
async def test_trailers_that_cannot_be_sent_do_not_take_the_status_with_them(
    served: Served, trailing: Any, early: bool
) -> None:
    async def fail(_: bytes, context: Any) -> bytes:
        if early:
            await context.send_initial_metadata(())
        await context.abort(grpc.StatusCode.NOT_FOUND, "not here", trailing)
        raise AssertionError

    served.methods.extra["/t/Large"] = grpc.unary_unary_rpc_method_handler(fail)
    call = served.channel.unary_unary("/t/Large")(b"", timeout=20)
    assert (await call.code(), await call.details()) == (grpc.StatusCode.NOT_FOUND, "not here")


async def test_metadata_of_no_known_type_ends_its_call(served: Served) -> None:
    async def fail(_: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "not here", (("a", 1),))
        raise AssertionError

    served.methods.extra["/t/Wrong"] = grpc.unary_unary_rpc_method_handler(fail)
    call = served.channel.unary_unary("/t/Wrong")(b"", timeout=20)
    assert await call.code() is grpc.StatusCode.NOT_FOUND


async def test_an_answer_that_is_no_bytes_ends_its_call(served: Served) -> None:
    async def nothing(_: bytes, context: Any) -> Any:
        return None

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    served.methods.extra["/t/Nothing"] = grpc.unary_unary_rpc_method_handler(nothing)
    call = served.channel.unary_unary("/t/Nothing")(b"", timeout=20)
    assert await call.code() is grpc.StatusCode.UNKNOWN


async def test_initial_metadata_that_cannot_be_sent_is_refused_to_its_method(served: Served) -> None:
    async def begin(request: bytes, context: Any) -> bytes:
        with pytest.raises(ValueError, match="cannot be sent"):
            await context.send_initial_metadata((("a", "x" * 40_000), ("b", "y" * 40_000)))
        return request

    served.methods.extra["/t/Begin"] = grpc.unary_unary_rpc_method_handler(begin)
    assert await served.channel.unary_unary("/t/Begin")(b"x", timeout=20) == b"x"


async def test_compressed_messages_wait_compressed_for_a_method_that_does_not_read(served: Served) -> None:
    client = await Client.open(served.port)
    packed = message(gzip.compress(bytes(LIMIT)), flag=1)
    tracemalloc.start()
    try:
        client.say(begun("/t/Deaf", 1, ("grpc-encoding", "gzip")), *[frame(DATA, 0, 1, packed)] * 50)
        client.say(begun(PATH, 3), frame(DATA, END_STREAM, 3, message(b"x")))
        await client.until(DATA, 3)
        assert tracemalloc.get_traced_memory()[1] < 10 * LIMIT
    finally:
        tracemalloc.stop()
    await client.close()


@pytest.mark.parametrize("packed", [b"no gzip", gzip.compress(bytes(LIMIT + 1))], ids=["broken", "too large"])
async def test_a_wrong_compressed_message_ends_the_method_that_reads_it(served: Served, packed: bytes) -> None:
    client = await Client.open(served.port)
    client.say(begun("/t/Chat", 1, ("grpc-encoding", "gzip")), frame(DATA, 0, 1, message(gzip.compress(b"a"), flag=1)))
    assert (await client.until(DATA, 1)).body == message(b"a")
    client.say(frame(DATA, 0, 1, message(packed, flag=1)))
    await client.until(HEADERS, 1)
    assert client.fields["grpc-status"] == ("13" if packed == b"no gzip" else "8")
    await served.idle()
    await client.close()


async def test_a_done_callback_may_use_another_call_of_a_connection_that_is_lost(served: Served) -> None:
    contexts: list[Any] = []

    async def hang(_: bytes, context: Any) -> bytes:
        contexts.append(context)
        await asyncio.Event().wait()
        return b""

    def last(_: Any) -> None:
        for context in contexts:
            context.cancel()

    served.methods.extra["/t/Both"] = grpc.unary_unary_rpc_method_handler(hang)
    client = await Client.open(served.port)
    client.say(begun("/t/Both", 1), frame(DATA, END_STREAM, 1, message(b"")), begun("/t/Both", 3))
    await until(lambda: len(contexts) == 1 and len(served.server.calls) == 2)
    (waiting,) = [call for call in served.server.calls if call not in contexts]
    waiting.add_done_callback(last)  # of one that has no task yet: called as soon as the connection is lost
    await client.close()
    await served.idle()
    await served.echoes()


async def test_a_client_that_leaves_while_it_is_written_to_leaves_no_trace_in_the_loop(served: Served) -> None:
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", served.port))
    window = struct.pack(">HI", 4, 1 << 30)
    client.sendall(wire.PREFACE + frame(wire.SETTINGS, 0, 0, window) + frame(wire.WINDOW_UPDATE, 0, 0, b"\x3f\0\0\0"))
    client.sendall(begun("/t/Flood") + frame(DATA, END_STREAM, 1, message(b"10000")))
    client.sendall(begun("/t/Deaf", 3))
    await until(lambda: any(connection.writing for connection in served.server._connections))
    await until(lambda: len(served.server.calls) == 2)
    (call,) = [call for call in served.server.calls if call.path == "/t/Deaf"]
    connection: Any = call.connection
    # In one turn of the loop: that the client has left, and after it, as timers are, a call that has something to say.
    client.shutdown(socket.SHUT_WR)
    loop.call_at(0, call.begin, ())
    loop.call_at(0, connection._flush)
    await served.idle()
    client.close()
    await until(lambda: not served.server._connections)
    for _ in range(3):  # descriptors are taken again
        other = await Client.open(served.port)
        other.say(begun(PATH), frame(DATA, END_STREAM, 1, message(b"x")))
        assert (await other.until(DATA, 1)).body == message(b"x")
        await other.close()
