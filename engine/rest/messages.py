"""Requests, their bodies and responses, between ASGI's messages and the operations.

Guarantees that a body over its limit is never held in memory, whatever its Content-Length says, and that what is left
of it is thrown away within bounds after the answer, so that a client that reads only once it has sent everything still
gets its answer. ASGI: https://asgi.readthedocs.io/en/latest/specs/www.html.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl

from engine.errors import InvalidArgument, PayloadTooLarge

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

T = TypeVar("T")

DISCARD_LIMIT_BYTES = 128 * 2**20
DISCARD_LIMIT_S = 5.0
SMALL_BODY_BYTES = 65_536
PAUSE_S = 0.5
"""How long a body that nobody wants may stop before its request is answered nevertheless."""
QUERY_LIMIT_FIELDS = 1_000


class ClientGone(Exception):
    """The client closed the connection before its request was whole. Nobody is left to answer."""


class Body:
    """What follows a request's head. Read once, or discarded."""

    def __init__(
        self, receive: Receive, *, declared_bytes: int | None, expected: bool, asked_about: bool = False
    ) -> None:
        self._receive = receive
        self._declared_bytes = declared_bytes
        self._asked_about = asked_about
        self.finished = not expected

    @property
    def is_small(self) -> bool:
        """Whether it is announced as short."""
        return self._declared_bytes is not None and self._declared_bytes <= SMALL_BODY_BYTES

    async def read(self, limit_bytes: int, operation: str) -> bytes:
        """All of it. Raises PayloadTooLarge as soon as it is known to be over `limit_bytes`, ClientGone."""
        too_large = PayloadTooLarge(f"Request must be smaller than {limit_bytes} bytes for the {operation} operation")
        if self._declared_bytes is not None and self._declared_bytes > limit_bytes:
            raise too_large
        pieces: list[bytes] = []
        size = 0
        while not self.finished:
            piece = await self._next()
            size += len(piece)
            if size > limit_bytes:
                raise too_large
            pieces.append(piece)
        return b"".join(pieces)

    async def discard(self, *, pause_s: float | None = None) -> None:
        """Throw away what is left, up to DISCARD_LIMIT_BYTES and DISCARD_LIMIT_S, or until it stops for `pause_s`."""
        size = 0
        try:
            async with asyncio.timeout(DISCARD_LIMIT_S):
                while not self.finished and size < DISCARD_LIMIT_BYTES:
                    async with asyncio.timeout(pause_s):
                        size += len(await self._next())
        except (TimeoutError, ClientGone):
            pass

    async def discard_before_answer(self) -> None:
        """Throw away a body that is on its way, for clients that lose an answer which comes before they have sent all:
        aws-sdk-go-v2 takes the body away then, and its connection ends by it. Who asks first (Expect) is spared it."""
        if self.is_small:
            # It costs less than a new connection.
            await self.discard()
        elif not self._asked_about:
            await self.discard(pause_s=PAUSE_S)

    async def unless_gone(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this, with the body read, and cancel it when the client leaves: raises ClientGone then."""
        doing = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self.gone())
        try:
            await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise ClientGone
            return doing.result()
        finally:
            for task in (doing, leaving):
                task.cancel()
            await asyncio.wait({doing, leaving})

    async def gone(self) -> None:
        """Wait until the client leaves, with the body read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.finished = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its head, decoded, and its body."""

    id: str
    method: str
    path: str  # as sent: still percent-encoded
    query_string: bytes
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: Body
    client: str = ""  # its address

    @classmethod
    def of(cls, scope: MutableMapping[str, Any], receive: Receive, request_id: str) -> Request:
        """The request of an ASGI scope."""
        headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
        lengths = [value for name, value in headers if name == "content-length"]
        declared = int(lengths[0]) if lengths and lengths[0].isdecimal() else None
        chunked = any(name == "transfer-encoding" for name, _ in headers)
        return cls(
            id=request_id,
            method=scope["method"],
            path=scope["raw_path"].decode("latin-1"),
            query_string=scope["query_string"],
            headers=headers,
            body=Body(
                receive,
                declared_bytes=declared,
                expected=chunked or bool(declared),
                asked_about=any(name == "expect" for name, _ in headers),
            ),
            client=(scope.get("client") or ("",))[0],
        )

    def query(self) -> tuple[tuple[str, str], ...]:
        """The query's names and values, decoded. Raises InvalidArgument."""
        try:
            text = self.query_string.decode("ascii")
            return tuple(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=QUERY_LIMIT_FIELDS))
        except ValueError as error:
            raise InvalidArgument(f"The query cannot be read: {error}", fix="percent-encode it as UTF-8") from None

    def header(self, name: str) -> str | None:
        """The value of a header, None if it is not there. Raises InvalidArgument if it is there twice."""
        values = self.header_values(name)
        if len(values) > 1:
            raise InvalidArgument(f"The header {name} is there {len(values)} times", fix="send it once")
        return values[0] if values else None

    def header_values(self, name: str) -> list[str]:
        """Every value of a header, in the order of the request."""
        return [value for key, value in self.headers if key == name.lower()]


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int
    headers: Iterable[tuple[str, str]]
    body: bytes = b""


