"""What clients see while a function runs, and what becomes of it when they leave."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from engine.v1 import invocations_pb2, logs_pb2
from engine.v1 import reports_pb2 as pb
from tests.doors import Refused, refusal, zip_of
from tests.engines import Engine, engine
from tests.remains import HOLD, held, leaves_of, let_go, members_of, until, waiting

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

HELD = b'{"hold": true}'
Frame = invocations_pb2.InvokeStreamResponse


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with engine(tmp_path_factory.mktemp("clients") / "data") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def function(running: Engine) -> AsyncIterator[str]:
    """A function that can be held, and nothing of it afterwards."""
    await running.grpc.create("held", zip_of(HOLD), timeout_ms=60_000)
    yield "held"
    await running.grpc.delete("held")
    await until(lambda: not leaves_of(running.instance), what="its sandboxes are gone")


async def frames_of(stream: Any) -> list[Frame]:
    """The rest of a stream. Raises Refused."""
    frames = []
    try:
        while (frame := await stream.read()) is not grpc.aio.EOF:
            frames.append(frame)
    except grpc.aio.AioRpcError:
        raise await refusal(stream) from None
    return frames


async def log_of(running: Engine, name: str) -> list[str]:
    """What is kept of a function's log."""
    call = running.grpc.logs.TailLogs(logs_pb2.TailLogsRequest(name=f"functions/{name}"))
    return [answer.line.text.decode() async for answer in call]


# Streams


async def test_a_line_arrives_while_the_function_that_wrote_it_still_runs(running: Engine) -> None:
    code = HOLD.replace("        calls += 1\n", "        calls += 1\n        print('before')\n")
    await running.grpc.create("live", zip_of(code), timeout_ms=60_000)
    stream = running.grpc.stream("live", HELD)
    await held(running.instance, 1)
    frames: list[Frame] = []
    while not (frames and frames[-1].log.text == b"before"):
        frames.append(await asyncio.wait_for(stream.read(), 10))
    assert waiting(running.instance), "the line came after the end"
    await let_go(running.instance)
    frames += await frames_of(stream)
    kinds = [frame.WhichOneof("frame") for frame in frames]
    assert kinds == ["started", "log", "log", "log", "log", "log", "chunk", "finished"]
    started, finished = frames[0].started, frames[-1].finished
    assert (started.start_kind, started.executed_version) == (pb.START_KIND_FORK, "$LATEST")
    texts = [frame.log.text.decode() for frame in frames if frame.HasField("log")]
    assert texts.pop(0).startswith("INIT_START Runtime Version: python:3.")
    assert texts[:3] == [
        f"START RequestId: {started.request_id} Version: $LATEST",
        "before",
        f"END RequestId: {started.request_id}",
    ]
    assert texts[3].startswith(f"REPORT RequestId: {started.request_id}\t")
    assert {frame.log.request_id for frame in frames if frame.HasField("log")} == {started.request_id}
    assert json.loads(frames[-2].chunk)["calls"] == 1
    assert finished.report.request_id == started.request_id
    assert finished.report.outcome == pb.OUTCOME_OK
    assert not finished.HasField("function_error")
    await running.grpc.delete("live")
    await until(lambda: not leaves_of(running.instance))


async def test_what_a_function_writes_comes_in_its_order_and_a_large_answer_in_parts(running: Engine) -> None:
    body = """
        def handler(event, context):
            for n in range(400):
                print("line", n)
            return "x" * 1_000_000
    """
    await running.grpc.create("orderly", zip_of(body), memory_mb=1_769)
    for kind in (pb.START_KIND_FORK, pb.START_KIND_WARM):
        frames = await frames_of(running.grpc.stream("orderly"))
        kinds = [frame.WhichOneof("frame") for frame in frames]
        assert (kinds[0], kinds[-1]) == ("started", "finished")
        assert kinds.count("started") == kinds.count("finished") == 1
        assert frames[0].started.start_kind == kind
        lines = [frame.log.text.decode() for frame in frames if frame.HasField("log")]
        assert [line for line in lines if line.startswith("line")] == [f"line {n}" for n in range(400)]
        chunks = [frame.chunk for frame in frames if frame.WhichOneof("frame") == "chunk"]
        assert len(chunks) > 1
        assert json.loads(b"".join(chunks)) == "x" * 1_000_000
    await running.grpc.delete("orderly")


@pytest.mark.parametrize(
    ("body", "outcome", "error_type"),
    [
        ("raise ValueError('no')", pb.OUTCOME_HANDLER_ERROR, "ValueError"),
        ("import os; os._exit(3)", pb.OUTCOME_EXITED, "Runtime.ExitError"),
        ("while True: pass", pb.OUTCOME_TIMEOUT, "Sandbox.Timedout"),
    ],
    ids=["exception", "exit", "timeout"],
)
async def test_a_failure_ends_a_stream_with_one_terminal_frame(
    running: Engine, body: str, outcome: pb.Outcome.ValueType, error_type: str
) -> None:
    source = f"def handler(event, context):\n    print('said')\n    {body}\n"
    await running.grpc.create("failing", zip_of(source), timeout_ms=1_000)
    frames = await frames_of(running.grpc.stream("failing"))
    kinds = [frame.WhichOneof("frame") for frame in frames]
    assert (kinds[0], kinds[-1]) == ("started", "finished")
    assert set(kinds[1:-1]) == {"log"}, "a function that failed has no answer"
    finished = frames[-1].finished
    assert finished.report.outcome == outcome
    assert finished.function_error.type == error_type
    assert json.loads(finished.function_error.document)["errorType"] == error_type
    assert b"said" in [frame.log.text for frame in frames if frame.HasField("log")]
    await running.grpc.delete("failing")


