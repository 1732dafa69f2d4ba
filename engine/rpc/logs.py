"""LogService: what is kept of a function's log, and what comes after it for as long as the caller stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from engine.errors import InvalidArgument
from engine.model.invocation import LogLine
from engine.model.names import parse_resource_name
from engine.observe.log_query import NO_END, LogQuery
from engine.registry.api import Registry
from engine.rpc.calls import Calls, Method, Write
from engine.rpc.convert import log_line_to_proto
from engine.v1 import logs_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["LogService"]


class Logs(Protocol):
    """What this front asks of engine.observe.function_logs.FunctionLogs."""

    def read(self, function_name: str, query: LogQuery, *, follow: bool = False) -> AsyncIterator[LogLine]:
        """The lines that are kept and wanted, oldest first; with `follow` then each later one, until closed."""


class LogService:
    """Reads functions' logs."""

    def __init__(self, registry: Registry, logs: Logs, calls: Calls) -> None:
        self._registry = registry
        self._logs = logs
        self._calls = calls

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {"TailLogs": self.tail}

    async def tail(self, request: pb.TailLogsRequest, write: Write) -> None:
        """Write the lines kept, and go on until the caller leaves or the engine drains if it is to follow."""
        if request.limit < 0:
            raise InvalidArgument(
                f"{request.limit} lines cannot be sent", fix="use 0 for all", fields={"limit": "must not be negative"}
            )
        name = self._registry.get(parse_resource_name(request.name)).name
        query = LogQuery(
            request_id=request.request_id,
            since_us=request.since.ToMicroseconds(),
            until_us=request.until.ToMicroseconds() if request.HasField("until") else NO_END,
            contains=request.contains,
            limit=request.limit,
        )
        lines = self._logs.read(name, query, follow=request.follow)
        try:
            async with self._calls.until_drain():
                async for line in lines:
                    await write(pb.TailLogsResponse(line=log_line_to_proto(line)))
        finally:
            close = getattr(lines, "aclose", None)
            if close is not None:
                await close()
