"""Versions, aliases and concurrency by each client: over gRPC with and without an event loop, and in the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from engine import AsyncClient, Client
from engine.client import resource_wire
from engine.client.async_layers import AsyncLayerCalls
from engine.client.async_resources import AsyncResourceCalls
from engine.client.attached_wire import ATTACHED
from engine.client.code_calls import AsyncCodeCalls, CodeCalls
from engine.client.events import AsyncEventCalls, EventCalls
from engine.client.resource_calls import Call
from engine.client.stored_wire import STORED
from engine.client.sync_layers import LayerCalls
from engine.client.sync_resources import ResourceCalls
from engine.embedded import Engine
from engine.errors import InUse, InvalidArgument, NotFound, NotProvisioned, StaleEtag
from engine.model.concurrency import ProvisionedStatus
from engine.model.layer import LayerRef
from engine.registry.api import CodeStore, ConfigChange, Registry
from engine.rpc import aliases, concurrency, events, layers, versions
from tests.registries import Served, served
from tests.unit.registry.zips import ordinary, pieces

T = TypeVar("T")
Ask = Callable[..., Awaitable[Any]]
"""Make a call by its name."""


class Local(AsyncResourceCalls, AsyncLayerCalls):
    """What engine.embedded.Engine does, without an engine."""

    def __init__(self, registry: Registry, code: CodeStore) -> None:
        self._registry = registry
        self._code = code

    async def _upload(self, code: bytes) -> str:
        return (await self._code.add(pieces(code))).sha256

    async def _download(self, resource_name: str) -> bytes:
        raise NotImplementedError(resource_name)

    async def _make(self, call: Call[T]) -> T:
        return await call.local(self._registry)


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as it:
        yield it


@pytest.fixture(params=["sync", "async", "local"])
async def ask(request: pytest.FixtureRequest, it: Served) -> AsyncIterator[Ask]:
    if request.param == "sync":
        with Client(it.address) as client:
            yield lambda method, *args, **kwargs: asyncio.to_thread(getattr(client, method), *args, **kwargs)
    elif request.param == "async":
        async with AsyncClient(it.address) as calls:
            yield lambda method, *args, **kwargs: getattr(calls, method)(*args, **kwargs)
    else:
        local = Local(it.registry, it.code)
        yield lambda method, *args, **kwargs: getattr(local, method)(*args, **kwargs)


async def test_versions(ask: Ask, it: Served) -> None:
    first = await ask("publish_version", "f", description="first")
    assert (first.name, first.version, first.config.description) == ("f", "1", "first")
    latest = await it.registry.update("f", ConfigChange(memory_mb=256))
    with pytest.raises(StaleEtag):
        await ask("publish_version", "f", etag=first.etag)
    with pytest.raises(InvalidArgument):
        await ask("publish_version", "f", code_sha256="0" * 64)
    second = await ask("publish_version", "f", etag=latest.etag, code_sha256=latest.code_sha256)
    assert await ask("list_versions", "f") == [first, second]
    await ask("delete_version", "f", 1)
    assert await ask("list_versions", "f") == [second]
    with pytest.raises(NotFound):
        await ask("delete_version", "f", "1")


async def test_aliases(ask: Ask, it: Served) -> None:
    await ask("publish_version", "f")
    await it.registry.update("f", ConfigChange(memory_mb=256))
    await ask("publish_version", "f")
    live = await ask("create_alias", "f", "live", 1, weights={"2": 0.25}, description="used")
    assert (live.function_name, live.name, live.version, live.weights) == ("f", "live", "1", (("2", 0.25),))
    assert live == it.registry.aliases.get("f", "live") == await ask("get_alias", "f", "live")
    with pytest.raises(InUse):
        await ask("delete_version", "f", 2)
    moved = await ask("update_alias", "f", "live", version=2, weights={}, etag=live.etag)
    assert (moved.version, moved.weights, moved.description) == ("2", (), "used")
    touched = await ask("update_alias", "f", "live")
    assert (touched.version, touched.description) == ("2", "used")
    await ask("create_alias", "f", "old", 1)
    assert [alias.name for alias in await ask("list_aliases", "f")] == ["live", "old"]
    assert [alias.name for alias in await ask("list_aliases", "f", version=2)] == ["live"]
    with pytest.raises(StaleEtag):
        await ask("delete_alias", "f", "live", etag=live.etag)
    await ask("delete_alias", "f", "live")
    with pytest.raises(NotFound):
        await ask("get_alias", "f", "live")


async def test_concurrency(ask: Ask) -> None:
    await ask("publish_version", "f")
    assert await ask("get_concurrency", "f") is None
    assert await ask("put_concurrency", "f", 5) == 5
    assert await ask("get_concurrency", "f") == 5
    asked = await ask("put_provisioned_concurrency", "f:1", 2)
    assert (asked.config.function_name, asked.config.qualifier, asked.config.requested) == ("f", "1", 2)
    assert asked.allocation.status is ProvisionedStatus.FAILED
    assert asked == await ask("get_provisioned_concurrency", "f", qualifier="1")
    assert await ask("list_provisioned_concurrency", "f") == [asked]
    with pytest.raises(InvalidArgument):
        await ask("put_provisioned_concurrency", "f:1", 6)
    account = await ask("get_account_settings")
    assert (account.concurrency, account.unreserved, account.functions) == (1_000, 995, 1)
    await ask("delete_provisioned_concurrency", "f:1")
    with pytest.raises(NotProvisioned):
        await ask("get_provisioned_concurrency", "f:1")
    await ask("delete_concurrency", "f")
    assert await ask("get_concurrency", "f") is None


async def test_a_list_of_many_pages_comes_whole(ask: Ask, it: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.rpc.pages.LARGEST_SIZE", 2)
    for memory_mb in range(200, 205):
        await it.registry.update("f", ConfigChange(memory_mb=memory_mb))
        await it.registry.versions.publish("f")
    assert [version.version for version in await ask("list_versions", "f")] == ["1", "2", "3", "4", "5"]


async def test_layers(ask: Ask, it: Served) -> None:
    zipped = ordinary({"python/dep.py": "x = 1"})
    about: dict[str, Any] = {"description": "d", "license_info": "MIT", "runtimes": ["python3.11"]}
    first = await ask("publish_layer", zipped, "deps", **about, architectures=["arm64"])
    stored = it.registry.layers.get(LayerRef("deps", 1))
    assert replace(first, unpacked_bytes=stored.unpacked_bytes) == stored
    assert (first.description, first.license_info, first.runtimes) == ("d", "MIT", ("python3.11",))
    second = await ask("publish_layer", zipped, "deps")
    assert await ask("get_layer", "deps:1") == await ask("get_layer", first.ref) == first
    assert await ask("list_layers") == [second]
    assert await ask("list_layers", runtime="python3.11", architecture="arm64") == [first]
    assert await ask("list_layer_versions", "deps") == [second, first]
    assert await ask("list_layer_versions", "deps", architecture="arm64") == [first]
    for _ in range(2):
        await ask("delete_layer", "arn:aws:lambda:us-east-1:000000000000:layer:deps:1")
    with pytest.raises(NotFound):
        await ask("get_layer", "deps:1")
    with pytest.raises(InvalidArgument):
        await ask("get_layer", "deps")


def test_every_rpc_of_the_services_has_a_call_in_each_client() -> None:
    rpcs = {method.name for room in (versions, aliases, concurrency) for method in room.SERVICE.methods}
    of_events = {method.name for method in events.SERVICE.methods} | {"InvokeAsync"}
    of_layers = {method.name for method in layers.SERVICE.methods}
    of_layers -= {name for name in of_layers if "Polic" in name or "Permission" in name}  # see test_attached.py
    assert resource_wire.RPCS.keys() - STORED.keys() - ATTACHED.keys() == rpcs | of_events | of_layers | {"ImportCode"}
    for of, asynchronous, synchronous in (
        (rpcs, AsyncResourceCalls, ResourceCalls),
        (of_events, AsyncEventCalls, EventCalls),
        (of_layers, AsyncLayerCalls, LayerCalls),
        # An import is made where code is taken.
        ({"DownloadCode"}, AsyncCodeCalls, CodeCalls),
    ):
        calls = {name for name in vars(asynchronous) if not name.startswith("_")}
        assert calls == {name for name in vars(synchronous) if not name.startswith("_")}
        assert len(calls) == len(of)
        assert issubclass(Client, synchronous)
        assert issubclass(AsyncClient, asynchronous)
        assert issubclass(Engine, asynchronous)
