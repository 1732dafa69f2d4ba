"""The engine's side of a worker: each request that comes over the link is one of the ASGI application's, which cannot
tell it from one that came over uvicorn.

Guarantees: a worker that is gone is a client that has left, for each of its requests; after `stop` no task is left.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from engine.rest.connection import CUT_OFF
from engine.rest.express import RESUMED, Resumed
from engine.rest.link import (
    PIECE_BYTES,
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
from engine.rest.relay import Near

Message = MutableMapping[str, Any]
Api = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


HELD_BYTES = 8 << 20
"""Of a body that its request has not read yet: more than any worker sends that keeps to link.WINDOW_BYTES."""


class _Forwarded:
    """One request, as ASGI has it."""

    def __init__(self, link: Link, opened: Opened) -> None:
        self.number = opened.number
        self._link = link
        self._pieces: deque[tuple[bytes, bool]] = deque()
        self._asked = not opened.more
        self._news = asyncio.Event()
        self._whole = False  # the whole body was received
        self._over = False  # the client has left, or has its answer
        self._credit = Credit()
        self._held = len(opened.body)
        if opened.body or not opened.more:
            self._pieces.append((opened.body, opened.more))

    def came(self, body: bytes, more: bool) -> None:
        self._held += len(body)
        if self._held > HELD_BYTES:
            raise ValueError("more of a body than may be on its way")
        self._pieces.append((body, more))
        self._news.set()

    def took(self, count: int) -> None:
        self._credit.took(count)

    def gone(self) -> None:
        self._over = True
        self._credit.lift()
        self._news.set()

    def cut_off(self) -> None:
        if not self._over:
            self._link.send(Cut(self.number))
            self.gone()

    async def receive(self) -> Message:
        """See ASGI."""
        while not self._pieces or self._over:
            if self._over:
                return {"type": "http.disconnect"}
            if not self._asked:
                self._asked = True
                self._link.send(Taken(self.number, 0))
            self._news.clear()
            await self._news.wait()
        body, more = self._pieces.popleft()
        self._held -= len(body)
        if more and body:
            self._link.send(Taken(self.number, len(body)))
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(self, message: Message) -> None:
        """See ASGI. As with uvicorn, what is sent to who has left is nobody's."""
        if self._over:
            return
        if message["type"] == "http.response.start":
            self._link.send(Started(self.number, message["status"], plain_headers(message.get("headers", ()))))
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        while len(body) > PIECE_BYTES:
            await self._piece(body[:PIECE_BYTES], True)
            body = body[PIECE_BYTES:]
        await self._piece(body, more)
        if not more:
            self.gone()

    async def _piece(self, body: bytes, more: bool) -> None:
        if body:
            await self._credit.spend(len(body))
            await self._link.drain()
        if not self._over:
            self._link.send(Piece(self.number, bytes(body), more))


class Forwarding:
    """All requests of one worker. `connect` once."""

    def __init__(self, api: Api, on_ready: Callable[[], None], on_lost: Callable[[], None]) -> None:
        self._api = api
        self.near: Near | None = None  # the way of plain requests
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._link = Link(self._take, self._lost)
        self._requests: dict[int, _Forwarded] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def connect(self, end: socket.socket) -> None:
        """Talk to the worker at the other end."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._link, sock=end)

    def leave(self, grace_s: float) -> None:
        """Have the worker end."""
        self._link.send(Leave(grace_s))

    async def stop(self) -> None:
        """Cancel requests under way, and what still comes: they have an answer for that."""
        self._stopping = True
        if self.near is not None:
            self.near.abandon()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """Leave the worker, which ends by it."""
        self._link.close()

    def _take(self, frame: Frame) -> None:
        match frame:
            case Opened():
                self._open(frame)
            case Ready():
                self._on_ready()
            case Forgotten():
                if self.near is not None:
                    self.near.forget(frame.request_id)
            case Body() | Taken() | Gone():
                request = self._requests.get(frame.number)
                if request is None:
                    return  # it has its answer already
                if isinstance(frame, Body):
                    request.came(frame.body, frame.more)
                elif isinstance(frame, Taken):
                    request.took(frame.count)
                else:
                    request.gone()
            case _:
                raise TypeError(f"a worker does not say {frame!r}")

    def _open(self, opened: Opened) -> None:
        request = _Forwarded(self._link, opened)
        self._requests[opened.number] = request
        scope: Message = {
            "type": "http",
            "method": opened.method,
            "raw_path": opened.path,
            "query_string": opened.query,
            "headers": opened.headers,
            "client": opened.client,
            "extensions": {CUT_OFF: {"now": request.cut_off}},
        }
        resumed = self._resumed(opened)
        if resumed is not None:
            scope["extensions"][RESUMED] = resumed
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(request, scope))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._stopping:
            loop.call_soon(task.cancel)  # once it has begun

    def _resumed(self, opened: Opened) -> Resumed | None:
        """What a request goes on with; None for one whose function was not begun."""
        if opened.resumed is None:
            return None
        request_id, version, by_url, found = opened.resumed
        standing = found
        if found is None and self.near is not None:
            standing = self.near.standing.pop(request_id, None)
        if standing is None:
            return None
        loop = asyncio.get_running_loop()
        resumed = Resumed(request_id, version, by_url=by_url, leave=lambda: None, loop=loop)
        resumed.end(standing)
        return resumed

    async def _run(self, request: _Forwarded, scope: Message) -> None:
        try:
            await self._api(scope, request.receive, request.send)
        finally:
            request.cut_off()  # where it has no whole answer
            self._requests.pop(request.number, None)

    def _lost(self) -> None:
        for request in self._requests.values():
            request.gone()
        self._on_lost()
