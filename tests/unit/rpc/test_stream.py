"""A streamed invocation: one started, what is made as it is made, and exactly one finished at the end."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import NotFound
from engine.model.invocation import Completion, FunctionError, InvokeRequest, Sink
from engine.model.outcome import Outcome, StartKind
from engine.v1 import invocations_pb2 as pb
from engine.v1 import reports_pb2
from tests.unit.rpc.things import Front, code, flat, front, info, line, never, refusal, report

REQUEST = pb.InvokeStreamRequest(name="functions/thumbs", payload=b"1")
LOGGED = pb.InvokeStreamRequest(name="functions/thumbs", payload=b"1", log_mode=pb.LOG_MODE_TAIL)


async def frames(it: Front, request: pb.InvokeStreamRequest = REQUEST) -> list[pb.InvokeStreamResponse]:
    return [frame async for frame in it.invocations.InvokeStream(request)]


def kinds(frames: list[pb.InvokeStreamResponse]) -> list[str | None]:
    return [frame.WhichOneof("frame") for frame in frames]


async def busy(request: InvokeRequest, sink: Sink | None) -> Completion:
    assert sink is not None
    sink.started("r-1", "7", StartKind.WARM)
    sink.log(line(b"a"))
    sink.chunk(b"one")
    await asyncio.sleep(0)
    sink.log(line(b"b"))
    sink.chunk(b"two")
    return Completion(report(start_kind=StartKind.WARM))


async def test_frames_come_in_the_order_in_which_the_function_made_them() -> None:
    async with front(answer=busy) as it:
        made = await frames(it, LOGGED)
        assert kinds(made) == ["started", "log", "chunk", "log", "chunk", "finished"]
        assert made[0].started == pb.Started(
            request_id="r-1", executed_version="7", start_kind=reports_pb2.START_KIND_WARM
        )
        assert [made[1].log.text, made[2].chunk, made[3].log.text, made[4].chunk] == [b"a", b"one", b"b", b"two"]
        assert made[5].finished.report.outcome == reports_pb2.OUTCOME_OK
        assert not made[5].finished.HasField("function_error")


async def test_the_log_is_left_out_unless_asked_for() -> None:
    async with front(answer=busy) as it:
        made = await frames(it)
        assert "log" not in kinds(made)
        assert flat([frame.chunk for frame in made]) == b"onetwo"


async def test_a_frame_is_sent_when_it_is_made_and_not_at_the_end() -> None:
    go_on = asyncio.Event()

    async def in_two_parts(request: InvokeRequest, sink: Sink | None) -> Completion:
        assert sink is not None
        sink.started("r-1", "$LATEST", StartKind.FORK)
        sink.chunk(b"one")
        await go_on.wait()
        sink.chunk(b"two")
        return Completion(report())

    async with front(answer=in_two_parts) as it:
        made = []
        async for frame in it.invocations.InvokeStream(REQUEST):
            made.append(frame)
            if frame.chunk == b"one":
                go_on.set()
        assert kinds(made) == ["started", "chunk", "chunk", "finished"]


@pytest.mark.parametrize(
    ("size", "chunks"), [(0, []), (1, [1]), (65_536, [65_536]), (150_000, [65_536, 65_536, 18_928])]
)
async def test_a_buffered_answer_goes_out_in_chunks(size: int, chunks: list[int]) -> None:
    payload = bytes(index % 251 for index in range(size))

    async def answer(request: InvokeRequest, sink: Sink | None) -> Completion:
        assert sink is not None
        sink.started("r-1", "$LATEST", StartKind.FORK)
        return Completion(report(), payload=payload)

    async with front(answer=answer) as it:
        made = await frames(it)
        assert kinds(made) == ["started", *["chunk"] * len(chunks), "finished"]
        assert [len(frame.chunk) for frame in made[1:-1]] == chunks
        assert flat([frame.chunk for frame in made]) == payload


async def test_there_is_a_started_frame_also_where_the_invoker_told_of_none() -> None:
    async with front() as it:
        made = await frames(it)
        assert kinds(made) == ["started", "chunk", "finished"]
        assert made[0].started.start_kind == reports_pb2.START_KIND_FORK


async def test_a_function_that_fails_ends_its_stream_with_its_error() -> None:
    async def fail(request: InvokeRequest, sink: Sink | None) -> Completion:
        assert sink is not None
        sink.started("r-1", "$LATEST", StartKind.FORK)
        sink.chunk(b"half")
        return Completion(report(Outcome.TIMEOUT), error=FunctionError("Sandbox.Timedout", b"{}"))

    async with front(answer=fail) as it:
        made = await frames(it)
        assert kinds(made) == ["started", "chunk", "finished"]
        assert made[-1].finished.function_error == pb.FunctionError(type="Sandbox.Timedout", document=b"{}")
        assert made[-1].finished.report.outcome == reports_pb2.OUTCOME_TIMEOUT


async def test_a_refusal_is_a_status_and_no_frame() -> None:
    async def refuse(request: InvokeRequest, sink: Sink | None) -> Completion:
        raise NotFound("Function not found: thumbs", fix="see `cleave list`")

    async with front(answer=refuse) as it:
        status = await refusal(it.invocations.InvokeStream(REQUEST))
        assert (code(status), info(status).reason) == ("NOT_FOUND", "NOT_FOUND")


async def test_what_fails_halfway_ends_the_stream_with_a_status_and_no_finished() -> None:
    async def fault(request: InvokeRequest, sink: Sink | None) -> Completion:
        assert sink is not None
        sink.started("r-1", "$LATEST", StartKind.FORK)
        raise KeyError("secret")

    async with front(answer=fault) as it:
        call = it.invocations.InvokeStream(REQUEST)
        first = await call.read()
        assert isinstance(first, pb.InvokeStreamResponse)
        assert kinds([first]) == ["started"]
        assert code(await refusal(call)) == "INTERNAL"
        assert len(it.faults) == 1


async def test_a_client_that_leaves_cancels_its_invocation() -> None:
    async with front(answer=never) as it:
        call = it.invocations.InvokeStream(REQUEST)
        await it.invoker.began.wait()
        call.cancel()
        await it.invoker.cancelled.wait()
        assert not it.faults


async def test_a_client_that_leaves_in_the_middle_cancels_its_invocation() -> None:
    async def endless(request: InvokeRequest, sink: Sink | None) -> Completion:
        assert sink is not None
        sink.started("r-1", "$LATEST", StartKind.FORK)
        while True:
            sink.log(line(b"x" * 1_000))
            await asyncio.sleep(0)

    async with front(answer=endless) as it:
        call = it.invocations.InvokeStream(LOGGED)
        for _ in range(3):
            await call.read()
        call.cancel()
        await it.invoker.cancelled.wait()
        assert not it.faults


async def test_a_reader_that_is_slow_gets_every_chunk_and_is_told_of_the_lines_it_lost() -> None:
    async def noisy(request: InvokeRequest, sink: Sink | None) -> Completion:
        assert sink is not None
        sink.started("r-1", "$LATEST", StartKind.FORK)
        for number in range(20_000):
            sink.log(line(b"%d" % number))
            if number % 1_000 == 0:
                sink.chunk(b"%d," % number)
        return Completion(report())

    async with front(answer=noisy) as it:
        made = await frames(it, LOGGED)
        assert flat([frame.chunk for frame in made]) == flat([b"%d," % number for number in range(0, 20_000, 1_000)])
        logs = [frame.log.text for frame in made if frame.WhichOneof("frame") == "log"]
        assert logs[-1] == b"19999"
        assert any(b"dropped here" in text for text in logs)
        assert len(logs) < 5_000
        assert kinds(made).count("finished") == 1
        assert kinds(made)[-1] == "finished"
