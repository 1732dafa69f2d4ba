"""Plain calls of clients and guests that mean it ill: each is ended once, and leaves nothing."""

from __future__ import annotations

import asyncio
import ctypes
import random
import time
from collections.abc import AsyncIterator

import pytest

from engine.guest import wire as guest_wire
from engine.v1 import invocations_pb2 as pb
from tests.remains import until
from tests.unit.rpc import wire
from tests.unit.rpc.joins import PLAIN, Join, answer, joined
from tests.unit.rpc.test_native_front_abuse import Heap
from tests.unit.rpc.wire import CALL, DATA, END_HEADERS, END_STREAM, HEADERS, Client, frame, headers, message


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    async with joined() as join:
        yield join


@pytest.mark.parametrize("end", ["told", "handed", "left"])
async def test_calls_that_are_over_leave_no_memory_on_the_heap(join: Join, end: str) -> None:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Heap
    guest = join.open()
    client = await Client.open(join.port, (4, 1 << 30))
    event = pb.InvokeRequest(name="functions/f", payload=b'"' + b"x" * 9_000 + b'"').SerializeToString()

    async def calls(first: int, count: int) -> int:
        for stream in range(first, first + 2 * count, 2):
            client.say(frame(HEADERS, END_HEADERS, stream, headers(CALL)))
            client.say(frame(DATA, END_STREAM, stream, message(event)))
            await join.taken((stream + 1) // 2)
            guest.hears()
            if end == "left":
                client.say(frame(wire.RST_STREAM, 0, stream, b"\0\0\0\x08"))
                await until(lambda: join.handed, what="it is cancelled")
            else:
                guest.says(guest_wire.frame(guest_wire.RESULT if end == "told" else guest_wire.ERROR, b"{}"))
            if end == "handed":
                await until(lambda: join.handed, what="it is handed over")
                join.handed[0].future.set_result(b"")
            if end != "left":
                await client.until(HEADERS, stream)
                await client.until(HEADERS, stream)
            await join.idle()
            for standing in join.handed:
                join.bed.core.finished(standing.call_id, True, time.monotonic_ns())
                guest.seat.offer(0, 0, 0, 0)
            for kept in (join.handed, join.all, join.records, guest.data, guest.answered):
                kept.clear()
        return int(mallinfo2().field7)  # uordblks: bytes in use

    await calls(1, 20)
    before = await calls(41, 20)
    assert await calls(81, 50) < before + 200_000
    assert sum(join.native.counts) == 2 * 90
    await client.close()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_clients_and_guests_do_each_call_is_ended_once(join: Join, seed: int) -> None:
    draw = random.Random(seed)
    clients: list[tuple[Client, list[int]]] = []
    guests = [join.open()]

    async def begin() -> None:
        if len(clients) < 4 or draw.random() < 0.1:
            clients.append((await Client.open(join.port, *[(4, 0)] * draw.randrange(2)), []))
        client, streams = draw.choice(clients)
        stream = 2 * len(streams) + 1
        streams.append(stream)
        fields = [*CALL, ("grpc-timeout", draw.choice(["1H", "9m", "1n"]))] if draw.random() < 0.5 else CALL
        said = frame(HEADERS, END_HEADERS, stream, headers(fields)) + frame(DATA, END_STREAM, stream, message(PLAIN))
        at = draw.choice([0, draw.randrange(len(said))])  # in one part, or in two
        client.say(said[:at])
        if at:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        client.say(said[at:])

    async def leave() -> None:
        client, streams = draw.choice(clients)
        if streams and draw.random() < 0.8:
            client.say(frame(wire.RST_STREAM, 0, draw.choice(streams), b"\0\0\0\x08"))
        else:
            client.writer.transport.abort()
            clients.remove((client, streams))

    async def say() -> None:
        guest = draw.choice(guests)
        if draw.random() < 0.8:
            answer(guest)
        else:
            guest.says(guest_wire.frame(guest_wire.ERROR, b"{}"))

    async def go_on() -> None:
        for standing in join.handed:
            if not standing.future.done() and draw.random() < 0.5:
                standing.future.set_result(b"late")

    async def warm() -> None:
        if not any(join.bed.core.busy(guest.sandbox) == 0 for guest in guests) and len(guests) < 60:
            guests.append(join.open())

    for _ in range(400):
        await draw.choice([begin, begin, begin, leave, say, say, go_on, warm, warm])() if clients else await begin()
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
    for client, _ in clients:
        client.writer.transport.abort()
    await join.idle()
    taken, told, handed, left = join.native.counts
    assert taken == told + handed + left
    assert told == len(join.records)
    assert handed + left == len(join.handed) == len(join.all)
    assert all(standing.future.done() for standing in join.all)
