"""Calls of a front in another process, over native/relay, with both ends on one event loop."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import engine
from engine.model.invocation import InvokeRequest
from engine.model.names import FunctionRef
from engine.rest._relay import Caller, Far, Near
from tests.doors import zip_of

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

CODE = zip_of("""
    import time

    def handler(event, context):
        if event == "print":
            print("words")
        elif event == "fail":
            raise ValueError("as asked")
        elif event == "sleep":
            time.sleep(60)
        elif event == "much":
            return "x" * 3_000_000
        return event
""")
URL_ID = b"u" * 32
REQUEST_ID = b"0e8dfbd6-5b43-4a3a-a1ac-2bbcfa6ae9d7"


class Wire:
    """Both ends, and a front's callers."""

    def __init__(self, door: Any) -> None:
        self.near_end, self.far_end = socket.socketpair()
        for end in (self.near_end, self.far_end):
            end.setblocking(False)
        loop = asyncio.get_running_loop()
        self.near_lost: list[str] = []
        self.far_lost = asyncio.Event()
        self.urls: dict[bytes, bytes] = {URL_ID: b"f"}
        self.door = door.capsule()
        self.near = Near(self.door, self.near_end.fileno(), self.urls.get, self.near_lost.append, loop)
        self.far = Far(self.far_end.fileno(), "$LATEST", "anew", self.far_lost.set, loop)
        self.capsule = self.far.capsule()

    def begin(self, payload: bytes, name: bytes = b"f") -> tuple[Caller, str | None, asyncio.Future[Any]]:
        caller, future = Caller(self.capsule), asyncio.get_running_loop().create_future()
        return caller, caller.submit(name, payload, future), future

    async def call(self, payload: bytes, name: bytes = b"f") -> tuple[str | None, Any]:
        _, request_id, future = self.begin(payload, name)
        async with asyncio.timeout(60):
            return request_id, await future

    async def answer(self, request_id: str | None, found: Any) -> bytes:
        """What a call has come to, also where it went on in Python: its memory had grown, say."""
        if found != "anew":
            return bytes(found)
        assert request_id is not None
        return bytes((await self.near.standing.pop(request_id).result()).payload)

    def close(self) -> None:
        self.near.leave(True)
        self.far.close()
        self.near_end.close()
        self.far_end.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[engine.Engine]:
    async with engine.Engine() as made:
        await made.deploy(CODE, "f", handler="app.handler", memory_mb=256)
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def wire(made: engine.Engine) -> AsyncIterator[Wire]:
    pipeline = made._parts.pipeline
    await asyncio.gather(*(pipeline.invoke(InvokeRequest(FunctionRef("f"), b"1", log_tail=True)) for _ in range(2)))
    wire = Wire(pipeline.door)
    try:
        yield wire
    finally:
        wire.close()


async def until_idle(made: engine.Engine) -> None:
    async with asyncio.timeout(60):
        while made._parts.pipeline._scheduler.counts().concurrency:
            await asyncio.sleep(0.005)


async def test_calls_come_back_with_their_answers_each_its_own(wire: Wire) -> None:
    assert await wire.answer(*await wire.call(b'{"n": 1}')) == b'{"n": 1}'
    assert await wire.answer(*await wire.call(b"7", b"\0" + URL_ID)) == b"7"
    begun = [wire.begin(b'"%d"' % number) for number in range(2)]
    async with asyncio.timeout(60):
        assert [await wire.answer(name, await future) for _, name, future in begun] == [b'"0"', b'"1"']
    found = [(await wire.call(b"1"))[1] for _ in range(20)]
    assert b"1" in found
    wire.near.standing.clear()
    assert wire.near.standing == {}
    assert (wire.near.under_way, wire.far.under_way) == (0, 0)


@pytest.mark.parametrize("payload", [b'"' + b"x" * 60_000 + b'"', b'"much"'])
async def test_what_is_large_goes_through_or_is_asked_for_anew(wire: Wire, payload: bytes) -> None:
    assert len(await wire.answer(*await wire.call(payload))) >= 60_000


