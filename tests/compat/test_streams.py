"""InvokeWithResponseStream through an unmodified boto3 client."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EventStreamError

from engine.errors import SandboxFault, Throttled
from engine.model.invocation import Completion, FunctionError, InvokeRequest, Report, Sink
from engine.model.outcome import Outcome, StartKind
from tests.compat.conftest import Create
from tests.compat.stub_rooms import Front, Rooms, completed
from tests.compat.test_functions import error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

PATH = "/2021-11-15/functions/thumbs/response-streaming-invocations"


@pytest.fixture(autouse=True)
def function(create: Create) -> None:
    create()


def events_of(answer: Any) -> tuple[bytes, dict[str, Any]]:
    """The chunks joined, and the members of the InvokeComplete that ends them."""
    events = list(answer["EventStream"])
    assert [set(event) for event in events[:-1]] == [{"PayloadChunk"}] * (len(events) - 1)
    assert set(events[-1]) == {"InvokeComplete"}
    return b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1]), events[-1]["InvokeComplete"]


def start(request: InvokeRequest, sink: Sink) -> None:
    sink.started(request.request_id, "$LATEST", StartKind.WARM)


def test_chunks_come_as_they_were_made_and_then_the_end(client: LambdaClient, rooms: Rooms) -> None:
    go_on = threading.Event()

    async def two(request: InvokeRequest, sink: Sink) -> Completion:
        start(request, sink)
        sink.chunk(b"\x00first")
        await asyncio.to_thread(go_on.wait, 20)
        sink.chunk(b"second")
        return completed(request, b";rest")

    rooms.invoker.stream = two
    answer = client.invoke_with_response_stream(FunctionName="thumbs", Payload=b'{"n": 1}')
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    assert answer["ResponseMetadata"]["RequestId"] == rooms.invoker.requests[0].request_id
    events = iter(answer["EventStream"])
    assert next(events) == {"PayloadChunk": {"Payload": b"\x00first"}}
    go_on.set()
    rest = list(events)
    assert b"".join(event["PayloadChunk"]["Payload"] for event in rest[:-1]) == b"second;rest"
    assert rest[-1] == {"InvokeComplete": {}}
    assert rooms.invoker.requests[0].payload == b'{"n": 1}'


def test_an_answer_that_was_made_at_once_is_a_stream_too(client: LambdaClient) -> None:
    body, last = events_of(client.invoke_with_response_stream(FunctionName="thumbs", Payload=b"[1]"))
    assert (body, last) == (b"[1]", {})


def test_a_large_answer_comes_whole(client: LambdaClient, rooms: Rooms) -> None:
    piece = bytes(range(256)) * 256

    async def large(request: InvokeRequest, sink: Sink) -> Completion:
        start(request, sink)
        for _ in range(100):
            room = sink.chunk(piece)
            if room is not None:
                await room
        return completed(request, piece * 5)

    rooms.invoker.stream = large
    body, _ = events_of(client.invoke_with_response_stream(FunctionName="thumbs"))
    assert body == piece * 105


def test_the_log_tail_comes_with_the_end_where_it_is_asked_for(client: LambdaClient, rooms: Rooms) -> None:
    asked = []

    async def logs(request: InvokeRequest) -> Completion:
        asked.append(request.log_tail)
        return completed(request, b"1", log_tail=b"START \xff\nEND\n")

    rooms.invoker.run = logs
    _, last = events_of(client.invoke_with_response_stream(FunctionName="thumbs", LogType="Tail"))
    assert base64.b64decode(last["LogResult"]) == b"START \xff\nEND\n"
    assert events_of(client.invoke_with_response_stream(FunctionName="thumbs", LogType="None")) == (b"1", {})
    assert events_of(client.invoke_with_response_stream(FunctionName="thumbs")) == (b"1", {})
    assert asked == [True, False, False]


def test_a_failure_ends_the_stream_with_its_type_and_document(client: LambdaClient, rooms: Rooms) -> None:
    document = b'{"errorMessage":"bad","errorType":"ValueError","requestId":"1","stackTrace":[]}'

    async def fail(request: InvokeRequest, sink: Sink) -> Completion:
        start(request, sink)
        sink.chunk(b"half")
        report = Report(request.request_id, Outcome.HANDLER_ERROR, StartKind.FORK, memory_mb=128)
        return Completion(report, error=FunctionError("ValueError", document))

    rooms.invoker.stream = fail
    body, last = events_of(client.invoke_with_response_stream(FunctionName="thumbs"))
    assert (body, last["ErrorCode"], json.loads(last["ErrorDetails"])) == (b"half", "ValueError", json.loads(document))


def test_what_is_refused_is_an_ordinary_error(client: LambdaClient, rooms: Rooms) -> None:
    error = error_of(client.invoke_with_response_stream, FunctionName="other")
    assert error["Code"] == "ResourceNotFoundException"

    async def throttle(request: InvokeRequest) -> Completion:
        raise Throttled("full", throttle_reason="ConcurrentInvocationLimitExceeded", retry_after_ms=10, fix="wait")

    rooms.invoker.run = throttle
    error = error_of(client.invoke_with_response_stream, FunctionName="thumbs")
    assert error["Code"] == "TooManyRequestsException"


def test_an_engine_that_fails_in_the_middle_says_so_in_the_stream(client: LambdaClient, rooms: Rooms) -> None:
    was_read = threading.Event()

    async def fault(request: InvokeRequest, sink: Sink) -> Completion:
        start(request, sink)
        sink.chunk(b"half")
        await asyncio.to_thread(was_read.wait, 20)
        raise SandboxFault("run", 5, "broken")

    rooms.invoker.stream = fault
    stream = client.invoke_with_response_stream(FunctionName="thumbs")["EventStream"]
    events = iter(stream)
    assert next(events)["PayloadChunk"]["Payload"] == b"half"
    was_read.set()
    with pytest.raises(EventStreamError, match="ServiceException"):
        next(events)
    stream.close()


def test_a_dry_run_runs_nothing(client: LambdaClient, rooms: Rooms) -> None:
    answer = client.invoke_with_response_stream(FunctionName="thumbs", InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    answer["EventStream"].close()
    assert rooms.invoker.requests == []


class Flood:
    """A function that makes an answer without an end."""

    def __init__(self) -> None:
        self.made = 0
        self.held = threading.Event()  # it had to wait for its reader
        self.go_on = True

    async def __call__(self, request: InvokeRequest, sink: Sink) -> Completion:
        start(request, sink)
        while self.go_on:
            room = sink.chunk(bytes(65_536))
            self.made += 65_536
            if room is not None:
                done, _ = await asyncio.wait({room}, timeout=0.5)
                if not done:
                    self.held.set()
                await room
        return completed(request, b"")


def leave(port: int, flood: Flood) -> None:
    """Ask for a stream, read none of it until the function is held up, and go away."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", PATH, b"{}")
    assert flood.held.wait(20)
    connection.close()


