"""An invocation whose answer is taken as it is made: begun, and its chunks one after another.

How they are sent is engine.rest.streams' and engine.rest.urls'. Guarantees: what is refused before the function runs is
raised; a client that reads slowly holds the function up; closing the chunks before their end stops the function.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from engine.invoke.chunks import Chunks
from engine.invoke.stopping import stop
from engine.model.invocation import Completion, Invoker, InvokeRequest, LogLine
from engine.model.outcome import StartKind

PIECE_BYTES = 131_072
"""Of an answer that was made at once."""


class Answer:
    """The sink of one invocation. Make it with `begin`."""

    def __init__(self, invoker: Invoker, call: InvokeRequest) -> None:
        self.version = ""
        self._outlet = call.outlet
        self._chunks = Chunks()
        self._news = asyncio.Event()
        self._running = asyncio.ensure_future(invoker.invoke(call, self))
        self._running.add_done_callback(lambda _: self._news.set())

    @classmethod
    async def begin(cls, invoker: Invoker, call: InvokeRequest) -> Answer:
        """Returns once the function has begun, or has ended before that. Raises what was refused."""
        answer = cls(invoker, call)
        try:
            await answer._news.wait()
            if answer._running.done():
                answer._running.result()
        except BaseException:
            await stop(answer._running)
            raise
        return answer

    def started(self, request_id: str, executed_version: str, kind: StartKind) -> None:
        """See Sink."""
        self.version = executed_version
        self._news.set()

    def log(self, line: LogLine) -> None:
        """Logs are not streamed over HTTP."""

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        """See Sink."""
        self._news.set()
        return self._chunks.add(data)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """What comes before the end. Closing it stops the function."""
        try:
            while True:
                if self._chunks.first_order is not None:
                    yield self._chunks.take()
                elif self._running.done():
                    return
                else:
                    self._news.clear()
                    await self._news.wait()
        finally:
            await stop(self._running)

    @property
    def can_be_carried(self) -> bool:
        """Whether chunks that come next can go past here: see `carry`."""
        return self._outlet is not None and self._outlet.offered

    @property
    def whole(self) -> bool:
        """Whether what was carried ended with a piece's end."""
        return self._outlet is None or self._outlet.whole

    async def carry(self, client_fd: int) -> None:
        """Write what waits, and what comes as long as it is chunks, to the client's socket in HTTP's chunked coding;
        with nothing of it left for `chunks`. See `whole`."""
        assert self._outlet is not None
        waiting = []
        while self._chunks.first_order is not None:
            waiting.append(self._chunks.take())
        await self._outlet.carry(client_fd, b"".join(waiting))

    def completion(self) -> Completion:
        """How it ended, once the chunks have. Raises the engine's own errors."""
        return self._running.result()


def pieces(data: bytes) -> list[bytes]:
    """What was made at once, in parts that can be sent one after another."""
    return [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
