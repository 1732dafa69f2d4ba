"""What is refused never runs; what runs is reported, logged and recorded as AWS Lambda does."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace

import pytest

from engine.errors import (
    InvalidArgument,
    InvalidPayload,
    NotFound,
    NotInvocable,
    PayloadTooLarge,
    PermissionDenied,
    SandboxFault,
    Throttled,
)
from engine.model.function import FunctionState
from engine.model.invocation import EVENT_LIMIT_BYTES, FunctionError, InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending, Event, RunSink
from engine.sandbox.stub import Gate, Script, behind, echo, ends
from engine.scheduler.api import Counts
from tests.unit.invoke.things import REQUEST_ID, WALL_NS, Front, House, function, request


async def test_an_event_comes_back_with_a_report_and_the_log() -> None:
    house = House()
    done = await house.pipeline.invoke(request(b'{"a": 1}'))
    assert done.payload == b'{"a": 1}'
    assert done.error is None
    report = done.report
    assert (report.request_id, report.outcome, report.start_kind) == (REQUEST_ID, Outcome.OK, StartKind.FORK)
    assert (report.start_us, report.init_us, report.handler_us, report.billed_ms) == (1_000, 2_000, 3_000, 5)
    assert report.memory_mb == 128
    assert report.executed_version == "$LATEST"
    assert report.total_us > 0
    assert report.timeline == ()
    assert house.lines() == [
        f"START RequestId: {REQUEST_ID} Version: $LATEST",
        f"END RequestId: {REQUEST_ID}",
        f"REPORT RequestId: {REQUEST_ID}\tDuration: 3.00 ms\tBilled Duration: 5 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 1 MB\tInit Duration: 2.00 ms\t",
    ]
    assert done.log_tail.decode().splitlines() == house.lines()
    assert house.recorded == [report]


async def test_a_warm_invocation_has_no_init_in_its_report() -> None:
    house = House()
    await house.pipeline.invoke(request())
    report = (await house.pipeline.invoke(request())).report
    assert (report.start_kind, report.start_us, report.init_us, report.billed_ms) == (StartKind.WARM, 0, 0, 3)
    assert "Init Duration" not in house.lines()[-1]


async def test_the_front_hears_of_the_start_before_anything_else_and_of_the_rest_in_order() -> None:
    async def script(event: Event, sink: RunSink) -> bytes:
        sink.output(b"one\ntw")
        sink.chunk(b"part")
        sink.output(b"o\nthree")
        return b"null"

    front = Front()
    await House(script).pipeline.invoke(request(), front)
    assert front.seen[:6] == [
        ("started", (REQUEST_ID, "$LATEST", StartKind.FORK)),
        ("log", f"START RequestId: {REQUEST_ID} Version: $LATEST"),
        ("log", "one"),
        ("chunk", b"part"),
        ("log", "two"),
        ("log", "three"),
    ]
    assert [kind for kind, _ in front.seen[6:]] == ["log", "log"]


async def test_the_sandbox_gets_what_the_function_is() -> None:
    seen: list[Event] = []

    async def script(event: Event, sink: RunSink) -> bytes:
        seen.append(event)
        return b"null"

    house = House(script)
    house.registry.put(function(environment={"MINE": "1", "AWS_REGION": "no"}))
    await house.pipeline.invoke(request(b"", client_context=b'{"a":1}'))
    spec = house.pool.sandboxes[0].spec
    assert spec.key == ("f", "$LATEST", "1")
    assert spec.code_path == "/code/" + "a" * 64
    assert spec.environment["MINE"] == "1"
    assert spec.environment["AWS_REGION"] == "us-east-1"
    assert spec.environment["AWS_LAMBDA_LOG_STREAM_NAME"].startswith("2026/11/23/[$LATEST]")
    event = seen[0]
    assert event.payload == b"{}"
    assert event.function_arn == "arn:aws:lambda:us-east-1:000000000000:function:f"
    assert event.client_context == b'{"a":1}'
    assert event.timeout_ms == 60_000
    seconds = f"{WALL_NS // 1_000_000_000:08x}"
    assert event.trace_id == f"Root=1-{seconds}-6f0a2c1e98d14c5e9d4f1f2e;Parent=9d4f1f2e3d4c5b6a;Sampled=0"


async def test_a_request_without_an_id_gets_one() -> None:
    done = await House().pipeline.invoke(request(request_id=""))
    assert str(uuid.UUID(done.report.request_id)) == done.report.request_id


def refused_requests() -> list[tuple[str, InvokeRequest, type[Exception]]]:
    return [
        ("unknown function", request(name="nobody"), NotFound),
        ("unknown version", InvokeRequest(FunctionRef("f", "7"), b"{}"), NotFound),
        ("too large", request(b" " * EVENT_LIMIT_BYTES + b"1"), PayloadTooLarge),
        ("no JSON", request(b"{"), InvalidPayload),
        ("no UTF-8", request(b'"\xff"'), InvalidPayload),
        ("no UUID", request(request_id="7"), InvalidArgument),
        ("context too long", request(client_context=b'{"a":"' + b"x" * 3_583 + b'"}'), InvalidArgument),
        ("context no JSON", request(client_context=b"{"), InvalidPayload),
        ("context no object", request(client_context=b"[]"), InvalidPayload),
    ]


@pytest.mark.parametrize(("refused", "error"), [pytest.param(*case[1:], id=case[0]) for case in refused_requests()])
async def test_what_is_refused_never_runs_and_says_what_to_do(refused: InvokeRequest, error: type[Exception]) -> None:
    house = House()
    with pytest.raises(error) as caught:
        await house.pipeline.invoke(refused)
    assert type(caught.value) is error
    assert getattr(caught.value, "fix", "")
    assert house.pool.sandboxes == []
    assert house.lines() == []
    assert house.recorded == []


async def test_whoever_may_not_invoke_learns_nothing() -> None:
    def nobody(refused: InvokeRequest) -> None:
        raise PermissionDenied("no", fix="ask")

    house = House(authorize=nobody)
    for name in ("f", "nobody"):
        with pytest.raises(PermissionDenied):
            await house.pipeline.invoke(request(b"{", name=name))
    assert house.registry.gets == 0


@pytest.mark.parametrize("state", [FunctionState.PENDING, FunctionState.FAILED])
async def test_a_function_that_is_not_ready_is_not_invoked(state: FunctionState) -> None:
    house = House()
    house.registry.put(replace(function(), state=state, state_reason="no interpreter"))
    with pytest.raises(NotInvocable, match="no interpreter"):
        await house.pipeline.invoke(request())
    house.registry.put(replace(function(), state=FunctionState.INACTIVE))
    assert (await house.pipeline.invoke(request())).report.outcome is Outcome.OK


async def test_a_throttle_comes_out_and_nothing_is_logged() -> None:
    gate = Gate()
    house = House(behind(gate), max_concurrency=1)
    run = asyncio.create_task(house.pipeline.invoke(request()))
    await gate.reached()
    with pytest.raises(Throttled):
        await house.pipeline.invoke(request(request_id=""))
    gate.open()
    await run
    assert len(house.lines()) == 3


FAILURES: list[tuple[Ending, str, str, str]] = [
    (
        Ending(Outcome.TIMEOUT, False, handler_us=3_001_000),
        "Sandbox.Timedout",
        f"RequestId: {REQUEST_ID} Error: Task timed out after 3.00 seconds",
        "\tStatus: timeout",
    ),
    (
        Ending(Outcome.OUT_OF_MEMORY, False),
        "Runtime.ExitError",
        f"RequestId: {REQUEST_ID} Error: Runtime exited with error: signal: killed",
        "\tStatus: error\tError Type: Runtime.OutOfMemory",
    ),
    (
        Ending(Outcome.EXITED, False, exit_status="exit status 1"),
        "Runtime.ExitError",
        f"RequestId: {REQUEST_ID} Error: Runtime exited with error: exit status 1",
        "\tStatus: error\tError Type: Runtime.ExitError",
    ),
    (
        Ending(Outcome.EXITED, False),
        "Runtime.ExitError",
        f"RequestId: {REQUEST_ID} Error: Runtime exited without providing a reason",
        "\tStatus: error\tError Type: Runtime.ExitError",
    ),
    (
        Ending(Outcome.INIT_ERROR, False),
        "Sandbox.Timedout",
        f"RequestId: {REQUEST_ID} Error: Task timed out after 10.00 seconds",
        "\tStatus: error\tError Type: Sandbox.Timedout",
    ),
]


def ending_in(ending: Ending) -> Script:
    async def script(event: Event, sink: RunSink) -> Ending:
        return ending

    return script


@pytest.mark.parametrize(("ending", "error_type", "message", "status"), FAILURES)
async def test_a_failure_that_cannot_speak_gets_awss_document_and_status(
    ending: Ending, error_type: str, message: str, status: str
) -> None:
    house = House(ending_in(ending))
    house.registry.put(function(timeout_ms=3_000))
    done = await house.pipeline.invoke(request())
    assert done.payload == b""
    assert done.error is not None
    assert done.error.type == error_type
    assert json.loads(done.error.document) == {"errorType": error_type, "errorMessage": message}
    assert house.lines()[-1].endswith(status)
    assert done.report.outcome is ending.outcome


async def test_a_timeout_says_in_the_log_when_and_after_how_long() -> None:
    house = House(ends(Outcome.TIMEOUT))
    house.registry.put(function(timeout_ms=3_000))
    await house.pipeline.invoke(request())
    assert house.lines()[1] == f"2026-11-23T12:00:00.123Z {REQUEST_ID} Task timed out after 3.00 seconds"


async def test_an_exit_says_in_the_log_what_it_was() -> None:
    house = House(ends(Outcome.EXITED, exit_status="signal: segmentation fault"))
    await house.pipeline.invoke(request())
    assert house.lines()[1:3] == [
        f"RequestId: {REQUEST_ID} Error: Runtime exited with error: signal: segmentation fault",
        "Runtime.ExitError",
    ]


async def test_a_document_of_the_function_passes_verbatim() -> None:
    document = b'{"errorMessage": "bad",   "errorType": "ValueError"}'
    error = FunctionError("ValueError", document)
    house = House(ending_in(Ending(Outcome.HANDLER_ERROR, True, error=error)))
    done = await house.pipeline.invoke(request())
    assert done.error == error
    assert "Status" not in house.lines()[-1]
    assert house.scheduler.counts().idle == 1


async def test_a_name_of_an_error_cannot_forge_lines_of_the_log() -> None:
    error = FunctionError("Bad\nREPORT RequestId: forged\ud800" + "x" * 500, b"{}")
    house = House(ending_in(Ending(Outcome.INIT_ERROR, False, error=error)))
    await house.pipeline.invoke(request())
    last = house.lines()[-1]
    assert "\n" not in last
    assert last.startswith(f"REPORT RequestId: {REQUEST_ID}\t")
    assert len(last) < 400


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.ENGINE_FAULT, Outcome.THROTTLED, Outcome.REFUSED])
async def test_an_ending_that_no_function_can_have_is_the_engines_fault(outcome: Outcome) -> None:
    house = House(ends(outcome))
    with pytest.raises(SandboxFault):
        await house.pipeline.invoke(request())
    assert house.recorded == []


async def test_a_start_that_fails_leaves_the_log_empty() -> None:
    house = House()
    house.pool.start_errors = [SandboxFault("clone", 11, "no room")]
    with pytest.raises(SandboxFault):
        await house.pipeline.invoke(request())
    assert house.lines() == []


async def test_a_caller_who_leaves_ends_the_function_and_its_log() -> None:
    gate = Gate()

    async def script(event: Event, sink: RunSink) -> bytes:
        sink.output(b"half a li")
        return await echo(event, sink)

    async def gated(event: Event, sink: RunSink) -> bytes:
        await script(event, sink)
        await gate.passed()
        return b""

    house = House(gated)
    run = asyncio.create_task(house.pipeline.invoke(request()))
    await gate.reached()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert house.lines() == [
        f"START RequestId: {REQUEST_ID} Version: $LATEST",
        "half a li",
        f"END RequestId: {REQUEST_ID}",
    ]
    await house.scheduler.drain(0)
    assert house.scheduler.counts() == Counts(0, 0, 0)


async def test_the_timeline_is_given_on_request_in_the_order_of_time_since_acceptance() -> None:
    house = House()
    done = await house.pipeline.invoke(request(timeline=True))
    phases = [phase for phase, _ in done.report.timeline]
    offsets = [offset for _, offset in done.report.timeline]
    assert phases == ["checked", "started", "recorded"]
    assert offsets == sorted(offsets)
    assert offsets[0] >= 0
    assert offsets[-1] == done.report.total_us


async def test_the_warm_path_prepares_nothing_again() -> None:
    house = House()
    for _ in range(5):
        await house.pipeline.invoke(request())
    assert house.code.gets == 1
    assert len(house.pool.sandboxes) == 1


async def test_an_update_retires_the_sandboxes_of_the_former_state() -> None:
    house = House()
    await house.pipeline.invoke(request())
    house.registry.put(function(etag="2", environment={"V": "2"}))
    done = await house.pipeline.invoke(request())
    assert done.report.start_kind is StartKind.FORK
    assert house.pool.sandboxes[1].spec.environment["V"] == "2"
    assert house.scheduler.counts().idle == 1
    await house.scheduler.drain(0)
    assert [sandbox.closes for sandbox in house.pool.sandboxes] == [1, 1]


async def test_a_delete_ends_the_sandboxes_and_forgets_the_log() -> None:
    house = House()
    await house.pipeline.invoke(request())
    house.registry.remove("f")
    assert house.lines() == []
    assert house.scheduler.counts().idle == 0
    with pytest.raises(NotFound):
        await house.pipeline.invoke(request())


async def test_an_invocation_that_outlives_its_function_leaves_no_log() -> None:
    gate = Gate()
    house = House(behind(gate))
    run = asyncio.create_task(house.pipeline.invoke(request()))
    await gate.reached()
    house.registry.remove("f")
    gate.open()
    assert (await run).report.outcome is Outcome.OK
    assert house.lines() == []


async def test_the_log_of_an_updated_function_stays() -> None:
    gate = Gate()
    house = House(behind(gate))
    run = asyncio.create_task(house.pipeline.invoke(request()))
    await gate.reached()
    house.registry.put(function(etag="2"))
    gate.open()
    await run
    assert len(house.lines()) == 3
