"""The short way of plain calls: whatever happens on it is what happens on the long one."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import engine
from engine.errors import InvalidPayload, NotFound, PayloadTooLarge, Throttled, Unavailable
from engine.invoke.pipeline import Pipeline
from engine.model.invocation import Completion, InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome, StartKind
from engine.observe.log_query import LogQuery
from tests.doors import zip_of

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

CODE = zip_of("""
    import os, sys, threading, time

    def handler(event, context):
        what = event.get("do") if isinstance(event, dict) else None
        if what == "print":
            print(event["text"])
        elif what == "flood":
            for number in range(event["lines"]):
                print(number)
        elif what == "fail":
            raise ValueError("no good")
        elif what == "exit":
            os._exit(3)
        elif what == "sleep":
            time.sleep(60)
        elif what == "hang":
            print("hanging", flush=True)
            time.sleep(60)
        elif what == "kill":
            os.kill(os.getpid(), 9)
        elif what == "noise":
            os.write(3, b"x" * 100)
            time.sleep(60)
        elif what == "close":
            os.close(3)
            os.close(4)
            time.sleep(60)
        elif what == "big":
            return "x" * event["size"]
        elif what == "late":
            threading.Timer(0.05, lambda: print("late")).start()
        return {"event": event, "id": context.aws_request_id, "trace": os.environ["_X_AMZN_TRACE_ID"],
                "arn": context.invoked_function_arn, "left": context.get_remaining_time_in_millis()}
