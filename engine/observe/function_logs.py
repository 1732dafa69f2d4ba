"""The logs of functions, in memory: the newest lines of each function, and who follows them.

Leaves to others: taking output apart into lines (engine.invoke.logtail), sending lines to clients (the fronts).
Guarantees: a function keeps at most `max_lines` lines of together at most `max_bytes`; `append` never blocks; a slow
follower loses the oldest of what it has not read, and nobody else notices. One event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from engine.model.invocation import LogLine

LINE_COST_BYTES = 128
"""What a line takes in memory beside its text."""


class _Log:
    """The newest lines of one function."""

    __slots__ = ("bytes", "lines")

    def __init__(self) -> None:
        self.lines: deque[LogLine] = deque()
        self.bytes = 0


class _Follower:
    """Lines on their way to one reader."""

    __slots__ = ("lines", "news", "request_id")

    def __init__(self, request_id: str, max_lines: int) -> None:
        self.request_id = request_id
        self.lines: deque[LogLine] = deque(maxlen=max_lines)
        self.news = asyncio.Event()


class FunctionLogs:
    """Implements what the pipeline writes to and the fronts read from.

    `max_lines`, `max_bytes`: what is kept of one function; a line counts its text and LINE_COST_BYTES.
    `follow_lines`: how many lines a follower may be behind.
    """

    def __init__(self, *, max_lines: int = 10_000, max_bytes: int = 1_048_576, follow_lines: int = 10_000) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._follow_lines = follow_lines
        self._logs: dict[str, _Log] = {}
        self._followers: dict[str, set[_Follower]] = {}

    def append(self, function_name: str, line: LogLine) -> None:
        """Keep a line and tell those who follow."""
        log = self._logs.get(function_name)
        if log is None:
            log = self._logs[function_name] = _Log()
        lines = log.lines
        lines.append(line)
        log.bytes += len(line.text) + LINE_COST_BYTES
        while log.bytes > self._max_bytes or len(lines) > self._max_lines:
            log.bytes -= len(lines.popleft().text) + LINE_COST_BYTES
        if self._followers:
            for follower in self._followers.get(function_name, ()):
                if not follower.request_id or follower.request_id == line.request_id:
                    follower.lines.append(line)
                    follower.news.set()

    def tail(self, function_name: str, *, request_id: str = "", limit: int = 0) -> list[LogLine]:
        """The lines kept, oldest first: all, or those of one invocation; the newest `limit` of them (0: all)."""
        log = self._logs.get(function_name)
        if log is None:
            return []
        lines = [line for line in log.lines if not request_id or line.request_id == request_id]
        return lines[-limit:] if limit > 0 else lines

    async def follow(self, function_name: str, *, request_id: str = "", limit: int = 0) -> AsyncIterator[LogLine]:
        """What `tail` gives, then each later line, until the iterator is closed or its reader's task is cancelled."""
        follower = _Follower(request_id, self._follow_lines)
        kept = self.tail(function_name, request_id=request_id, limit=limit)
        self._followers.setdefault(function_name, set()).add(follower)
        try:
            for line in kept:
                yield line
            while True:
                while follower.lines:
                    yield follower.lines.popleft()
                follower.news.clear()
                await follower.news.wait()
        finally:
            followers = self._followers[function_name]
            followers.discard(follower)
            if not followers:
                del self._followers[function_name]

    def forget(self, function_name: str) -> None:
        """Drop the lines kept. Those who follow stay: a function of that name may come again."""
        self._logs.pop(function_name, None)
