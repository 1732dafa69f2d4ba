"""LogService: what is kept of a function's log, and what comes after it for as long as the caller stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
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

BATCH_LINES_MAX = 1_000
BATCH_BYTES = 1_048_576
"""Of a response's lines, but for one that is larger: clients accept messages of 4 MB by default."""


class Logs(Protocol):
    """What this front asks of engine.observe.function_logs.FunctionLogs."""

    def read(self, function_name: str, query: LogQuery, *, follow: bool = False) -> AsyncIterator[Sequence[LogLine]]:
        """The lines that are kept and wanted, oldest first, as many at a time as there are; with `follow` then each
        later one, until closed."""


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
        if not 0 <= request.batch_lines <= BATCH_LINES_MAX:
            raise InvalidArgument(
                f"{request.batch_lines} lines do not fit into a response",
                fix=f"use up to {BATCH_LINES_MAX:,}, or 0 for responses of one line",
                fields={"batch_lines": f"must be 0 to {BATCH_LINES_MAX:,}"},
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
                async for some in lines:
                    for response in _responses(some, request.batch_lines):
                        await write(response)
        finally:
            close = getattr(lines, "aclose", None)
            if close is not None:
                await close()


def _responses(lines: Sequence[LogLine], batch_lines: int) -> Iterator[pb.TailLogsResponse]:
    if not batch_lines:
        for line in lines:
            yield pb.TailLogsResponse(line=log_line_to_proto(line))
        return
    some: list[LogLine] = []
    size = 0
    for line in lines:
        if some and (len(some) == batch_lines or size + len(line.text) > BATCH_BYTES):
            yield pb.TailLogsResponse(lines=map(log_line_to_proto, some))
            some, size = [], 0
        some.append(line)
        size += len(line.text)
    if some:
        yield pb.TailLogsResponse(lines=map(log_line_to_proto, some))
