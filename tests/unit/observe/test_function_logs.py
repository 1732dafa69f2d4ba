"""Functions' logs are kept within bounds and followed without holding anybody up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest

from engine.errors import StoreUnusable
from engine.model.invocation import LogBatch, LogLine
from engine.model.metrics import LogCounts
from engine.observe.function_logs import ALL, FOLLOW_LINES, FULL_SHARES, FunctionLogs
from engine.observe.log_query import LogQuery

Open = Callable[..., Awaitable[FunctionLogs]]


def batch(*texts: str, request_id: str = "r1") -> LogBatch:
    return LogBatch(time.time_ns() // 1000, request_id, "s", [text.encode() for text in texts])


async def kept(logs: FunctionLogs, name: str = "f", query: LogQuery = ALL) -> list[str]:
    async with asyncio.timeout(30):
        return [line.text.decode() async for some in logs.read(name, query) for line in some]


class Following:
    """A follower's lines, one by one."""

    def __init__(self, logs: FunctionLogs, query: LogQuery = ALL) -> None:
        self._some = cast("AsyncGenerator[list[LogLine]]", logs.read("f", query, follow=True))
        self._lines: list[str] = []

    async def take(self, count: int) -> list[str]:
        async with asyncio.timeout(30):
            while len(self._lines) < count:
                self._lines += [line.text.decode() for line in await anext(self._some)]
        taken, self._lines = self._lines[:count], self._lines[count:]
        return taken

    async def close(self) -> None:
        await self._some.aclose()


