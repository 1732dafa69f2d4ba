"""uvicorn's HTTP connection with what its httptools protocol lacks: a limit on a request's head, a way to cut an answer
off, and an express lane for plain requests (engine.rest._http).

Guarantees that a client cannot make the engine hold more of a head than HEAD_LIMIT_BYTES and one read of the socket;
and that the lane is tried only where uvicorn has nothing under way on the connection, neither a request nor the
beginning of one, and where the client reads what it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine.model.invocation import Pending
from engine.rest.express import RESUMED, Express, ExpressConnection, Resumed

HEAD_LIMIT_BYTES = 65_536
CUT_OFF = "cleave.cut_off"
"""The extension of ASGI's scope under which an application finds the way to end an answer without its end."""
CONNECTION = "cleave.connection"
"""That under which it finds this connection: engine.rest.past's."""


class HttpConnection(ExpressConnection, HttpToolsProtocol):
    """One connection. Without `express` it has no lane."""

    def __init__(self, *args: Any, express: Express | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._express_lane = express
        self._in_head = True
        self._between = True  # two requests, as uvicorn's parser sees it
        self._plain = True
        self._head_bytes = 0
        self._resumed: Resumed | None = None
        self._running: Resumed | None = None  # the latest, wherever it is
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The lane opens with the connection."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.join(self._express_lane, transport, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        """What the lane has under way goes on without its client, unless the operator has said otherwise."""
        self.resting = False
        if self._express_lane is not None and self._express_lane.stops:
            self.leave()
            if self._running is not None:
                self._running.gone()
        self.lost()
        if self._idle is not None:
            self._idle.cancel()
        super().connection_lost(exc)

    def feed(self, data: bytes) -> None:
        """Feed the parser, unless a head that began earlier gets too long."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes - len(data) > HEAD_LIMIT_BYTES:
                self.send_400_response("The request's head is too large.")
                return
        HttpToolsProtocol.data_received(self, data)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._between = self.resting = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. What comes after a chunked body (trailers) is not kept."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._head_bytes = 0
        self._plain = self._plain and not self.parser.should_upgrade()
        extensions: dict[str, Any] = {CUT_OFF: {"now": self._cut_off}, CONNECTION: {"itself": self}}
        if self._resumed is not None:
            extensions[RESUMED], self._resumed = self._resumed, None
        self.scope["extensions"] = extensions
        super().on_headers_complete()

    def _cut_off(self) -> None:
        """What was written is sent, then the connection is closed."""
        self.transport.close()
        # It would complain that the application wrote no end.
        self.cycle.disconnected = True

    def on_message_complete(self) -> None:
        """The next head may begin."""
        self._in_head = self._between = True
        super().on_message_complete()
        self._rest()

    def on_response_complete(self) -> None:
        """The lane may be next."""
        super().on_response_complete()
        self._running = None
        self.timed_by_server = self.timeout_keep_alive_task is not None
        self._rest()

    def _rest(self) -> None:
        self.resting = (
            self._between
            and self._plain
            and getattr(self.cycle, "response_complete", True)  # there may be none yet
            and not self.pipeline
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        super().pause_writing()
        self.resting = False

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._rest()

    def shutdown(self) -> None:
        """Let what is under way end, and close. What the lane has is uvicorn's from here on."""
        if self.under_way:
            self.adopt()
        elif self.held is not None:
            self.feed(self.take_held())
        self.resting = False
        super().shutdown()

    # --- What the lane asks for ---------------------------------------------------------------------------------------

    def resume(self, request_id: str, by_url: bool, version: str) -> Callable[[bytes | Pending | None], None]:
        """What is fed next is a request of which the function runs already; returns what takes the run's end."""
        resumed = Resumed(request_id, version, by_url=by_url, leave=self.leave, loop=self.loop)
        self._resumed = self._running = resumed
        return resumed.end

    def unheard(self) -> None:
        """The same for a client who has left: nobody is left to answer."""
        resumed, self._resumed = self._resumed, None
        assert resumed is not None and self._express_lane is not None
        if self._express_lane.forget is not None:
            self._express_lane.forget(resumed.request_id)
            return

        async def follow() -> None:
            with contextlib.suppress(Exception):
                await resumed.completion()

        task = self.loop.create_task(follow())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def failed(self, error: BaseException) -> None:
        """The engine did, while it answered; unless it is only that the client has just left."""
        if self.transport.is_closing():
            return
        self.loop.call_exception_handler({"message": "an answer could not be sent", "exception": error})
        self.transport.abort()

    def time_out(self) -> None:
        """Look from time to time whether nothing has come for too long: a timer for each request would cost more."""
        self._idle = self.loop.call_later(self.timeout_keep_alive, self._look)

    def _look(self) -> None:
        left = float(self.timeout_keep_alive)
        if self.resting and not self.timed_by_server and not self.under_way and self.held is None:
            left -= (time.monotonic_ns() - self.active_ns) / 1e9
        if left <= 0:
            self.timeout_keep_alive_handler()
        else:
            self._idle = self.loop.call_later(left, self._look)
