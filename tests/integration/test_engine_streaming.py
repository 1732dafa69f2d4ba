"""Answers that are made in parts, from the handler's `yield` to the client: when they come, how slow readers and those
that leave are felt by the function, and how a stream ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.v1 import invocations_pb2
from engine.v1 import reports_pb2 as pb
from tests.doors import zip_of
from tests.engines import Engine, engine
from tests.integration.test_engine_clients import frames_of
from tests.remains import held, leaves_of, let_go, until

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

MB = 1 << 20
CODE = """
    import os, time

    def wait():
        open("/tmp/waits", "w").close()
        while os.path.exists("/tmp/waits"):
            time.sleep(0.002)

    def parts(event, context):
        yield "first"
        if event.get("wait"):
            wait()
        yield {"second": 2}
        if event.get("fail"):
            raise ValueError("half")
        if event.get("exit"):
            os._exit(3)
        if event.get("spin"):
            while True:
                pass

    def flood(event, context):
        with open("/tmp/made", "wb", buffering=0) as made:
            for _ in range(event["mb"] * 16):
                yield bytes(65_536)
                made.write(b".")

    async def flood_async(event, context):
        with open("/tmp/made", "wb", buffering=0) as made:
            for _ in range(event["mb"] * 16):
                yield bytes(65_536)
                made.write(b".")

    def plain(event, context):
        return event

    def large(event, context):
        return "x" * event["size"]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with engine(tmp_path_factory.mktemp("streaming") / "data", stream_limit_mb=100) as running:
        for handler in ("parts", "flood", "flood_async", "plain", "large"):
            await running.grpc.create(
                handler.replace("_", "-"), zip_of(CODE), handler=f"app.{handler}", timeout_ms=60_000, memory_mb=256
            )
        yield running


def stream(running: Engine, name: str, event: Any = None) -> Any:
    """An InvokeStream without its log."""
    return running.grpc.invocations.InvokeStream(
        invocations_pb2.InvokeStreamRequest(name=f"functions/{name}", payload=json.dumps(event or {}).encode())
    )


def body_of(frames: list[invocations_pb2.InvokeStreamResponse]) -> bytes:
    """The answer."""
    return b"".join(frame.chunk for frame in frames if frame.WhichOneof("frame") == "chunk")


async def test_a_part_arrives_while_the_handler_makes_the_next(running: Engine) -> None:
    for _ in range(2):
        call = stream(running, "parts", {"wait": True})
        assert (await call.read()).HasField("started")
        assert (await call.read()).chunk == b"first"
        await held(running.instance, 1)  # the handler has been asked for the next part, and has not made it
        await let_go(running.instance)
        frames = await frames_of(call)
        assert body_of(frames) == b'{"second": 2}\n'
        assert frames[-1].finished.report.outcome == pb.OUTCOME_OK


async def test_a_caller_that_does_not_stream_gets_the_whole(running: Engine) -> None:
    answer = await running.grpc.invoke("parts")
    assert (answer.failed, answer.payload) == (False, b'first{"second": 2}\n')
    assert (await running.http.invoke("parts")).payload == b'first{"second": 2}\n'


async def test_a_plain_handler_answers_a_stream_in_one_chunk(running: Engine) -> None:
    frames = await frames_of(stream(running, "plain", {"a": 1}))
    assert [frame.WhichOneof("frame") for frame in frames] == ["started", "chunk", "finished"]
    assert body_of(frames) == b'{"a": 1}'


async def test_a_result_that_is_too_large_for_one_piece_can_be_streamed(running: Engine) -> None:
    assert (await running.grpc.invoke("large", b'{"size": 7000000}')).error_type == "Function.ResponseSizeTooLarge"
    frames = await frames_of(stream(running, "large", {"size": 7_000_000}))
    assert len(body_of(frames)) == 7_000_002
    assert frames[-1].finished.report.outcome == pb.OUTCOME_OK


@pytest.mark.parametrize(
    ("event", "outcome", "error_type"),
    [
        ({"fail": True}, pb.OUTCOME_HANDLER_ERROR, "ValueError"),
        ({"exit": True}, pb.OUTCOME_EXITED, "Runtime.ExitError"),
    ],
    ids=["exception", "exit"],
)
async def test_a_failure_in_the_middle_comes_after_the_chunks(
    running: Engine, event: Any, outcome: pb.Outcome.ValueType, error_type: str
) -> None:
    frames = await frames_of(stream(running, "parts", event))
    assert body_of(frames) == b'first{"second": 2}\n'
    assert [frame.WhichOneof("frame") for frame in frames].count("finished") == 1
    finished = frames[-1].finished
    assert (finished.report.outcome, finished.function_error.type) == (outcome, error_type)
    answer = await running.grpc.invoke("parts", json.dumps(event).encode())
    assert (answer.failed, answer.error_type) == (True, error_type)


async def test_a_timeout_in_the_middle_comes_after_the_chunks(running: Engine) -> None:
    await running.grpc.update("parts", timeout_ms=1_000)
    try:
        frames = await frames_of(stream(running, "parts", {"spin": True}))
    finally:
        await running.grpc.update("parts", timeout_ms=60_000)
    assert body_of(frames) == b'first{"second": 2}\n'
    assert frames[-1].finished.function_error.type == "Sandbox.Timedout"


def made(running: Engine) -> int:
    """How many chunks a flood has been asked to go on after."""
    for leaf in leaves_of(running.instance):
        with contextlib.suppress(OSError):  # gone in between
            for pid in Path(leaf, "cgroup.procs").read_text().split():
                path = Path("/proc", pid, "root/tmp/made")
                if path.exists():
                    return path.stat().st_size
    return 0


