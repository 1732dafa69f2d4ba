"""Versions: what is published, what stays as it is, and what cannot be deleted."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from engine.errors import InUse, InvalidArgument, NotFound, StaleEtag
from engine.fabric.sqlite import Sqlite
from engine.model.function import LATEST
from engine.model.names import FunctionRef
from engine.registry.api import AliasChange, Change, Changed, ConfigChange
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from tests.unit.registry.zips import ordinary, pieces

NOTHING = ConfigChange()


@pytest.fixture
async def registry(store: Sqlite, code: LocalCodeStore, sha256: str) -> FunctionRegistry:
    registry = await reopened(store, code)
    await registry.create("f", ConfigChange(environment={"A": "1"}), sha256)
    return registry


async def reopened(store: Sqlite, code: LocalCodeStore) -> FunctionRegistry:
    return await FunctionRegistry.open(store, code, runtimes=["python3.11"], default_runtime="python3.11")


def numbers(registry: FunctionRegistry) -> list[str]:
    return [version.version for version in registry.versions.list("f", limit=1_000)[0]]


def environment(registry: FunctionRegistry, qualifier: str) -> Mapping[str, str]:
    return registry.get(FunctionRef("f", qualifier)).config.environment


async def test_a_version_keeps_code_and_settings_when_latest_changes(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    first = await registry.versions.publish("f", description="the first")
    assert (first.version, first.config.description, first.code_sha256) == ("1", "the first", sha256)
    other = (await code.add(pieces(ordinary({"app.py": "other"})))).sha256
    await registry.update("f", ConfigChange(environment={"A": "2"}, memory_mb=512), code_sha256=other)
    second = await registry.versions.publish("f")
    for seen in (registry, await reopened(store, code)):
        assert seen.get(FunctionRef("f", "1")) == first
        assert seen.get(FunctionRef("f", "2")) == second
        assert (second.code_sha256, dict(second.config.environment)) == (other, {"A": "2"})
        assert environment(seen, "1") == {"A": "1"}
        assert numbers(seen) == ["1", "2"]
        assert seen.referenced_code() == {sha256, other}
    assert len({first.etag, second.etag, registry.get(FunctionRef("f")).etag}) == 3


async def test_publishing_what_has_not_changed_returns_the_last_version(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore
) -> None:
    first = await registry.versions.publish("f", description="the first")
    latest = registry.get(FunctionRef("f"))
    for seen in (registry, await reopened(store, code)):
        assert await seen.versions.publish("f", description="another text") == first
    assert registry.get(FunctionRef("f")) == latest
    await registry.update("f", ConfigChange(description="of $LATEST"))
    assert (await registry.versions.publish("f")).version == "2"


async def test_the_same_code_written_again_is_published_again(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    first = await registry.versions.publish("f")
    await registry.update("f", NOTHING, code_sha256=sha256)
    again = await reopened(store, code)
    second = await again.versions.publish("f")
    assert (second.version, second.code_sha256) == ("2", first.code_sha256)
    assert await again.versions.publish("f") == second


async def test_a_version_is_refused_where_latest_is_not_what_its_publisher_saw(registry: FunctionRegistry) -> None:
    before = registry.get(FunctionRef("f"))
    latest = await registry.update("f", ConfigChange(memory_mb=256))
    with pytest.raises(StaleEtag, match=before.etag):
        await registry.versions.publish("f", etag=before.etag)
    with pytest.raises(InvalidArgument, match="the code of f is not") as refused:
        await registry.versions.publish("f", code_sha256="0" * 64)
    assert "code_sha256" in refused.value.fields
    with pytest.raises(InvalidArgument, match=r"config\.description"):
        await registry.versions.publish("f", description="x" * 257)
    with pytest.raises(NotFound):
        await registry.versions.publish("g")
    assert numbers(registry) == []
    assert (await registry.versions.publish("f", etag=latest.etag, code_sha256=latest.code_sha256)).version == "1"


async def test_no_number_is_given_twice_not_even_after_the_function_was_deleted(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    await registry.versions.publish("f")
    await registry.versions.delete("f", "1")
    assert (await registry.versions.publish("f")).version == "2"
    await registry.delete("f")
    await registry.create("f", NOTHING, sha256)
    assert numbers(registry) == []
    assert (await registry.versions.publish("f")).version == "3"
    await registry.delete("f")
    again = await reopened(store, code)
    await again.create("f", NOTHING, sha256)
    assert (await again.versions.publish("f")).version == "4"


async def test_versions_are_listed_by_number_a_page_at_a_time(registry: FunctionRegistry) -> None:
    for memory_mb in range(200, 212):
        await registry.update("f", ConfigChange(memory_mb=memory_mb))
        await registry.versions.publish("f")
    pages, after = [], ""
    while True:
        page, after = registry.versions.list("f", limit=5, after=after)
        pages.append([version.version for version in page])
        if not after:
            break
    assert pages == [["1", "2", "3", "4", "5"], ["6", "7", "8", "9", "10"], ["11", "12"]]
    with pytest.raises(NotFound):
        registry.versions.list("g", limit=5)


async def test_a_version_can_be_deleted_unless_an_alias_points_at_it(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore
) -> None:
    for memory_mb in (200, 300):
        await registry.update("f", ConfigChange(memory_mb=memory_mb))
        await registry.versions.publish("f")
    await registry.aliases.create("f", "live", AliasChange("2", {"1": 0.5}))
    for version in ("1", "2"):
        with pytest.raises(InUse, match=r"Unable to delete version because the following aliases .*: \[live\]"):
            await registry.versions.delete("f", version)
    await registry.aliases.update("f", "live", AliasChange(weights={}))
    await registry.versions.delete("f", "1")
    for seen in (registry, await reopened(store, code)):
        assert numbers(seen) == ["2"]
        with pytest.raises(NotFound, match="f:1"):
            seen.get(FunctionRef("f", "1"))
    with pytest.raises(NotFound, match="f:1"):
        await registry.versions.delete("f", "1")
    with pytest.raises(InvalidArgument, match="cannot be deleted without deleting the function"):
        await registry.versions.delete("f", LATEST)


async def test_a_deleted_function_takes_everything_that_belongs_to_it(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    await registry.versions.publish("f")
    await registry.aliases.create("f", "live", AliasChange("1"))
    await registry.concurrency.reserve("f", 5)
    await registry.concurrency.provision(FunctionRef("f", "live"), 2)
    await registry.delete("f")
    await registry.create("f", NOTHING, sha256)
    for seen in (registry, await reopened(store, code)):
        assert numbers(seen) == []
        assert seen.aliases.list("f", limit=9) == ([], "")
        assert seen.concurrency.reserved("f") is None
        assert seen.concurrency.list_provisioned("f", limit=9) == ([], "")


async def test_observers_hear_of_every_write_after_it_and_of_no_refusal(
    registry: FunctionRegistry, sha256: str
) -> None:
    heard: list[Change] = []
    seen: list[object] = []

    def observe(change: Change) -> None:
        heard.append(change)
        if change.what is Changed.VERSION:
            seen.append(numbers(registry))

    registry.observe(observe)
    await registry.versions.publish("f")
    await registry.versions.publish("f")  # the same
    await registry.aliases.create("f", "live", AliasChange("1"))
    await registry.aliases.update("f", "live", AliasChange(description="used"))
    await registry.concurrency.reserve("f", 5)
    await registry.concurrency.provision(FunctionRef("f", "live"), 2)
    with pytest.raises(InvalidArgument):
        await registry.concurrency.provision(FunctionRef("f", "live"), 6)
    await registry.aliases.delete("f", "live")
    await registry.concurrency.unreserve("f")
    await registry.versions.delete("f", "1")
    await registry.update("f", ConfigChange(memory_mb=512))
    await registry.delete("f")
    assert heard == [
        Change("f", Changed.VERSION, "1"),
        Change("f", Changed.ALIAS, "live"),
        Change("f", Changed.ALIAS, "live"),
        Change("f", Changed.RESERVED),
        Change("f", Changed.PROVISIONED, "live"),
        Change("f", Changed.PROVISIONED, "live", gone=True),
        Change("f", Changed.ALIAS, "live", gone=True),
        Change("f", Changed.RESERVED, gone=True),
        Change("f", Changed.VERSION, "1", gone=True),
        Change("f", Changed.FUNCTION),
        Change("f", Changed.FUNCTION, gone=True),
    ]
    assert seen == [["1"], []]
