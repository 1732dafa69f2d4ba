"""Asynchronous invocation through an unmodified boto3 client: what it is told, and what runs then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from engine.model.invocation import Completion, InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome
from tests.compat.conftest import Create
from tests.compat.stub_rooms import Front, Rooms, completed, failed
from tests.compat.test_functions import error_of
from tests.unit.rest.conftest import Wire, connect, wire

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

__all__ = ["connect", "wire"]

WAIT_S = 20.0


def until(found: Callable[[], Any]) -> Any:
    """What is there in the end; fails where it never is."""
    deadline = time.monotonic() + WAIT_S
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def nothing_waits(front: Front) -> Callable[[], bool]:
    """Whether the queue is empty, as the front's loop sees it."""

    async def look() -> bool:
        return front.rooms.events.queued(limit=1)[0] == []

    return lambda: front.call(look())


def test_an_event_is_accepted_with_202_and_no_body_and_runs_under_the_id_that_was_told(
    client: LambdaClient, create: Create, rooms: Rooms
) -> None:
    create()
    answer = client.invoke(FunctionName="thumbs", InvocationType="Event", Payload=b'{"a": 1}')
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    assert "FunctionError" not in answer
    (request,) = until(lambda: rooms.invoker.requests)
    assert request.request_id == answer["ResponseMetadata"]["RequestId"]
    assert (request.ref, request.payload) == (FunctionRef("thumbs"), b'{"a": 1}')


def test_the_old_operation_does_the_same(client: LambdaClient, create: Create, rooms: Rooms) -> None:
    create()
    assert client.invoke_async(FunctionName="thumbs", InvokeArgs=b"7")["Status"] == 202
    (request,) = until(lambda: rooms.invoker.requests)
    assert request.payload == b"7"


def test_the_old_operation_is_found_with_its_slash_at_the_end(wire: Wire, rooms: Rooms, front: Front) -> None:
    front.call(rooms.add_function("thumbs"))
    assert wire.ask("POST", "/2014-11-13/functions/thumbs/invoke-async/", b"{}").status == 202


def test_an_alias_is_kept_by_name_and_a_tenant_goes_along(client: LambdaClient, create: Create, rooms: Rooms) -> None:
    create(Publish=True)
    client.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="1")
    client.invoke(FunctionName="thumbs:live", InvocationType="Event", TenantId="blue", ClientContext="e30=")
    (request,) = until(lambda: rooms.invoker.requests)
    assert (request.ref.qualifier, request.tenant_id, request.client_context) == ("live", "blue", b"")


def test_a_function_that_fails_runs_three_times_under_one_id(
    client: LambdaClient, create: Create, rooms: Rooms, front: Front
) -> None:
    create()

    async def fail(request: InvokeRequest) -> Completion:
        return failed(request, Outcome.HANDLER_ERROR, b"{}")

    rooms.invoker.run = fail
    answer = client.invoke(FunctionName="thumbs", InvocationType="Event")
    until(nothing_waits(front))
    ids = [request.request_id for request in rooms.invoker.requests]
    assert ids == 3 * [answer["ResponseMetadata"]["RequestId"]]


def test_its_configuration_says_how_often(client: LambdaClient, create: Create, rooms: Rooms, front: Front) -> None:
    create()
    client.put_function_event_invoke_config(FunctionName="thumbs", MaximumRetryAttempts=0)

    async def fail(request: InvokeRequest) -> Completion:
        return failed(request, Outcome.TIMEOUT, b"{}")

    rooms.invoker.run = fail
    client.invoke(FunctionName="thumbs", InvocationType="Event")
    until(nothing_waits(front))
    assert len(rooms.invoker.requests) == 1


def test_what_cannot_run_is_refused_before_it_is_accepted(client: LambdaClient, create: Create, rooms: Rooms) -> None:
    create()
    invoke: Any = client.invoke
    for code, status, asked in (
        ("ResourceNotFoundException", 404, {"FunctionName": "other"}),
        ("ResourceNotFoundException", 404, {"FunctionName": "thumbs", "Qualifier": "live"}),
        ("InvalidRequestContentException", 400, {"FunctionName": "thumbs", "Payload": b"{"}),
        ("RequestTooLargeException", 413, {"FunctionName": "thumbs", "Payload": b'"%s"' % (b"x" * 1_048_575)}),
    ):
        error = error_of(invoke, InvocationType="Event", **asked)
        assert error["Code"] == code, asked
        if status == 413:
            assert "1048577 byte payload is too large for the Event invocation type" in error["Message"]
    assert client.invoke(FunctionName="thumbs", InvocationType="Event", Payload=b'"%s"' % (b"x" * 1_048_574))
    (request,) = until(lambda: rooms.invoker.requests)
    assert len(request.payload) == 1_048_576


def test_a_full_queue_says_so_and_when_to_come_back(
    client: LambdaClient, create: Create, rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    create()
    monkeypatch.setattr(rooms.events._line, "_most_events", 0)
    with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
        client.invoke(FunctionName="thumbs", InvocationType="Event")
    response: Any = caught.value.response
    assert response["Reason"] == "CallerRateLimitExceeded"
    assert "queue of asynchronous events is full" in response["Error"]["Message"]
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"


def test_a_caller_who_waits_is_told_of_its_own_run_beside_those_that_wait(
    client: LambdaClient, create: Create, rooms: Rooms
) -> None:
    create()

    async def answer(request: InvokeRequest) -> Completion:
        return completed(request, request.payload)

    rooms.invoker.run = answer
    client.invoke(FunctionName="thumbs", InvocationType="Event", Payload=b"1")
    assert client.invoke(FunctionName="thumbs", Payload=b"2")["Payload"].read() == b"2"
