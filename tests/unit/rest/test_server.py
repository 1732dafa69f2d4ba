"""Starting, stopping, and what becomes of requests under way."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket

import pytest

from engine.errors import EngineError
from engine.model.invocation import Completion, InvokeRequest
from tests.compat.stub_rooms import Rooms, completed

HEAD = b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1"


class Gate:
    """A function that waits until it is let through."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.ended = asyncio.Event()
        self.cancelled = False

    async def run(self, request: InvokeRequest) -> Completion:
        self.entered.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.ended.set()
        return completed(request, b'"done"')


@pytest.fixture
async def rooms() -> Rooms:
    rooms = Rooms()
    await rooms.add_function("f")
    return rooms


@pytest.fixture
def gate(rooms: Rooms) -> Gate:
    gate = Gate()
    rooms.invoker.run = gate.run
    return gate


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_a_request_under_way_ends_before_the_front_does(rooms: Rooms, gate: Gate) -> None:
    server = rooms.front()
    port = await server.start("127.0.0.1", 0)
    reader, writer = await connect(port)
    writer.write(HEAD)
    await gate.entered.wait()
    stopping = asyncio.create_task(server.stop(20))
    gate.open.set()
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b'"done"')
    await stopping
    await close(writer)
    with pytest.raises(ConnectionRefusedError):
        await connect(port)


async def test_a_request_over_the_grace_is_cancelled_with_an_answer(rooms: Rooms, gate: Gate) -> None:
    server = rooms.front()
    reader, writer = await connect(await server.start("127.0.0.1", 0))
    writer.write(HEAD)
    await gate.entered.wait()
    async with asyncio.timeout(4):
        await server.stop(0)
    assert gate.cancelled
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"x-amzn-errortype: ServiceException" in answer
    await close(writer)


async def test_idle_and_half_sent_connections_do_not_hold_up_the_stop(rooms: Rooms) -> None:
    server = rooms.front()
    port = await server.start("127.0.0.1", 0)
    connections = [await connect(port) for _ in range(3)]
    connections[0][1].write(b"GET /hea")
    connections[1][1].write(HEAD[:-1])
    for _, writer in connections:
        await writer.drain()
    async with asyncio.timeout(10):
        await server.stop(0)
        for reader, writer in connections:
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            await close(writer)


@pytest.mark.parametrize("turns", range(4))
async def test_who_connects_as_it_stops_is_let_go_and_not_forgotten(rooms: Rooms, turns: int) -> None:
    """Some are still to be accepted when the listener closes, some accepted and still to be handed on."""
    server = rooms.front()
    port = await server.start("127.0.0.1", 0)
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await server.stop(0)
    async with asyncio.timeout(20):
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
            client.close()


async def test_a_function_goes_on_when_its_caller_leaves(rooms: Rooms, gate: Gate) -> None:
    server = rooms.front()
    _, writer = await connect(await server.start("127.0.0.1", 0))
    writer.write(HEAD)
    await gate.entered.wait()
    await close(writer)
    gate.open.set()
    await gate.ended.wait()
    assert not gate.cancelled
    await server.stop(1)
    assert rooms.faults.events == []


async def test_a_port_in_use_is_refused_with_what_to_do(rooms: Rooms) -> None:
    first, second = rooms.front(), rooms.front()
    port = await first.start("127.0.0.1", 0)
    with pytest.raises(EngineError, match="in use") as caught:
        await second.start("127.0.0.1", port)
    assert str(port) in caught.value.fix
    await second.stop(0)
    await first.stop(0)
    again = rooms.front()
    assert await again.start("127.0.0.1", port) == port
    await again.stop(0)


async def test_two_fronts_stand_side_by_side(rooms: Rooms) -> None:
    fronts = [rooms.front(), rooms.front()]
    ports = [await front.start("localhost", 0) for front in fronts]
    assert len(set(ports)) == 2
    for front in fronts:
        await front.stop(0)


async def test_signals_stay_the_engines(rooms: Rooms) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    server = rooms.front()
    await server.start("127.0.0.1", 0)
    assert {number: signal.getsignal(number) for number in before} == before
    await server.stop(0)
    assert {number: signal.getsignal(number) for number in before} == before


async def test_nothing_is_left_after_the_stop(rooms: Rooms) -> None:
    before = asyncio.all_tasks()
    server = rooms.front()
    await server.start("127.0.0.1", 0)
    await server.stop(0)
    await server.stop(0)
    assert asyncio.all_tasks() == before
