"""What waits between an invocation and the client that reads its stream: the sink on one side, frames on the other.

Guarantees: frames come out in the order in which they were made, a Started before all others; a reader that is too slow
costs bounded memory: of the log the oldest lines are dropped and one line says how many; for its answer see
engine.invoke.chunks.
"""

from __future__ import annotations

import asyncio
from collections import deque

from engine.invoke.chunks import Chunks
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


Frame = invocations_pb2.InvokeStreamResponse | invocations_pb2.ConverseResponse
"""They have the same fields."""


class FrameSink:
    """The Sink of one InvokeStream or Converse; makes frames of the class `frame`."""

    def __init__(self, *, logs: bool, frame: type[Frame] = invocations_pb2.InvokeStreamResponse) -> None:
        self._want_logs = logs
        self._frame = frame
        self._made = 0  # counts what was put in, to merge the two queues in its order
        self._started: Frame | None = None
        self._chunks = Chunks()
        self._lines: deque[tuple[int, LogLine]] = deque()
        self._line_bytes = 0
        self._dropped = 0
        self._news = asyncio.Event()
        self.has_started = False

    def started(self, request_id: str, executed_version: str, kind: StartKind) -> None:
        """A sandbox has the event."""
        self.has_started = True
        self._started = self._frame(started=started(request_id, executed_version, kind))
        self._next()

    def log(self, line: LogLine) -> None:
        """A line of the log."""
        if not self._want_logs:
            return
        self._lines.append((self._next(), line))
        self._line_bytes += len(line.text)
        while len(self._lines) > 1 and (len(self._lines) > WAITING_LINES or self._line_bytes > WAITING_LOG_BYTES):
            self._line_bytes -= len(self._lines.popleft()[1].text)
            self._dropped += 1

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        """The next bytes of a streamed answer; see Sink.chunk."""
        last = self._chunks.last_order
        apart = last is not None and bool(self._lines) and self._lines[-1][0] > last
        return self._chunks.add(data, self._next(), apart=apart)

    def take(self) -> Frame | None:
        """The next frame; None if there is none yet."""
        if self._started is not None:
            started, self._started = self._started, None
            return started
        chunk = self._chunks.first_order
        if chunk is not None and (not self._lines or chunk < self._lines[0][0]):
            return self._frame(chunk=self._chunks.take())
        if not self._lines:
            return None
        line = self._lines[0][1]
        if self._dropped:
            line = LogLine(line.time_us, _dropped_text(self._dropped), line.request_id)
            self._dropped = 0
        else:
            self._lines.popleft()
            self._line_bytes -= len(line.text)
        return self._frame(log=log_line_to_proto(line))

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


def started(request_id: str, executed_version: str, kind: StartKind) -> invocations_pb2.Started:
    """What the first frame says."""
    return invocations_pb2.Started(
        request_id=request_id, executed_version=executed_version, start_kind=START_KIND[kind]
    )


def _dropped_text(count: int) -> bytes:
    lines = "line was" if count == 1 else "lines were"
    return f"[cleave] {count} {lines} dropped here: the reader is too slow".encode()
