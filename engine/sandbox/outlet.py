"""The way of an answer's chunks past the event loop: from the sandbox's pipe to the client's socket, natively.

Theory of operation: a front makes an Outlet and sends it along with its request. The sandbox that runs it `offer`s
itself while it may send chunks. Once the front has sent the head of its answer, and all that came until then is
written or in its hands, it calls `carry` with the socket: from there on a Carrier (native/sched/carry.h) reads the pipe
and writes the socket, and the link follows the guest again when something else than a chunk comes. Where nobody offers
itself, such as with a sandbox of tests, chunks are taken as ever.

Guarantees: bytes come out once and in order; a slow client holds the function up; what a guest may not send is
judged by the link, as ever; a socket is written to only until `carry` is over.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from engine.sandbox.box import FULL, Carrier


class Source(Protocol):
    """Where chunks come from."""

    def divert(self, carrier: Carrier, client_fd: int) -> bool:
        """Have them taken by it, until `Outlet.over` is called."""

    def rejoin(self) -> None:
        """Take them as ever."""


class Outlet:
    """Of one answer."""

    def __init__(self, headers: bytes = b"") -> None:
        """With headers, each piece is a message of AWS's event streams with them."""
        self._headers = headers
        self.whole = True  # what was written by now ended with a piece's end: something else can follow
        self._source: Source | None = None
        self._client_fd = -1
        self._over: asyncio.Future[None] | None = None

    @property
    def offered(self) -> bool:
        """Whether there is something to be carried."""
        return self._source is not None

    def offer(self, source: Source | None) -> None:
        """A sandbox's: from here on, or None no longer."""
        self._source = source

    async def carry(self, client_fd: int, first: bytes) -> None:
        """Write these bytes, and then chunks while nothing else comes. The socket stays its owner's. See `whole`."""
        loop = asyncio.get_running_loop()
        carrier, self._client_fd, self._over = Carrier(client_fd, first, self._headers), client_fd, loop.create_future()
        source = self._source
        try:
            if source is None or not source.divert(carrier, client_fd):
                self.over(carrier, False)
            await self._over
        finally:
            if source is not None:
                source.rejoin()
            loop.remove_writer(client_fd)
            self._over = None
            self.whole = carrier.clean

    def over(self, carrier: Carrier, gone: bool) -> None:
        """Nothing more is taken by it: what it has is still to be written, unless the client is gone."""
        if self._over is None or self._over.done():
            return
        if not gone and carrier.flush() == FULL:
            asyncio.get_running_loop().add_writer(self._client_fd, self.over, carrier, False)
            return
        asyncio.get_running_loop().remove_writer(self._client_fd)
        self._over.set_result(None)
