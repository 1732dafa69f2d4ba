"""Asynchronous events by each client: over gRPC with and without an event loop, and in the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from engine import AsyncClient, Client
from engine.client.events import AsyncEventCalls
from engine.client.resource_calls import Call
from engine.errors import InvalidArgument, InvalidPayload, NotFound
from engine.registry.api import AliasChange
from tests.registries import Served, served

T = TypeVar("T")
Ask = Callable[..., Awaitable[Any]]
"""Make a call by its name."""


class Local(AsyncEventCalls):
    """What engine.embedded.Engine does, without an engine."""

    def __init__(self, it: Served) -> None:
        self._it = it

    async def _make(self, call: Call[T]) -> T:
        return await call.local(getattr(self._it, call.room))

    async def _retrying(self, call: Callable[[], Awaitable[T]]) -> T:
        return await call()


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, async_concurrency=0) as it:
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
        local = Local(it)
        yield lambda method, *args, **kwargs: getattr(local, method)(*args, **kwargs)


async def test_an_event_is_sent_and_seen_in_the_queue(ask: Ask, it: Served) -> None:
    await it.registry.versions.publish("f")
    mine = "5f0c0c5e-7f57-4d6e-a1c8-1d6c1f1f2b3a"
    first = await ask("invoke_async", "f", {"a": 1}, request_id=mine, tenant_id="blue")
    second = await ask("invoke_async", "f:1", b"raw", raw=True)
    assert first == mine
    one, two = await ask("list_queued_events")
    assert (one.request_id, one.function_name, one.qualifier, one.size_bytes) == (first, "f", "$LATEST", 8)
    assert (two.request_id, two.qualifier, two.due_us, two.failed_attempts) == (second, "1", 0, 0)
    assert one.accepted_us > 1_700_000_000_000_000
    assert await ask("list_queued_events", "f") == [one, two]


async def test_what_cannot_be_sent_is_refused(ask: Ask, it: Served) -> None:
    with pytest.raises(NotFound):
        await ask("invoke_async", "other")
    with pytest.raises(InvalidPayload):
        await ask("invoke_async", "f", b"{")
    with pytest.raises(TypeError):
        await ask("invoke_async", "f", timeline=True)
    assert await ask("list_queued_events") == []


async def test_configurations_are_put_changed_listed_and_removed(ask: Ask, it: Served) -> None:
    await it.registry.versions.publish("f")
    await it.registry.aliases.create("f", "live", AliasChange("1"))
    topic = "arn:aws:sns:us-east-1:000000000000:t"
    put = await ask("put_event_invoke_config", "f", maximum_retry_attempts=0, on_failure=topic)
    assert (put.qualifier, put.maximum_retry_attempts, put.maximum_event_age_s) == ("$LATEST", 0, None)
    assert (put.on_success, put.on_failure) == ("", topic)
    changed = await ask("update_event_invoke_config", "f", maximum_event_age_s=60, on_failure="")
    assert (changed.maximum_retry_attempts, changed.maximum_event_age_s, changed.on_failure) == (0, 60, "")
    assert await ask("get_event_invoke_config", "f") == changed
    alias = await ask("put_event_invoke_config", "f", qualifier="live", maximum_event_age_s=21_600)
    assert await ask("list_event_invoke_configs", "f") == [changed, alias]
    await it.registry.aliases.delete("f", "live")
    async with asyncio.timeout(20):
        while await ask("list_event_invoke_configs", "f") != [changed]:
            await asyncio.sleep(0.01)
    await ask("delete_event_invoke_config", "f")
    for method in ("get_event_invoke_config", "delete_event_invoke_config"):
        with pytest.raises(NotFound):
            await ask(method, "f")


async def test_what_is_out_of_range_is_refused(ask: Ask, it: Served) -> None:
    for wrong in (
        {"maximum_retry_attempts": 3},
        {"maximum_retry_attempts": -1},
        {"maximum_event_age_s": 59},
        {"maximum_event_age_s": 21_601},
        {"on_success": "arn:aws:s3:::bucket"},
        {"on_failure": "arn:aws:lambda:us-east-1:000000000000:function:f"},
        {"on_failure": "arn:aws:lambda:us-east-1:000000000000:function:none"},
        {},
    ):
        with pytest.raises(InvalidArgument):
            await ask("put_event_invoke_config", "f", **wrong)
    with pytest.raises(NotFound):
        await ask("update_event_invoke_config", "f", maximum_retry_attempts=1)
    with pytest.raises(NotFound):
        await ask("put_event_invoke_config", "other", maximum_retry_attempts=1)
    assert await ask("list_event_invoke_configs", "f") == []


async def test_a_long_queue_comes_whole(ask: Ask, it: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.rpc.pages.LARGEST_SIZE", 2)
    sent = [await ask("invoke_async", "f") for _ in range(5)]
    assert [event.request_id for event in await ask("list_queued_events", "f")] == sent
