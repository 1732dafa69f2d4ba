"""A conversation: what is refused, what the invocation is given, and how either side ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.model.invocation import Completion, InvokeRequest, Sink
from engine.model.outcome import StartKind
from engine.v1 import invocations_pb2 as pb
from tests.unit.rpc.things import Front, code, fields, front, refusal, report

START = pb.ConverseRequest(start=pb.ConverseStart(name="functions/thumbs", payload=b'{"a": 1}', request_id="r"))


def chunk(data: bytes) -> pb.ConverseRequest:
    return pb.ConverseRequest(chunk=data)


async def echo(request: InvokeRequest, sink: Sink | None) -> Completion:
    """Say back what is said."""
    assert sink is not None
    assert request.input is not None
    sink.started("r-1", "7", StartKind.WARM)
    async for data in request.input:
        sink.chunk(data)
    return Completion(report(), payload=b"end")


async def begun(it: Front, *first: pb.ConverseRequest) -> Any:
    """A conversation whose first requests are sent."""
    call: Any = it.invocations.Converse()
    for request in first:
        await call.write(request)
    return call


async def test_what_is_said_is_answered_while_more_is_said() -> None:
    async with front(answer=echo) as it:
        call = await begun(it, START)
        assert (await call.read()).started.executed_version == "7"
        for data in (b"one", b"two"):
            await call.write(chunk(data))
            assert (await call.read()).chunk == data
        await call.done_writing()
        rest = [await call.read(), await call.read()]
        assert rest[0].chunk == b"end"
        assert rest[1].HasField("finished")
        (request,) = it.invoker.requests
        assert (request.payload, request.request_id, request.ref.name) == (b'{"a": 1}', "r", "thumbs")


async def test_an_invocation_may_end_before_its_input() -> None:
    async def deaf(request: InvokeRequest, sink: Sink | None) -> Completion:
        return Completion(report(), payload=b"1")

    async with front(answer=deaf) as it:
        call = await begun(it, START)
        kinds = [(await call.read()).WhichOneof("frame") for _ in range(3)]
        assert kinds == ["started", "chunk", "finished"]
        assert (await call.code()).name == "OK"


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([], "start"),
        ([chunk(b"x")], "start"),
        ([pb.ConverseRequest()], "start"),
        ([pb.ConverseRequest(start=pb.ConverseStart(name="functions/thumbs", payload=b"[]"))], "start.payload"),
        ([START, START], "chunk"),
        ([START, chunk(b"x"), pb.ConverseRequest()], "chunk"),
    ],
    ids=["nothing", "no start", "empty", "no object", "two starts", "empty later"],
)
async def test_what_is_no_conversation_is_refused(requests: list[pb.ConverseRequest], field: str) -> None:
    async with front(answer=echo) as it:
        call: Any = it.invocations.Converse(iter(requests))
        status = await refusal(call)
        assert code(status) == "INVALID_ARGUMENT"
        assert set(fields(status)) == {field}
        assert not it.faults


async def test_a_client_that_leaves_is_not_taken_for_one_that_has_said_all() -> None:
    ended = asyncio.Event()

    async def listen(request: InvokeRequest, sink: Sink | None) -> Completion:
        assert request.input is not None
        assert sink is not None
        sink.started("r-1", "7", StartKind.WARM)
        async for _ in request.input:
            sink.chunk(b"heard")
        ended.set()
        return Completion(report())

    async with front(answer=listen) as it:
        for _ in range(20):
            it.invoker.cancelled.clear()
            call = await begun(it, START, chunk(b"x"))
            assert (await call.read()).HasField("started")
            assert (await call.read()).chunk == b"heard"
            call.cancel()
            await it.invoker.cancelled.wait()
            assert not ended.is_set()
        assert not it.faults


async def test_a_client_is_held_up_while_its_input_is_not_read() -> None:
    async def deaf(request: InvokeRequest, sink: Sink | None) -> Completion:
        await asyncio.Event().wait()
        raise AssertionError

    async with front(answer=deaf) as it:
        call = await begun(it, START)
        written = 0

        async def write() -> None:
            nonlocal written
            while True:
                await call.write(chunk(bytes(65_536)))
                written += 65_536

        writing = asyncio.create_task(write())
        before = -1
        while written != before or not written:
            before = written
            await asyncio.sleep(0.3)
        assert written < 50_000_000
        writing.cancel()
        call.cancel()
        await it.invoker.cancelled.wait()


async def requests_of(*requests: pb.ConverseRequest) -> AsyncIterator[pb.ConverseRequest]:
    for request in requests:
        yield request


async def test_an_input_may_be_empty() -> None:
    async with front(answer=echo) as it:
        frames = [frame async for frame in it.invocations.Converse(requests_of(START))]
        assert [frame.WhichOneof("frame") for frame in frames] == ["started", "chunk", "finished"]
