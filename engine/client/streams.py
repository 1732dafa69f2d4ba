"""An answer as it is made, and a conversation: what invoke_stream and converse give to an async caller.

Guarantees: chunks come out once and in order; what a function raises in the middle is raised after them; leaving the
context, or closing, before the end stops the function; a call that is throttled is tried again only while nothing of
its input was taken.
"""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Self

from engine.client.results import FunctionFailed, timed_out
from engine.errors import Throttled
from engine.model.invocation import Completion, Report

AHEAD_BYTES = 262_144
"""So much of a conversation's answer is taken before it is asked for, while its sender is held up."""

Items = AsyncGenerator[bytes | Completion, None]


class AsyncStream:
    """Iterate over it for the chunks of an answer; `report` has what it cost once it has ended."""

    def __init__(self, begin: Callable[[], Items], *, retries: int, timeout_s: float | None) -> None:
        self._begin = begin
        self._items: Items | None = None
        self._closed = False
        self._retries = retries
        self._timeout_s = timeout_s
        self._deadline: float | None = None
        self._chunks = 0
        self._completion: Completion | None = None

    @property
    def report(self) -> Report:
        """What it did and cost. Raises RuntimeError before the stream has ended."""
        if self._completion is None:
            raise RuntimeError("the report comes at the stream's end: read it first")
        return self._completion.report

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk. Raises FunctionFailed at the end of one that failed, EngineError, TimedOut."""
        if self._completion is not None:
            raise StopAsyncIteration
        if self._closed:
            raise RuntimeError("the stream was closed")
        self._start_clock()
        try:
            async with asyncio.timeout_at(self._deadline):
                item = await self._next()
        except TimeoutError:
            await self.aclose()
            raise timed_out(self._timeout_s) from None
        if isinstance(item, bytes):
            self._chunks += 1
            return item
        self._completion = item
        await self.aclose()
        if item.error is not None:
            raise FunctionFailed(item)
        raise StopAsyncIteration

    async def read(self) -> bytes:
        """All that is left of the answer."""
        return b"".join([chunk async for chunk in self])

    async def text(self) -> AsyncIterator[str]:
        """The chunks as text of UTF-8, characters never taken apart."""
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        async for chunk in self:
            if text := decode(chunk):
                yield text
        if text := decode(b"", True):
            yield text

    async def lines(self) -> AsyncIterator[str]:
        """The lines of the answer, without their ends."""
        waiting = b""
        async for chunk in self:
            *whole, waiting = (waiting + chunk).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
        if waiting:
            yield waiting.decode(errors="replace")

    async def aclose(self) -> None:
        """Stop the function if it still runs. Closing twice is fine."""
        self._closed = True
        items, self._items = self._items, None
        if items is not None:
            await items.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _start_clock(self) -> None:
        if self._deadline is None and self._timeout_s is not None:
            self._deadline = asyncio.get_running_loop().time() + self._timeout_s

    async def _next(self) -> bytes | Completion:
        left = self._retries
        while True:
            if self._items is None:
                self._items = self._begin()
            try:
                return await anext(self._items)
            except Throttled as error:
                self._items = None
                if left <= 0 or self._chunks:
                    raise
                left -= 1
                await asyncio.sleep(error.retry_after_ms / 1000)


class AsyncConversation(AsyncStream):
    """A stream whose input is written meanwhile: `send` chunks, `end` the input, iterate over the answer; it begins
    with the first of them. Read and write from two tasks where either may be much: each side is held up while the
    other does not read, but for AHEAD_BYTES of the answer."""

    def __init__(
        self, begin: Callable[[AsyncIterator[bytes]], Items], *, retries: int, timeout_s: float | None
    ) -> None:
        super().__init__(lambda: begin(self._input()), retries=retries, timeout_s=timeout_s)
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._over = asyncio.Event()
        # A sender who is held up reads ahead of the reader, since the reason may be that the function has ended.
        self._ahead: asyncio.Future[bytes | Completion] | None = None
        self._ready: deque[bytes | Completion] = deque()
        self._ready_bytes = 0
        self._failure: BaseException | None = None
        self._is_read = False  # somebody waits for the next item

    async def send(self, chunk: bytes | str) -> None:
        """The next chunk of the input. Raises BrokenPipeError when the function has ended, EngineError where it was
        refused, TimedOut."""
        await self._put(chunk.encode() if isinstance(chunk, str) else chunk)

    async def end(self) -> None:
        """The input is over."""
        await self._put(None)

    async def send_all(self, chunks: AsyncIterable[bytes] | Iterable[bytes]) -> None:
        """Send each, then end; what the function no longer reads is not sent."""
        try:
            if isinstance(chunks, AsyncIterable):
                async for chunk in chunks:
                    await self.send(chunk)
            else:
                for chunk in chunks:
                    await self.send(chunk)
            await self.end()
        except BrokenPipeError:
            pass

    async def aclose(self) -> None:
        """See AsyncStream.aclose."""
        self._over.set()
        ahead = self._ahead
        if ahead is not None:
            ahead.cancel()
            await asyncio.wait({ahead})
        await super().aclose()

    async def _put(self, item: bytes | None) -> None:
        if self._over.is_set():
            raise self._broken()
        self._start_clock()
        if self._items is None and not self._is_read:
            self._read_ahead()  # it begins with this chunk
        putting, over = asyncio.ensure_future(self._waiting.put(item)), asyncio.ensure_future(self._over.wait())
        try:
            async with asyncio.timeout_at(self._deadline):
                await asyncio.wait({putting, over}, timeout=0)
                while not (putting.done() or over.done()):
                    self._read_ahead()
                    ahead = () if self._ahead is None else (self._ahead,)
                    await asyncio.wait((putting, over, *ahead), return_when=asyncio.FIRST_COMPLETED)
            if not putting.done():
                raise self._broken()
        except TimeoutError:
            if not self._is_read:  # whoever reads has the same deadline
                await self.aclose()
            raise timed_out(self._timeout_s) from None
        finally:
            putting.cancel()
            over.cancel()

    def _broken(self) -> BaseException:
        """Why nothing can be sent."""
        return self._failure or BrokenPipeError("the function has ended, or the conversation was closed")

    def _read_ahead(self) -> None:
        if self._ahead is None and not self._is_read and self._ready_bytes < AHEAD_BYTES:
            self._ahead = asyncio.ensure_future(super()._next())
            self._ahead.add_done_callback(self._has_come)

    def _has_come(self, ahead: asyncio.Future[bytes | Completion]) -> None:
        self._ahead = None
        if ahead.cancelled():
            return
        self._failure = ahead.exception()
        if self._failure is None:
            item = ahead.result()
            self._ready.append(item)
            self._ready_bytes += len(item) if isinstance(item, bytes) else 0
        if self._failure is not None or isinstance(item, Completion):
            self._over.set()

    async def _next(self) -> bytes | Completion:
        self._is_read = True
        try:
            while not self._ready:
                if self._failure is not None:
                    raise self._failure
                if self._ahead is None:
                    return await super()._next()
                await asyncio.wait({self._ahead})
        finally:
            self._is_read = False
        item = self._ready.popleft()
        self._ready_bytes -= len(item) if isinstance(item, bytes) else 0
        return item

    async def _input(self) -> AsyncIterator[bytes]:
        while (chunk := await self._waiting.get()) is not None:
            yield chunk
