"""The way of an answer's body to the client past uvicorn: a descriptor of the socket, while uvicorn writes nothing.

Who writes there is engine.rest.answers'. Guarantees: nothing that uvicorn was given before is still to be written when
the descriptor is given out, so bytes stay in order; it is its own, so that a connection that uvicorn closes meanwhile
leaves it no other's; an answer that ended within a piece is cut off.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from engine.rest.connection import CONNECTION, CUT_OFF


class Past:
    """Of one answer, in chunked coding."""

    def __init__(self, connection: Any, cut_off: Any) -> None:
        self._connection = connection
        self._cut_off = cut_off

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Past | None:
        """That of an ASGI scope; None under a server that has none."""
        extensions = scope.get("extensions") or {}
        if CONNECTION not in extensions:
            return None
        return cls(extensions[CONNECTION]["itself"], extensions[CUT_OFF]["now"])

    async def begin(self) -> int | None:
        """A descriptor of the client's socket, once all that was sent is written; None where the client is gone."""
        transport = self._connection.transport
        if transport.is_closing():
            return None
        transport.set_write_buffer_limits(high=0)  # so that its flow is paused while anything waits
        await self._connection.flow.drain()
        if transport.is_closing():
            return None
        transport.set_write_buffer_limits()
        return os.dup(transport.get_extra_info("socket").fileno())

    def end(self, client_fd: int, whole: bool) -> None:
        """Close it. What is sent from here on is uvicorn's again; nothing, where the last piece is not whole."""
        os.close(client_fd)
        if not whole:
            self._cut_off()
