"""The three ways to call an engine from Python in one form: Engine in this process, AsyncClient and Client by gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import engine
from engine.errors import Throttled
from tests.doors import zip_of
from tests.engines import engine as served_engine
from tests.remains import instance_of, leaves_of

WAYS = ["Engine", "AsyncClient", "Client"]

CODE = zip_of("""
    import time

    def handler(event, context):
        print("told", event)
        if event == "fail":
            raise ValueError("no good")
        if event == "hang":
            time.sleep(50)
        return event

    def words(event, context):
        print("begun")
        for word in ("caf\\u00e9 ", "cr\\u00e8me\\n", "br\\u00fbl\\u00e9e"):
            yield word
        if event.get("fail"):
            raise ValueError("half")
        while event.get("hang"):
            time.sleep(0.1)

    def told(event, context):
        identity, client = context.identity, context.client_context
        ids = [identity.cognito_identity_id, identity.cognito_identity_pool_id]
        return [context.tenant_id, *ids, client and client.custom]

    def size(event, context):
        assert type(event) is bytes
        return event * 2

    def echo(event, context):
        yield event.get("greeting", "")
        for chunk in event.stream:
            yield chunk.upper()
            if event.get("once"):
                return
""")


class Threaded:
    """A Client as async callers would have it: each call in a thread."""

    def __init__(self, client: engine.Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name in ("invoke_stream", "converse"):
            return lambda *args, **kwargs: ThreadedStream(method(*args, **kwargs))
        if name == "logs":
            return lambda *args, **kwargs: _items(iter(method(*args, **kwargs)))
        return lambda *args, **kwargs: asyncio.to_thread(method, *args, **kwargs)


class ThreadedStream:
    """A stream of a Client."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def report(self) -> Any:
        return self._stream.report

    def __aiter__(self) -> AsyncIterator[Any]:
        return _items(self._stream)

    def text(self) -> AsyncIterator[Any]:
        return _items(self._stream.text())

    async def __aenter__(self) -> ThreadedStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._stream.close)

    def __getattr__(self, name: str) -> Any:
        return lambda *args: asyncio.to_thread(getattr(self._stream, name), *args)


async def _items(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    over = object()
    while (item := await asyncio.to_thread(next, iterator, over)) is not over:
        yield item


@asynccontextmanager
async def calls_by(way: str, data_dir: Path) -> AsyncIterator[Any]:
    """The calls of an engine that takes one event at a time and has the functions of CODE."""
    few: dict[str, Any] = {
        "parked_ceiling": 0,
        "leaf_pool_size": 0,
        "max_concurrency": 1,
        "requests_per_concurrency": 0,
    }
    if way == "Engine":
        async with engine.Engine(str(data_dir), **few) as embedded:
            yield await with_functions(embedded)
        assert not leaves_of(instance_of(data_dir))
        return
    async with served_engine(data_dir, **few) as running:
        address = f"127.0.0.1:{running.service.grpc_port}"
        if way == "AsyncClient":
            async with engine.AsyncClient(address) as client:
                yield await with_functions(client)
        else:
            with engine.Client(address) as sync:
                yield await with_functions(Threaded(sync))


async def with_functions(calls: Any) -> Any:
    for name in ("handler", "words", "echo", "told", "size"):
        await calls.create_function(name, CODE, handler=f"app.{name}", timeout_ms=60_000, memory_mb=256)
    return calls


async def no_longer_throttled(calls: Any) -> None:
    """What ran has ended: the engine takes one at a time."""
    while True:
        try:
            await calls.invoke("handler")
            return
        except Throttled:
            continue
