"""The same promises of streams, conversations and logs by Engine in this process, AsyncClient and Client over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import pytest_asyncio

import engine
from engine.errors import InvalidArgument, NotFound
from engine.model.outcome import Outcome
from tests.callers import WAYS, calls_by, no_longer_throttled

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=WAYS)
async def calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    async with calls_by(request.param, tmp_path_factory.mktemp("embedding") / "data") as made:
        yield made


async def test_a_stream_has_the_chunks_then_the_report_and_the_log_meanwhile(calls: Any) -> None:
    lines: list[bytes] = []
    async with calls.invoke_stream("words", {}, on_log=lambda line: lines.append(line.text)) as stream:
        assert "".join([text async for text in stream.text()]) == "café crème\nbrûlée"
    assert stream.report.outcome is Outcome.OK
    assert b"begun" in lines


async def test_a_failure_in_the_middle_of_a_stream_is_raised_after_what_was_made(calls: Any) -> None:
    chunks: list[bytes] = []

    async def read() -> None:
        async for chunk in calls.invoke_stream("words", {"fail": True}):
            chunks.append(chunk)

    with pytest.raises(engine.FunctionFailed, match="half"):
        await read()
    assert b"".join(chunks).decode().endswith("brûlée")


async def test_leaving_a_stream_stops_the_function(calls: Any) -> None:
    async with calls.invoke_stream("words", {"hang": True}) as stream:
        async for _ in stream:
            break
    with pytest.raises(RuntimeError):
        _ = stream.report
    with pytest.raises(RuntimeError, match="closed"):
        await stream.read()
    await no_longer_throttled(calls)


async def test_a_conversation_goes_both_ways(calls: Any) -> None:
    async with calls.converse("echo", {"greeting": "hi"}) as talk:
        answers = talk.__aiter__()
        assert await anext(answers) == b"hi"
        for word in ("one", "two"):
            await talk.send(word)
            assert await anext(answers) == word.upper().encode()
        await talk.end()
        assert await talk.read() == b""
    assert talk.report.outcome is Outcome.OK


async def test_a_conversation_may_begin_with_what_is_sent(calls: Any) -> None:
    async with calls.converse("echo") as talk:
        for word in ("one ", "two ", "three"):
            await talk.send(word)
        await talk.end()
        assert await talk.read() == b"ONE TWO THREE"
    assert talk.report.outcome is Outcome.OK
    async with calls.converse("echo") as talk:
        await talk.end()
    async with calls.converse("echo") as talk:
        await talk.send("left in the middle")
    await no_longer_throttled(calls)


async def test_who_only_sends_hears_of_a_refusal_and_of_an_end(calls: Any) -> None:
    async def send_on(talk: Any, chunk: bytes = b"more") -> None:
        while True:
            await talk.send(chunk)

    async with calls.converse("nobody") as talk:
        for _ in range(2):
            with pytest.raises(NotFound):
                await send_on(talk)
        with pytest.raises(NotFound):
            await talk.read()
    async with calls.converse("handler", {}) as talk:
        with pytest.raises(BrokenPipeError):
            await send_on(talk)
        assert await talk.read() == b"{}"
    for event, end in (({}, None), ({"fail": True}, "half")):
        async with calls.converse("words", event) as talk:
            sending = asyncio.ensure_future(send_on(talk))
            if end is None:
                assert (await talk.read()).decode().endswith("brûlée")
            else:
                with pytest.raises(engine.FunctionFailed, match=end):
                    await talk.read()
            with pytest.raises(BrokenPipeError):
                await sending
    async with calls.converse("words", {"hang": True}, timeout_s=0.5) as talk:
        with pytest.raises(engine.TimedOut):
            await send_on(talk, b"0" * 1_000_000)  # nobody reads it, so that it is held up
    await no_longer_throttled(calls)


async def test_a_conversation_that_the_function_has_ended_takes_no_more(calls: Any) -> None:
    async with calls.converse("echo", {"greeting": "hi", "once": True}) as talk:
        answers = talk.__aiter__()
        await anext(answers)
        await talk.send("last")
        assert [chunk async for chunk in answers] == [b"LAST"]
        with pytest.raises(BrokenPipeError):
            await talk.send("more")


async def test_logs_come_oldest_first_and_only_of_the_invocation_asked_for(calls: Any) -> None:
    report = (await calls.invoke("handler", "mine")).report
    await calls.invoke("handler", "other")

    async def lines() -> list[bytes]:
        return [line.text async for line in calls.logs("handler", request_id=report.request_id)]

    found: list[bytes] = []
    while not any(line.startswith(b"REPORT") for line in found):  # written a moment after the answer
        found = await lines()
    assert b"told mine" in found
    assert b"told other" not in found


async def test_logs_are_asked_for_by_time_and_by_text(calls: Any) -> None:
    async def lines(**conditions: Any) -> list[Any]:
        return [line async for line in calls.logs("handler", **conditions)]

    first = (await calls.invoke("handler", "früh")).report
    second = (await calls.invoke("handler", "spät")).report
    mine: list[Any] = []
    while sum(line.text.startswith(b"REPORT") for line in mine) < 2:  # written a moment after the answer
        everything = await lines()
        mine = [line for line in everything if line.request_id in (first.request_id, second.request_id)]

    assert [line.text.decode() for line in await lines(contains="told sp")] == ["told spät"]
    assert {line.request_id for line in await lines(contains=b"fr\xc3\xbch")} == {first.request_id}
    assert await lines(contains="TOLD") == [], "in this very case"

    border_us = min(line.time_us for line in mine if line.request_id == second.request_id)
    border = datetime.fromtimestamp(border_us // 1_000_000, UTC) + timedelta(microseconds=border_us % 1_000_000)
    for moment in (border, border.astimezone(timezone(timedelta(hours=-5))), border.astimezone().replace(tzinfo=None)):
        assert await lines(since=moment) == [line for line in everything if line.time_us >= border_us]
        assert await lines(until=moment) == [line for line in everything if line.time_us < border_us]

    hour = timedelta(hours=1)
    assert await lines(since=hour) == everything
    assert await lines(until=hour) == await lines(since=-hour) == []
    assert await lines(since=hour, contains="told", limit=1) == [mine[-3]], "the newest of what has the text"
    for wrong in ({"limit": -1}, {"since": timedelta.max}, {"until": timedelta.min}):
        with pytest.raises(InvalidArgument) as refused:
            await lines(**wrong)
        assert set(refused.value.fields) == set(wrong)


async def test_a_log_that_is_followed_has_only_the_lines_that_were_asked_for(calls: Any) -> None:
    following = calls.logs("handler", follow=True, since=timedelta(0), contains="told")
    reading = asyncio.ensure_future(anext(following))
    while not reading.done():  # until it follows, what is written may be before its time
        await calls.invoke("handler", "followed")
    assert (await reading).text == b"told followed"
    await following.aclose()
