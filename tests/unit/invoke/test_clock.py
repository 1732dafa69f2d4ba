"""The clock of the host is stepped back while functions run: what is measured is measured by another."""

from __future__ import annotations

import asyncio

import pytest

from engine.model.outcome import Outcome
from engine.sandbox.stub import Gate, behind
from tests.unit.invoke import things
from tests.unit.invoke.things import House, function, request

HOUR_NS = 3_600 * 10**9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def step_back(clock: pytest.MonkeyPatch) -> None:
    clock.setattr(things, "WALL_NS", things.WALL_NS - HOUR_NS)


async def test_a_call_that_runs_meanwhile_has_its_answer_its_times_and_its_log(clock: pytest.MonkeyPatch) -> None:
    gate = Gate()
    house = House(behind(gate))
    call = asyncio.ensure_future(house.pipeline.invoke(request(b'"mine"', timeline=True)))
    await gate.reached()
    step_back(clock)
    gate.open()
    done = await call
    assert (done.report.outcome, done.payload) == (Outcome.OK, b'"mine"')
    assert 0 <= done.report.total_us < 60_000_000
    assert done.report.billed_ms < 1_000
    moments = [us for _, us in done.report.timeline]
    assert moments == sorted(moments)
    assert moments[0] >= 0
    assert [line.split()[0] for line in house.lines()] == ["INIT_START", "START", "END", "REPORT"]


async def test_a_timeout_comes_when_it_would_have_come(clock: pytest.MonkeyPatch) -> None:
    house = House(behind(Gate()))
    house.registry.put(function(timeout_ms=50))
    call = asyncio.ensure_future(house.pipeline.invoke(request()))
    await asyncio.sleep(0)
    step_back(clock)
    assert (await asyncio.wait_for(call, 20)).report.outcome is Outcome.TIMEOUT


async def test_what_was_warm_serves_on_and_no_lease_is_lost(clock: pytest.MonkeyPatch) -> None:
    house = House(max_concurrency=1)
    for _ in range(3):
        assert (await house.pipeline.invoke(request())).report.outcome is Outcome.OK
        step_back(clock)
    assert len(house.pool.sandboxes) == 1
    assert house.scheduler.counts().concurrency == 0
