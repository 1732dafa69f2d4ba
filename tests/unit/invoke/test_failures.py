"""A failure is told as AWS Lambda tells it, and the function's is never mixed up with the engine's."""

from __future__ import annotations

import asyncio
import json

import pytest

from engine.errors import (
    SandboxFault,
)
from engine.invoke.logtail import WINDOW_S
from engine.invoke.pipeline import Pipeline
from engine.model.invocation import FunctionError
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending, Event, RunSink
from engine.sandbox.stub import Gate, Script, echo, ends
from engine.scheduler.api import Counts, Done, Work
from engine.scheduler.dispatch import LocalScheduler
from tests.unit.invoke.things import REQUEST_ID, Front, House, function, request

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
    assert house.lines()[2] == f"2026-11-23T12:00:00.123Z {REQUEST_ID} Task timed out after 3.00 seconds"


async def test_an_exit_says_in_the_log_what_it_was() -> None:
    house = House(ends(Outcome.EXITED, exit_status="signal: segmentation fault"))
    await house.pipeline.invoke(request())
    assert house.lines()[2:4] == [
        f"RequestId: {REQUEST_ID} Error: Runtime exited with error: signal: segmentation fault",
        "Runtime.ExitError",
    ]


async def test_a_document_of_the_function_passes_verbatim() -> None:
    document = b'{"errorMessage": "bad",   "errorType": "ValueError"}'
    error = FunctionError("ValueError", document)
    house = House(ending_in(Ending(Outcome.HANDLER_ERROR, True, b"half an answer", error)))
    done = await house.pipeline.invoke(request())
    assert done.error == error
    assert done.payload == b""
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
    ((request_id, kind, moments, error),) = house.lost
    assert (request_id, kind, moments.started_ns, type(error)) == (REQUEST_ID, None, 0, SandboxFault)
    assert moments.accepted_ns <= moments.checked_ns <= moments.recorded_ns


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
    assert house.lines()[1:] == [
        f"START RequestId: {REQUEST_ID} Version: $LATEST",
        "half a li",
        f"END RequestId: {REQUEST_ID}",
    ]
    ((request_id, kind, moments, error),) = house.lost
    assert (request_id, kind, type(error)) == (REQUEST_ID, StartKind.FORK, asyncio.CancelledError)
    assert moments.checked_ns <= moments.started_ns <= moments.recorded_ns
    await house.scheduler.drain(0)
    assert house.scheduler.counts() == Counts(0, 0, 0)


async def test_a_caller_who_leaves_a_flood_leaves_nothing_to_be_done_later() -> None:
    gate = Gate()

    async def script(event: Event, sink: RunSink) -> bytes:
        sink.output(b"x\n" * 5_000)
        await gate.passed()
        return b""

    house = House(script)
    run = asyncio.create_task(house.pipeline.invoke(request()))
    await gate.reached()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert house.lines()[-2:] == ["x", f"END RequestId: {REQUEST_ID}"]
    written = len(house.lines())
    await asyncio.sleep(2 * WINDOW_S)
    assert len(house.lines()) == written


async def test_an_event_of_a_sandbox_that_ended_before_it_could_say_so_has_a_start_all_the_same() -> None:
    class Mute(LocalScheduler):
        async def run(self, work: Work, sink: RunSink) -> Done:
            return Done(Ending(Outcome.EXITED, False), StartKind.FORK)

    house = House()
    mute = Mute(house.pool, max_concurrency=1, max_sandboxes=1, keep_alive_s=1)
    pipeline = Pipeline(house.registry, house.code, mute, house.logs, region="us-east-1", account="000000000000")
    front = Front()
    await pipeline.invoke(request(), front)
    assert front.seen[0] == ("started", (REQUEST_ID, "$LATEST", StartKind.FORK))
    assert [line.split()[0] for line in house.lines()[:2]] == ["INIT_START", "START"]