@pytest.fixture
async def open_logs(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the logs of functions f and g, with a rate in MB a second, and closes them at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened(mb_per_s: float = 100) -> FunctionLogs:
            folder = tmp_path / "logs"
            logs = await FunctionLogs.open(folder, {"f", "g"}, keep_days=1, keep_mb=64, total_mb=64, mb_per_s=mb_per_s)
            stack.push_async_callback(logs.close)
            return logs

        yield opened


async def test_lines_are_read_as_soon_as_they_are_written(open_logs: Open) -> None:
    logs = await open_logs()
    assert await kept(logs) == []
    logs.append("f", batch("a", "b"))
    logs.append("g", batch("other"))
    logs.append("f", batch("c", request_id="r2"))
    assert await kept(logs) == ["a", "b", "c"]
    assert await kept(logs, query=LogQuery(request_id="r1", limit=1)) == ["b"]


async def test_lines_get_to_the_disk_by_themselves(open_logs: Open, tmp_path: Path) -> None:
    logs = await open_logs()
    logs.append("f", batch("a"))
    async with asyncio.timeout(30):
        while not list(tmp_path.rglob("*.log")):
            await asyncio.sleep(0.01)


async def test_what_was_written_is_there_after_a_restart(open_logs: Open) -> None:
    logs = await open_logs()
    logs.append("f", batch("a", "b"))
    await logs.close()
    await logs.close()
    logs.append("f", batch("too late"))
    logs = await open_logs()
    logs.append("f", batch("c"))
    assert await kept(logs) == ["a", "b", "c"]


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(StoreUnusable, match=f"{tmp_path}/logs cannot be used"):
        await FunctionLogs.open(tmp_path / "logs", set(), keep_days=1, keep_mb=1, total_mb=1, mb_per_s=1)


async def test_forgetting_leaves_nothing_and_a_function_of_that_name_starts_anew(open_logs: Open) -> None:
    logs = await open_logs()
    logs.append("f", batch("stored"))
    assert await kept(logs) == ["stored"]
    logs.append("f", batch("waiting"))
    logs.forget("f")
    logs.forget("never was")
    assert await kept(logs) == []
    logs.append("f", batch("new"))
    assert await kept(logs) == ["new"]


async def test_a_function_that_writes_too_fast_loses_its_oldest_lines_and_a_line_says_how_many(open_logs: Open) -> None:
    logs = await open_logs(mb_per_s=1)
    logs.append("g", batch("quiet"))
    for number in range(1_000):
        logs.append("f", batch(f"{number}", "x" * 998))
    lines = await kept(logs)
    missing = int(lines[0].split()[0][1:])
    assert "log lines dropped here: the function wrote faster than they can be kept]" in lines[0]
    assert len(lines) - 1 + missing == 2_000
    assert lines[-2:] == ["999", "x" * 998]
    assert sum(map(len, lines)) < 2**20
    assert await kept(logs, "g") == ["quiet"]
    assert logs.counts() == LogCounts(lines=2_001, dropped_rate=missing)
    logs.missed(7)
    assert logs.counts().dropped_busy == 7


async def test_in_a_log_in_json_missing_lines_are_a_record(open_logs: Open) -> None:
    logs = await open_logs(mb_per_s=1)
    for _ in range(1_000):
        logs.append("f", LogBatch(time.time_ns() // 1000, "r1", "s", [b'"%s"' % (b"x" * 998)], json=True))
    first, *rest = [json.loads(line) for line in await kept(logs)]
    assert first["type"] == "platform.logsDropped"
    assert first["record"]["droppedRecords"] + len(rest) == 1_000
    assert datetime.fromisoformat(first["time"]).timestamp() == pytest.approx(time.time(), abs=3_600)


async def test_many_functions_that_write_too_fast_share_what_may_wait(open_logs: Open) -> None:
    logs = await open_logs(mb_per_s=20)
    for number in range(20 * FULL_SHARES):
        for _ in range(5):
            logs.append(f"f{number}", batch("x" * 200_000))
    waiting = sum(batches.bytes for batches in logs._waiting.values())
    assert waiting < 2.5 * FULL_SHARES * logs._share_bytes


async def test_a_disk_that_is_slow_holds_nobody_up(open_logs: Open) -> None:
    logs = await open_logs()
    stuck = threading.Event()
    logs._thread.submit(stuck.wait, 60)
    try:
        for number in range(10):
            logs.append("f", batch(str(number)))
            await asyncio.sleep(0)
        reader = asyncio.create_task(kept(logs))
        follower = Following(logs, LogQuery(contains=b"live"))
        following = asyncio.create_task(follower.take(1))
        await asyncio.sleep(0)
        logs.append("f", batch("live"))
    finally:
        stuck.set()
    assert await reader == [str(number) for number in range(10)]
    assert await following == ["live"]
    await follower.close()


async def test_a_follower_gets_what_is_kept_and_then_each_line_once(open_logs: Open) -> None:
    logs = await open_logs()
    logs.append("f", batch("a", "b", "c"))
    lines = Following(logs, LogQuery(limit=2))
    assert await lines.take(1) == ["b"]
    logs.append("f", batch("d"))
    assert await kept(logs) == ["a", "b", "c", "d"]
    assert await lines.take(2) == ["c", "d"]
    waiting = asyncio.create_task(lines.take(2))
    await asyncio.sleep(0)
    logs.append("f", batch("e"))
    logs.append("g", batch("other"))
    logs.append("f", batch("f"))
    assert await waiting == ["e", "f"]
    await lines.close()


async def test_followers_who_come_while_lines_are_written_miss_none_and_get_none_twice(open_logs: Open) -> None:
    logs = await open_logs()
    total = 3_000
    readers = []

    async def write() -> None:
        for number in range(total):
            logs.append("f", batch(str(number)))
            if number % 300 == 10:
                readers.append((Following(logs), list[str]()))
            for lines, seen in readers:
                seen += await lines.take(1)

    async with asyncio.timeout(50):
        await write()
        for lines, seen in readers:
            while len(seen) < total:
                seen += await lines.take(1)
            assert seen == [str(number) for number in range(total)]
            await lines.close()


async def test_a_follower_of_one_invocation_gets_only_its_lines(open_logs: Open) -> None:
    logs = await open_logs()
    logs.append("f", batch("a", request_id="r1"))
    lines = Following(logs, LogQuery(request_id="r2"))
    waiting = asyncio.create_task(lines.take(1))
    await asyncio.sleep(0)
    logs.append("f", batch("b", request_id="r1"))
    logs.append("f", batch("c", request_id="r2"))
    assert await waiting == ["c"]
    await lines.close()


async def test_a_slow_follower_loses_the_oldest_is_told_and_nobody_else_does(open_logs: Open) -> None:
    logs = await open_logs()
    slow, quick = Following(logs), Following(logs)
    logs.append("f", batch("0"))
    assert await slow.take(1) == await quick.take(1) == ["0"]
    for number in range(1, FOLLOW_LINES + 6):
        logs.append("f", batch(str(number)))
        assert await quick.take(1) == [str(number)]
    assert await slow.take(2) == ["[5 log lines dropped here: the reader is too slow]", "6"]
    assert len(await kept(logs)) == FOLLOW_LINES + 6
    await slow.close()
    await quick.close()


async def test_a_follower_who_leaves_is_forgotten(open_logs: Open) -> None:
    logs = await open_logs()
    lines = Following(logs)
    reader = asyncio.create_task(lines.take(1))
    await asyncio.sleep(0)
    assert logs._followers
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await lines.close()
    assert logs._followers == {}


async def test_a_follower_outlives_the_function(open_logs: Open) -> None:
    logs = await open_logs()
    lines = Following(logs)
    reader = asyncio.create_task(lines.take(1))
    await asyncio.sleep(0)
    logs.forget("f")
    logs.append("f", batch("again"))
    assert await reader == ["again"]
    await lines.close()
