"""A call at the native front: what a grpc.aio servicer's method gets as its context, and the task that runs it.

Leaves the wire to native/front and the listening to engine.rpc.front. Guarantees: a handler runs as a task of its own,
which is cancelled when its client leaves or its deadline passes; a call that is open gets exactly one status; done
callbacks are called once, after the handler has ended and its response has left.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote_from_bytes

import grpc

from engine.rpc import _front
from engine.rpc._front import Connection as Connection
from engine.rpc._front import Join as Join

if TYPE_CHECKING:
    from engine.rpc.front import Server

_UNITS = {72: 3600.0, 77: 60.0, 83: 1.0, 109: 1e-3, 117: 1e-6, 110: 1e-9}
_PRINTED = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}~"
"""What a status message has as it is, beside letters, digits and "_.-~"; the rest is percent-encoded."""
_INFLATE = {b"gzip": 31, b"deflate": 15}
_LONGEST_S = 10.0**8

Metadata = Sequence[tuple[str, str | bytes]]


class Call(_front.Call):
    """Of one client, from its headers to its status."""

    left_within_s = 0.0
    """How much later than the end of its requests one is told that a client has left."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._handler: Any = None
        self._task: asyncio.Task[None] | None = None
        self._requests: deque[tuple[bytes, bool]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._draining: asyncio.Future[None] | None = None
        self._callbacks: list[Callable[[Any], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._until: float | None = None
        self._half_closed = False
        self._finished = False
        self._over = False
        self._code: grpc.StatusCode = grpc.StatusCode.OK
        self._details = ""
        self._trailing: Metadata = ()

    # What the wire tells

    def on_open(self) -> None:
        server = self._server
        server.calls.add(self)
        if self.timeout:
            self._set_deadline()
        handler = self._handler = server.handler_of(self.path, self)
        if handler is None:
            self._end(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {self.path}")
        elif self.encoding not in (b"", b"identity") and self.encoding not in _INFLATE:
            self._end(grpc.StatusCode.UNIMPLEMENTED, f"there is no message encoding {self.encoding!r} here")
        elif handler.request_streaming and not self._finished:
            self._start()

    def on_message(self, data: bytes, compressed: bool) -> None:
        if self._finished:
            return
        if not self._handler.request_streaming:
            if self._requests:
                return self._refuse(grpc.StatusCode.INTERNAL, "there is one request to this method, and more came")
            self.taken()
        self._requests.append((data, compressed))
        self._wake()

    def on_oversized(self, size: int) -> None:
        if not size:
            return self._refuse(grpc.StatusCode.INTERNAL, "a message with unknown flags")
        what = f"Received message larger than max ({size} vs. {self._server.message_limit})"
        self._refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, what)

    def on_half_closed(self, whole: bool) -> None:
        self._half_closed = True
        if self._finished:
            return
        if not whole:  # half a message: gRPC knows no such thing
            return self._refuse(grpc.StatusCode.INTERNAL, "the last message is not whole")
        if self._handler.request_streaming:
            self._wake()
        elif self._requests:
            self._start()
        else:
            self._end(grpc.StatusCode.INTERNAL, "the request is missing")

    def on_drained(self) -> None:
        if self._draining is not None and not self._draining.done():
            self._draining.set_result(None)

    def on_closed(self, whole: bool) -> None:
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()
        task = self._task
        if task is None or task.done():
            self._ended()
            return
        if not whole:
            task.cancel()
        self.on_drained()
        task.add_done_callback(self._ended)

    def on_handed(self, standing: Any, left_s: float | None) -> None:
        """It was begun natively (native/front/join.h), and goes on here."""
        server = self._server
        server.calls.add(self)
        self._half_closed = True
        joined = server.joined
        assert joined is not None
        joined.begun(self)
        if left_s is not None:
            self._end_in(max(0.0, left_s))
        self._handler = joined.handler
        self._requests.append((standing, False))
        self._start()
        assert self._task is not None
        # One that is cancelled before its first step has waited for nothing.
        self._task.add_done_callback(lambda _: standing.leave())

    # What a servicer's method asks for: grpc.aio.ServicerContext

    async def read(self) -> Any:
        """The next request, or grpc.aio.EOF."""
        while not self._requests:
            if self._half_closed:
                return grpc.aio.EOF
            if not self.open:
                raise asyncio.CancelledError
            self._waiter = self._server.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._next()

    async def write(self, message: Any) -> None:
        """Send one; waits while the client is slow."""
        encode = self._handler.response_serializer
        data = message if encode is None else encode(message)
        try:
            stalled = not self._finished and self.send(data)
        except BrokenPipeError:
            stalled = False
        if stalled:
            self._draining = self._server.loop.create_future()
            try:
                await self._draining
            finally:
                self._draining = None
        if self._finished:
            raise grpc.aio.UsageError("the call is over")

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """At once; else it goes with the first message."""
        try:
            self.begin(_packed(metadata))
        except BrokenPipeError:
            raise grpc.aio.UsageError("the call is over") from None

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with this status, and the method with an exception."""
        self._end(code, details, trailing_metadata or self._trailing)
        raise grpc.aio.AbortError("the call was aborted")

    def set_code(self, code: grpc.StatusCode) -> None:
        """Of its status when the method returns."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Of its status."""
        self._details = details

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Goes with its status."""
        self._trailing = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The client's."""
        return tuple(_unpacked(name, value) for name, value in self.metadata())

    def peer(self) -> str:
        """The client's address, as gRPC writes it."""
        return self.connection.peer

    def time_remaining(self) -> float | None:
        """Seconds to its deadline, if it has one."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Called with this when all is over."""
        if self._over:
            callback(self)
        else:
            self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """Whether its client has left."""
        return not self.open and not self._over

    def done(self) -> bool:
        """Whether all is over."""
        return self._over

    def cancel(self) -> None:
        """End it from here."""
        self._refuse(grpc.StatusCode.CANCELLED, "the server has stopped the call")

    # Its task

    def _start(self) -> None:
        self._task = self._server.loop.create_task(self._run())

    async def _run(self) -> None:
        handler = self._handler
        try:
            request = self._each() if handler.request_streaming else self._next()
            if handler.response_streaming:
                made = (handler.stream_stream or handler.unary_stream)(request, self)
                if inspect.isasyncgen(made):
                    async with contextlib.aclosing(made):
                        async for message in made:
                            await self.write(message)
                else:
                    await made
                self._end(self._code, self._details, self._trailing)
                return
            response = await (handler.stream_unary or handler.unary_unary)(request, self)
            if self._finished:
                return
            encode = handler.response_serializer
            data = response if encode is None else encode(response)
            if self._code is grpc.StatusCode.OK and not self._trailing:
                self.answer(data)
                self._finished = True
            else:
                self.send(data)
                self._end(self._code, self._details, self._trailing)
        except (grpc.aio.BaseError, BrokenPipeError):
            self._end(grpc.StatusCode.UNKNOWN, "the call ended without a status")
        except asyncio.CancelledError:
            self._end(grpc.StatusCode.CANCELLED, "the server has stopped the call")
        except Exception as error:
            self._end(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")
            self._server.failed(self.path, error)

    def _next(self) -> Any:
        """The request that came first. It waits as it came: what is compressed is large only while it is read."""
        data, compressed = self._requests.popleft()
        self.taken()
        if compressed:
            try:
                data = self._inflated(data)
            except zlib.error as error:
                self._refuse(grpc.StatusCode.INTERNAL, f"a message cannot be decompressed: {error}")
                raise asyncio.CancelledError from None
            except OverflowError:
                self.on_oversized(self._server.message_limit + 1)
                raise asyncio.CancelledError from None
        decode = self._handler.request_deserializer
        return data if decode is None else decode(data)

    async def _each(self) -> AsyncIterator[Any]:
        while (request := await self.read()) is not grpc.aio.EOF:
            yield request

    def _refuse(self, code: grpc.StatusCode, details: str) -> None:
        """End it, whatever its method is doing."""
        if self._task is not None:
            self._task.cancel()
        self._end(code, details)

    def _end(self, code: grpc.StatusCode, details: str = "", trailing: Metadata = ()) -> None:
        if self._finished or not self.open:
            return
        self._finished = True
        try:
            self.finish(code.value[0], _percent(details), _packed(trailing))
        except Exception as error:
            # What went wrong is worth more to its client than what cannot be said of it.
            if code is grpc.StatusCode.OK:
                code, details = grpc.StatusCode.INTERNAL, f"its metadata cannot be sent: {error}"
            self.finish(code.value[0], _percent(str(details)), ())

    def _ended(self, _: object = None) -> None:
        self._over = True
        self._task = None
        self._server.calls.discard(self)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)
        self._server.one_less()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _set_deadline(self) -> None:
        """grpc-timeout is up to eight digits and a unit."""
        number, unit = self.timeout[:-1], self.timeout[-1]
        if unit not in _UNITS or not number.isdigit() or len(number) > 8:
            return self._end(grpc.StatusCode.INTERNAL, f"grpc-timeout {self.timeout!r} is none")
        self._end_in(min(int(number) * _UNITS[unit], _LONGEST_S))

    def _end_in(self, after_s: float) -> None:
        self._until = time.monotonic() + after_s
        self._timer = self._server.loop.call_later(after_s, self._too_late)

    def _too_late(self) -> None:
        self._refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _inflated(self, data: bytes) -> bytes:
        limit = self._server.message_limit
        inflate = zlib.decompressobj(_INFLATE.get(self.encoding, 31))
        message = inflate.decompress(data, limit + 1)
        if len(message) > limit:
            raise OverflowError
        if not inflate.eof:
            raise zlib.error("it is not whole")
        return message


def _packed(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    fields = []
    for name, value in metadata:
        if name.endswith("-bin"):
            data = value if isinstance(value, bytes) else value.encode()
            fields.append((name.lower().encode(), base64.b64encode(data).rstrip(b"=")))
        else:
            fields.append((name.lower().encode(), value if isinstance(value, bytes) else value.encode()))
    return fields


def _unpacked(name: bytes, value: bytes) -> tuple[str, str | bytes]:
    if name.endswith(b"-bin"):
        return name.decode(), base64.b64decode(value + b"=" * (-len(value) % 4))
    return name.decode("utf-8", "replace"), value.decode("utf-8", "replace")


def _percent(text: str) -> bytes:
    return quote_from_bytes(text.encode("utf-8", "replace"), safe=_PRINTED).encode()
