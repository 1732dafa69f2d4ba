"""Reserved and provisioned concurrency: what is kept, what does not fit, and what is said of it."""

from __future__ import annotations

import pytest

from engine.errors import InUse, InvalidArgument, NotFound, NotProvisioned
from engine.fabric.sqlite import Sqlite
from engine.model.concurrency import Allocation, ProvisionedStatus
from engine.model.names import FunctionRef
from engine.registry.api import AliasChange, ConfigChange
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry

FIRST, LIVE = FunctionRef("f", "1"), FunctionRef("f", "live")


class Account:
    """Its limit."""

    def __init__(self) -> None:
        self.limit = 1_000

    def __call__(self) -> int:
        return self.limit


@pytest.fixture
def account() -> Account:
    return Account()


async def opened(store: Sqlite, code: LocalCodeStore, account: Account) -> FunctionRegistry:
    return await FunctionRegistry.open(
        store, code, runtimes=["python3.11"], default_runtime="python3.11", account_concurrency=account
    )


@pytest.fixture
async def registry(store: Sqlite, code: LocalCodeStore, sha256: str, account: Account) -> FunctionRegistry:
    """With the functions f, which has a version 1 and an alias "live" of it, and g."""
    registry = await opened(store, code, account)
    for name in ("f", "g"):
        await registry.create(name, ConfigChange(), sha256)
    await registry.versions.publish("f")
    await registry.aliases.create("f", "live", AliasChange("1"))
    return registry


async def test_a_reservation_is_kept_until_it_is_taken_back(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, account: Account
) -> None:
    assert registry.concurrency.reserved("f") is None
    for executions in (0, 900, 7):
        assert await registry.concurrency.reserve("f", executions) == executions
        for seen in (registry, await opened(store, code, account)):
            assert seen.concurrency.reserved("f") == executions
            assert seen.concurrency.account().unreserved == 1_000 - executions
    await registry.update("f", ConfigChange(memory_mb=256))
    assert registry.concurrency.reserved("f") == 7
    await registry.concurrency.unreserve("f")
    await registry.concurrency.unreserve("f")
    for seen in (registry, await opened(store, code, account)):
        assert seen.concurrency.reserved("f") is None
    for act in (registry.concurrency.reserve("no", 1), registry.concurrency.unreserve("no")):
        with pytest.raises(NotFound):
            await act
    with pytest.raises(NotFound):
        registry.concurrency.reserved("no")


async def test_a_hundred_stay_unreserved(registry: FunctionRegistry, account: Account) -> None:
    below = r"decreases account's UnreservedConcurrentExecution below its minimum value of \[100\]\."
    with pytest.raises(InvalidArgument, match=below):
        await registry.concurrency.reserve("f", 901)
    await registry.concurrency.reserve("f", 500)
    with pytest.raises(InvalidArgument, match=below):
        await registry.concurrency.reserve("g", 401)
    await registry.concurrency.reserve("g", 400)
    await registry.concurrency.reserve("g", 0)
    with pytest.raises(InvalidArgument, match="must not be negative"):
        await registry.concurrency.reserve("g", -1)
    account.limit = 300  # lowered by the operator
    assert registry.concurrency.account().unreserved == 0
    assert await registry.concurrency.reserve("f", 400) == 400  # less than before
    with pytest.raises(InvalidArgument, match=below):
        await registry.concurrency.reserve("g", 1)
    assert registry.concurrency.reserved("g") == 0


async def test_a_small_account_reserves_nothing_but_can_stop_a_function(
    registry: FunctionRegistry, account: Account
) -> None:
    account.limit = 10
    with pytest.raises(InvalidArgument, match=r"minimum value of \[10\]"):
        await registry.concurrency.reserve("f", 1)
    assert await registry.concurrency.reserve("f", 0) == 0


async def test_provisioned_concurrency_belongs_to_a_version_or_an_alias(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, account: Account
) -> None:
    asked = await registry.concurrency.provision(LIVE, 3)
    assert (asked.config.qualifier, asked.config.requested) == ("live", 3)
    again = await registry.concurrency.provision(LIVE, 4)
    for seen in (registry, await opened(store, code, account)):
        assert seen.concurrency.provisioned(LIVE) == again
        assert seen.concurrency.list_provisioned("f", limit=9) == ([again], "")
        assert seen.concurrency.account().unreserved == 996
    await registry.concurrency.unprovision(LIVE)
    await registry.concurrency.unprovision(LIVE)
    with pytest.raises(NotProvisioned, match="No Provisioned Concurrency Config found for this function"):
        registry.concurrency.provisioned(LIVE)
    for ref in (FunctionRef("f", "9"), FunctionRef("f", "no"), FunctionRef("no", "1")):
        with pytest.raises(NotFound, match="Function not found"):
            await registry.concurrency.provision(ref, 1)
        with pytest.raises(NotFound, match="Function not found"):
            registry.concurrency.provisioned(ref)