""")


class Case:
    """A function that has a warm sandbox, called by the short way only."""

    def __init__(self, made: engine.Engine, name: str) -> None:
        self.engine = made
        self.name = name
        self.pipeline: Pipeline = made._parts.pipeline

    async def warm(self, **options: Any) -> None:
        await self.engine.deploy(CODE, self.name, handler="app.handler", **{"memory_mb": 256, **options})
        await self.long({})

    async def long(self, event: Any) -> Completion:
        payload = json.dumps(event).encode()
        return await self.pipeline.invoke(InvokeRequest(FunctionRef(self.name), payload, log_tail=True))

    async def short(self, event: Any) -> Completion:
        call = self.pipeline.express(self.name, json.dumps(event).encode())
        assert call is not None, "the long way"
        return await call.result()

    async def lines(self, request_id: str) -> list[str]:
        logs = self.engine._parts.logs
        found = [line async for lines in logs.read(self.name, LogQuery(request_id=request_id)) for line in lines]
        return [line.text.decode() for line in found]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[engine.Engine]:
    async with engine.Engine(retries=0, max_concurrency=4, requests_per_concurrency=0, parked_ceiling=0) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def case(made: engine.Engine, request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    name = "f" + str(abs(hash(request.node.name)))
    made_case = Case(made, name)
    await made_case.warm()
    yield made_case
    try:
        await made.delete_function(name)
    except NotFound:
        pass


def words(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


async def test_an_answer_and_its_report_are_those_of_the_long_way(case: Case) -> None:
    long, short = await case.long({"a": [1, "x"]}), await case.short({"a": [1, "x"]})
    told, said = json.loads(long.payload), json.loads(short.payload)
    assert said["event"] == {"a": [1, "x"]}
    assert said["arn"] == told["arn"]
    assert 0 < said["left"] <= 3_000
    assert said["id"] == short.report.request_id != long.report.request_id
    digits = said["id"].replace("-", "")
    assert said["trace"].split("-", 2)[2] == f"{digits[:24]};Parent={digits[16:]};Sampled=0"
    assert (short.report.outcome, short.report.start_kind) == (Outcome.OK, StartKind.WARM)
    assert short.report.handler_us > 0
    assert short.report.total_us >= short.report.handler_us
    assert short.report.billed_ms >= 1
    assert short.report.cpu_us > 0
    assert short.report.peak_memory_bytes >= long.report.peak_memory_bytes > 0
    for field in ("memory_mb", "executed_version", "queue_us", "start_us", "init_us"):
        assert getattr(short.report, field) == getattr(long.report, field), field


async def test_it_runs_under_the_id_that_its_front_gave_it(case: Case) -> None:
    given = "6F0A2C1E-98d1-4c5e-9d4f-1f2e3d4c5b6a"
    call = case.pipeline.express(case.name, b"{}", given)
    assert call is not None
    done = await call.result()
    said = json.loads(done.payload)
    assert (done.report.request_id, said["id"]) == (given, given)
    assert said["trace"].endswith("-6f0a2c1e98d14c5e9d4f1f2e;Parent=9d4f1f2e3d4c5b6a;Sampled=0")
    assert words(await case.lines(given)) == ["START", "END", "REPORT"]
    assert case.pipeline.express(case.name, b"{}", "no id") is None


async def test_calls_to_a_warm_sandbox_are_the_loops_and_each_is_counted_for_itself(case: Case) -> None:
    lane = case.pipeline._scheduler.lane
    assert lane is not None
    before = lane.counts
    done = [await case.short({"number": number}) for number in range(40)]
    taken, ended, handed = (now - then for now, then in zip(lane.counts, before, strict=True))
    assert (taken, ended + handed) == (40, 40)
    assert ended >= 20, "once its memory has come to rest"
    assert [json.loads(one.payload)["event"]["number"] for one in done] == list(range(40))
    assert len({one.report.request_id for one in done}) == 40
    assert all(one.report.cpu_us > 0 for one in done)
    peaks = [one.report.peak_memory_bytes for one in done]
    assert peaks == sorted(peaks)
    for one in (done[0], done[-1]):
        assert words(await case.lines(one.report.request_id)) == ["START", "END", "REPORT"]


async def test_one_that_writes_is_handed_over_and_the_next_is_not_the_loops(case: Case) -> None:
    lane = case.pipeline._scheduler.lane
    assert lane is not None
    told = lane.counts[1]
    while lane.counts[1] == told:
        await case.short({})
    before = lane.counts
    assert words(await case.lines((await case.short({"do": "print", "text": "one"})).report.request_id))[1] == "one"
    assert lane.counts == (before[0] + 1, before[1], before[2] + 1)
    await case.short({"do": "print", "text": "two"})
    assert lane.counts == (before[0] + 1, before[1], before[2] + 1), "it writes each time: nothing is tried"
    await case.short({})
    assert lane.counts[0] == before[0] + 1
    await case.short({})
    assert lane.counts[0] == before[0] + 2


async def test_one_that_writes_nothing_has_its_three_lines(case: Case) -> None:
    done = await case.short({})
    lines = await case.lines(done.report.request_id)
    assert words(lines) == ["START", "END", "REPORT"]
    assert f"RequestId: {done.report.request_id}" in lines[2]
    assert f"Billed Duration: {done.report.billed_ms} ms" in lines[2]


async def test_what_one_writes_stands_between_its_own_lines(case: Case) -> None:
    done = [await case.short({"do": "print", "text": f"words {number}"}) for number in range(3)]
    quiet = await case.short({})
    for number, one in enumerate(done):
        lines = await case.lines(one.report.request_id)
        assert words(lines) == ["START", "words", "END", "REPORT"]
        assert lines[1] == f"words {number}"
    assert words(await case.lines(quiet.report.request_id)) == ["START", "END", "REPORT"]


async def test_a_flood_is_in_the_log_before_its_end(case: Case) -> None:
    done = await case.short({"do": "flood", "lines": 6_000})
    lines = await case.lines(done.report.request_id)
    assert lines[1:-2] == [str(number) for number in range(6_000)]
    assert words(lines)[-2:] == ["END", "REPORT"]


async def test_what_is_written_after_the_answer_is_of_the_same_invocation(case: Case) -> None:
    done = await case.short({"do": "late"})
    async with asyncio.timeout(30):
        while "late" not in await case.lines(done.report.request_id):
            await asyncio.sleep(0.02)
    assert words(await case.lines(done.report.request_id)) == ["START", "END", "REPORT", "late"]


@pytest.mark.parametrize(
    ("event", "outcome", "error_type", "serves_on"),
    [
        ({"do": "fail"}, Outcome.HANDLER_ERROR, "ValueError", True),
        ({"do": "big", "size": 7_000_000}, Outcome.HANDLER_ERROR, "Function.ResponseSizeTooLarge", True),
        ({"do": "exit"}, Outcome.EXITED, "Runtime.ExitError", False),
        ({"do": "kill"}, Outcome.EXITED, "Runtime.ExitError", False),
        ({"do": "noise"}, Outcome.EXITED, "Runtime.ExitError", False),
        ({"do": "close"}, Outcome.EXITED, "Runtime.ExitError", False),
    ],
    ids=lambda value: value["do"] if isinstance(value, dict) else "",
)
async def test_a_failure_of_the_function_is_what_it_is_on_the_long_way(
    case: Case, event: dict[str, Any], outcome: Outcome, error_type: str, serves_on: bool
) -> None:
    done = await case.short(event)
    assert (done.report.outcome, done.payload) == (outcome, b"")
    assert done.error is not None
    assert done.error.type == error_type
    assert words(await case.lines(done.report.request_id))[-2:] == ["END", "REPORT"]
    after = await case.long({})
    assert after.report.outcome is Outcome.OK
    assert (after.report.start_kind is StartKind.WARM) == serves_on
    assert (await case.short({})).report.outcome is Outcome.OK


async def test_a_large_answer_comes_whole(case: Case) -> None:
    for size in (65_000, 65_536, 1_000_000, 6_000_000):
        done = await case.short({"do": "big", "size": size})
        assert json.loads(done.payload) == "x" * size


async def test_a_large_event_arrives_whole(case: Case) -> None:
    for size in (60_000, 65_536, 1_000_000, 2_500_000):
        done = await case.short({"text": "x" * size})
        assert json.loads(done.payload)["event"] == {"text": "x" * size}


async def test_one_that_takes_too_long_is_stopped_at_its_deadline(case: Case) -> None:
    await case.engine.update_function(case.name, timeout_ms=1_000)
    await case.long({})
    assert (await case.short({})).report.outcome is Outcome.OK
    done = await case.short({"do": "hang"})
    assert done.report.outcome is Outcome.TIMEOUT
    assert 1_000_000 <= done.report.handler_us < 3_000_000
    lines = await case.lines(done.report.request_id)
    assert lines[1] == "hanging"
    assert words(lines)[-2:] == ["END", "REPORT"]
    assert "Status: timeout" in lines[-1]
    assert (await case.long({})).report.start_kind is not StartKind.WARM


async def test_a_caller_that_leaves_stops_the_function_and_frees_its_place(case: Case) -> None:
    counts = case.engine._parts.pipeline._scheduler.counts
    running = []
    for _ in range(4):
        await asyncio.gather(*(case.long({}) for _ in range(4)))
        call = case.pipeline.express(case.name, b'{"do": "hang"}')
        assert call is not None
        running.append(asyncio.ensure_future(call.result()))
        async with asyncio.timeout(30):
            while "hanging" not in await case.lines(call.request_id):
                await asyncio.sleep(0.01)
        running[-1].cancel()
        await asyncio.wait({running[-1]})
        assert running[-1].cancelled()
        assert counts().concurrency == 0
        assert words(await case.lines(call.request_id)) == ["START", "hanging", "END"]
    assert (await case.long({})).report.outcome is Outcome.OK


async def test_a_silent_call_whose_caller_leaves_has_a_start_and_an_end(case: Case) -> None:
    call = case.pipeline.express(case.name, b'{"do": "sleep"}')
    assert call is not None
    running = asyncio.ensure_future(call.result())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    assert words(await case.lines(call.request_id)) == ["START", "END"]


async def test_nothing_of_what_was_said_stays_with_the_sandbox(case: Case) -> None:
    call = case.pipeline.express(case.name, b'{"text": "much"}')
    assert call is not None
    await call.result()
    assert not call.payload
    assert call.held is None
    assert call.future is None


async def test_a_sandbox_that_is_killed_from_outside_ends_its_call(case: Case) -> None:
    call = case.pipeline.express(case.name, b'{"do": "hang"}')
    assert call is not None
    running = asyncio.ensure_future(call.result())
    async with asyncio.timeout(30):
        while "hanging" not in await case.lines(call.request_id):
            await asyncio.sleep(0.01)
    os.kill(call.sandbox.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    done = await asyncio.wait_for(running, 30)
    assert done.report.outcome is Outcome.EXITED
    assert (await case.long({})).report.outcome is Outcome.OK


async def test_a_sandbox_that_died_while_it_idled_costs_no_call(case: Case) -> None:
    call = case.pipeline.express(case.name, b"{}")
    assert call is not None
    pid = call.sandbox.pid  # type: ignore[attr-defined]
    await call.result()
    end = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    # Without a turn of the loop: the engine has not noticed.
    poll = select.poll()
    poll.register(end, select.POLLIN)
    poll.poll(30_000)
    os.close(end)
    done = await case.pipeline.invoke(InvokeRequest(FunctionRef(case.name), b"{}"))
    assert done.report.outcome is Outcome.OK
    assert done.report.start_kind is not StartKind.WARM


@pytest.mark.parametrize("way", ["short", "long"])
async def test_an_event_that_its_sandbox_has_not_read_when_it_dies_goes_to_another(case: Case, way: str) -> None:
    call = case.pipeline.express(case.name, b"{}")
    assert call is not None
    pid = call.sandbox.pid  # type: ignore[attr-defined]
    await call.result()
    (guest,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(guest), signal.SIGSTOP)
    async with asyncio.timeout(30):
        while Path(f"/proc/{guest}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            await asyncio.sleep(0.01)
    running = asyncio.ensure_future(case.short({"a": 1}) if way == "short" else case.long({"a": 1}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    done = await asyncio.wait_for(running, 30)
    assert done.report.outcome is Outcome.OK
    assert done.report.start_kind is not StartKind.WARM
    assert json.loads(done.payload)["id"] == done.report.request_id
    lines = words(await case.lines(done.report.request_id))
    assert [word for word in lines if word != "INIT_START"] == ["START", "END", "REPORT"]


async def test_what_is_not_plain_or_not_right_is_left_to_the_long_way(case: Case) -> None:
    express = case.pipeline.express
    for payload in (b"", b"{", b"{}x", b"\xff", '"é"'.encode(), b"[" * 100_000, b'"' + b"x" * 6_291_456 + b'"'):
        assert express(case.name, payload) is None, payload[:10]
    for name in ("nobody", f"{case.name}/versions/1", f"{case.name}:1", ""):
        assert express(name, b"{}") is None
    with pytest.raises(InvalidPayload):
        await case.pipeline.invoke(InvokeRequest(FunctionRef(case.name), b"{"))
    with pytest.raises(PayloadTooLarge):
        await case.pipeline.invoke(InvokeRequest(FunctionRef(case.name), b'"' + b"x" * 6_291_456 + b'"'))
    plain = await case.pipeline.invoke(InvokeRequest(FunctionRef(case.name), '"é"'.encode()))
    assert json.loads(plain.payload)["event"] == "é"


async def test_more_calls_than_warm_sandboxes_take_the_long_way_and_more_than_may_run_are_throttled(case: Case) -> None:
    hanging = []
    for _ in range(4):
        call = case.pipeline.express(case.name, b'{"do": "hang"}')
        while call is None:
            await case.long({})
            call = case.pipeline.express(case.name, b'{"do": "hang"}')
        hanging.append(asyncio.ensure_future(call.result()))
    assert case.pipeline.express(case.name, b"{}") is None
    with pytest.raises(Throttled):
        await case.long({})
    for one in hanging:
        one.cancel()
    await asyncio.wait(hanging)
    assert (await case.long({})).report.outcome is Outcome.OK


async def test_an_update_is_what_the_next_call_sees(case: Case) -> None:
    for number in range(3):
        await case.engine.update_function(case.name, environment={"NUMBER": str(number)})
        assert case.pipeline.express(case.name, b"{}") is None, "the short way of the state before"
        await case.long({})
        assert (await case.short({})).report.outcome is Outcome.OK


async def test_a_function_that_is_deleted_has_no_short_way(case: Case) -> None:
    await case.short({})
    await case.engine.delete_function(case.name)
    assert case.pipeline.express(case.name, b"{}") is None
    with pytest.raises(NotFound):
        await case.long({})


async def test_a_function_that_is_deleted_under_a_call_answers_it_and_keeps_no_log(case: Case) -> None:
    call = case.pipeline.express(case.name, b'{"do": "print", "text": "last"}')
    assert call is not None
    running = asyncio.ensure_future(call.result())
    await case.engine.delete_function(case.name)
    done = await asyncio.wait_for(running, 30)
    assert json.loads(done.payload)["event"]["text"] == "last"
    await asyncio.sleep(0)
    assert await case.lines(done.report.request_id) == []


async def test_an_engine_that_stops_lets_calls_end_and_kills_those_that_do_not() -> None:
    async with engine.Engine(retries=0, drain_s=1, parked_ceiling=0) as made:
        case = Case(made, "f")
        await case.warm()
        await asyncio.gather(case.long({}), case.long({}))
        ends, hangs = (case.pipeline.express("f", what) for what in (b"{}", b'{"do": "hang"}'))
        assert ends is not None
        assert hangs is not None
        running = [asyncio.ensure_future(one.result()) for one in (ends, hangs)]
    done, killed = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(done, Completion)
    assert done.report.outcome is Outcome.OK
    assert isinstance(killed, Unavailable)
