"""Long streams, out of a function and through one: every byte in its order, and memory that does not grow with them."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from engine.v1 import invocations_pb2
from engine.v1 import reports_pb2 as pb
from tests.doors import zip_of
from tests.engines import Served, served

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.time_limit(300),
]

MB = 1 << 20
CHUNK = 64 << 10
GROWTH_MB = 64  # half of the shortest, so that a stream that is kept shows
SANDBOX_MB = 16 + GROWTH_MB
CODE = """
    import hashlib

    def out(event, context):
        block = bytes(range(256)) * 256
        for at in range(int(event.get("queryStringParameters", event)["chunks"])):
            yield at.to_bytes(8, "big") + block[8:]

    async def out_async(event, context):
        for chunk in out(event, context):
            yield chunk

    def pipe(event, context):
        for chunk in event.stream:
            yield chunk

    async def pipe_async(event, context):
        async for chunk in event.stream:
            yield chunk

    def drain(event, context):
        found = hashlib.sha256()
        for chunk in event.stream:
            found.update(chunk)
        return found.hexdigest()
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(tmp_path_factory.mktemp("long") / "data", flags={"stream-limit-mb": 2_048}) as running:
        for handler in ("out", "out_async", "pipe", "pipe_async", "drain"):
            await running.grpc.create(
                handler.replace("_", "-"), zip_of(CODE), handler=f"app.{handler}", timeout_ms=250_000, memory_mb=1_769
            )
        yield running


def chunks(count: int) -> Iterator[bytes]:
    """What `out` yields."""
    block = bytes(range(256)) * 256
    for at in range(count):
        yield at.to_bytes(8, "big") + block[8:]


def digest_of(count: int) -> str:
    found = hashlib.sha256()
    for chunk in chunks(count):
        found.update(chunk)
    return found.hexdigest()


class Peak:
    """How much more memory the engine had at a time than at the beginning."""

    def __init__(self, running: Served) -> None:
        self._folder = Path("/proc", str(running.process.pid))
        (self._folder / "clear_refs").write_text("5")  # sets the peak to what there is: proc(5)
        self._before_mb = self._mb("VmRSS")

    def growth_mb(self) -> float:
        return self._mb("VmHWM") - self._before_mb

    def _mb(self, name: str) -> float:
        status = (self._folder / "status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(name + ":"))


async def read(call: Any) -> tuple[str, pb.Report]:
    """The digest of an answer, and its report."""
    found = hashlib.sha256()
    finished = None
    async for frame in call:
        found.update(frame.chunk)
        if frame.HasField("finished"):
            finished = frame.finished
    assert finished is not None
    assert not finished.HasField("function_error"), finished.function_error
    return found.hexdigest(), finished.report


def answers(running: Served, name: str, count: int) -> Any:
    """An InvokeStream of so many chunks."""
    payload = f'{{"chunks": {count}}}'.encode()
    request = invocations_pb2.InvokeStreamRequest(name=f"functions/{name}", payload=payload)
    return running.grpc.invocations.InvokeStream(request)


async def converse(running: Served, name: str, count: int) -> tuple[str, pb.Report]:
    """A conversation that sends so many chunks while it reads."""
    call: Any = running.grpc.invocations.Converse()

    async def send() -> None:
        start = invocations_pb2.ConverseStart(name=f"functions/{name}")
        await call.write(invocations_pb2.ConverseRequest(start=start))
        for chunk in chunks(count):
            await call.write(invocations_pb2.ConverseRequest(chunk=chunk))
        await call.done_writing()

    sending = asyncio.ensure_future(send())
    found = await read(call)
    await sending
    return found


@pytest.mark.parametrize("name", ["out", "out-async"])
async def test_a_long_answer_comes_whole_and_takes_no_more_memory_than_a_short_one(
    running: Served, counts: Mapping[str, int], name: str
) -> None:
    await read(answers(running, name, 64))
    count = counts["stream_mb"] * MB // CHUNK
    peak = Peak(running)
    digest, report = await read(answers(running, name, count))
    assert digest == digest_of(count)
    assert peak.growth_mb() <= GROWTH_MB
    assert report.peak_memory_bytes <= SANDBOX_MB * MB


@pytest.mark.parametrize("name", ["pipe", "pipe-async"])
async def test_a_long_conversation_comes_back_whole_and_takes_no_more_memory_than_a_short_one(
    running: Served, counts: Mapping[str, int], name: str
) -> None:
    await converse(running, name, 64)
    count = counts["stream_mb"] * MB // CHUNK
    peak = Peak(running)
    digest, report = await converse(running, name, count)
    assert digest == digest_of(count)
    assert peak.growth_mb() <= GROWTH_MB
    assert report.peak_memory_bytes <= SANDBOX_MB * MB


async def test_a_long_input_is_read_whole_and_takes_no_more_memory_than_a_short_one(
    running: Served, counts: Mapping[str, int]
) -> None:
    await converse(running, "drain", 64)
    count = counts["stream_mb"] * MB // CHUNK
    peak = Peak(running)
    digest, report = await converse(running, "drain", count)
    assert digest == hashlib.sha256(f'"{digest_of(count)}"'.encode()).hexdigest()
    assert peak.growth_mb() <= GROWTH_MB
    assert report.peak_memory_bytes <= SANDBOX_MB * MB


async def test_a_long_answer_comes_whole_over_http_as_well(running: Served, counts: Mapping[str, int]) -> None:
    def read_events(count: int) -> str:
        payload = f'{{"chunks": {count}}}'.encode()
        answer = running.http.client.invoke_with_response_stream(FunctionName="out", Payload=payload)
        found = hashlib.sha256()
        for event in answer["EventStream"]:
            if "PayloadChunk" in event:
                found.update(event["PayloadChunk"]["Payload"])
            else:
                assert "ErrorCode" not in event["InvokeComplete"]
        return found.hexdigest()

    await asyncio.to_thread(read_events, 64)
    count = counts["stream_mb"] * MB // CHUNK
    peak = Peak(running)
    assert await asyncio.to_thread(read_events, count) == digest_of(count)
    assert peak.growth_mb() <= GROWTH_MB


async def test_a_long_answer_comes_whole_through_a_url_and_takes_no_more_memory_than_a_short_one(
    running: Served, counts: Mapping[str, int]
) -> None:
    settings: Any = {"FunctionName": "out", "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}
    url = (await asyncio.to_thread(running.http.client.create_function_url_config, **settings))["FunctionUrl"]

    def read_url(count: int) -> str:
        address = urlsplit(running.http.client.meta.endpoint_url).netloc
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request("GET", f"/?chunks={count}", headers={"Host": urlsplit(url).netloc})
        response = connection.getresponse()
        found = hashlib.sha256()
        while piece := response.read1(1 << 20):
            found.update(piece)
        connection.close()
        return found.hexdigest()

    await asyncio.to_thread(read_url, 64)
    count = counts["stream_mb"] * MB // CHUNK
    peak = Peak(running)
    assert await asyncio.to_thread(read_url, count) == digest_of(count)
    assert peak.growth_mb() <= GROWTH_MB