async def test_what_is_not_published_cannot_be_provisioned(registry: FunctionRegistry) -> None:
    await registry.aliases.create("f", "head", AliasChange("$LATEST"))
    for ref in (FunctionRef("f"), FunctionRef("f", "head")):
        with pytest.raises(InvalidArgument, match="cannot be applied to unpublished function versions"):
            await registry.concurrency.provision(ref, 1)
    with pytest.raises(InvalidArgument, match="at least 1"):
        await registry.concurrency.provision(FIRST, 0)


async def test_a_version_is_provisioned_once_and_no_alias_with_weights_is(registry: FunctionRegistry) -> None:
    await registry.concurrency.provision(LIVE, 1)
    with pytest.raises(InUse, match="Version is pointed by a Provisioned Concurrency alias"):
        await registry.concurrency.provision(FIRST, 1)
    await registry.concurrency.unprovision(LIVE)
    await registry.concurrency.provision(FIRST, 1)
    with pytest.raises(InUse, match="already Provisioned version"):
        await registry.concurrency.provision(LIVE, 1)
    await registry.concurrency.unprovision(FIRST)
    await registry.update("f", ConfigChange(memory_mb=256))
    await registry.versions.publish("f")
    await registry.aliases.update("f", "live", AliasChange(weights={"2": 0.5}))
    with pytest.raises(InvalidArgument, match="Alias with weights can not be used"):
        await registry.concurrency.provision(LIVE, 1)


async def test_provisioned_concurrency_fits_what_is_reserved(registry: FunctionRegistry) -> None:
    await registry.update("f", ConfigChange(memory_mb=256))
    second = FunctionRef("f", (await registry.versions.publish("f")).version)
    await registry.concurrency.reserve("f", 5)
    await registry.concurrency.provision(FIRST, 3)
    with pytest.raises(InvalidArgument, match="not be greater than the reservedConcurrentExecution for function"):
        await registry.concurrency.provision(second, 3)
    await registry.concurrency.provision(second, 2)
    await registry.concurrency.provision(second, 1)
    assert registry.concurrency.account().unreserved == 995
    with pytest.raises(InvalidArgument, match=r"not be lower than function's total provisioned concurrency \[4\]"):
        await registry.concurrency.reserve("f", 3)
    await registry.concurrency.unreserve("f")
    assert registry.concurrency.account().unreserved == 996


async def test_provisioned_concurrency_fits_what_is_unreserved(registry: FunctionRegistry) -> None:
    await registry.concurrency.reserve("g", 800)
    with pytest.raises(InvalidArgument, match=r"greater than account's unreserved concurrency \[200\]"):
        await registry.concurrency.provision(FIRST, 201)
    with pytest.raises(InvalidArgument, match=r"below its minimum value of \[100\]"):
        await registry.concurrency.provision(FIRST, 101)
    await registry.concurrency.provision(FIRST, 100)
    await registry.concurrency.provision(FIRST, 99)
    with pytest.raises(InvalidArgument, match=r"below its minimum value of \[100\]"):
        await registry.concurrency.reserve("g", 802)


async def test_an_engine_that_keeps_nothing_ready_says_so_and_another_is_asked(registry: FunctionRegistry) -> None:
    said = (await registry.concurrency.provision(FIRST, 2)).allocation
    assert said.status is ProvisionedStatus.FAILED
    assert (said.allocated, said.available) == (0, 0)
    assert "on demand" in said.reason

    class Keeper:
        def allocation(self, function_name: str, qualifier: str) -> Allocation:
            assert (function_name, qualifier) == ("f", "1")
            return Allocation(ProvisionedStatus.IN_PROGRESS, 1, 1)

    registry.concurrency.provision_with(Keeper())
    assert registry.concurrency.provisioned(FIRST).allocation == Allocation(ProvisionedStatus.IN_PROGRESS, 1, 1)


async def test_the_account_counts_functions_and_the_code_of_every_version(registry: FunctionRegistry) -> None:
    account = registry.concurrency.account()
    size = registry.get(FIRST).code_size_bytes
    assert (account.concurrency, account.unreserved, account.functions) == (1_000, 1_000, 2)
    assert account.code_bytes == 3 * size
    assert account.code_limit_bytes == 80_530_636_800
