"""What waits between an invocation and the client that reads its stream: the sink on one side, frames on the other.

Guarantees: frames come out in the order in which they were made, a Started before all others; a reader that is too slow
costs bounded memory, since the oldest lines of the log are dropped and one line says how many; nothing else is dropped.
What a function streams as its answer is not bounded here but by the limit of an answer.
"""

from __future__ import annotations

import asyncio
from collections import deque

from engine.model.invocation import LogLine
from engine.model.outcome import StartKind
from engine.rpc.convert import START_KIND, log_line_to_proto
from engine.v1 import invocations_pb2

WAITING_LINES = 1_000
"""Lines of the log that wait at most."""
WAITING_LOG_BYTES = 1_048_576
"""Bytes of them, but for one line that is larger."""
CHUNK_BYTES = 65_536
"""A chunk of a buffered answer."""


class FrameSink:
    """The Sink of one InvokeStream."""

    def __init__(self, *, logs: bool) -> None:
        self._want_logs = logs
        self._made = 0  # counts what was put in, to merge the two queues in its order
        self._frames: deque[tuple[int, invocations_pb2.InvokeStreamResponse]] = deque()
        self._lines: deque[tuple[int, LogLine]] = deque()
        self._line_bytes = 0
        self._dropped = 0
        self._news = asyncio.Event()
        self.has_started = False

    def started(self, request_id: str, executed_version: str, kind: StartKind) -> None:
        """A sandbox has the event."""
        self.has_started = True
        self._frames.append((self._next(), started_frame(request_id, executed_version, kind)))

    def log(self, line: LogLine) -> None:
        """A line of the log."""
        if not self._want_logs:
            return
        self._lines.append((self._next(), line))
        self._line_bytes += len(line.text)
        while len(self._lines) > 1 and (len(self._lines) > WAITING_LINES or self._line_bytes > WAITING_LOG_BYTES):
            self._line_bytes -= len(self._lines.popleft()[1].text)
            self._dropped += 1

    def chunk(self, data: bytes) -> None:
        """The next bytes of a streamed answer."""
        self._frames.append((self._next(), invocations_pb2.InvokeStreamResponse(chunk=data)))

    def take(self) -> invocations_pb2.InvokeStreamResponse | None:
        """The next frame; None if there is none yet."""
        if not self._lines or (self._frames and self._frames[0][0] < self._lines[0][0]):
            return self._frames.popleft()[1] if self._frames else None
        line = self._lines[0][1]
        if self._dropped:
            line = LogLine(line.time_us, _dropped_text(self._dropped), line.request_id)
            self._dropped = 0
        else:
            self._lines.popleft()
            self._line_bytes -= len(line.text)
        return invocations_pb2.InvokeStreamResponse(log=log_line_to_proto(line))

    async def news(self) -> None:
        """Wait until there may be a frame, or `wake` was called, since the last time."""
        await self._news.wait()
        self._news.clear()

    def wake(self) -> None:
        """Let `news` return."""
        self._news.set()

    def _next(self) -> int:
        self._news.set()
        self._made += 1
        return self._made


def started_frame(request_id: str, executed_version: str, kind: StartKind) -> invocations_pb2.InvokeStreamResponse:
    """The first frame of a stream."""
    return invocations_pb2.InvokeStreamResponse(
        started=invocations_pb2.Started(
            request_id=request_id, executed_version=executed_version, start_kind=START_KIND[kind]
        )
    )


def _dropped_text(count: int) -> bytes:
    lines = "line was" if count == 1 else "lines were"
    return f"[cleave] {count} {lines} dropped here: the reader is too slow".encode()
