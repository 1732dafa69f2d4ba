"""Invoke through an unmodified boto3 client."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import InvalidPayload, SandboxFault, Throttled, Unavailable
from engine.model.invocation import Completion, InvokeRequest, Report
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome, StartKind
from tests.compat.conftest import Create
from tests.compat.stub_rooms import Rooms, completed, failed
from tests.compat.test_functions import error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


@pytest.fixture(autouse=True)
def function(create: Create) -> None:
    create()


def test_an_event_goes_in_and_a_result_comes_out(client: LambdaClient, rooms: Rooms) -> None:
    answer = client.invoke(FunctionName="thumbs", Payload=b'{"n": 1}')
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert json.load(answer["Payload"]) == {"n": 1}
    assert "FunctionError" not in answer
    assert "LogResult" not in answer
    assert rooms.invoker.requests[0].ref == FunctionRef("thumbs")


def test_an_event_may_be_left_out_or_be_a_file(client: LambdaClient, rooms: Rooms) -> None:
    client.invoke(FunctionName="thumbs")["Payload"].read()
    client.invoke(FunctionName="thumbs", Payload=io.BytesIO(b"[1]"))["Payload"].read()
    assert [request.payload for request in rooms.invoker.requests] == [b"", b"[1]"]


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1", True),
        ("Self=1-2-3", False),
        ("Root=" + "x" * 300, False),
        ("Root=a b", False),
    ],
    ids=["a trace", "of no root", "too long", "a blank"],
)
def test_the_trace_of_a_caller_goes_on_in_the_function(
    client: LambdaClient, rooms: Rooms, header: str, taken: bool
) -> None:
    def trace(params: dict[str, Any], **_: Any) -> None:
        params["headers"]["X-Amzn-Trace-Id"] = header

    client.meta.events.register("before-call.lambda.Invoke", trace)
    try:
        client.invoke(FunctionName="thumbs")["Payload"].read()
    finally:
        client.meta.events.unregister("before-call.lambda.Invoke", trace)
    assert rooms.invoker.requests[0].trace_id == (header if taken else "")


def test_the_request_id_of_the_answer_is_the_invocations(client: LambdaClient, rooms: Rooms) -> None:
    ids = {client.invoke(FunctionName="thumbs")["ResponseMetadata"]["RequestId"] for _ in range(2)}
    assert ids == {request.request_id for request in rooms.invoker.requests}
    assert len(ids) == 2


def test_the_log_tail_comes_when_it_is_asked_for(client: LambdaClient, rooms: Rooms) -> None:
    async def logs(request: InvokeRequest) -> Completion:
        return completed(request, b"null", log_tail=b"START \xff\nEND\n")

    rooms.invoker.run = logs
    tail = client.invoke(FunctionName="thumbs", LogType="Tail")["LogResult"]
    assert base64.b64decode(tail) == b"START \xff\nEND\n"
    assert "LogResult" not in client.invoke(FunctionName="thumbs", LogType="None")


@pytest.mark.parametrize(
    "outcome",
    [Outcome.HANDLER_ERROR, Outcome.INIT_ERROR, Outcome.TIMEOUT, Outcome.OUT_OF_MEMORY, Outcome.EXITED],
)
def test_a_functions_own_failure_is_a_success_with_its_document(
    client: LambdaClient, rooms: Rooms, outcome: Outcome
) -> None:
    document = b'{"errorMessage":"bad","errorType":"ValueError","requestId":"1","stackTrace":[]}'

    async def fail(request: InvokeRequest) -> Completion:
        return failed(request, outcome, document)

    rooms.invoker.run = fail
    answer = client.invoke(FunctionName="thumbs")
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert answer["Payload"].read() == document


def test_a_client_context_reaches_the_function(client: LambdaClient, rooms: Rooms) -> None:
    context = b'{"custom": {"a": 1}}'
    client.invoke(FunctionName="thumbs", ClientContext=base64.b64encode(context).decode())
    assert rooms.invoker.requests[0].client_context == context


@pytest.mark.parametrize("context", ["%%%", base64.b64encode(b"not json").decode(), "W10=", "A" * 3_584])
def test_a_client_context_that_is_none_is_refused(client: LambdaClient, rooms: Rooms, context: str) -> None:
    error = error_of(client.invoke, FunctionName="thumbs", ClientContext=context)
    assert error["Code"] == "InvalidRequestContentException"
    assert rooms.invoker.requests == []


def test_the_qualifier_of_the_function_itself_is_accepted(client: LambdaClient, rooms: Rooms) -> None:
    client.invoke(FunctionName="thumbs", Qualifier="$LATEST")
    error = error_of(client.invoke, FunctionName="thumbs:$LATEST", Qualifier="3")
    assert error["Code"] == "InvalidParameterValueException"
    assert len(rooms.invoker.requests) == 1


def test_a_dry_run_runs_nothing(client: LambdaClient, rooms: Rooms) -> None:
    answer = client.invoke(FunctionName="thumbs", InvocationType="DryRun", Payload=b"{}")
    assert answer["StatusCode"] == 204
    assert answer["Payload"].read() == b""
    assert rooms.invoker.requests == []
    error = error_of(client.invoke, FunctionName="other", InvocationType="DryRun")
    assert error["Code"] == "ResourceNotFoundException"


def test_what_cannot_be_honoured_of_an_invocation_is_refused(client: LambdaClient, rooms: Rooms) -> None:
    error = error_of(client.invoke, FunctionName="thumbs", DurableExecutionName="once")
    assert error["Code"] == "InvalidParameterValueException"
    assert rooms.invoker.requests == []


def test_a_throttle_says_why_and_when_to_come_back(client: LambdaClient, rooms: Rooms) -> None:
    async def throttle(request: InvokeRequest) -> Completion:
        raise Throttled("full", throttle_reason="ConcurrentInvocationLimitExceeded", retry_after_ms=1_200)

    rooms.invoker.run = throttle
    with pytest.raises(client.exceptions.TooManyRequestsException, match=r"Rate Exceeded\.") as caught:
        client.invoke(FunctionName="thumbs")
    response: Any = caught.value.response
    assert response["Reason"] == "ConcurrentInvocationLimitExceeded"
    assert response["Type"] == "User"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "2"


def test_an_event_that_is_not_json_is_refused(client: LambdaClient, rooms: Rooms) -> None:
    async def refuse(request: InvokeRequest) -> Completion:
        raise InvalidPayload("Could not parse request body into json: unexpected character at 1")

    rooms.invoker.run = refuse
    error = error_of(client.invoke, FunctionName="thumbs", Payload=b"{")
    assert (error["Code"], error["status"]) == ("InvalidRequestContentException", 400)
    assert error["Message"] == "Could not parse request body into json: unexpected character at 1"


def test_the_largest_event_goes_in_and_one_byte_more_does_not(client: LambdaClient, rooms: Rooms) -> None:
    async def measure(request: InvokeRequest) -> Completion:
        return completed(request, str(len(request.payload)).encode())

    rooms.invoker.run = measure
    largest = b'"' + b"x" * (6_291_456 - 2) + b'"'
    assert client.invoke(FunctionName="thumbs", Payload=largest)["Payload"].read() == b"6291456"
    with pytest.raises(client.exceptions.RequestTooLargeException) as caught:
        client.invoke(FunctionName="thumbs", Payload=largest + b" ")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert len(rooms.invoker.requests) == 1
    assert client.invoke(FunctionName="thumbs")["StatusCode"] == 200


def test_a_large_result_comes_out_whole(client: LambdaClient, rooms: Rooms) -> None:
    result = b'"' + b"x" * (6_291_556 - 2) + b'"'

    async def large(request: InvokeRequest) -> Completion:
        return completed(request, result)

    rooms.invoker.run = large
    assert client.invoke(FunctionName="thumbs")["Payload"].read() == result


def test_a_fault_of_the_engine_is_not_the_functions(client: LambdaClient, rooms: Rooms) -> None:
    async def fault(request: InvokeRequest) -> Completion:
        raise SandboxFault("mount", 12, "no memory")

    rooms.invoker.run = fault
    with pytest.raises(client.exceptions.ServiceException, match="mount: no memory; see `cleave doctor`") as caught:
        client.invoke(FunctionName="thumbs")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert caught.value.response["Type"] == "Service"  # type: ignore[typeddict-item]


def test_an_engine_that_drains_says_that_another_try_may_go_through(client: LambdaClient, rooms: Rooms) -> None:
    async def drain(request: InvokeRequest) -> Completion:
        raise Unavailable("draining", fix="try again")

    rooms.invoker.run = drain
    assert error_of(client.invoke, FunctionName="thumbs")["status"] == 503


@pytest.mark.parametrize(("outcome", "status"), [(Outcome.CANCELLED, 503), (Outcome.ENGINE_FAULT, 500)])
def test_a_completion_without_a_result_is_no_success(
    client: LambdaClient, rooms: Rooms, outcome: Outcome, status: int
) -> None:
    async def end(request: InvokeRequest) -> Completion:
        return Completion(Report(request.request_id, outcome, StartKind.FORK, memory_mb=128))

    rooms.invoker.run = end
    assert error_of(client.invoke, FunctionName="thumbs")["status"] == status


def test_an_unexpected_exception_gives_away_nothing_but_its_id(client: LambdaClient, rooms: Rooms) -> None:
    async def break_down(request: InvokeRequest) -> Completion:
        raise ZeroDivisionError("a secret of the engine")

    rooms.invoker.run = break_down
    error = error_of(client.invoke, FunctionName="thumbs", Payload=b'"payload"')
    assert (error["Code"], error["status"]) == ("ServiceException", 500)
    assert "secret" not in str(error["response"])
    fault_id = error["response"]["ResponseMetadata"]["RequestId"]
    assert fault_id in error["Message"]
    (event, fields), *others = rooms.faults.events
    assert (event, fields["request_id"]) == ("request_failed", fault_id)
    assert isinstance(fields["exc_info"], ZeroDivisionError)
    assert not others
    assert "payload" not in str(fields)
