"""A worker's side of the link: the ASGI application that hands each request to the engine and its answer back.

Nothing is known here of what is asked. Guarantees: a body is read as the engine asks for it; a client that reads slowly
holds up its own answer alone.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from engine.rest.connection import CUT_OFF
from engine.rest.express import RESUMED, Resumed
from engine.rest.link import (
    Body,
    Credit,
    Cut,
    Forgotten,
    Frame,
    Gone,
    Leave,
    Link,
    Opened,
    Piece,
    Ready,
    Started,
    Taken,
    plain_headers,
)
from engine.rest.messages import ClientGone

SMALL_BODY_BYTES = 65_536
"""A body of at most so much goes with its request."""
Message = MutableMapping[str, Any]
Carried = tuple[str, str, bool, bytes | None]
"""link.Opened.resumed"""
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _Open:
    """One request that the engine has."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.frames: asyncio.Queue[Started | Piece | Cut | Taken | None] = asyncio.Queue()
        self.asked = asyncio.Event()
        self.credit = Credit()

    def take(self, frame: Started | Piece | Cut | Taken) -> None:
        # The first comes in its turn: a client that waits to be told to go on is not told so once it has an answer.
        if isinstance(frame, Taken) and self.asked.is_set():
            self.credit.took(frame.count)
        else:
            self.frames.put_nowait(frame)


class Forward:
    """The application. `on_leave` is called with a grace in seconds when the worker is to end, `on_lost` when the
    engine is gone."""

    def __init__(self, on_leave: Callable[[float], None], on_lost: Callable[[], None]) -> None:
        self._on_leave = on_leave
        self._link = Link(self._take, on_lost)
        self._numbers = itertools.count(1)
        self._open: dict[int, _Open] = {}

    async def connect(self, end: socket.socket) -> None:
        """Talk to the engine at the other end."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._link, sock=end)

    def ready(self) -> None:
        """Connections are accepted."""
        self._link.send(Ready())

    def forget(self, request_id: str) -> None:
        """The client of a call that the engine goes on with has left."""
        self._link.send(Forgotten(request_id))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        resumed: Resumed | None = scope["extensions"].get(RESUMED)
        carried: Carried | None = None
        if resumed is not None:
            try:
                found = await resumed.ended()
            except ClientGone:
                return
            result = found if isinstance(found, bytes) else None
            carried = (resumed.request_id, resumed.version, resumed.by_url, result)
        request = _Open(next(self._numbers))
        body, more = b"", True
        if _is_small(scope["headers"]):
            message = await receive()
            if message["type"] == "http.disconnect":
                if carried is not None and carried[3] is None:
                    # The engine goes on with it: as it does for a client that leaves now.
                    self._link.send(_opened(request.number, scope, b"", True, carried))
                    self._link.send(Gone(request.number))
                return
            body, more = message.get("body", b""), message.get("more_body", False)
        self._open[request.number] = request
        self._link.send(_opened(request.number, scope, body, more, carried))
        if not more:
            request.asked.set()
        reading = asyncio.create_task(self._read_on(request, receive, more))
        try:
            await self._answer(request, scope, send)
        except asyncio.CancelledError:
            self._link.send(Gone(request.number))
            raise
        finally:
            reading.cancel()
            del self._open[request.number]

    async def _read_on(self, request: _Open, receive: Receive, more: bool) -> None:
        """The rest of the body, and then whether the client is there."""
        await request.asked.wait()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._link.send(Gone(request.number))
                request.frames.put_nowait(None)  # nobody is left to be answered
                return
            if more:
                body, more = message.get("body", b""), message.get("more_body", False)
                await request.credit.spend(len(body))
                await self._link.drain()
                self._link.send(Body(request.number, body, more))

    async def _answer(self, request: _Open, scope: Message, send: Send) -> None:
        while True:
            frame = await request.frames.get()
            if frame is None:
                return
            if isinstance(frame, Started):
                await send({"type": "http.response.start", "status": frame.status, "headers": frame.headers})
            elif isinstance(frame, Taken):
                request.asked.set()
                request.credit.took(frame.count)
            elif isinstance(frame, Cut):
                scope["extensions"][CUT_OFF]["now"]()
                return
            else:
                await send({"type": "http.response.body", "body": frame.body, "more_body": frame.more})
                if not frame.more:
                    return
                self._link.send(Taken(request.number, len(frame.body)))

    def _take(self, frame: Frame) -> None:
        match frame:
            case Started() | Piece() | Cut() | Taken():
                request = self._open.get(frame.number)
                if request is not None:
                    request.take(frame)
            case Leave():
                self._on_leave(frame.grace_s)
            case _:
                raise TypeError(f"the engine does not say {frame!r}")


def _opened(number: int, scope: Message, body: bytes, more: bool, carried: Carried | None) -> Opened:
    head = scope["method"], scope["raw_path"], scope["query_string"], plain_headers(scope["headers"])
    return Opened(number, *head, scope.get("client"), body, more, carried)


def _is_small(headers: Any) -> bool:
    """Whether what is announced is short, and is sent without being asked for."""
    length = 0
    for name, value in headers:
        if name in (b"expect", b"transfer-encoding"):
            return False
        if name == b"content-length":
            length = int(value) if value.isdigit() else SMALL_BODY_BYTES + 1
    return length <= SMALL_BODY_BYTES
