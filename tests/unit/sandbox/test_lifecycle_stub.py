"""The stub keeps the promises of engine.sandbox.api, so that what is tested on it holds on real sandboxes."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import SandboxFault
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending, Event, Pool, RunSink, Sandbox, SandboxSpec
from engine.sandbox.lifecycle import SandboxState
from engine.sandbox.stub import Gate, Script, StubPool, StubSandbox, behind, echo

SPEC = SandboxSpec(("f", "$LATEST", "1"), "python3.11", "app.handler", "/nowhere", 128, 512, {})


class Nobody:
    def started(self, kind: StartKind) -> None: ...

    def initialized(self, failure: Ending | None) -> None: ...

    def output(self, data: bytes) -> None: ...

    def chunk(self, data: bytes) -> None: ...


def event(timeout_ms: int = 60_000) -> Event:
    return Event("r", b"1", timeout_ms, "arn")


async def started(script: Script = echo) -> StubSandbox:
    return await StubPool(script).start(SPEC)


async def test_it_is_a_pool_and_a_sandbox() -> None:
    pool: Pool = StubPool()
    sandbox: Sandbox = await pool.start(SPEC)
    assert sandbox.spec is SPEC
    await sandbox.close()


async def test_it_says_cold_once_and_then_warm() -> None:
    kinds: list[StartKind] = []

    class Kinds(Nobody):
        def started(self, kind: StartKind) -> None:
            kinds.append(kind)

    sandbox = await started()
    for _ in range(3):
        assert (await sandbox.run(event(), Kinds())).payload == b"1"
    assert kinds == [StartKind.FORK, StartKind.WARM, StartKind.WARM]


async def test_a_run_ends_by_its_own_clock() -> None:
    sandbox = await started(behind(Gate()))
    ending = await sandbox.run(event(timeout_ms=1), Nobody())
    assert (ending.outcome, ending.reusable) == (Outcome.TIMEOUT, False)
    assert sandbox.dead


async def test_a_timeout_error_of_the_script_is_its_own() -> None:
    async def script(event: Event, sink: RunSink) -> bytes:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await (await started(script)).run(event(), Nobody())


async def test_a_kill_ends_a_run_and_nothing_runs_after_it() -> None:
    gate = Gate()
    sandbox = await started(behind(gate))
    run = asyncio.create_task(sandbox.run(event(), Nobody()))
    await gate.reached()
    sandbox.kill()
    ending = await run
    assert (ending.outcome, ending.exit_status, ending.reusable) == (Outcome.EXITED, "signal: killed", False)
    with pytest.raises(SandboxFault):
        await sandbox.run(event(), Nobody())
    assert len(sandbox.runs) == 1


async def test_cancelling_a_run_kills() -> None:
    gate = Gate()
    sandbox = await started(behind(gate))
    run = asyncio.create_task(sandbox.run(event(), Nobody()))
    await gate.reached()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert sandbox.dead


async def test_it_complains_of_a_second_event_at_the_same_time_and_of_a_second_close() -> None:
    gate = Gate()
    sandbox = await started(behind(gate))
    run = asyncio.create_task(sandbox.run(event(), Nobody()))
    await gate.reached()
    with pytest.raises(AssertionError):
        await sandbox.run(event(), Nobody())
    gate.open()
    await run
    await sandbox.close()
    assert sandbox.lifecycle.state is SandboxState.DEAD
    with pytest.raises(AssertionError):
        await sandbox.close()


async def test_one_that_refuses_never_had_the_event() -> None:
    sandbox = await started()
    sandbox.refusing = True
    with pytest.raises(SandboxFault):
        await sandbox.run(event(), Nobody())
    assert sandbox.runs == []
    assert sandbox.dead


async def test_a_pool_knows_of_what_something_is_left() -> None:
    pool = StubPool()
    one, two = await pool.start(SPEC), await pool.start(SPEC)
    one.die()
    assert pool.alive == [one, two]
    await one.close()
    assert pool.alive == [two]
    assert one.id != two.id
