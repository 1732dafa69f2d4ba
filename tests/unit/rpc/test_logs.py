"""A function's log over gRPC: what is kept, and what comes after it while the reader stays."""

from __future__ import annotations

import grpc
import pytest

from engine.observe.log_query import LogQuery
from engine.v1.logs_pb2 import TailLogsRequest
from tests.unit.rpc.things import code, fields, front, line, refusal


async def test_the_lines_kept_are_sent_and_the_stream_ends() -> None:
    async with front("thumbs") as it:
        it.logs.kept = [line(b"1"), line(b"2", "r-2"), line(b"3"), line(b"4")]
        request = TailLogsRequest(name="functions/thumbs", request_id="r-1", limit=2)
        assert [sent.line.text async for sent in it.tails.TailLogs(request)] == [b"3", b"4"]


async def test_what_is_asked_for_gets_to_the_log() -> None:
    async with front("thumbs") as it:
        request = TailLogsRequest(name="functions/thumbs", request_id="r-1", limit=2, contains=b"\xffx")
        request.since.FromMicroseconds(1_700_000_000_123_456)
        request.until.FromMicroseconds(1_700_000_001_000_000)
        assert [sent async for sent in it.tails.TailLogs(request)] == []
        assert [sent async for sent in it.tails.TailLogs(TailLogsRequest(name="functions/thumbs"))] == []
        whole = LogQuery("r-1", 1_700_000_000_123_456, 1_700_000_001_000_000, b"\xffx", 2)
        assert it.logs.queries == [whole, LogQuery()]


async def test_lines_come_together_where_that_is_asked_for_and_within_bounds() -> None:
    async with front("thumbs") as it:
        it.logs.kept = [line(b"%d" % number) for number in range(5)]
        request = TailLogsRequest(name="functions/thumbs", batch_lines=2)
        answers = [answer async for answer in it.tails.TailLogs(request)]
        assert [[one.text for one in answer.lines] for answer in answers] == [[b"0", b"1"], [b"2", b"3"], [b"4"]]
        assert not any(answer.HasField("line") for answer in answers)
        it.logs.kept = [line(b"x" * size) for size in (700_000, 300_000, 300_000, 2_000_000, 1)]
        request.batch_lines = 1_000
        answers = [answer async for answer in it.tails.TailLogs(request)]
        sizes = [[len(one.text) for one in answer.lines] for answer in answers]
        assert sizes == [[700_000, 300_000], [300_000], [2_000_000], [1]]
        for wrong in (-1, 1_001):
            request.batch_lines = wrong
            assert list(fields(await refusal(it.tails.TailLogs(request)))) == ["batch_lines"]


async def test_who_follows_gets_each_later_line_until_he_leaves() -> None:
    async with front("thumbs") as it:
        it.logs.kept = [line(b"1")]
        call = it.tails.TailLogs(TailLogsRequest(name="functions/thumbs", follow=True))
        seen = []
        async for sent in call:
            seen.append(sent.line.text)
            if len(seen) == 3:
                break
            it.logs.later.put_nowait(line(b"%d" % (len(seen) + 1)))
        assert seen == [b"1", b"2", b"3"]
        call.cancel()
        await it.logs.closed.wait()


async def test_an_engine_that_stops_does_not_wait_for_who_follows() -> None:
    async with front("thumbs") as it:
        it.logs.kept = [line(b"1")]
        call = it.tails.TailLogs(TailLogsRequest(name="functions/thumbs", follow=True))
        await call.read()
        await it.server.stop(30)
        assert it.logs.closed.is_set()
        # The engine's own words, or gRPC's where a busy client reads the end of the connection first.
        assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_log_of_no_function_is_not_found() -> None:
    async with front() as it:
        status = await refusal(it.tails.TailLogs(TailLogsRequest(name="functions/thumbs", follow=True)))
        assert code(status) == "NOT_FOUND"


async def test_a_negative_limit_is_refused() -> None:
    async with front("thumbs") as it:
        status = await refusal(it.tails.TailLogs(TailLogsRequest(name="functions/thumbs", limit=-1)))
        assert list(fields(status)) == ["limit"]


async def test_a_log_that_breaks_is_a_fault_and_closes() -> None:
    async with front("thumbs") as it:
        it.logs.kept = [line("no bytes")]  # type: ignore[arg-type]
        call = it.tails.TailLogs(TailLogsRequest(name="functions/thumbs", follow=True))
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
        assert await call.code() is grpc.StatusCode.INTERNAL
        await it.logs.closed.wait()
