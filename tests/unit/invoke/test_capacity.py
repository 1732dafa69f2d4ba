"""What the registry has of reserved and provisioned concurrency is what the scheduler holds functions to."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import NotFound
from engine.fabric.sqlite import Sqlite
from engine.invoke.capacity import Capacity
from engine.model.concurrency import Allocation, ProvisionedStatus
from engine.model.function import Function
from engine.model.names import FunctionRef
from engine.registry.api import AliasChange, ConfigChange
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.registry.schema import MIGRATIONS, STORE_FILE
from engine.sandbox.api import SandboxSpec
from engine.sandbox.stub import Gate, StubPool
from engine.scheduler.api import Allocated
from engine.scheduler.dispatch import LocalScheduler
from tests.unit.registry.zips import ordinary, pieces
from tests.unit.scheduler.things import Notes, scheduler, settled

LIVE = FunctionRef("f", "live")
_streams = itertools.count(1)


def spec_of(function: Function) -> SandboxSpec:
    key = (function.name, function.version, function.etag)
    stream = {"AWS_LAMBDA_LOG_STREAM_NAME": str(next(_streams))}  # another each time that it is worked out
    return SandboxSpec(key, "python3.11", "app.handler", "/nowhere", 128, 512, stream)


class House:
    """A registry with a function f of two versions and an alias live of the first, and a scheduler."""

    def __init__(self, registry: FunctionRegistry) -> None:
        self.registry = registry
        self.pool = StubPool()
        self.scheduler: LocalScheduler = scheduler(self.pool, max_concurrency=1_000, max_sandboxes=1_000)
        self.capacity = Capacity(registry, self.scheduler, spec_of, lambda function: Notes())

    def key(self, version: str) -> tuple[str, ...]:
        return spec_of(self.registry.get(FunctionRef("f", version))).key

    def requested(self, version: str) -> int:
        return self.scheduler.allocation(self.key(version)).requested

    def open(self) -> None:
        self.capacity.open(["f"])


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Sqlite.open(tmp_path / STORE_FILE, MIGRATIONS)
    code = await LocalCodeStore.open(tmp_path / "code")
    registry = await FunctionRegistry.open(store, code, runtimes=["python3.11"], default_runtime="python3.11")
    sha256 = (await code.add(pieces(ordinary({"app.py": "def handler(event, context): return event\n"})))).sha256
    await registry.create("f", ConfigChange(), sha256)
    await registry.versions.publish("f")
    await registry.update("f", ConfigChange(memory_mb=256))
    await registry.versions.publish("f")
    await registry.aliases.create("f", "live", AliasChange("1"))
    house = House(registry)
    yield house
    await house.scheduler.drain(0)
    await code.close()
    await store.close()


async def test_what_is_stored_is_held_from_the_start(house: House) -> None:
    await house.registry.concurrency.reserve("f", 20)
    await house.registry.concurrency.provision(LIVE, 3)
    house.open()
    assert house.scheduler._core.counts()["reserved"] == 20
    await settled()
    assert house.scheduler.allocation(house.key("1")) == Allocated(requested=3, allocated=3, available=3)
    seen = house.registry.concurrency.provisioned(LIVE).allocation
    assert seen == Allocation(ProvisionedStatus.READY, allocated=3, available=3)


async def test_every_write_is_held_at_once_and_the_allocation_is_seen_while_it_changes(house: House) -> None:
    house.open()
    concurrency = house.registry.concurrency
    await concurrency.reserve("f", 0)
    assert house.scheduler._core.counts()["reserved"] == 0
    assert house.scheduler._core.function_counts(house.scheduler._targets._functions["f"])["reserved"] == 0
    await concurrency.unreserve("f")
    gate = house.pool.start_gate = Gate()
    seen = await concurrency.provision(LIVE, 2)
    assert seen.allocation.status is ProvisionedStatus.IN_PROGRESS
    gate.open()
    await settled()
    assert concurrency.provisioned(LIVE).allocation.status is ProvisionedStatus.READY
    await concurrency.unprovision(LIVE)
    assert house.requested("1") == 0
    assert "f" not in house.capacity._kept


async def test_an_alias_takes_its_environments_to_the_version_that_it_points_to(house: House) -> None:
    house.open()
    await house.registry.concurrency.provision(LIVE, 2)
    await house.registry.aliases.update("f", "live", AliasChange("2"))
    assert (house.requested("1"), house.requested("2")) == (0, 2)
    await house.registry.aliases.delete("f", "live")
    assert (house.requested("1"), house.requested("2")) == (0, 0)


async def test_a_write_of_something_else_leaves_the_environments_that_are_there(house: House) -> None:
    house.open()
    await house.registry.concurrency.provision(LIVE, 2)
    await settled()
    await house.registry.concurrency.reserve("f", 20)
    await settled()
    assert [sandbox.closes for sandbox in house.pool.sandboxes] == [0, 0]
    assert house.scheduler.allocation(house.key("1")).available == 2


async def test_nothing_is_kept_of_a_function_that_is_deleted(house: House) -> None:
    house.open()
    await house.registry.concurrency.reserve("f", 20)
    await house.registry.concurrency.provision(LIVE, 2)
    await house.registry.delete("f")
    house.scheduler.retire("f", None)
    counts = house.scheduler._core.counts()
    assert (counts["reserved"], counts["provisioned"]) == (0, 0)
    assert house.scheduler._targets._functions == {}
    assert house.capacity._kept == {}


async def test_sandboxes_that_were_retired_for_another_reason_are_asked_for_again(house: House) -> None:
    house.open()
    await house.registry.concurrency.provision(LIVE, 2)
    house.scheduler.retire("f", None, "1")
    assert house.requested("1") == 0
    house.capacity.renew("f")
    assert house.requested("1") == 2


async def test_a_configuration_that_the_scheduler_has_no_room_for_says_why(house: House) -> None:
    await house.registry.concurrency.provision(LIVE, 500)
    house.scheduler.reload(max_concurrency=300)
    house.open()
    seen = house.registry.concurrency.provisioned(LIVE).allocation
    assert seen.status is ProvisionedStatus.FAILED
    assert "300" in seen.reason


async def test_environments_that_do_not_start_are_failed_until_they_do(house: House) -> None:
    house.pool.start_errors = [NotFound("gone")]
    house.open()
    await house.registry.concurrency.provision(LIVE, 1)
    await settled()
    seen = house.registry.concurrency.provisioned(LIVE).allocation
    assert seen.status is ProvisionedStatus.FAILED
    assert "gone" in seen.reason
