"""What streams through a guest's link while a run lasts: chunks of its answer, and its input, as fast as each is read.

What a chunk may hold is engine.guest.wire's. Guarantees: a guest sends no more of an answer than its event allows;
nothing is taken from an input before the handler can have it, nor once the run is over; one piece of it is held at a
time; what the input raises ends the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from engine.guest import wire
from engine.sandbox.api import Ending, Event, RunSink
from engine.sandbox.box import Carrier
from engine.sandbox.link import GuestLink, ProtocolError
from engine.sandbox.outlet import Outlet


class Flow:
    """Of one sandbox, for one run after the other."""

    def __init__(self, link: GuestLink, result_limit_bytes: int) -> None:
        self._link = link
        self._result_limit_bytes = result_limit_bytes
        self._sink: RunSink | None = None
        self._input: AsyncIterator[bytes] | None = None
        self._outlet: Outlet | None = None
        self._left_bytes = 0
        self._handler_called = asyncio.Event()
        self.limit_bytes = result_limit_bytes  # of the run's answer, streamed or in one piece

    def begin(self, event: Event, sink: RunSink) -> None:
        """The next run, which streams."""
        self._sink, self._input = sink, event.input
        self._left_bytes = event.stream_limit_bytes
        self.limit_bytes = event.stream_limit_bytes or self._result_limit_bytes
        if isinstance(event.outlet, Outlet):
            self._outlet = event.outlet
            self._outlet.offer(self)

    def handler_called(self) -> None:
        """The init phase is over."""
        self._handler_called.set()

    def chunk(self, body: bytes | bytearray) -> None:
        """The guest sent a part of its answer. Raises ProtocolError for one that it may not send."""
        self._left_bytes -= len(body)
        if self._left_bytes < 0 or not body or self._sink is None:
            raise ProtocolError("a chunk that is empty, or more of an answer than was asked for")
        until = self._sink.chunk(bytes(body))
        if until is not None:
            self._link.pause(until)

    def divert(self, carrier: Carrier, client_fd: int) -> bool:
        """See engine.sandbox.outlet.Source."""
        return self._link.divert(carrier, client_fd, self._left_bytes, self._undiverted)

    def rejoin(self) -> None:
        """See engine.sandbox.outlet.Source."""
        self._link.rejoin()

    def _undiverted(self, carrier: Carrier, gone: bool) -> None:
        self._left_bytes = carrier.left_bytes
        if self._outlet is not None:
            self._outlet.over(carrier, gone)

    async def ended(self, run: asyncio.Future[Ending]) -> Ending:
        """Wait for the run's end, carrying its input to the guest meanwhile."""
        if self._input is None:
            return await run
        feeding = asyncio.get_running_loop().create_task(self._feed(self._input))
        feeding.add_done_callback(lambda done: _fail(run, done))
        try:
            return await run
        finally:
            feeding.cancel()
            await asyncio.wait({feeding})

    def end(self) -> None:
        """The run is over."""
        if self._outlet is not None:
            self._outlet.offer(None)
            self._link.rejoin()
        self._sink = self._input = self._outlet = None
        self._left_bytes, self.limit_bytes = 0, self._result_limit_bytes

    async def _feed(self, source: AsyncIterator[bytes]) -> None:
        await self._handler_called.wait()
        async for data in source:
            for at in range(0, len(data), wire.CHUNK_LIMIT_BYTES):
                if not self._link.send(wire.frame(wire.INPUT, data[at : at + wire.CHUNK_LIMIT_BYTES])):
                    return  # the guest is going: how, its process tells
                await self._link.drained()
        self._link.send(wire.frame(wire.INPUT_END))


def _fail(run: asyncio.Future[Ending], task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None and not run.done():
        run.set_exception(error)
