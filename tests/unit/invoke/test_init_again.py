"""An init phase that fails reads in the log and in the report as on AWS Lambda, and its caller has one answer."""

from __future__ import annotations

import asyncio

import pytest

from engine.model.invocation import FunctionError
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending, Event, RunSink
from engine.sandbox.stub import HANDLER_US, INIT_US, Gate, Init, fails_init
from tests.unit.invoke.things import REQUEST_ID, Front, House, request

RAISED = FunctionError("Runtime.ImportModuleError", b'{"errorType":"Runtime.ImportModuleError"}')
SAID = f"RequestId: {REQUEST_ID} Error: "


def says(text: bytes, init: Init) -> Init:
    """The same, after it has written something."""

    async def speaking(event: Event, sink: RunSink) -> Ending | None:
        sink.output(text)
        return await init(event, sink)

    return speaking


def shown(house: House) -> list[str]:
    """The log, without what other tests hold to."""
    return [line.split("\tBilled")[0] for line in house.lines()[1:]]


async def test_one_that_works_the_second_time_is_told_before_the_start() -> None:
    house, front = House(), Front()
    house.pool.inits = [says(b"first\n", fails_init(Outcome.TIMEOUT)), None]
    done = await house.pipeline.invoke(request(), front)
    assert done.error is None
    assert shown(house) == [
        "first",
        "INIT_REPORT Init Duration: 2.00 ms\tPhase: init\tStatus: timeout",
        f"START RequestId: {REQUEST_ID} Version: $LATEST",
        f"END RequestId: {REQUEST_ID}",
        f"REPORT RequestId: {REQUEST_ID}\tDuration: 5.00 ms",
    ]
    assert "Init Duration" not in house.lines()[-1]
    assert (done.report.init_us, done.report.handler_us) == (0, HANDLER_US + INIT_US)
    assert done.report.billed_ms == 5, "the phase that failed is not billed, the second is"
    assert [what for what, _ in front.seen].count("started") == 1
    assert house.recorded == [done.report]


@pytest.mark.parametrize(
    ("outcome", "error", "status", "said"),
    [
        (Outcome.INIT_ERROR, RAISED, "error\tError Type: Runtime.ImportModuleError", []),
        (
            Outcome.EXITED,
            None,
            "error\tError Type: Runtime.ExitError",
            [f"{SAID}Runtime exited with error: exit status 1", "Runtime.ExitError"],
        ),
        (
            Outcome.OUT_OF_MEMORY,
            None,
            "error\tError Type: Runtime.OutOfMemory",
            [f"{SAID}Runtime exited with error: signal: killed", "Runtime.ExitError"],
        ),
        (
            Outcome.TIMEOUT,
            None,
            "timeout",
            [f"2026-11-23T12:00:00.123Z {REQUEST_ID} Task timed out after 60.00 seconds"],
        ),
    ],
)
async def test_one_that_fails_twice_has_two_reports_and_one_answer(
    outcome: Outcome, error: FunctionError | None, status: str, said: list[str]
) -> None:
    house, front = House(), Front()
    init = says(b"bad\n", fails_init(outcome, error, "exit status 1"))
    house.pool.inits = [init, init]
    done = await house.pipeline.invoke(request(), front)
    assert done.error is not None
    assert shown(house) == [
        "bad",
        f"INIT_REPORT Init Duration: 2.00 ms\tPhase: init\tStatus: {status}",
        "bad",
        f"INIT_REPORT Init Duration: 2.00 ms\tPhase: invoke\tStatus: {status}",
        f"START RequestId: {REQUEST_ID} Version: $LATEST",
        *said,
        f"END RequestId: {REQUEST_ID}",
        f"REPORT RequestId: {REQUEST_ID}\tDuration: 2.00 ms",
    ]
    assert house.lines()[-1].endswith(f"\tStatus: {status}")
    assert (done.report.outcome, done.report.init_us, done.report.billed_ms) == (outcome, 0, 2)
    assert [what for what, _ in front.seen].count("started") == 1
    assert house.recorded == [done.report]


async def test_a_timeout_names_the_functions_limit_and_never_the_init_phases() -> None:
    house = House()
    house.pool.inits = [fails_init(Outcome.TIMEOUT), fails_init(Outcome.TIMEOUT)]
    done = await house.pipeline.invoke(request())
    assert done.error is not None
    assert b"Task timed out after 60.00 seconds" in done.error.document


async def test_a_caller_who_leaves_in_the_second_try_has_what_was_written_between_start_and_end() -> None:
    house, gate = House(), Gate()

    async def held(event: Event, sink: RunSink) -> Ending | None:
        sink.output(b"again\n")
        await gate.passed()
        return None

    house.pool.inits = [fails_init(Outcome.EXITED), held]
    run = asyncio.create_task(house.pipeline.invoke(request()))
    await gate.reached()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert [line.split()[0] for line in house.lines()] == ["INIT_START", "INIT_REPORT", "again", "START", "END"]
    assert house.recorded == []


async def test_a_warm_sandbox_has_no_init_phase_to_tell_of() -> None:
    house = House()
    house.pool.inits = [fails_init(Outcome.EXITED), None]
    await house.pipeline.invoke(request())
    told = len(house.lines())
    done = await house.pipeline.invoke(request())
    assert done.report.start_kind is StartKind.WARM
    assert [line.split()[0] for line in house.lines()[told:]] == ["START", "END", "REPORT"]
