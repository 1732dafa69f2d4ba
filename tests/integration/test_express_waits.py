"""Plain calls that wait for room on the short way: their reports, lines and ends are those of the long one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import engine
from engine.errors import Unavailable
from engine.invoke.express import ExpressCall
from engine.model.invocation import Completion
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.box import Callers
from engine.scheduler.dispatch import LocalScheduler
from tests.doors import zip_of
from tests.integration.test_express import Case, words
from tests.integration.test_express_native import Native

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

CODE = zip_of("""
    import os, time

    def handler(event, context):
        what = event.get("do")
        if what == "print":
            print(event["text"])
        elif what == "hang":
            print("hanging", flush=True)
            time.sleep(60)
        elif what == "exit":
            os._exit(3)
        elif what == "echo":
            return event
        return {"number": os.environ.get("NUMBER", ""), "id": context.aws_request_id}
""")


class Full(Case):
    """Its function has all the room there is: one sandbox, which is warm."""

    def __init__(self, made: engine.Engine, name: str) -> None:
        super().__init__(made, name)
        scheduler = made._parts.pipeline._scheduler
        assert isinstance(scheduler, LocalScheduler)
        self.scheduler = scheduler

    async def fill(self) -> None:
        await self.engine.deploy(CODE, self.name, handler="app.handler", memory_mb=256)
        self.room(4)
        for _ in range(3):  # until its memory is at rest
            await self.long({})
        self.room(1)
        async with asyncio.timeout(30):
            while self.scheduler.counts().sandboxes != 1:  # those of the test before
                await asyncio.sleep(0.01)

    def room(self, sandboxes: int) -> None:
        self.scheduler._core.configure(self.scheduler._now(), room=sandboxes)
        self.scheduler._obey()

    def submit(self, event: object = None) -> ExpressCall:
        call = self.pipeline.express(self.name, json.dumps(event or {}).encode())
        assert call is not None, "the long way"
        return call

    @property
    def waiting(self) -> int:
        assert self.scheduler.lane is not None
        return self.scheduler.lane.waiting

    async def hangs(self) -> asyncio.Task[Completion]:
        """A call that has the sandbox."""
        call = self.submit({"do": "hang"})
        running = asyncio.ensure_future(call.result())
        async with asyncio.timeout(30):
            while "hanging" not in await self.lines(call.request_id):
                await asyncio.sleep(0.01)
        return running


@pytest_asyncio.fixture(loop_scope="module")
async def full(made: engine.Engine, request: pytest.FixtureRequest) -> AsyncIterator[Full]:
    case = Full(made, "w" + str(abs(hash(request.node.name))))
    await case.fill()
    yield case
    assert case.scheduler.counts().concurrency == case.waiting == 0
    assert case.scheduler._core.check() == ""
    case.room(4)
    await made.delete_function(case.name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[engine.Engine]:
    async with engine.Engine(retries=0, max_concurrency=4, requests_per_concurrency=0, parked_ceiling=0) as running:
        yield running


async def test_those_that_wait_are_answered_in_turn_and_their_reports_say_how_long_they_waited(full: Full) -> None:
    lane = full.scheduler.lane
    assert lane is not None
    before = lane.counts
    calls = [full.submit({"number": number}) for number in range(4)]
    assert full.waiting == 3
    places = [one.place for one in full.scheduler.placed() if one.function == full.name]
    assert sorted(place.value for place in places) == ["busy", "waiting", "waiting", "waiting"]
    done = [await call.result() for call in calls]
    assert lane.counts[0] == before[0] + 4
    assert [json.loads(one.payload)["id"] for one in done] == [call.request_id for call in calls]
    for one in done:
        report = one.report
        assert (report.outcome, report.start_kind) == (Outcome.OK, StartKind.WARM)
        assert (report.init_us, report.start_us) == (0, 0)
        assert report.total_us >= report.queue_us + report.handler_us
        assert words(await full.lines(report.request_id)) == ["START", "END", "REPORT"]
    waited = [one.report.queue_us for one in done]
    assert waited[0] == 0
    assert waited[1:] == sorted(waited[1:])
    assert waited[1] > 0


async def test_short_and_long_ones_wait_in_one_queue_and_tell_the_same(full: Full) -> None:
    first = full.submit()
    short, long = full.submit(), asyncio.ensure_future(full.long({}))
    await asyncio.sleep(0)
    last = full.submit()
    assert full.scheduler._core.counts()["waiting"] == 3
    done = [await one.result() for one in (first, short, last)]
    done.insert(2, await long)
    assert [one.report.start_kind for one in done] == [StartKind.WARM] * 4
    waited = [one.report.queue_us for one in done]
    assert 0 == waited[0] < waited[1] < waited[2] <= waited[3]


async def test_those_that_write_have_their_own_lines(full: Full) -> None:
    calls = [full.submit({"do": "print", "text": f"words {number}"}) for number in range(4)]
    for number, call in enumerate(calls):
        done = await call.result()
        lines = await full.lines(done.report.request_id)
        assert words(lines) == ["START", "words", "END", "REPORT"]
        assert lines[1] == f"words {number}"
        assert (done.report.queue_us > 0) == (number > 0)


async def test_a_caller_that_leaves_while_it_waits_takes_nobodys_place(full: Full) -> None:
    hanging = await full.hangs()
    stays, leaves = full.submit({"do": "print", "text": "here"}), full.submit()
    waiting = [asyncio.ensure_future(call.result()) for call in (stays, leaves)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.wait({waiting[1]})
    assert waiting[1].cancelled()
    assert full.waiting == 1
    assert await full.lines(leaves.request_id) == []
    hanging.cancel()
    await asyncio.wait({hanging})
    done = await asyncio.wait_for(waiting[0], 60)
    assert done.report.start_kind is not StartKind.WARM, "the sandbox went with the call that it had"
    assert done.report.queue_us > 0
    assert done.report.init_us > 0
    assert words(await full.lines(stays.request_id)) == ["INIT_START", "START", "here", "END", "REPORT"]


@pytest.mark.parametrize("at_once", [True, False], ids=["before anybody goes on with it", "in its start"])
async def test_a_caller_that_leaves_as_its_sandbox_is_to_be_started_gives_back_its_place(
    full: Full, at_once: bool
) -> None:
    runs, leaves, stays = full.submit(), full.submit(), full.submit()
    full.room(2)  # which is a start for the first that waits
    assert full.waiting == 1
    if at_once:
        leaves.leave()
    else:
        leaving = asyncio.ensure_future(leaves.result())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        assert leaving.cancelled()
    for call in (runs, stays):
        done = await asyncio.wait_for(call.result(), 60)
        assert done.report.outcome is Outcome.OK
    assert "REPORT" not in words(await full.lines(leaves.request_id))
    full.room(1)
    async with asyncio.timeout(30):
        while full.scheduler.counts().concurrency:
            await asyncio.sleep(0)


async def test_a_crash_of_the_sandbox_that_it_waits_for_costs_it_a_start_and_no_more(full: Full) -> None:
    crashes, follows = full.submit({"do": "exit"}), full.submit()
    crashed, done = await asyncio.gather(crashes.result(), follows.result())
    assert (crashed.report.outcome, done.report.outcome) == (Outcome.EXITED, Outcome.OK)
    assert done.report.start_kind is not StartKind.WARM
    assert json.loads(done.payload)["id"] == follows.request_id


async def test_an_update_drops_none_that_wait_and_each_sees_the_version_that_it_was_for(full: Full) -> None:
    old = [full.submit() for _ in range(3)]
    await full.engine.update_function(full.name, environment={"NUMBER": "new"})
    ends = [asyncio.ensure_future(call.result()) for call in old]
    new = await full.long({})
    done = [await asyncio.wait_for(one, 60) for one in ends]
    assert [json.loads(one.payload)["number"] for one in (*done, new)] == ["", "", "", "new"]


async def test_native_callers_that_wait_are_answered_and_counted(full: Full) -> None:
    native = Native(full.engine, full.name)
    earlier, before = set(await native.lines()), await native.counted()
    callers = await native.run({"do": "echo"}, 4, 0.2)
    assert (callers.refused, callers.wrong) == ([], 0)
    assert callers.answered > 8
    lines = [texts for name, texts in (await native.lines()).items() if name not in earlier]
    assert lines == [["START", "END", "REPORT"]] * callers.answered
    after = await native.counted()
    assert after[0] - before[0] == callers.answered


async def test_native_callers_that_leave_while_they_wait_are_counted_and_have_no_line(full: Full) -> None:
    native = Native(full.engine, full.name)
    earlier = set(await native.lines())
    found = native.pipeline._express.native(full.name)
    assert found is not None
    over = asyncio.Event()
    callers = Callers(*found, b'{"do": "hang"}', 4, over.set)
    callers.start(0, 1 << 62)
    assert full.waiting == 3
    callers.cancel()
    assert over.is_set()
    assert full.waiting == 0
    async with asyncio.timeout(30):
        while full.scheduler.counts().concurrency:
            await asyncio.sleep(0.01)
    assert (await native.counted())[3] == {"cancelled": 4}
    assert sum("START" in texts for name, texts in (await native.lines()).items() if name not in earlier) == 1


async def test_an_engine_that_stops_serves_those_that_wait_and_refuses_them_when_its_patience_is_over() -> None:
    for event, outcome in (({}, Completion), ({"do": "hang"}, Unavailable)):
        async with engine.Engine(retries=0, drain_s=1, max_concurrency=4, parked_ceiling=0) as made:
            case = Full(made, "f")
            await case.fill()
            calls = [case.submit(event), case.submit(), case.submit()]
            ends = [asyncio.ensure_future(call.result()) for call in calls]
            await asyncio.sleep(0)
        found = await asyncio.gather(*ends, return_exceptions=True)
        assert [type(one) for one in found] == [outcome] * 3
