"""What is refused never runs, and says what to do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from engine.errors import (
    InvalidArgument,
    InvalidPayload,
    NotFound,
    NotInvocable,
    PayloadTooLarge,
    PermissionDenied,
    Throttled,
)
from engine.model.function import FunctionState
from engine.model.invocation import EVENT_LIMIT_BYTES, InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome
from engine.sandbox.stub import Gate, behind
from tests.unit.invoke.things import House, function, request


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
    assert len(house.lines()) == 4
