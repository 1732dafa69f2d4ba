"""One invocation's log: raw output in, lines out, at a bounded cost for everybody else.

Output is split into lines as it comes. A function that writes more than SLICE_LINES within WINDOW_S falls behind: its
output waits, unsplit, and is taken on by so many lines a window; of what waits, the oldest is dropped beyond
BACKLOG_BYTES, counted, and named in one line where the gap is. So a flood costs the event loop about a tenth of its
time, a millisecond at a stretch, however much is written.

Leaves to others: keeping lines (engine.observe.function_logs), sending them (the front's sink). Guarantees: lines come
in order, none longer than LINE_LIMIT_BYTES (a longer one is cut into several), and the newest are never those dropped.
What is written when all is over is kept at once, as lines of the same invocation, and forwarded to nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from engine.model.invocation import LOG_TAIL_BYTES, LogBatch, LogLine

LINE_LIMIT_BYTES = 262_144
"""What CloudWatch allows for one event: docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html."""
SLICE_LINES = 1_500
WINDOW_S = 0.01
BACKLOG_BYTES = 1_048_576
FINISH_LINES = 10_000
"""How many lines that wait when the function ends are still taken on: some 20 ms of work."""


def dropped_line(lines: int) -> str:
    """What stands where lines are missing."""
    return f"[{lines} log lines dropped here: the function wrote faster than they can be kept]"


class LogTail:
    """`keep` gets all lines with the function's name; `forward` gets them one by one, if there is one."""

    __slots__ = (
        "_behind",
        "_dropped",
        "_dropped_text",
        "_forward",
        "_function_name",
        "_json",
        "_keep",
        "_left",
        "_loop",
        "_over",
        "_pending",
        "_request_id",
        "_stream",
        "_tail",
        "_tail_bytes",
        "_takes",
        "_timer",
        "_wall_ns",
        "_window_end",
        "lost",
    )

    def __init__(
        self,
        function_name: str,
        request_id: str,
        stream: str,
        keep: Callable[[str, LogBatch], None],
        forward: Callable[[LogLine], None] | None,
        wall_ns: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        *,
        dropped: Callable[[int, int], str] = lambda lines, wall_ns: dropped_line(lines),
        takes: Callable[[bytes], bool] | None = None,
        json: bool = False,
    ) -> None:
        """`dropped` says how many lines are missing; `takes` decides which lines of the function are kept; `json` says
        that they are in JSON."""
        self._function_name = function_name
        self._request_id = request_id
        self._stream = stream
        self._keep = keep
        self._forward = forward
        self._wall_ns = wall_ns
        self._loop = loop
        self._dropped_text = dropped
        self._takes = takes
        self._json = json
        self._pending = bytearray()  # begins where a line begins: one without its end yet, or a backlog
        self._behind = False  # there are whole lines in it
        self._dropped = 0  # lines missing before it
        self.lost = 0  # lines missing, all in all
        self._left = 0  # lines that this window has left
        self._window_end = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._over = False

    @property
    def behind(self) -> bool:
        """Whether `finish` has lines to catch up with."""
        return self._behind

    def output(self, data: bytes) -> None:
        """Raw output, in pieces of any size."""
        if not self._behind:
            now = self._loop.time()
            if now >= self._window_end:
                self._window_end = now + WINDOW_S
                self._left = SLICE_LINES
            lines = data.split(b"\n", self._left)
            rest = lines.pop()
            if lines:
                self._left -= len(lines)
                if self._pending:
                    lines[0] = bytes(self._pending) + lines[0]
                    self._pending.clear()
                self._take(lines)
            data = rest
        self._pending += data
        self._behind = self._behind or b"\n" in data
        if self._behind:
            self._fall_behind()
        elif self._over and self._pending:
            self._end_line()
        elif len(self._pending) > LINE_LIMIT_BYTES:
            self._cut_long_line()

    def say(self, texts: Sequence[str]) -> None:
        """Lines of the engine's own, after what was taken on and on lines of their own."""
        if self._pending and not self._behind:
            self._end_line()
        self._emit([text.encode(errors="replace") for text in texts])

    def announce(self, texts: Sequence[str]) -> None:
        """Lines of the engine's own, said before anything else, that are no part of the tail."""
        if texts:
            self._pass_on([text.encode(errors="replace") for text in texts])

    async def finish(self) -> None:
        """Take on what waits, up to FINISH_LINES of it, and end the last line."""
        self._shorten(FINISH_LINES)
        while self._behind:
            self._next_slice()
            await asyncio.sleep(0)
        self.finish_now()

    def finish_now(self) -> None:
        """Take on what waits, up to SLICE_LINES of it, and end the last line; for callers that may not wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._behind:
            self._shorten(SLICE_LINES)
            self._next_slice()
        if self._pending:
            self._end_line()

    def end(self, keep: Callable[[str, LogBatch], None]) -> None:
        """All that belongs to the invocation has been said; what comes yet goes to `keep` alone."""
        self._over = True
        self._keep = keep
        self._forward = None

    def tail(self) -> bytes:
        """The end of the log, at most LOG_TAIL_BYTES, in whole lines; of a line that is longer than that alone, the
        end that fits."""
        room = LOG_TAIL_BYTES
        lines: list[bytes] = []
        for line in reversed(self._tail):
            if len(line) >= room:
                if len(line) >= LOG_TAIL_BYTES and room > 1:
                    lines.append(line[1 - room :])
                break
            lines.append(line)
            room -= len(line) + 1
        lines.reverse()
        return b"".join([line + b"\n" for line in lines])

    def _take(self, texts: Sequence[bytes]) -> None:
        """Lines of the function."""
        if max(map(len, texts)) > LINE_LIMIT_BYTES:
            texts = [piece for text in texts for piece in _cut(text)]
        if self._takes is not None:
            texts = [text for text in texts if self._takes(text)]
        self._emit(texts)

    def _emit(self, texts: Sequence[bytes]) -> None:
        if not texts:
            return
        self._pass_on(texts)
        tail = self._tail
        start, size = len(texts), 0
        while start and size < LOG_TAIL_BYTES:
            start -= 1
            size += len(texts[start]) + 1
        tail.extend(texts[start:] if start else texts)
        self._tail_bytes += size
        while self._tail_bytes - len(tail[0]) - 1 >= LOG_TAIL_BYTES:
            self._tail_bytes -= len(tail.popleft()) + 1

    def _pass_on(self, texts: Sequence[bytes]) -> None:
        time_us = self._wall_ns() // 1000
        self._keep(self._function_name, LogBatch(time_us, self._request_id, self._stream, texts, self._json))
        forward = self._forward
        if forward is not None:
            for text in texts:
                forward(LogLine(time_us, text, self._request_id))

    def _end_line(self) -> None:
        text = bytes(self._pending)
        self._pending.clear()
        self._take((text,))

    def _cut_long_line(self) -> None:
        whole = len(self._pending) // LINE_LIMIT_BYTES * LINE_LIMIT_BYTES
        text = bytes(self._pending[:whole])
        del self._pending[:whole]
        self._take((text,))

    def _fall_behind(self) -> None:
        pending = self._pending
        if len(pending) > BACKLOG_BYTES:
            # A quarter more than there has to go, so that not every piece of a flood moves all that waits.
            end = pending.find(b"\n", len(pending) - BACKLOG_BYTES * 3 // 4)
            self._drop(end + 1 if end >= 0 else len(pending) - BACKLOG_BYTES)
        if self._timer is None:
            self._timer = self._loop.call_later(WINDOW_S, self._window)

    def _drop(self, size: int) -> None:
        lines = self._pending.count(b"\n", 0, size)
        self._dropped += lines
        self.lost += lines
        del self._pending[:size]
        self._behind = b"\n" in self._pending

    def _shorten(self, lines: int) -> None:
        """Drop the oldest of what waits but for so many lines."""
        if self._behind and self._pending.count(b"\n") > lines:
            self._drop(len(self._pending.rsplit(b"\n", lines + 1)[0]) + 1)

    def _window(self) -> None:
        self._timer = None
        self._next_slice()
        if self._behind:
            self._timer = self._loop.call_later(WINDOW_S, self._window)

    def _next_slice(self) -> None:
        """Take on SLICE_LINES of what waits, after a word about what is missing before it."""
        if self._dropped:
            self._emit((self._dropped_text(self._dropped, self._wall_ns()).encode(),))
            self._dropped = 0
        lines = bytes(self._pending).split(b"\n", SLICE_LINES)
        rest = lines.pop()
        del self._pending[: len(self._pending) - len(rest)]
        self._behind = b"\n" in rest
        if lines:
            self._take(lines)


def _cut(text: bytes) -> list[bytes]:
    return [text[at : at + LINE_LIMIT_BYTES] for at in range(0, len(text), LINE_LIMIT_BYTES)] or [text]
