"""One invocation, one answer: what the function said, or why there is none."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2

from engine.errors import InvalidPayload, PayloadTooLarge, SandboxFault, Throttled
from engine.model.invocation import EVENT_LIMIT_BYTES, Completion, FunctionError, InvokeRequest, Sink
from engine.model.names import FunctionRef
from engine.model.outcome import FUNCTION_FAILED, Outcome
from engine.v1 import invocations_pb2 as pb
from engine.v1 import reports_pb2
from tests.unit.rpc.things import code, detail, fields, front, info, never, refusal, report

REQUEST = pb.InvokeRequest(name="functions/thumbs", payload=b"1")


async def test_an_answer_comes_back_with_its_report() -> None:
    async with front() as it:
        answer = await it.invocations.Invoke(
            pb.InvokeRequest(
                name="functions/thumbs/versions/3",
                payload=b'{"a": 1}',
                request_id="6f0a",
                client_context=b"{}",
                timeline=True,
            )
        )
        assert it.invoker.requests == [
            InvokeRequest(FunctionRef("thumbs", "3"), b'{"a": 1}', "6f0a", b"{}", timeline=True)
        ]
        assert answer.WhichOneof("result") == "payload"
        assert answer.payload == b'{"a": 1}'
        assert answer.report.outcome == reports_pb2.OUTCOME_OK
        assert answer.report.request_id == "r-1"


async def test_an_empty_answer_is_an_answer() -> None:
    async with front() as it:
        answer = await it.invocations.Invoke(pb.InvokeRequest(name="functions/thumbs"))
        assert answer.WhichOneof("result") == "payload"


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome in FUNCTION_FAILED])
async def test_a_function_that_fails_is_a_call_that_succeeds(outcome: Outcome) -> None:
    async def fail(request: InvokeRequest, sink: Sink | None) -> Completion:
        return Completion(report(outcome), error=FunctionError("KeyError", b'{"errorType":  "KeyError"}'))

    async with front(answer=fail) as it:
        answer = await it.invocations.Invoke(REQUEST)
        assert answer.WhichOneof("result") == "function_error"
        assert answer.function_error == pb.FunctionError(type="KeyError", document=b'{"errorType":  "KeyError"}')


@pytest.mark.parametrize(
    ("mode", "tail"), [(pb.LOG_MODE_UNSPECIFIED, b""), (pb.LOG_MODE_NONE, b""), (pb.LOG_MODE_TAIL, b"START\n")]
)
async def test_the_log_comes_back_when_asked_for(mode: pb.LogMode.ValueType, tail: bytes) -> None:
    async def logs(request: InvokeRequest, sink: Sink | None) -> Completion:
        return Completion(report(), payload=b"1", log_tail=b"START\n")

    async with front(answer=logs) as it:
        answer = await it.invocations.Invoke(pb.InvokeRequest(name="functions/thumbs", log_mode=mode))
        assert answer.log_tail == tail


async def test_a_log_mode_of_a_later_api_is_refused() -> None:
    async with front() as it:
        request = pb.InvokeRequest(name="functions/thumbs", log_mode=99)  # type: ignore[arg-type]
        assert list(fields(await refusal(it.invocations.Invoke(request)))) == ["log_mode"]


@pytest.mark.parametrize("name", ["", "thumbs", "functions/", "functions/a b", "functions/a/versions/0"])
async def test_what_names_no_function_is_refused(name: str) -> None:
    async with front() as it:
        status = await refusal(it.invocations.Invoke(pb.InvokeRequest(name=name)))
        assert (code(status), list(fields(status))) == ("INVALID_ARGUMENT", ["name"])
        assert not it.invoker.requests


async def test_an_event_over_its_limit_gets_the_engines_own_answer() -> None:
    async def refuse(request: InvokeRequest, sink: Sink | None) -> Completion:
        assert len(request.payload) > EVENT_LIMIT_BYTES
        raise PayloadTooLarge("the event has too many bytes", fix="send at most 6 MB")

    async with front(answer=refuse) as it:
        for size in (EVENT_LIMIT_BYTES + 1, 15 * 1024 * 1024):
            request = pb.InvokeRequest(name="functions/thumbs", payload=b"1" * size)
            status = await refusal(it.invocations.Invoke(request))
            assert (code(status), info(status).reason) == ("INVALID_ARGUMENT", "PAYLOAD_TOO_LARGE")


async def test_an_event_far_over_its_limit_is_refused_by_grpc_and_the_next_is_served() -> None:
    async with front() as it:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await it.invocations.Invoke(pb.InvokeRequest(name="functions/thumbs", payload=b"1" * 17 * 1024 * 1024))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await it.invocations.Invoke(REQUEST)).payload == b"1"


async def test_an_answer_of_six_megabytes_goes_through() -> None:
    async with front() as it:
        payload = b"1" * EVENT_LIMIT_BYTES
        assert (await it.invocations.Invoke(pb.InvokeRequest(name="functions/a", payload=payload))).payload == payload


async def test_a_throttle_says_when_to_come_back() -> None:
    async def throttle(request: InvokeRequest, sink: Sink | None) -> Completion:
        raise Throttled("Rate Exceeded.", throttle_reason="ConcurrentInvocationLimitExceeded", retry_after_ms=250)

    async with front(answer=throttle) as it:
        status = await refusal(it.invocations.Invoke(REQUEST))
        retry = detail(status, error_details_pb2.RetryInfo)
        assert (code(status), info(status).reason) == ("RESOURCE_EXHAUSTED", "THROTTLED")
        assert retry is not None
        assert retry.retry_delay.ToMilliseconds() == 250
        assert detail(status, error_details_pb2.QuotaFailure) is not None
        assert not it.faults


async def test_an_event_that_is_no_json_is_refused() -> None:
    async def refuse(request: InvokeRequest, sink: Sink | None) -> Completion:
        raise InvalidPayload("Could not parse request body into json", fix="send JSON")

    async with front(answer=refuse) as it:
        status = await refusal(it.invocations.Invoke(REQUEST))
        assert (code(status), info(status).reason) == ("INVALID_ARGUMENT", "INVALID_PAYLOAD")


async def test_a_sandbox_that_could_not_start_is_told_and_logged_under_one_id() -> None:
    async def fault(request: InvokeRequest, sink: Sink | None) -> Completion:
        raise SandboxFault("clone3", 12, "Cannot allocate memory")

    async with front(answer=fault) as it:
        status = await refusal(it.invocations.Invoke(REQUEST))
        assert (code(status), info(status).reason) == ("INTERNAL", "SANDBOX_FAULT")
        assert (info(status).metadata["stage"], info(status).metadata["errno"]) == ("clone3", "12")
        assert [entry["fault_id"] for entry in it.faults] == [info(status).metadata["fault_id"]]


async def test_what_nobody_foresaw_is_logged_and_shows_its_client_nothing_but_an_id() -> None:
    async def fault(request: InvokeRequest, sink: Sink | None) -> Completion:
        raise KeyError("secret")

    async with front(answer=fault) as it:
        status = await refusal(it.invocations.Invoke(REQUEST))
        assert (code(status), info(status).reason) == ("INTERNAL", "ENGINE_FAULT")
        assert b"secret" not in status.SerializeToString()
        assert b"KeyError" not in status.SerializeToString()
        (entry,) = it.faults
        assert entry["fault_id"] == info(status).metadata["fault_id"]
        assert entry["fault_id"] in status.message
        assert entry["method"] == "/engine.v1.InvocationService/Invoke"
        assert isinstance(entry["exc_info"], KeyError)


@pytest.mark.parametrize(
    ("outcome", "expected"), [(Outcome.CANCELLED, "CANCELLED"), (Outcome.ENGINE_FAULT, "INTERNAL")]
)
async def test_an_outcome_without_an_answer_is_a_status(outcome: Outcome, expected: str) -> None:
    async def end(request: InvokeRequest, sink: Sink | None) -> Completion:
        return Completion(report(outcome))

    async with front(answer=end) as it:
        unary = await refusal(it.invocations.Invoke(REQUEST))
        stream = await refusal(it.invocations.InvokeStream(pb.InvokeStreamRequest(name="functions/thumbs")))
        assert [code(unary), code(stream)] == [expected, expected]
        assert info(unary).metadata["request_id"] == "r-1"


async def test_a_client_that_leaves_cancels_its_invocation() -> None:
    async with front(answer=never) as it:
        call = it.invocations.Invoke(REQUEST)
        await it.invoker.began.wait()
        call.cancel()
        await it.invoker.cancelled.wait()
        assert not it.faults


async def test_a_deadline_that_passes_cancels_its_invocation() -> None:
    async with front(answer=never) as it:
        for timeout_s in (0.05, 1, 10):  # on a busy host the first may be over before the call is there
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await it.invocations.Invoke(REQUEST, timeout=timeout_s)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if it.invoker.began.is_set():
                break
        await it.invoker.cancelled.wait()


async def test_an_invocation_that_is_cancelled_from_within_does_not_leave_its_client_waiting() -> None:
    async def cancel(request: InvokeRequest, sink: Sink | None) -> Completion:
        raise asyncio.CancelledError

    async with front(answer=cancel) as it:
        unary = await refusal(it.invocations.Invoke(REQUEST))
        stream = await refusal(it.invocations.InvokeStream(pb.InvokeStreamRequest(name="functions/thumbs")))
        assert [code(unary), code(stream)] == ["UNAVAILABLE", "UNAVAILABLE"]
