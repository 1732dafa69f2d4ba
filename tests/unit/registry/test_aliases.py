"""Aliases: what they may point at, and which version an invocation gets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.errors import AlreadyExists, InUse, InvalidArgument, NotFound, StaleEtag
from engine.fabric.sqlite import Sqlite
from engine.model.alias import Alias
from engine.model.function import Function
from engine.model.names import FunctionRef
from engine.registry.api import AliasChange, ConfigChange
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry

LIVE = FunctionRef("f", "live")


class Asked:
    """A Route: what it was asked last, and what it says."""

    def __init__(self) -> None:
        self.says = 0
        self.alias: Alias | None = None
        self.versions: list[str] = []

    def __call__(self, alias: Alias, functions: Sequence[Function]) -> int:
        self.alias, self.versions = alias, [function.version for function in functions]
        return self.says


@pytest.fixture
def route() -> Asked:
    return Asked()


async def opened(store: Sqlite, code: LocalCodeStore) -> FunctionRegistry:
    return await FunctionRegistry.open(store, code, runtimes=["python3.11"], default_runtime="python3.11")


@pytest.fixture
async def registry(store: Sqlite, code: LocalCodeStore, sha256: str) -> FunctionRegistry:
    """With the versions 1 and 2 of the function f."""
    registry = await opened(store, code)
    await registry.create("f", ConfigChange(), sha256)
    await registry.versions.publish("f")
    await registry.update("f", ConfigChange(memory_mb=256))
    await registry.versions.publish("f")
    await registry.update("f", ConfigChange(memory_mb=512))
    return registry


async def test_an_alias_stands_for_its_version_and_moves(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, route: Asked
) -> None:
    created = await registry.aliases.create("f", "live", AliasChange("1", description="used"))
    assert (created.version, created.weights, created.description) == ("1", (), "used")
    assert registry.get(LIVE).version == registry.resolve(LIVE, route).version == "1"
    moved = await registry.aliases.update("f", "live", AliasChange("2"), etag=created.etag)
    assert (moved.version, moved.description, moved.create_time) == ("2", "used", created.create_time)
    assert moved.etag != created.etag
    for seen in (registry, await opened(store, code)):
        assert seen.aliases.get("f", "live") == moved
        assert seen.get(LIVE).version == "2"
    with pytest.raises(StaleEtag):
        await registry.aliases.update("f", "live", AliasChange("1"), etag=created.etag)
    await registry.aliases.update("f", "live", AliasChange("$LATEST"))
    assert registry.resolve(LIVE, route).config.memory_mb == 512
    with pytest.raises(StaleEtag):
        await registry.aliases.delete("f", "live", etag=moved.etag)
    await registry.aliases.delete("f", "live")
    for seen in (registry, await opened(store, code)):
        with pytest.raises(NotFound, match="f:live"):
            seen.get(LIVE)
        with pytest.raises(NotFound, match="Cannot find alias: f:live"):
            seen.aliases.get("f", "live")


async def test_of_two_versions_an_invocation_runs_the_one_that_it_is_told(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, route: Asked
) -> None:
    await registry.aliases.create("f", "live", AliasChange("1", {"2": 0.25}))
    for seen in (registry, await opened(store, code)):
        assert seen.get(LIVE).version == "1"
        for route.says, version in ((0, "2"), (1, "1")):
            assert seen.resolve(LIVE, route).version == version
        assert route.alias == seen.aliases.get("f", "live")
        assert route.versions == ["2", "1"]
        assert route.alias.shares == (("2", 0.25), ("1", 0.75))


async def test_nobody_is_asked_where_there_is_one_version(registry: FunctionRegistry, route: Asked) -> None:
    await registry.aliases.create("f", "live", AliasChange("1"))
    for ref in (LIVE, FunctionRef("f"), FunctionRef("f", "2")):
        registry.resolve(ref, route)
    assert route.alias is None
    for ref in (FunctionRef("f", "nosuch"), FunctionRef("g", "live")):
        with pytest.raises(NotFound):
            registry.resolve(ref, route)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (AliasChange(), "version is required"),
        (AliasChange("1", {"2": 1.1}), "weights must have shares of 0 to 1"),
        (AliasChange("1", {"2": -0.1}), "weights must have shares of 0 to 1"),
        (AliasChange("1", {"2": float("nan")}), "weights must have shares of 0 to 1"),
        (AliasChange("1", {"2": 0.1, "3": 0.1}), "cannot be greater than 1"),
        (AliasChange("1", {"1": 0.1}), "already included in routing configuration"),
        (AliasChange("$LATEST", {"1": 0.1}), r"\$LATEST is not supported for an alias pointing to more than 1 version"),
        (AliasChange("1", {"$LATEST": 0.1}), r"\$LATEST is not supported"),
        (AliasChange("1", description="x" * 257), "description"),
    ],
)
async def test_what_an_alias_cannot_be_is_refused(registry: FunctionRegistry, change: AliasChange, what: str) -> None:
    with pytest.raises(InvalidArgument, match=what):
        await registry.aliases.create("f", "live", change)
    assert registry.aliases.list("f", limit=9) == ([], "")


async def test_an_alias_points_at_versions_that_exist(registry: FunctionRegistry) -> None:
    for change in (AliasChange("3"), AliasChange("1", {"3": 0.5}), AliasChange("other")):
        with pytest.raises(NotFound, match="Function not found: f:"):
            await registry.aliases.create("f", "live", change)
    await registry.aliases.create("f", "live", AliasChange("1"))
    with pytest.raises(NotFound, match="f:3"):
        await registry.aliases.update("f", "live", AliasChange("3"))
    assert registry.aliases.get("f", "live").version == "1"
    for act in (registry.aliases.update("f", "no", AliasChange("1")), registry.aliases.delete("f", "no")):
        with pytest.raises(NotFound, match="Cannot find alias: f:no"):
            await act
    with pytest.raises(NotFound, match="Function not found: g"):
        await registry.aliases.create("g", "live", AliasChange("1"))


async def test_the_name_of_an_alias_is_no_number_and_is_not_taken(registry: FunctionRegistry) -> None:
    await registry.aliases.create("f", "live", AliasChange("1"))
    with pytest.raises(AlreadyExists, match="Alias already exists: f:live"):
        await registry.aliases.create("f", "live", AliasChange("2"))
    for name in ("1", "", "a.b", "$LATEST", "x" * 129, "live\n"):
        with pytest.raises(InvalidArgument):
            await registry.aliases.create("f", name, AliasChange("1"))
    assert [alias.name for alias in registry.aliases.list("f", limit=9)[0]] == ["live"]


async def test_aliases_are_listed_by_name_and_by_version_a_page_at_a_time(registry: FunctionRegistry) -> None:
    for name, version in (("b", "1"), ("a", "2"), ("d", "$LATEST")):
        await registry.aliases.create("f", name, AliasChange(version))
    await registry.aliases.create("f", "c", AliasChange("2", {"1": 0.5}))
    page, after = registry.aliases.list("f", limit=3)
    assert ([alias.name for alias in page], after) == (["a", "b", "c"], "c")
    page, after = registry.aliases.list("f", limit=3, after=after)
    assert ([alias.name for alias in page], after) == (["d"], "")
    assert [alias.name for alias in registry.aliases.list("f", limit=9, version="1")[0]] == ["b", "c"]
    with pytest.raises(NotFound):
        registry.aliases.list("g", limit=3)


async def test_an_alias_with_provisioned_concurrency_keeps_to_a_published_version_of_its_own(
    registry: FunctionRegistry,
) -> None:
    await registry.aliases.create("f", "live", AliasChange("1"))
    await registry.concurrency.provision(LIVE, 1)
    await registry.concurrency.provision(FunctionRef("f", "2"), 1)
    with pytest.raises(InvalidArgument, match="unpublished function versions"):
        await registry.aliases.update("f", "live", AliasChange("$LATEST"))
    with pytest.raises(InUse, match="already Provisioned version"):
        await registry.aliases.update("f", "live", AliasChange("2"))
    assert registry.aliases.get("f", "live").version == "1"