async def test_a_stream_that_is_refused_has_no_frame(running: Engine) -> None:
    for name, payload, code in (("nosuch", b"{}", "NOT_FOUND"), ("nosuch", b"{", "NOT_FOUND")):
        with pytest.raises(Refused) as caught:
            await frames_of(running.grpc.stream(name, payload))
        assert caught.value.code == code


# Clients that leave


@pytest.mark.parametrize("way", ["cancel", "deadline", "stream", "connection"])
async def test_a_grpc_client_that_leaves_kills_the_sandbox_and_all_in_it(
    running: Engine, tmp_path: Path, way: str
) -> None:
    # Two generations of children of which the handler knows nothing any more.
    code = HOLD.replace(
        "import os, secrets, time\n", "import os, secrets, time\n    os.fork() or (os.setsid(), os.fork())\n"
    )
    code = code.replace("    def handler", "    if os.getpid() != 2:\n        time.sleep(1_000)\n\n    def handler")
    await running.grpc.create("left", zip_of(code), timeout_ms=60_000)
    own = grpc.aio.insecure_channel(f"127.0.0.1:{running.service.grpc_port}")
    try:
        method = "InvokeStream" if way == "stream" else "Invoke"
        shape = own.unary_stream if way == "stream" else own.unary_unary
        call = shape(
            f"/engine.v1.InvocationService/{method}",
            request_serializer=invocations_pb2.InvokeRequest.SerializeToString,
            response_deserializer=invocations_pb2.InvokeResponse.FromString,
        )(
            invocations_pb2.InvokeRequest(name="functions/left", payload=HELD),
            timeout=1.5 if way == "deadline" else None,
        )
        # A call starts to be sent when it is waited for.
        waiter = asyncio.ensure_future(_outcome(call, way))
        await held(running.instance, 1)
        pids = await until(lambda: (found := members_of(running.instance)) and len(found) >= 4 and found)
        if way in ("cancel", "stream"):
            call.cancel()
        elif way == "connection":
            await own.close()
        code_seen = await asyncio.wait_for(waiter, 10)
        assert code_seen == ("DEADLINE_EXCEEDED" if way == "deadline" else "CANCELLED")
        await until(lambda: not members_of(running.instance), within_s=5, what="the sandbox's processes are gone")
        await until(lambda: not leaves_of(running.instance), within_s=5, what="the sandbox is gone")
        assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
        host = await running.grpc.counts()
        assert (host.sandboxes, host.concurrency) == (0, 0)
        lines = await log_of(running, "left")
        assert [line.split(" ")[0] for line in lines] == ["INIT_START", "START", "END"]
    finally:
        await own.close()
        await running.grpc.delete("left")


async def _outcome(call: Any, way: str) -> str:
    try:
        if way == "stream":
            async for _ in call:
                pass
        else:
            await call
    except asyncio.CancelledError:
        return "CANCELLED"
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


async def test_a_client_that_leaves_one_of_ten_calls_disturbs_none_of_the_others(
    running: Engine, function: str
) -> None:
    calls = [running.grpc.call(function, HELD) for _ in range(10)]
    tasks = [asyncio.ensure_future(_outcome(call, "unary")) for call in calls]
    await held(running.instance, 10)
    for call in calls[::2]:
        call.cancel()
    await until(lambda: len(waiting(running.instance)) == 5, what="five are left")
    await let_go(running.instance, 5)
    assert await asyncio.gather(*tasks) == ["CANCELLED", "OK"] * 5


async def test_an_http_client_that_leaves_does_not_stop_the_function(running: Engine, function: str) -> None:
    left = threading.Event()

    def ask_and_leave() -> None:
        with socket.create_connection(("127.0.0.1", running.service.http_port), 5) as sock:
            sock.sendall(
                b"POST /2015-03-31/functions/held/invocations HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Length: 14\r\n\r\n" + HELD
            )
            left.wait(20)

    client = asyncio.ensure_future(asyncio.to_thread(ask_and_leave))
    await held(running.instance, 1)
    left.set()
    await client
    # The engine has seen the end of the connection when it has answered a later one.
    for _ in range(5):
        assert (await running.http.invoke("held")).json()["calls"] >= 1
    assert len(waiting(running.instance)) == 1
    assert (await running.grpc.counts()).concurrency == 1
    await let_go(running.instance)

    async def reported() -> bool:
        return [line.split(" ")[0] for line in await log_of(running, "held")].count("REPORT") == 6

    async with asyncio.timeout(10):
        while not await reported():
            await asyncio.sleep(0.01)
    assert (await running.grpc.counts()).concurrency == 0


async def test_a_follower_of_a_log_sees_each_line_as_it_is_written(running: Engine, function: str) -> None:
    await running.grpc.invoke(function)
    call: Any = running.grpc.logs.TailLogs(logs_pb2.TailLogsRequest(name="functions/held", follow=True))
    kept = [(await asyncio.wait_for(call.read(), 10)).line.text.split(b" ")[0] for _ in range(4)]
    assert kept == [b"INIT_START", b"START", b"END", b"REPORT"]
    under_way = asyncio.ensure_future(running.grpc.invoke(function, HELD))
    line = (await asyncio.wait_for(call.read(), 10)).line
    await held(running.instance, 1)
    assert line.text.startswith(b"START RequestId: " + line.request_id.encode())
    await let_go(running.instance)
    assert (await under_way).request_id == line.request_id
    call.cancel()
