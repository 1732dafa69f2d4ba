"""uvicorn's HTTP connection with what its httptools protocol lacks: a limit on a request's head, and a way to cut an
answer off.

Guarantees that a client cannot make the engine hold more of a head than HEAD_LIMIT_BYTES and one read of the socket.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT_BYTES = 65_536
CUT_OFF = "cleave.cut_off"
"""The extension of ASGI's scope under which an application finds the way to end an answer without its end."""


class HttpConnection(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless a head that began earlier gets too long."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes - len(data) > HEAD_LIMIT_BYTES:
                self.send_400_response("The request's head is too large.")
                return
        super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. What comes after a chunked body (trailers) is not kept."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._head_bytes = 0
        self.scope["extensions"] = {CUT_OFF: {"now": self._cut_off}}
        super().on_headers_complete()

    def _cut_off(self) -> None:
        """What was written is sent, then the connection is closed."""
        self.transport.close()
        # It would complain that the application wrote no end.
        self.cycle.disconnected = True

    def on_message_complete(self) -> None:
        """The next head may begin."""
        self._in_head = True
        super().on_message_complete()
