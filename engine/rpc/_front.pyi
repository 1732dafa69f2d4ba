"""The connections of gRPC clients and their calls, over native/front.

A Connection reads and writes when the event loop says so. It makes a Call, by `make`, for each that a client begins,
and tells it what comes by the methods on_…, which a subclass defines. What a call sends goes out at the end of the
loop's turn, or at once where it is the connection's only one.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

class Connection:
    def __init__(
        self,
        socket: socket.socket,
        peer: str,
        limit: int,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Call],
        on_closed: Callable[[Connection], None],
        join: Join | None = None,
    ) -> None:
        """Takes the socket over. `limit` is of a message, in bytes."""

    peer: str
    @property
    def calls(self) -> int:
        """How many are under way."""

    @property
    def writing(self) -> bool:
        """The socket did not take all that there is to send."""

    def shut(self) -> None:
        """Take no more calls, and tell the client."""

    def close(self) -> None:
        """Send what waits as far as the socket takes it, and end all calls."""

class Join:
    """What a server's connections have in common: the door to the dispatch loop, for calls that are plain."""

    def __init__(self, capsule: object, on_none: Callable[[], None]) -> None:
        """`capsule` is engine.sandbox.box.Door's. `on_none` is called where no call is under way after `shut`."""

    def fileno(self) -> int:
        """Readable when `due` has something to do."""

    def due(self) -> None:
        """End what is past its deadline."""

    def shut(self) -> None:
        """Take no more calls: they are the servicer's."""

    def stop(self) -> None:
        """Cancel those under way."""

    def close(self) -> None:
        """When the connections are closed."""

    @property
    def under_way(self) -> int: ...
    @property
    def counts(self) -> tuple[int, int, int, int]:
        """How many were taken, answered natively, gone on with in Python, and cancelled."""

def plain_request(message: bytes) -> tuple[bytes, bytes, bytes] | None: ...
def plain_response(
    answer: bytes,
    request_id: bytes,
    version: bytes,
    queue_us: int,
    handler_us: int,
    total_us: int,
    peak_bytes: int,
    cpu_us: int,
    memory_mb: int,
) -> bytes: ...

class Call:
    path: str
    encoding: bytes
    timeout: bytes
    @property
    def connection(self) -> Connection: ...
    @property
    def open(self) -> bool:
        """The client has not got its status yet, and is there."""

    def metadata(self) -> list[tuple[bytes, bytes]]:
        """The client's, but for what HTTP/2 and gRPC have of their own."""

    # These raise BrokenPipeError where the call is over, ValueError for what HTTP/2 cannot carry.
    def begin(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """The initial metadata; nothing where it has gone."""

    def send(self, data: bytes) -> bool:
        """One message; True if more waits to be sent than should: wait for on_drained."""

    def answer(self, data: bytes) -> None:
        """A message and a good status."""

    def finish(self, status: int, message: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """The status and the trailing metadata; nothing where there is a status."""

    def reset(self) -> None:
        """Give it up without a status."""

    def taken(self) -> None:
        """A message was taken: its client may send as much again."""

    def on_handed(self, standing: Any, left_s: float | None) -> None:
        """In place of the others up to on_half_closed, where the dispatch loop had it: it goes on as this."""

    def on_open(self) -> None: ...
    def on_message(self, data: bytes, compressed: bool) -> None: ...
    def on_oversized(self, size: int) -> None: ...
    def on_half_closed(self, whole: bool) -> None: ...
    def on_drained(self) -> None: ...
    def on_closed(self, whole: bool) -> None: ...
