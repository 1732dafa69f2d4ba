"""Listens on loopback and serves AWS's Lambda API with uvicorn, inside the event loop that runs already.

What is answered is engine.rest.app's work. Guarantees that no signal handler is installed and no logging configured:
both are the engine's; and that after `stop` no task, connection or socket of the front is left.
"""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import uvicorn

from engine.config_address import join_address
from engine.errors import EngineError
from engine.events.room import Events
from engine.fabric.peers import connected
from engine.model.invocation import EVENT_LIMIT_BYTES, Invoker
from engine.observe import oplog
from engine.registry.api import CodeStore, Registry
from engine.registry.attached import Attached
from engine.rest.app import FaultLogger, LambdaApi
from engine.rest.configuration import Documents
from engine.rest.connection import HttpConnection
from engine.rest.express import Express, express
from engine.rest.guard import check_listen_host
from engine.rest.logs_api import LogsApi
from engine.rest.logs_groups import Logs
from engine.rest.metrics import Observe
from engine.rest.model import load_model
from engine.sandbox.box import Door

KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection, so that it is they who close it and no request meets a closing one."""
BACKLOG = 2_048
_DATE_EVERY_S = 1.0
_TURN_S = 0.1
_ARCHITECTURES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


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


class RestServer:
    """The HTTP front. `start` once, `stop` once."""

    def __init__(
        self,
        registry: Registry,
        code: CodeStore,
        invoker: Invoker,
        attached: Attached,
        events: Events,
        *,
        region: str,
        account: str,
        logger: FaultLogger | None = None,
        new_uuid: Callable[[], uuid.UUID] = uuid.uuid4,
        stop_on_disconnect: bool = False,
        event_limit_bytes: int = EVENT_LIMIT_BYTES,
        observe: Observe | None = None,
        logs: Logs | None = None,
        door: Door | None = None,
    ) -> None:
        """Without `door` there is no lane for plain requests."""
        self._door = door
        self.express: Express | None = None
        self._registry = registry
        self._code = code
        self._invoker = invoker
        self._attached = attached
        self._events = events
        machine = platform.machine()
        self._documents = Documents(region=region, account=account, architecture=_ARCHITECTURES.get(machine, machine))
        self._logger = logger or oplog.logger()
        self._new_uuid = new_uuid
        self._stop_on_disconnect = stop_on_disconnect
        self._event_limit_bytes = event_limit_bytes
        self._observe = observe
        self._logs = logs
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port bound (`port` 0 takes a free one). Raises EngineError for an address beyond
        loopback, a port in use or one that this user may not bind."""
        check_listen_host(host)
        listener = _listen("127.0.0.1" if host == "localhost" else host, port)
        logs = None
        if self._logs is not None:
            described = (self._registry, self._attached, self._documents)
            logs = LogsApi(self._logs, *described, wall_ms=lambda: time.time_ns() // 1_000_000)
        api = LambdaApi(
            load_model(),
            self._registry,
            self._code,
            self._invoker,
            self._attached,
            self._events,
            self._documents,
            logger=self._logger,
            new_uuid=self._new_uuid,
            stop_on_disconnect=self._stop_on_disconnect,
            event_limit_bytes=self._event_limit_bytes,
            observe=self._observe,
            logs=logs,
        )
        self._server = _Server(front_config(api))
        self._serving = asyncio.create_task(self._server.serve([listener]), name="rest")
        ready = asyncio.create_task(self._server.ready.wait())
        self._open_lane(self._server)
        await asyncio.wait({ready, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            listener.close()
            await self._serving
        bound: int = listener.getsockname()[1]
        return bound

    def _open_lane(self, server: _Server) -> None:
        """For plain requests. To be called before the server has its first turn."""
        if self._door is None:
            return
        rooms = (server.server_state, self._attached, self._documents.region)
        self.express = express(self._door.capsule(), *rooms, stop_on_disconnect=self._stop_on_disconnect)
        # It is called as the class would be.
        server.config.http = cast(Any, partial(HttpConnection, express=self.express))

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, let requests under way end for up to `grace_s` seconds, then cancel them."""
        if self._server is None or self._serving is None:
            return
        # uvicorn waits without an end for None and reads whole seconds only in its command line.
        self._server.config.timeout_graceful_shutdown = max(grace_s, 0.001)  # type: ignore[assignment]
        self._server.leave()
        await self._serving
        await asyncio.gather(*self._server.server_state.tasks, return_exceptions=True)
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        self._server = self._serving = None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, and with events for the moment when it accepts and when it is to end: itself
    it looks ten times a second whether it should."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._leaving = asyncio.Event()

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


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A port whose last holder has gone is free, although its old connections linger.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
