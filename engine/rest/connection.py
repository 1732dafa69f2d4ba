"""uvicorn's HTTP connection with a limit on a request's head, which uvicorn's httptools protocol lacks.

Guarantees that a client cannot make the engine hold more of a head than HEAD_LIMIT_BYTES and one read of the socket.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT_BYTES = 65_536


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
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next head may begin."""
        self._in_head = True
        super().on_message_complete()
