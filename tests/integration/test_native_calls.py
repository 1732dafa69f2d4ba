"""Calls of Invoke that go from the connection to the dispatch loop and back in native code: nobody can tell, but for
how soon they are answered."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
import pytest
import pytest_asyncio

from engine.v1 import invocations_pb2 as pb
from tests.doors import Refused, refusal, zip_of
from tests.engines import Engine, engine
from tests.remains import HOLD, held, let_go, until
from tests.unit.rpc import wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

CODE = zip_of("""
    import os, time

    def handler(event, context):
        do = event.get("do") if isinstance(event, dict) else None
        if do == "print":
            print("words")
        elif do == "sleep":
            time.sleep(60)
        elif do == "raise":
            raise ValueError("no good")
        elif do == "exit":
            os._exit(3)
        elif do == "name":
            return os.environ["NAME"]
        elif do == "large":
            return "x" * event["size"]
        return event
""")
EVENT = b'{"a": 1}'
ENGINE = str(Path(__file__).parents[2] / "engine")


class Bed:
    """An engine, with a function that has one warm sandbox."""

    def __init__(self, running: Engine) -> None:
        self.running = running
        self.invocations = running.grpc.invocations
        fronts = running.service._fronts
        assert fronts is not None
        self.rpc = fronts[0]

    async def warm(self) -> None:
        """It served the last call as the long way does."""
        answer = await self.invocations.Invoke(request(log_mode=pb.LOG_MODE_TAIL))
        assert answer.WhichOneof("result") == "payload"

    async def natively(self, message: pb.InvokeRequest) -> pb.InvokeResponse:
        """Its answer, where the loop had it to its end: at first the memory of a sandbox grows, and calls are handed
        over."""
        for _ in range(100):
            before = self.rpc.native_calls
            answer = await self.invocations.Invoke(message)
            grown = [now - then for now, then in zip(self.rpc.native_calls, before, strict=True)]
            if grown == [1, 1, 0, 0]:
                return answer
        raise AssertionError("none was answered natively")

    async def free(self) -> None:
        """No call has a sandbox."""
        scheduler = self.running.service.parts.pipeline._scheduler
        await until(lambda: scheduler.counts().concurrency == 0, within_s=30, what="no call is left")


def request(payload: bytes = EVENT, **fields: Any) -> pb.InvokeRequest:
    return pb.InvokeRequest(name="functions/f", payload=payload, **fields)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engines(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Bed, Bed]]:
    """One with the engine's own front, one with grpcio's."""
    folder = tmp_path_factory.mktemp("fronts")
    async with (
        engine(folder / "own", grpc_front="native") as own,
        engine(folder / "other", grpc_front="grpcio") as other,
    ):
        for running in (own, other):
            await running.grpc.create("f", CODE, memory_mb=256, timeout_ms=1_500)
        yield Bed(own), Bed(other)


@pytest_asyncio.fixture(loop_scope="module")
async def bed(engines: tuple[Bed, Bed]) -> Bed:
    await engines[0].warm()
    return engines[0]


async def test_a_plain_call_is_answered_natively_with_the_report_that_python_gives(bed: Bed) -> None:
    id = "6F0c0c5e-7f57-4d6e-a1c8-1d6c1f1f2b3a"
    native = await bed.natively(request(request_id=id))
    before = bed.rpc.native_calls
    python = await bed.invocations.Invoke(request(request_id=id, payload_encoding=pb.PAYLOAD_ENCODING_JSON))
    assert bed.rpc.native_calls == before
    assert native.payload == python.payload == EVENT
    assert native.report.request_id == id
    fields = [{field.name for field, _ in answer.report.ListFields()} for answer in (native, python)]
    assert fields[0] - {"cpu_us"} == fields[1] - {"cpu_us"}
    for name in ("request_id", "executed_version", "outcome", "start_kind", "memory_mb"):
        assert getattr(native.report, name) == getattr(python.report, name), name
    assert 0 < native.report.handler_us <= native.report.total_us
    assert native.report.billed_ms == -(-native.report.handler_us // 1000)


async def test_it_has_its_lines_and_its_place_in_the_counts(bed: Bed) -> None:
    async def counted() -> tuple[int, int, int]:
        found = next(one for one in (await bed.running.grpc.metrics()).functions if one.name == "functions/f")
        return sum(one.count for one in found.invocations), found.event_bytes, found.result_bytes

    before = await counted()
    calls = bed.rpc.native_calls[0]
    answer = await bed.natively(request(b'{"do": "large", "size": 5}'))
    calls = bed.rpc.native_calls[0] - calls
    after = await counted()
    assert [now - then for now, then in zip(after, before, strict=True)] == [calls, calls * 26, calls * 7]
    own = [line.text.split()[0] async for line in lines_of(bed, answer.report.request_id)]
    assert own == [b"START", b"END", b"REPORT"]


async def lines_of(bed: Bed, request_id: str) -> AsyncIterator[Any]:
    from engine.v1 import logs_pb2

    async for one in bed.running.grpc.logs.TailLogs(logs_pb2.TailLogsRequest(name="functions/f")):
        if one.line.request_id == request_id:
            yield one.line


ODD: dict[str, bytes] = {
    "writes to its log": b'{"do": "print"}',
    "raises": b'{"do": "raise"}',
    "exits": b'{"do": "exit"}',
    "takes too long": b'{"do": "sleep"}',
    "has a large answer": b'{"do": "large", "size": 300000}',
    "has too large an answer": b'{"do": "large", "size": 7000000}',
    "is no JSON": b"{",
    "is deep": b"[" * 200 + b"]" * 200,
    "is in UTF-8": '"é"'.encode(),
    "is no UTF-8": b'"\xff"',
    "has half a pair": b'"\\ud83d"',
    "is large": json.dumps("x" * 100_000).encode(),
    "is empty": b"",
    "is too large": b'"' + b"x" * 6_400_000 + b'"',
}


async def outcome(bed: Bed, payload: bytes) -> Any:
    """How it ends, without what differs from one call to the next."""
    await bed.warm()
    call = bed.invocations.Invoke(request(payload), timeout=50)
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        found: Refused = await refusal(call)
        return error.code(), found.kind, found.message
    document = json.loads(answer.function_error.document or b"null")
    if document:
        document.pop("requestId", None)
        document["errorMessage"] = document["errorMessage"].replace(answer.report.request_id, "it")
    if document and "Task timed out" in document["errorMessage"]:
        document["errorMessage"] = document["errorMessage"].partition(" ")[2]
    return answer.payload, answer.function_error.type, document, answer.report.outcome


@pytest.mark.parametrize("what", ODD)
async def test_what_is_odd_about_a_call_ends_as_at_the_other_server(engines: tuple[Bed, Bed], what: str) -> None:
    own, other = await asyncio.gather(*(outcome(bed, ODD[what]) for bed in engines))
    assert own == other


async def test_a_function_that_changes_or_goes_is_called_as_it_is_then(bed: Bed) -> None:
    plain = pb.InvokeRequest(name="functions/g", payload=b'{"do": "name"}')
    await bed.running.grpc.create("g", CODE, memory_mb=256, environment={"NAME": "one"})
    for name in ("one", "two"):
        if name == "two":
            await bed.natively(plain)
            await bed.running.grpc.update("g", environment={"NAME": "two"})
        for _ in range(3):
            assert json.loads((await bed.invocations.Invoke(plain)).payload) == name
    await bed.natively(plain)
    limits: Any = bed.running.http.client
    await asyncio.to_thread(limits.put_function_concurrency, FunctionName="g", ReservedConcurrentExecutions=0)
    assert (await refused(bed, plain)).code == "RESOURCE_EXHAUSTED"
    await asyncio.to_thread(limits.delete_function_concurrency, FunctionName="g")
    await bed.natively(plain)
    await bed.running.grpc.delete("g")
    assert (await refused(bed, plain)).code == "NOT_FOUND"


async def refused(bed: Bed, message: pb.InvokeRequest) -> Refused:
    call = bed.invocations.Invoke(message)
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    return await refusal(call)


async def test_a_client_who_leaves_has_its_sandbox_killed(bed: Bed) -> None:
    before = bed.rpc.native_calls
    call = bed.invocations.Invoke(request(b'{"do": "sleep"}'))
    await until(lambda: bed.rpc.native_calls[0] > before[0], what="it runs")
    call.cancel()
    await bed.free()
    assert bed.rpc.native_calls[3] == before[3] + 1


async def test_a_deadline_that_passes_kills_the_sandbox(bed: Bed) -> None:
    before = bed.rpc.native_calls
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bed.invocations.Invoke(request(b'{"do": "sleep"}'), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await bed.free()
    assert bed.rpc.native_calls[3] == before[3] + 1


async def test_a_stop_waits_for_native_calls_and_takes_no_more(tmp_path: Path) -> None:
    async with engine(tmp_path / "data", grpc_front="native", drain_s=30.0) as running:
        await running.grpc.create("f", zip_of(HOLD), memory_mb=256, timeout_ms=60_000)
        bed = Bed(running)
        await bed.warm()
        before = bed.rpc.native_calls
        holding = bed.invocations.Invoke(request(b'{"hold": true}'))
        await held(running.instance, 1)
        stopping = asyncio.ensure_future(bed.rpc.stop(30))
        await until(lambda: bed.rpc._calls._draining, what="it drains")
        late = bed.invocations.Invoke(request())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await late
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not stopping.done()
        await let_go(running.instance)
        assert json.loads((await holding).payload)["calls"] == 2
        await stopping
        assert bed.rpc.native_calls[0] == before[0] + 1


class Raw:
    """A client whose bytes are the test's own."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.streams = iter(range(1, 1 << 20, 2))
        self.socket.send(wire.PREFACE + wire.frame(wire.SETTINGS, 0, 0) + wire.frame(wire.SETTINGS, 1, 0))

    def call(self, message: pb.InvokeRequest) -> None:
        stream = next(self.streams)
        head = wire.frame(wire.HEADERS, wire.END_HEADERS, stream, wire.headers(wire.CALL))
        body = wire.message(message.SerializeToString())
        self.socket.send(head + wire.frame(wire.DATA, wire.END_STREAM, stream, body))

    def answered(self) -> bool:
        """Whether anything has come since it was last read."""
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False

    async def ended(self) -> None:
        """Read on to the end of a response."""
        kind = flags = 0
        while (kind, flags & wire.END_STREAM) != (wire.HEADERS, wire.END_STREAM):
            head = await self._read(9)
            kind, flags = head[3], head[4]
            await self._read(int.from_bytes(head[:3]))

    async def _read(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += await asyncio.get_running_loop().sock_recv(self.socket, size - len(got))
        return got


async def entered(raw: Raw, message: pb.InvokeRequest) -> list[str]:
    """The engine's Python functions that ran before the answer was there."""
    found: list[str] = []

    def look(frame: FrameType, what: str, _: object) -> None:
        if what == "call" and frame.f_code.co_filename.startswith(ENGINE) and not raw.answered():
            found.append(frame.f_code.co_qualname)

    sys.setprofile(look)
    try:
        raw.call(message)
        await raw.ended()
    finally:
        sys.setprofile(None)
    return found


async def test_no_python_of_the_engine_runs_between_a_request_and_its_answer(bed: Bed) -> None:
    raw = Raw(bed.running.service.grpc_port)
    try:
        told = 0
        raw.call(request())
        await raw.ended()
        while told < 20:
            for _ in range(5):
                await asyncio.sleep(0)  # the lines of the call before are written when it is answered
            before = bed.rpc.native_calls
            found = await entered(raw, request())
            if bed.rpc.native_calls[2] == before[2]:  # not handed over since its sandbox's memory grew
                told += 1
                assert bed.rpc.native_calls[1] == before[1] + 1
                assert found == []
        assert "InvocationService.invoke" in await entered(raw, request(payload_encoding=pb.PAYLOAD_ENCODING_JSON))
    finally:
        raw.socket.close()
