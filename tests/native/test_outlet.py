"""An answer's way past the event loop, over a guest's real pipes: when it is left, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from engine.guest import wire
from engine.sandbox.api import Event
from engine.sandbox.flow import Flow
from engine.sandbox.link import Ends, GuestLink, ProtocolError
from engine.sandbox.outlet import Outlet

LIMITS = {wire.CHUNK: wire.CHUNK_LIMIT_BYTES, wire.RESULT: 100}


class Run:
    """One that streams: its sink, its outlet, the guest and the client of both."""

    def __init__(self, limit_bytes: int) -> None:
        self.chunks: list[bytes] = []
        self.frames: list[int] = []
        self.ends: list[Exception | None] = []
        answers, self.guest = os.pipe()
        self.events, events = os.pipe()
        os.set_blocking(self.guest, False)
        self.link = GuestLink(
            asyncio.get_running_loop(), Ends(answers, events), LIMITS, self._on_frame, self.ends.append
        )
        self.flow = Flow(self.link, 100)
        self.outlet = Outlet()
        sink: Any = self
        self.flow.begin(Event("", b"", 1_000, "", stream_limit_bytes=limit_bytes, outlet=self.outlet), sink)
        self.engine, self.client = socket.socketpair()
        self.engine.setblocking(False)
        self.client.setblocking(False)

    def _on_frame(self, kind: int, body: bytes | bytearray) -> None:
        self.frames.append(kind)
        if kind == wire.CHUNK:
            self.flow.chunk(body)

    def chunk(self, data: bytes) -> None:
        self.chunks.append(data)

    def carry(self, first: bytes = b"") -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self.outlet.carry(self.engine.fileno(), first))

    async def receive(self, wanted: bytes) -> None:
        got = b""
        while len(got) < len(wanted):
            got += await asyncio.get_running_loop().sock_recv(self.client, len(wanted) - len(got))
        assert got == wanted

    def fill(self) -> int:
        """Send chunks until the pipe takes no more; how many went."""
        sent = 0
        try:
            while True:
                os.write(self.guest, wire.frame(wire.CHUNK, bytes(4_000)))
                sent += 1
        except BlockingIOError:
            return sent

    def close(self) -> None:
        self.link.close()
        self.engine.close()
        self.client.close()
        for fd in (self.guest, self.events):
            os.close(fd)


@pytest_asyncio.fixture
async def run() -> AsyncIterator[Run]:
    made = Run(1 << 30)
    yield made
    made.close()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_chunks_go_to_the_client_until_something_else_comes(run: Run) -> None:
    carrying = run.carry(b"first")
    os.write(run.guest, wire.frame(wire.CHUNK, b"second"))
    await run.receive(b"5\r\nfirst\r\n6\r\nsecond\r\n")
    os.write(run.guest, wire.frame(wire.RESULT, b"{}"))
    await carrying
    assert run.outlet.whole
    assert (run.chunks, run.frames, run.ends) == ([], [wire.RESULT], [])


async def test_what_the_link_has_of_a_chunk_goes_to_the_client_as_well(run: Run) -> None:
    frame = wire.frame(wire.CHUNK, b"x" * 70_000)
    os.write(run.guest, frame[:50_000])
    run.link.read()
    carrying = run.carry()
    await turns()
    os.write(run.guest, frame[50_000:] + wire.frame(wire.RESULT))
    await carrying
    assert run.outlet.whole
    assert (run.chunks, run.frames) == ([], [wire.RESULT])
    await run.receive(b"c348\r\n" + b"x" * 49_992 + b"\r\n4e28\r\n" + b"x" * 20_008 + b"\r\n")


async def test_a_guest_that_sends_more_than_was_asked_for_is_found_out() -> None:
    run = Run(10)
    carrying = run.carry()
    os.write(run.guest, wire.frame(wire.CHUNK, b"0123456") + wire.frame(wire.CHUNK, b"789a"))
    await carrying
    assert run.outlet.whole
    await run.receive(b"7\r\n0123456\r\n")
    (error,) = run.ends
    assert isinstance(error, ProtocolError)
    run.close()


@pytest.mark.parametrize("how", ["cancelled", "the client left"])
async def test_once_it_is_left_the_sink_gets_what_follows(run: Run, how: str) -> None:
    carrying = run.carry()
    os.write(run.guest, wire.frame(wire.CHUNK, b"a") + wire.frame(wire.CHUNK, b"bcd")[:-1])
    await run.receive(b"3\r\nabc\r\n")
    if how == "cancelled":
        carrying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await carrying
    else:
        run.client.close()
        os.write(run.guest, b"d" + wire.frame(wire.CHUNK, b"lost"))
        await carrying
        assert not run.outlet.whole
    os.write(run.guest, (b"d" if how == "cancelled" else b"") + wire.frame(wire.CHUNK, b"e"))
    while run.chunks[-1:] != [b"e"]:
        await asyncio.sleep(0)
    assert run.chunks == ([b"d", b"e"] if how == "cancelled" else [b"e"])


async def test_the_runs_end_ends_it(run: Run) -> None:
    carrying = run.carry(b"first")
    await run.receive(b"5\r\nfirst\r\n")
    run.flow.end()
    await carrying
    assert run.outlet.whole
    assert not run.outlet.offered


async def test_what_was_read_of_a_guest_that_has_ended_is_written_before_anything_else_can_be(run: Run) -> None:
    carrying = run.carry()
    sent, more = 0, 1
    while more:
        more = run.fill()
        sent += more
        await turns()
    run.link.read_to_end()
    run.link.close()
    await turns()
    assert not carrying.done()
    got = b""
    while not carrying.done():
        got += await asyncio.get_running_loop().sock_recv(run.client, 1 << 20)
        await turns()
    carrying.result()
    assert run.outlet.whole
    try:
        while True:
            got += run.client.recv(1 << 20)
    except BlockingIOError:
        pass
    assert got.endswith(b"\r\n")
    assert got.count(b"\0") + sum(map(len, run.chunks)) == sent * 4_000