class Carried(Protocol):
    """What writes parts of an answer's body itself: engine.rest.answers.Answer."""

    @property
    def can_be_carried(self) -> bool:
        """Whether it would, now."""

    @property
    def whole(self) -> bool:
        """Whether what it wrote ended with a piece's end."""

    async def carry(self, client_fd: int) -> None:
        """Do so."""


class Past(Protocol):
    """The way to the client past the server: engine.rest.past's."""

    async def begin(self) -> int | None:
        """A descriptor of the client's socket, once all that was sent is written; None where there is none."""

    def end(self, client_fd: int, whole: bool) -> None:
        """Close it. What is sent from here on is the server's again; nothing, where the last piece is not whole."""


@dataclass(frozen=True, slots=True)
class StreamedResponse:
    """An answer of which the body is made while it is sent. The iterator has to be closed."""

    status: int
    headers: Iterable[tuple[str, str]]
    body: AsyncGenerator[bytes]
    ends_with_client: bool = False  # nobody is left to read it: it is not made to its end
    carried: Carried | None = None  # what can write parts of the body itself


async def respond_streamed(
    request: Request,
    response: StreamedResponse,
    send: Send,
    *,
    stop_on_disconnect: bool,
    past: Past | None = None,
) -> None:
    """Send an answer as it is made; waits while the client is slow. A client that has left gets the rest of it thrown
    away, or with `stop_on_disconnect` ends it. Where there is a way past the server, and who takes it, the body goes
    that way."""
    if request.method == "HEAD" or response.status in (204, 304):
        past = None  # without a body there is no chunked coding
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    headers.append((b"x-amzn-requestid", request.id.encode()))

    async def body() -> None:
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        async for piece in response.body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if past is not None and response.carried is not None and response.carried.can_be_carried:
                await _carry(request.body, response.carried, past)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    try:
        ends = stop_on_disconnect or response.ends_with_client
        await (request.body.unless_gone(body()) if ends else body())
    except ClientGone:
        pass
    finally:
        await response.body.aclose()


async def _carry(body: Body, carried: Carried, past: Past) -> None:
    """Have a part of an answer written past the server, until it cannot be or the client leaves."""
    client_fd = await past.begin()
    if client_fd is None:
        return
    carrying = asyncio.ensure_future(carried.carry(client_fd))
    leaving = asyncio.ensure_future(body.gone())
    try:
        await asyncio.wait({carrying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if carrying.done():
            carrying.result()
    finally:
        for task in (carrying, leaving):
            task.cancel()
        await asyncio.wait({carrying, leaving})
        past.end(client_fd, carried.whole)


async def respond(request: Request, response: Response, send: Send, *, linger: bool = True) -> None:
    """Send an answer, and deal with what the client still sends. Without `linger`, do not wait for it."""
    body = request.body
    if linger:
        await body.discard_before_answer()
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    headers.append((b"x-amzn-requestid", request.id.encode()))
    if response.status != 204:
        headers.append((b"content-length", str(len(response.body)).encode()))
    if not body.finished:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": not body.finished})
    if not body.finished:
        # To close with bytes unread would reset the connection, and the client might lose the answer with it.
        if linger:
            await body.discard()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