async def stalled(running: Engine) -> int:
    """Wait until a flood makes nothing more for a while; how much it has made."""
    before, since = -1, 0
    while since < 5:
        await asyncio.sleep(0.1)
        now = made(running)
        since = since + 1 if now == before and now else 0
        before = now
    return before


@pytest.mark.parametrize("name", ["flood", "flood-async"])
async def test_a_reader_that_does_not_read_holds_the_handler_up(running: Engine, name: str) -> None:
    call = stream(running, name, {"mb": 60})
    assert (await call.read()).HasField("started")
    assert await stalled(running) < 60 * 16 / 2
    assert len(body_of(await frames_of(call))) == 60 * MB
    await running.grpc.update(name, description="another sandbox")


async def test_one_slow_reader_holds_up_nobody_else(running: Engine) -> None:
    call = stream(running, "flood", {"mb": 60})
    assert (await call.read()).HasField("started")
    await stalled(running)
    frames = await frames_of(stream(running, "parts"))
    assert body_of(frames) == b'first{"second": 2}\n'
    assert len(body_of(await frames_of(stream(running, "flood", {"mb": 5})))) == 5 * MB
    call.cancel()
    await running.grpc.update("flood", description="another sandbox, once more")


@pytest.mark.parametrize("name", ["flood", "flood-async"])
async def test_a_client_that_leaves_in_the_middle_stops_the_function(running: Engine, name: str) -> None:
    call = stream(running, name, {"mb": 90})
    for _ in range(3):
        await call.read()
    await stalled(running)
    assert made(running)
    call.cancel()
    await until(lambda: not made(running), what="the flood's sandbox is gone")


async def test_a_function_whose_time_is_up_ends_its_stream_whoever_reads(running: Engine) -> None:
    await running.grpc.update("flood", timeout_ms=1_500)
    try:
        call = stream(running, "flood", {"mb": 90})
        await until(lambda: made(running), what="the flood has begun")
        await until(lambda: not made(running), what="its time is up")
        frames = await frames_of(call)
    finally:
        await running.grpc.update("flood", timeout_ms=60_000)
    assert 0 < len(body_of(frames)) < 90 * MB
    assert frames[-1].finished.function_error.type == "Sandbox.Timedout"


async def test_an_answer_over_the_limit_ends_there_and_the_sandbox_goes_on(running: Engine) -> None:
    frames = await frames_of(stream(running, "flood", {"mb": 101}))
    assert len(body_of(frames)) == 100 * MB
    error = frames[-1].finished.function_error
    assert error.type == "Function.ResponseSizeTooLarge"
    assert "(104857600 bytes)" in json.loads(error.document)["errorMessage"]
    frames = await frames_of(stream(running, "flood", {"mb": 1}))
    assert frames[0].started.start_kind == pb.START_KIND_WARM
    assert frames[-1].finished.report.outcome == pb.OUTCOME_OK
    answer = await running.grpc.invoke("flood", b'{"mb": 7}')
    assert answer.error_type == "Function.ResponseSizeTooLarge"
    assert "(6291556 bytes)" in answer.json()["errorMessage"]


async def test_a_line_of_the_log_comes_before_what_was_made_after_it(running: Engine) -> None:
    code = """
        def handler(event, context):
            for n in range(5):
                print("line", n)
                yield f"chunk {n}"
    """
    await running.grpc.create("told", zip_of(code))
    frames = await frames_of(running.grpc.stream("told"))
    told = b"".join(frame.log.text if frame.HasField("log") else frame.chunk for frame in frames[1:-1])
    places = [(told.index(b"line %d" % n), told.index(b"chunk %d" % n)) for n in range(5)]
    assert all(line < chunk for line, chunk in places)
    assert body_of(frames) == b"".join(b"chunk %d" % n for n in range(5))
    await running.grpc.delete("told")


# Over HTTP


async def test_boto3_reads_a_stream_while_it_is_made(running: Engine) -> None:
    def read(payload: bytes) -> tuple[list[bytes], Any]:
        answer = running.http.client.invoke_with_response_stream(FunctionName="parts", Payload=payload, LogType="Tail")
        events = iter(answer["EventStream"])
        chunks = [next(events)["PayloadChunk"]["Payload"]]
        first.set()
        last: Any = None
        for event in events:
            if "PayloadChunk" in event:
                chunks.append(event["PayloadChunk"]["Payload"])
            else:
                last = event["InvokeComplete"]
        return chunks, last

    first = threading.Event()
    reading = asyncio.create_task(asyncio.to_thread(read, b'{"wait": true, "fail": true}'))
    await asyncio.to_thread(first.wait, 20)
    await let_go(running.instance)
    chunks, last = await reading
    assert chunks == [b"first", b'{"second": 2}\n']
    assert last["ErrorCode"] == "ValueError"
    assert json.loads(last["ErrorDetails"])["errorMessage"] == "half"
    assert b"REPORT RequestId" in base64.b64decode(last["LogResult"])


async def test_a_large_stream_comes_whole_over_http(running: Engine) -> None:
    def read() -> int:
        answer = running.http.client.invoke_with_response_stream(FunctionName="flood", Payload=b'{"mb": 30}')
        return sum(len(event["PayloadChunk"]["Payload"]) for event in answer["EventStream"] if "PayloadChunk" in event)

    assert await asyncio.to_thread(read) == 30 * MB
