"""Plain calls of native callers: all that a run has (lines, its place in the counts, a deadline) is theirs too."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import engine
from engine.model.invocation import InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import StartKind
from engine.observe.log_query import LogQuery
from engine.sandbox.box import Callers
from tests.doors import zip_of

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

CODE = zip_of("""
    import threading, time

    def handler(event, context):
        if event.get("do") == "print":
            print("words")
        elif event.get("do") == "late":
            threading.Timer(0.05, lambda: print("late")).start()
        elif event.get("do") == "sleep":
            time.sleep(60)
        return event
""")


class Native:
    """A function that has warm sandboxes, called by native callers."""

    def __init__(self, made: engine.Engine, name: str) -> None:
        self.engine = made
        self.name = name
        self.pipeline = made._parts.pipeline

    async def warm(self, sandboxes: int = 1, **options: Any) -> StartKind:
        """Deploy it, and call it as the long way does; what started last."""
        await self.engine.deploy(CODE, self.name, handler="app.handler", memory_mb=256, **options)
        return await self.long(sandboxes)

    async def long(self, together: int = 1) -> StartKind:
        request = InvokeRequest(FunctionRef(self.name), b"{}", log_tail=True)
        done = await asyncio.gather(*(self.pipeline.invoke(request) for _ in range(together)))
        return done[-1].report.start_kind

    async def run(self, event: Any, callers: int, lasting_s: float) -> Callers:
        found = self.pipeline._express.native(self.name)
        assert found is not None
        over = asyncio.Event()
        made = Callers(*found, json.dumps(event).encode(), callers, over.set)
        now = time.monotonic_ns()
        made.start(now, now + round(lasting_s * 1e9))
        async with asyncio.timeout(60):
            await over.wait()
        assert (made.refused, made.running) == ([], 0)
        return made

    async def counted(self) -> tuple[int, int, int, dict[str, int]]:
        """Of all its invocations until now: how many were answered, bytes that went to it, that came back; and how many
        ended otherwise, by outcome."""
        ends: dict[str, int] = {}
        for one in (await self.engine._parts.observe()).functions:
            if one.name == self.name:
                for count in one.invocations:
                    ends[count.outcome.value] = ends.get(count.outcome.value, 0) + count.count
                return ends.pop("ok", 0), one.event_bytes, one.result_bytes, ends
        return 0, 0, 0, ends

    async def lines(self) -> dict[str, list[str]]:
        """The first word of each line, by request id."""
        found: dict[str, list[str]] = {}
        async for lines in self.engine._parts.logs.read(self.name, LogQuery()):
            for line in lines:
                found.setdefault(line.request_id, []).append(line.text.decode().split()[0])
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[engine.Engine]:
    async with engine.Engine(retries=0, max_concurrency=4, requests_per_concurrency=0, parked_ceiling=0) as running:
        yield running


@pytest.mark.parametrize(("event", "said"), [({"a": 1}, []), ({"do": "print"}, ["words"])], ids=["quiet", "loud"])
async def test_native_callers_have_their_answers_lines_and_counts(
    made: engine.Engine, event: Any, said: list[str]
) -> None:
    native = Native(made, "loud" if said else "quiet")
    await native.warm(2)
    earlier, before = set(await native.lines()), await native.counted()
    callers = await native.run(event, 2, 0.2)
    assert callers.wrong == 0
    assert callers.answered > 4
    lines = {name: texts for name, texts in (await native.lines()).items() if name not in earlier}
    assert len(lines) == callers.answered
    assert all(uuid.UUID(name).version == 4 and str(uuid.UUID(name)) == name for name in lines)
    assert all(texts == ["START", *said, "END", "REPORT"] for texts in lines.values())
    assert native.pipeline._scheduler.counts().concurrency == 0
    moved = callers.answered * len(json.dumps(event))
    after = await native.counted()
    assert [now - then for now, then in zip(after[:3], before[:3], strict=True)] == [callers.answered, moved, moved]


async def test_callers_who_leave_kill_their_sandboxes_and_are_counted(made: engine.Engine) -> None:
    native = Native(made, "left")
    await native.warm(2)
    found = native.pipeline._express.native("left")
    assert found is not None
    over = asyncio.Event()
    callers = Callers(*found, b'{"do": "sleep"}', 2, over.set)
    callers.start(0, 1 << 62)
    assert native.pipeline._scheduler.counts().concurrency == 2
    callers.cancel()
    assert over.is_set()
    async with asyncio.timeout(60):
        while native.pipeline._scheduler.counts().concurrency:
            await asyncio.sleep(0.01)
    assert (await native.counted())[3] == {"cancelled": 2}
    assert await native.long() is not StartKind.WARM


async def test_what_a_run_writes_after_its_answer_is_its_own(made: engine.Engine) -> None:
    native = Native(made, "late")
    await native.warm()
    earlier = set(await native.lines())
    callers = await native.run({"do": "late"}, 1, 0.001)
    async with asyncio.timeout(30):
        while all("late" not in texts for texts in (await native.lines()).values()):
            await asyncio.sleep(0.02)
    lines = [texts for name, texts in (await native.lines()).items() if name not in earlier]
    assert len(lines) == callers.answered
    assert all(texts[:3] == ["START", "END", "REPORT"] for texts in lines)


async def test_a_call_that_takes_too_long_ends_at_its_deadline(made: engine.Engine) -> None:
    native = Native(made, "slow")
    await native.warm(timeout_ms=1_000)
    callers = await native.run({"do": "sleep"}, 1, 0.001)
    assert (callers.answered, callers.wrong) == (0, 1)
    assert await native.long() is not StartKind.WARM


async def test_native_callers_of_a_function_that_is_updated_stop_where_no_sandbox_is_warm(made: engine.Engine) -> None:
    native = Native(made, "updated")
    await native.warm()
    lane, line = native.pipeline._express.native("updated") or (None, None)
    assert lane is not None
    assert line is not None
    await made.update_function("updated", environment={"A": "1"})
    assert native.pipeline._express.native("updated") is None
    over = asyncio.Event()
    callers = Callers(lane, line, b"{}", 3, over.set)
    callers.start(0, 1 << 62)
    assert over.is_set()
    assert len(callers.refused) == 3