@pytest.mark.parametrize(
    ("name", "payload"), [(b"none", b"1"), (b"\0" + b"v" * 32, b"1"), (b"f", b"{"), (b"f", b'"\xc3\xa4"')]
)
async def test_what_is_not_plain_is_asked_for_anew_and_was_not_begun(wire: Wire, name: bytes, payload: bytes) -> None:
    assert (await wire.call(payload, name))[1] == "anew"
    assert wire.near.standing == {}


async def test_what_goes_on_in_python_is_found_by_its_request_id(wire: Wire) -> None:
    for payload in (b'"print"', b'"fail"'):
        request_id, answer = await wire.call(payload)
        assert answer == "anew"
        assert request_id is not None
        completion = await wire.near.standing.pop(request_id).result()
        assert completion.report.request_id == request_id
        assert (completion.payload == payload) is (completion.error is None)


async def test_who_leaves_kills_its_sandbox(made: engine.Engine, wire: Wire) -> None:
    caller, _, future = wire.begin(b'"sleep"')
    async with asyncio.timeout(60):
        while not wire.near.under_way:
            await asyncio.sleep(0)
        caller.cancel()
        await until_idle(made)
    assert not future.done()
    assert wire.near.under_way == 0


@pytest.mark.parametrize("cancel", [True, False])
async def test_calls_of_a_front_that_is_gone_end(made: engine.Engine, cancel: bool) -> None:
    pipeline = made._parts.pipeline
    await pipeline.invoke(InvokeRequest(FunctionRef("f"), b"1", log_tail=True))
    wire = Wire(pipeline.door)
    wire.begin(b'"sleep"' if cancel else b'"print"')
    async with asyncio.timeout(60):
        while not wire.near.under_way:
            await asyncio.sleep(0)
    wire.far.close()
    wire.far_end.close()
    async with asyncio.timeout(60):
        while not wire.near_lost:
            await asyncio.sleep(0)
    wire.near.leave(cancel)
    wire.near_end.close()
    await until_idle(made)
    assert wire.near.under_way == 0


async def test_calls_of_an_engine_that_is_gone_are_handed_back(wire: Wire) -> None:
    _, _, future = wire.begin(b'"sleep"')
    async with asyncio.timeout(60):
        while not wire.near.under_way:
            await asyncio.sleep(0)
        wire.near.leave(True)
        wire.near_end.close()
        assert await future == "anew"
    assert wire.far_lost.is_set()
    assert wire.begin(b"1")[1] is None


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * 64,
        struct.pack("<IBBHQq40s", 64, 9, 0, 0, 0, 0, b""),  # of no kind
        struct.pack("<IBBHQq40s", 8, 1, 0, 0, 0, 0, b""),  # shorter than a head
        struct.pack("<IBBHQq40s", 1 << 31, 1, 0, 0, 0, 0, b""),
        struct.pack("<IBBHQq40s", 64, 1, 80, 0, 0, 0, b""),  # a name longer than the frame
        struct.pack("<IBBHQq40s", 64, 1, 0, 0, 1 << 20, 0, b""),  # a slot that there may not be
    ],
)
async def test_a_front_that_is_out_of_step_is_left(wire: Wire, sent: bytes) -> None:
    os.write(wire.far_end.fileno(), sent)
    async with asyncio.timeout(60):
        while not wire.near_lost:
            await asyncio.sleep(0)
    assert wire.near_lost[0]
    # What it still says is not read.
    os.write(wire.far_end.fileno(), bytes(1_000))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert len(wire.near_lost) == 1


async def test_frames_cut_anywhere_are_the_same(wire: Wire) -> None:
    other_near, other_far = socket.socketpair()
    other_near.setblocking(False)
    with other_near, other_far:
        loop = asyncio.get_running_loop()
        lost: list[str] = []
        near = Near(wire.door, other_near.fileno(), wire.urls.get, lost.append, loop)
        head = struct.pack("<IBBHQq40s", 66, 1, 1, 0, 3, -5, REQUEST_ID)
        for byte in head + b"f8" + bytes(6):
            other_far.send(bytes([byte]))
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            other_far.setblocking(False)
            said = await loop.sock_recv(other_far, 1_000)
            assert struct.unpack_from("<Q", said, 8) == (3,)
            assert said[64:65] == b"8" or list(near.standing) == [REQUEST_ID.decode()]
        near.leave(True)
        assert lost == []
