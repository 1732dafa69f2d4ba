"""Functions' logs are kept within bounds and followed without holding anybody up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

import pytest

from engine.model.invocation import LogLine
from engine.observe.function_logs import LINE_COST_BYTES, FunctionLogs


def line(text: str | bytes, request_id: str = "r1") -> LogLine:
    return LogLine(1, text.encode() if isinstance(text, str) else text, request_id)


def texts(lines: list[LogLine]) -> list[str]:
    return [one.text.decode() for one in lines]


async def take(lines: AsyncIterator[LogLine], count: int) -> list[str]:
    async with asyncio.timeout(5):
        return [(await anext(lines)).text.decode() for _ in range(count)]


async def close(lines: AsyncIterator[LogLine]) -> None:
    await cast("AsyncGenerator[LogLine]", lines).aclose()


def test_a_function_that_never_wrote_has_an_empty_log() -> None:
    assert FunctionLogs().tail("f") == []


def test_the_tail_is_oldest_first_and_limited_to_the_newest() -> None:
    logs = FunctionLogs()
    for text in "abc":
        logs.append("f", line(text))
    logs.append("g", line("other"))
    assert texts(logs.tail("f")) == ["a", "b", "c"]
    assert texts(logs.tail("f", limit=2)) == ["b", "c"]
    assert texts(logs.tail("f", limit=9)) == ["a", "b", "c"]


def test_the_tail_of_one_invocation_has_only_its_lines_and_counts_only_them() -> None:
    logs = FunctionLogs()
    for number in range(6):
        logs.append("f", line(str(number), f"r{number % 2}"))
    assert texts(logs.tail("f", request_id="r1")) == ["1", "3", "5"]
    assert texts(logs.tail("f", request_id="r1", limit=2)) == ["3", "5"]


def test_a_function_keeps_at_most_so_many_lines() -> None:
    logs = FunctionLogs(max_lines=3)
    for number in range(10):
        logs.append("f", line(str(number)))
    assert texts(logs.tail("f")) == ["7", "8", "9"]


def test_a_function_keeps_at_most_so_many_bytes() -> None:
    logs = FunctionLogs(max_bytes=3 * (LINE_COST_BYTES + 10))
    for number in range(10):
        logs.append("f", line(str(number) * 10))
    assert len(logs.tail("f")) == 3
    logs.append("f", line("x" * 10_000))
    assert logs.tail("f") == []  # it alone is over the bound


def test_forgetting_leaves_nothing_and_a_function_of_that_name_starts_anew() -> None:
    logs = FunctionLogs()
    logs.append("f", line("old"))
    logs.forget("f")
    logs.forget("never was")
    assert logs.tail("f") == []
    logs.append("f", line("new"))
    assert texts(logs.tail("f")) == ["new"]


async def test_a_follower_gets_what_is_kept_and_then_each_line_once() -> None:
    logs = FunctionLogs()
    for text in "abc":
        logs.append("f", line(text))
    lines = logs.follow("f", limit=2)
    assert await take(lines, 1) == ["b"]
    logs.append("f", line("d"))
    assert await take(lines, 2) == ["c", "d"]
    waiting = asyncio.create_task(take(lines, 2))
    await asyncio.sleep(0)
    logs.append("f", line("e"))
    logs.append("g", line("other"))
    logs.append("f", line("f"))
    assert await waiting == ["e", "f"]
    await close(lines)


async def test_a_follower_of_one_invocation_gets_only_its_lines() -> None:
    logs = FunctionLogs()
    logs.append("f", line("a", "r1"))
    lines = logs.follow("f", request_id="r2")
    waiting = asyncio.create_task(take(lines, 1))
    await asyncio.sleep(0)
    logs.append("f", line("b", "r1"))
    logs.append("f", line("c", "r2"))
    assert await waiting == ["c"]
    await close(lines)


async def test_a_slow_follower_loses_the_oldest_and_nobody_else_does() -> None:
    logs = FunctionLogs(follow_lines=3)
    slow, quick = logs.follow("f"), logs.follow("f")
    logs.append("f", line("0"))
    assert await take(slow, 1) == await take(quick, 1) == ["0"]
    for number in range(1, 7):
        logs.append("f", line(str(number)))
        assert await take(quick, 1) == [str(number)]
    assert await take(slow, 3) == ["4", "5", "6"]
    assert len(logs.tail("f")) == 7
    await close(slow)
    await close(quick)


async def test_a_follower_who_leaves_is_forgotten() -> None:
    logs = FunctionLogs()
    lines = logs.follow("f")
    reader = asyncio.create_task(take(lines, 1))
    await asyncio.sleep(0)
    assert logs._followers
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await close(lines)
    assert logs._followers == {}


async def test_a_follower_outlives_the_function() -> None:
    logs = FunctionLogs()
    lines = logs.follow("f")
    reader = asyncio.create_task(take(lines, 1))
    await asyncio.sleep(0)
    logs.forget("f")
    logs.append("f", line("again"))
    assert await reader == ["again"]
    await close(lines)
