"""A gRPC server over native/front: grpc.aio's surface, as far as servicers and the engine ask for it.

grpc.aio takes some 0.2 ms of CPU for a call; this takes a fraction of it, since HTTP/2 is read and written where the
event loop is. Handlers are those of grpc (add_…Servicer_to_server works as it is). Guarantees that a port is not shared
with another server, and that after `stop` no connection and no call is left.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc

from engine.config_address import split_address
from engine.rpc.front_call import Call, Connection, Join

_BACKLOG = 1024
_ACCEPTS = 64
"""Connections taken before others have their turn."""
_LAST_TURNS, _LAST_TURN_S = 100, 0.01
"""How long a stop waits for clients to read what they were sent."""
_NO_ROOM_S = 0.1
"""How long to wait where there is no descriptor left for a connection."""


@dataclass(slots=True)
class _Details:
    """grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: Any


class Joined(NamedTuple):
    """How calls go to the dispatch loop and back without Python, and go on in it where the loop hands them over."""

    join: Join
    handler: Any  # of those that are handed over: its request is what stands for the call
    begun: Callable[[Any], None]  # told of each of them


class Server:
    """One, on the running event loop; started once, stopped once."""

    def __init__(self, message_limit: int) -> None:
        """`message_limit` is the size of a client's message at most, in bytes."""
        self.message_limit = message_limit
        self.loop = asyncio.get_running_loop()
        self.calls: set[Call] = set()
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._found: dict[str, Any] = {}
        self._sockets: list[socket.socket] = []
        self._connections: set[Connection] = set()
        self._none_left = asyncio.Event()
        self.joined: Joined | None = None

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Asked in this order."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """What generated code also tells grpcio; the generic ones are the same."""

    def add_insecure_port(self, address: str) -> int:
        """Open it; returns the port. Raises RuntimeError where it cannot be."""
        host, port = split_address(address)
        opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((host, port))
            opened.listen(_BACKLOG)
            opened.setblocking(False)
        except OSError as error:
            opened.close()
            raise RuntimeError(f"{address} cannot be opened: {error}") from error
        self._sockets.append(opened)
        return int(opened.getsockname()[1])

    def join(self, capsule: object, handler: Any, begun: Callable[[Any], None], on_none: Callable[[], None]) -> Join:
        """Let plain calls of functions through a door (engine.sandbox.box.Door), from `start` on. `on_none`: as of
        Join."""

        def none_left() -> None:
            self.one_less()
            on_none()

        made = Join(capsule, none_left)
        self.joined = Joined(made, handler, begun)
        return made

    async def start(self) -> None:
        """Serve."""
        if self.joined is not None:
            self.loop.add_reader(self.joined.join, self.joined.join.due)
        for listening in self._sockets:
            self.loop.add_reader(listening, self._accept, listening)

    async def stop(self, grace: float | None) -> None:
        """Take no more, wait so many seconds for the calls under way, then cancel them."""
        for listening in self._sockets:
            self.loop.remove_reader(listening)
            listening.close()
        self._sockets.clear()
        for connection in list(self._connections):
            connection.shut()
        join = None if self.joined is None else self.joined.join
        if join is not None:
            join.shut()
        if grace:
            await self._all_over(grace)
        for call in list(self.calls):
            call.cancel()
        if join is not None:
            join.stop()
        # For what was cancelled, and for answers that slow clients have not read yet.
        await asyncio.sleep(0)
        for _ in range(_LAST_TURNS):
            if not any(connection.writing for connection in self._connections):
                break
            await asyncio.sleep(_LAST_TURN_S)
        for connection in list(self._connections):
            connection.close()
        if join is not None:
            self.loop.remove_reader(join)
            join.close()
            self.joined = None

    def _under_way(self) -> bool:
        return bool(self.calls) or (self.joined is not None and self.joined.join.under_way > 0)

    def handler_of(self, path: str, call: Call) -> Any:
        """What answers it; None if nothing does."""
        found = self._found.get(path)
        if found is not None:
            return found
        details = _Details(path, ())
        for number, handler in enumerate(self._handlers):
            found = handler.service(details)
            if found is not None:
                # The last one may answer any path: that is not to be remembered for each.
                if number + 1 < len(self._handlers):
                    self._found[path] = found
                return found
        return None

    def one_less(self) -> None:
        """A call is over."""
        if not self.calls:
            self._none_left.set()

    def failed(self, path: str, error: Exception) -> None:
        """A handler raised what it should not have."""
        self.loop.call_exception_handler({"message": f"unexpected in {path}", "exception": error})

    async def _all_over(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while self._under_way():
                    self._none_left.clear()
                    await self._none_left.wait()
        except TimeoutError:
            pass

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.loop.remove_reader(listening)
                    self.loop.call_later(_NO_ROOM_S, self._listen_again, listening)
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            family = "ipv6:[{}]:{}" if accepted.family == socket.AF_INET6 else "ipv4:{}:{}"
            peer = family.format(address[0], address[1])
            try:
                join = None if self.joined is None else self.joined.join
                made = Connection(
                    accepted, peer, self.message_limit, self.loop, self._make, self._connections.discard, join
                )
            except OSError:
                accepted.close()
                return
            self._connections.add(made)

    def _listen_again(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self.loop.add_reader(listening, self._accept, listening)

    def _make(self) -> Call:
        return Call(self)
