"""Conversations, from the client's first chunk to the handler's last: ping-pong, pipes, how either side ends one."""

from __future__ import annotations

import asyncio
import contextlib
import json
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
from tests.integration.test_engine_streaming import body_of
from tests.remains import leaves_of, members_of, until

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

MB = 1 << 20
CODE = """
    def echo(event, context):
        yield {"event": event}
        for chunk in event.stream:
            yield chunk.upper()
        yield "over"

    async def echo_async(event, context):
        yield {"event": event}
        async for chunk in event.stream:
            yield chunk.upper()
        yield "over"

    def count(event, context):
        size = 0
        for chunk in event.stream:
            size += len(chunk)
            with open("/tmp/size", "w") as file:
                file.write(str(size))
            if event.get("until") and size >= event["until"]:
                break
        return size

    def deaf(event, context):
        import time
        open("/tmp/deaf", "w").close()
        while True:
            time.sleep(1)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with engine(tmp_path_factory.mktemp("converse") / "data") as running:
        for handler in ("echo", "echo_async", "count", "deaf"):
            await running.grpc.create(
                handler.replace("_", "-"), zip_of(CODE), handler=f"app.{handler}", timeout_ms=60_000, memory_mb=256
            )
        yield running


async def converse(running: Engine, name: str, event: Any = None) -> Any:
    """A conversation whose start is sent."""
    call: Any = running.grpc.invocations.Converse()
    payload = json.dumps(event).encode() if event is not None else b""
    start = invocations_pb2.ConverseStart(name=f"functions/{name}", payload=payload)
    await call.write(invocations_pb2.ConverseRequest(start=start))
    return call


async def say(call: Any, data: bytes) -> None:
    await call.write(invocations_pb2.ConverseRequest(chunk=data))


@pytest.mark.parametrize("name", ["echo", "echo-async"])
async def test_each_side_answers_the_other(running: Engine, name: str) -> None:
    for kind in (pb.START_KIND_FORK, pb.START_KIND_WARM):
        call = await converse(running, name, {"a": 1})
        assert (await call.read()).started.start_kind == kind
        assert (await call.read()).chunk == b'{"event": {"a": 1}}\n'
        for word in (b"one", b"two", b"three"):
            await say(call, word)
            assert (await call.read()).chunk == word.upper()
        await call.done_writing()
        frames = await frames_of(call)
        assert body_of(frames) == b"over"
        assert frames[-1].finished.report.outcome == pb.OUTCOME_OK


@pytest.mark.parametrize("name", ["echo", "echo-async"])
async def test_a_pipe_carries_more_than_any_buffer_holds(running: Engine, name: str) -> None:
    piece = bytes(range(256)) * 4_096
    call = await converse(running, name)

    async def write() -> None:
        for _ in range(40):
            await say(call, piece)
        await call.done_writing()

    writing = asyncio.create_task(write())
    frames = await frames_of(call)
    await writing
    head = b'{"event": {}}\n'
    assert body_of(frames) == head + piece.upper() * 40 + b"over"


async def test_a_plain_handler_may_read_its_input(running: Engine) -> None:
    call = await converse(running, "count")
    for _ in range(10):
        await say(call, bytes(100_000))
    await call.done_writing()
    assert body_of(await frames_of(call)) == b"1000000"


async def test_a_function_may_end_before_its_input_and_serves_the_next_event(running: Engine) -> None:
    call = await converse(running, "count", {"until": 1 * MB})
    # One message, of which the handler takes a part: to write to a call that is over is an error of the client's own.
    await say(call, bytes(3 * MB))
    assert MB <= int(body_of(await frames_of(call))) < 2 * MB
    for _ in range(2):
        call = await converse(running, "count")
        assert (await call.read()).started.start_kind == pb.START_KIND_WARM
        await say(call, b"12345")
        await call.done_writing()
        assert body_of(await frames_of(call)) == b"5"


def there(running: Engine, name: str) -> bool:
    """Whether a sandbox has this file in its /tmp."""
    for leaf in leaves_of(running.instance):
        with contextlib.suppress(OSError):
            for pid in Path(leaf, "cgroup.procs").read_text().split():
                if Path("/proc", pid, "root/tmp", name).exists():
                    return True
    return False


async def test_a_function_that_does_not_read_holds_its_sender_up(running: Engine) -> None:
    call = await converse(running, "deaf")
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            await say(call, bytes(65_536))
            written += 65_536

    writing = asyncio.create_task(write())
    await until(lambda: there(running, "deaf"))
    before = -1
    while written != before or not written:
        before = written
        await asyncio.sleep(0.5)
    assert written < 50 * MB
    writing.cancel()
    call.cancel()
    await until(lambda: not there(running, "deaf"), what="its sandbox is gone")


async def test_a_client_that_leaves_in_the_middle_stops_the_function(running: Engine) -> None:
    call = await converse(running, "echo")
    await call.read()
    await call.read()
    await say(call, b"x")
    assert (await call.read()).chunk == b"X"
    before = set(members_of(running.instance))
    call.cancel()
    await until(lambda: set(members_of(running.instance)) < before, what="its sandbox is gone")


async def test_what_is_no_conversation_any_more_kills_its_sandbox_and_says_why(running: Engine) -> None:
    call = await converse(running, "echo")
    await call.read()
    await call.read()
    await call.write(invocations_pb2.ConverseRequest(start=invocations_pb2.ConverseStart(name="functions/echo")))
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        await frames_of(call)


async def test_a_function_whose_time_is_up_ends_its_conversation(running: Engine) -> None:
    await running.grpc.update("echo", timeout_ms=1_000)
    try:
        call = await converse(running, "echo")
        await say(call, b"x")
        frames = await frames_of(call)
    finally:
        await running.grpc.update("echo", timeout_ms=60_000)
    assert frames[-1].finished.function_error.type == "Sandbox.Timedout"
    assert body_of(frames).endswith(b"X")