def test_a_client_that_reads_slowly_holds_the_function_up(front: Front, rooms: Rooms) -> None:
    flood = rooms.invoker.stream = Flood()
    leave(front.port, flood)
    assert flood.made < 50_000_000
    # As on AWS it goes on when its client has left.
    made = flood.made
    while flood.made < made + 10_000_000:
        assert not rooms.invoker.cancelled.wait(0.01)
    flood.go_on = False


@pytest.fixture
def stopping() -> Iterator[Front]:
    with Front(Rooms(), stop_on_disconnect=True) as front:
        front.call(front.rooms.add_function("thumbs"))
        yield front


def test_a_client_that_leaves_stops_the_function_where_the_operator_says_so(stopping: Front) -> None:
    flood = stopping.rooms.invoker.stream = Flood()
    leave(stopping.port, flood)
    assert stopping.rooms.invoker.cancelled.wait(20)
    assert stopping.rooms.faults.events == []


def test_that_holds_for_an_invocation_without_a_stream_too(stopping: Front) -> None:
    began = threading.Event()

    async def never(request: InvokeRequest) -> Completion:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    stopping.rooms.invoker.run = never
    connection = http.client.HTTPConnection("127.0.0.1", stopping.port, timeout=20)
    connection.request("POST", "/2015-03-31/functions/thumbs/invocations", b"{}")
    assert began.wait(20)
    connection.close()
    assert stopping.rooms.invoker.cancelled.wait(20)
    assert stopping.rooms.faults.events == []


def test_a_client_that_stays_gets_its_answer_there_too(stopping: Front) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stopping.port, timeout=20)
    for path in ("/2015-03-31/functions/thumbs/invocations", PATH):
        connection.request("POST", path, b'{"n": 1}')
        answer = connection.getresponse()
        assert answer.status == 200
        assert b'{"n": 1}' in answer.read()
    connection.close()
