"""The way past uvicorn: its descriptor comes only when nothing is to be written ahead of it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
import pytest_asyncio
from uvicorn.protocols.http.flow_control import FlowControl

from engine.rest.past import Past

MUCH = bytes(8 << 20)


class Connection(asyncio.Protocol):
    """What uvicorn's does about its writing."""

    transport: asyncio.Transport
    flow: FlowControl

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.flow = transport, FlowControl(transport)

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.flow.resume_writing()


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[SimpleNamespace]:
    ours, client = socket.socketpair()
    client.setblocking(False)
    _, connection = await asyncio.get_running_loop().create_connection(Connection, sock=ours)
    cuts: list[bool] = []
    past = Past(connection, lambda: cuts.append(True))
    yield SimpleNamespace(connection=connection, client=client, past=past, cuts=cuts)
    connection.transport.abort()
    client.close()


async def receive(client: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        got += await asyncio.get_running_loop().sock_recv(client, 1 << 20)
    return bytes(got)


async def test_the_descriptor_comes_once_all_that_was_sent_before_is_written(ends: SimpleNamespace) -> None:
    ends.connection.transport.write(MUCH)
    begun = asyncio.ensure_future(ends.past.begin())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not begun.done()
    assert await receive(ends.client, len(MUCH)) == MUCH
    client_fd = await begun
    os.write(client_fd, b"past")
    assert await receive(ends.client, 4) == b"past"
    ends.past.end(client_fd, True)
    ends.connection.transport.write(b"behind")
    assert await receive(ends.client, 6) == b"behind"
    assert not ends.cuts


async def test_an_answer_that_ended_within_a_piece_is_cut_off(ends: SimpleNamespace) -> None:
    client_fd = await ends.past.begin()
    ends.past.end(client_fd, False)
    assert ends.cuts == [True]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(client_fd)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_there_is_no_way_to_a_client_that_is_gone(ends: SimpleNamespace, when: str) -> None:
    if when == "before":
        ends.connection.transport.abort()
        assert await ends.past.begin() is None
        return
    ends.connection.transport.write(MUCH)
    begun = asyncio.ensure_future(ends.past.begin())
    await asyncio.sleep(0)
    ends.connection.transport.abort()
    assert await begun is None


def test_under_another_server_there_is_none() -> None:
    assert Past.of({"type": "http"}) is None
