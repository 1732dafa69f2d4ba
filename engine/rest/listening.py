"""What an HTTP front listens by: its socket, and uvicorn inside an event loop that runs already.

Guarantees that no signal handler is installed and no logging configured: both are the engine's.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import uvicorn

from engine.config_address import join_address
from engine.errors import EngineError
from engine.fabric.peers import connected
from engine.rest.connection import HttpConnection
from engine.rest.express import Express

KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection, so that it is they who close it and no request meets a closing one."""
BACKLOG = 2_048
_DATE_EVERY_S = 1.0
_TURN_S = 0.1


def front_config(application: Any) -> uvicorn.Config:
    """uvicorn as the front sets it up, for an ASGI application."""
    return uvicorn.Config(
        application,
        http=HttpConnection,
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=BACKLOG,
    )


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers, and with events for the moment when it accepts and when it is to end: itself
    it looks ten times a second whether it should."""

    def __init__(self, api: Any) -> None:
        """`api`: an ASGI application."""
        super().__init__(front_config(api))
        self.ready = asyncio.Event()
        self._leaving = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    def open_lane(self, express: Express) -> None:
        """Plain requests of connections from here on go past the application."""
        # It is called as the class would be.
        self.config.http = cast(Any, partial(HttpConnection, express=express))

    async def begin(self, listener: socket.socket) -> None:
        """Return once connections are accepted; raises what keeps it from that, with the listener closed."""
        self._serving = asyncio.create_task(self.serve([listener]), name="http")
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait({ready, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            listener.close()
            await self._serving

    async def end(self, grace_s: float) -> None:
        """Accept nothing more, let requests under way end for up to `grace_s` seconds, then cancel them."""
        if self._serving is None:
            return
        # uvicorn waits without an end for None and reads whole seconds only in its command line.
        self.config.timeout_graceful_shutdown = max(grace_s, 0.001)  # type: ignore[assignment]
        self.leave()
        await self._serving
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        self._serving = None

    def leave(self) -> None:
        """Have `serve` end."""
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        """Renew the date in the headers each second until it is to end."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(_DATE_EVERY_S):
                    await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does it, but at once where nobody is connected. Else those who have just connected get their turn
        first: asyncio forgets a connection that it has accepted and not yet handed on when its listener closes, and
        the client would wait for ever. Asked on the event loop, so that none is accepted between answer and close."""
        if self.server_state.tasks or connected(self.servers[0].sockets[0].getsockname()[1]):
            await asyncio.sleep(_TURN_S)
            await super().shutdown(sockets)
            return
        for listener in [*self.servers, *(sockets or ())]:
            listener.close()
        for server in self.servers:
            await server.wait_closed()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the engine's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.ready.set()


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that listens, `shared` with others of one port if it is theirs too. Raises EngineError for a port in use
    or one that this user may not bind."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A port whose last holder has gone is free, although its old connections linger.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        address = join_address(host, port)
        if error.errno == errno.EADDRINUSE:
            raise EngineError(
                f"The HTTP front cannot listen on {address}: the port is in use",
                fix=f"end what uses it (ss -ltnp 'sport = :{port}' shows it), or set http_address to another port",
            ) from error
        raise EngineError(
            f"The HTTP front cannot listen on {address}: {os.strerror(error.errno or 0)}",
            fix="set http_address to another address",
        ) from error
    return listener


def listen_often(host: str, port: int, count: int) -> list[socket.socket]:
    """So many sockets that listen at one port, among which the kernel shares connections out. Raises EngineError as of
    `listen`: a port that somebody else shares out is in use."""
    listen(host, port).close()
    listeners: list[socket.socket] = []
    try:
        for _ in range(count):
            listeners.append(listen(host, port, shared=True))
            port = listeners[0].getsockname()[1]
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners
