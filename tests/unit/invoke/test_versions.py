"""An invocation by version or alias: which state it runs, what it is told, and which sandboxes serve on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import NotFound
from engine.invoke.pipeline import Pipeline
from engine.model.invocation import Completion, InvokeRequest
from engine.model.names import FunctionRef, parse_aws_name, parse_resource_name
from engine.model.outcome import Outcome, StartKind
from engine.registry.api import AliasChange, ConfigChange
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.sandbox.api import Ending, Event, RunSink
from engine.sandbox.stub import Gate, StubPool, behind
from engine.scheduler.dispatch import LocalScheduler
from tests.registries import opened
from tests.unit.invoke.things import Logs

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"


class House:
    """A pipeline over a real registry with the function f: version 1, another $LATEST."""

    def __init__(self, registry: FunctionRegistry, code: LocalCodeStore) -> None:
        self.registry = registry
        self.chance = 0.0
        self.events: list[Event] = []
        self.gate: Gate | None = None
        self.pool = StubPool(self._script)
        self.scheduler = LocalScheduler(
            self.pool, max_concurrency=9, max_sandboxes=9, keep_alive_s=600, random32=lambda: int(self.chance * 2**32)
        )
        self.logs = Logs()
        self.pipeline = Pipeline(registry, code, self.scheduler, self.logs, region="us-east-1", account="000000000000")

    async def _script(self, event: Event, sink: RunSink) -> Ending | bytes:
        self.events.append(event)
        if self.gate is not None:
            return await behind(self.gate)(event, sink)
        return Ending(Outcome.OK, True, b"1")

    async def left(self, sandboxes: int) -> None:
        """Wait until there are no more."""
        async with asyncio.timeout(20):
            while self.scheduler.counts().sandboxes > sandboxes:
                await asyncio.sleep(0)

    async def invoke(self, name: str, *, log_tail: bool = False) -> Completion:
        return await self.pipeline.invoke(InvokeRequest(parse_aws_name(name), b"{}", log_tail=log_tail))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as (registry, code):
        house = House(registry, code)
        await registry.versions.publish("f")
        await registry.update("f", ConfigChange(memory_mb=256))
        yield house
        await house.scheduler.drain(0)


async def test_the_version_that_ran_is_reported_and_the_arn_keeps_what_was_asked_for(house: House) -> None:
    await house.registry.versions.publish("f")
    await house.registry.aliases.create("f", "live", AliasChange("1", {"2": 0.5}))
    for name, chance, version, suffix in (
        ("f", 0.0, "$LATEST", ""),
        ("f:$LATEST", 0.0, "$LATEST", ""),
        ("f:1", 0.0, "1", ":1"),
        (f"{ARN}:2", 0.0, "2", ":2"),
        ("000000000000:f:live", 0.49, "2", ":live"),
        ("f:live", 0.5, "1", ":live"),
    ):
        house.chance = chance
        done = await house.invoke(name, log_tail=True)
        report = done.report
        assert (report.executed_version, report.memory_mb) == (version, 128 if version == "1" else 256), name
        assert house.events[-1].function_arn == ARN + suffix
        assert f" Version: {version}\n".encode() in done.log_tail
    with pytest.raises(NotFound, match="f:3"):
        await house.invoke("f:3")


async def test_an_alias_with_two_versions_follows_every_write_of_it(house: House) -> None:
    await house.registry.versions.publish("f")
    await house.registry.aliases.create("f", "live", AliasChange("1", {"2": 0.5}))
    house.chance = 0.3
    assert (await house.invoke("f:live")).report.executed_version == "2"
    await house.registry.aliases.update("f", "live", AliasChange(weights={"2": 0.25}))
    assert (await house.invoke("f:live")).report.executed_version == "1"
    await house.registry.aliases.update("f", "live", AliasChange("2", {"1": 0.5}))
    assert (await house.invoke("f:live")).report.executed_version == "1"
    await house.registry.aliases.update("f", "live", AliasChange("2", {}))
    assert (await house.invoke("f:live")).report.executed_version == "2"
    house.scheduler.retire("f", None)
    assert house.scheduler._routes._aliases == {}
    await house.registry.aliases.update("f", "live", AliasChange("1", {"2": 0.5}))
    assert (await house.invoke("f:live")).report.executed_version == "2"


async def test_versions_have_sandboxes_of_their_own(house: House) -> None:
    await house.registry.aliases.create("f", "live", AliasChange("1"))
    kinds = [(await house.invoke(name)).report.start_kind for name in ("f", "f:1", "f", "f:1", "f:live")]
    assert kinds == [StartKind.FORK, StartKind.FORK, StartKind.WARM, StartKind.WARM, StartKind.WARM]


async def test_an_update_retires_the_sandboxes_of_latest_and_leaves_those_of_versions(house: House) -> None:
    for name in ("f", "f:1"):
        await house.invoke(name)
    await house.registry.update("f", ConfigChange(memory_mb=512))
    await house.registry.versions.publish("f")
    assert (await house.invoke("f:1")).report.start_kind is StartKind.WARM
    assert (await house.invoke("f")).report.start_kind is StartKind.FORK


async def test_an_update_leaves_a_version_that_runs_to_serve_again(house: House) -> None:
    house.gate = Gate()
    running = [asyncio.ensure_future(house.invoke(name)) for name in ("f", "f:1")]
    await house.gate.reached(2)
    await house.registry.update("f", ConfigChange(memory_mb=512))
    house.gate.open()
    await asyncio.gather(*running)
    assert (await house.invoke("f:1")).report.start_kind is StartKind.WARM
    assert (await house.invoke("f")).report.start_kind is StartKind.FORK


async def test_a_deleted_version_ends_with_what_it_runs(house: House) -> None:
    await house.invoke("f")
    house.gate = Gate()
    running = asyncio.ensure_future(house.invoke("f:1"))
    await house.gate.reached(1)
    await house.registry.versions.delete("f", "1")
    house.gate.open()
    assert (await running).report.executed_version == "1"
    await house.left(1)
    assert (await house.invoke("f")).report.start_kind is StartKind.WARM
    with pytest.raises(NotFound):
        await house.invoke("f:1")


async def test_a_deleted_function_takes_the_sandboxes_of_its_versions(house: House) -> None:
    for name in ("f", "f:1"):
        await house.invoke(name)
    await house.registry.delete("f")
    await house.left(0)


def test_a_number_is_a_version_and_no_alias() -> None:
    assert parse_resource_name("functions/f/versions/1") == FunctionRef("f", "1")
    assert parse_resource_name("functions/f/aliases/live") == FunctionRef("f", "live")
    with pytest.raises(Exception, match="is not the name of a function"):
        parse_resource_name("functions/f/aliases/1")
