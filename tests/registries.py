"""A real registry behind a real gRPC server, and nothing that runs functions."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config import Settings
from engine.events.room import Events
from engine.fabric.sqlite import Sqlite
from engine.registry.api import ConfigChange
from engine.registry.attached import STORE_FILE as ATTACHED_FILE
from engine.registry.attached import Attached
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.registry.schema import MIGRATIONS, STORE_FILE
from engine.rpc.server import RpcServer
from tests.unit.registry.zips import ordinary, pieces
from tests.unit.rpc.things import ACCOUNT, REGION, StubInvoker, StubLogs, host


@dataclass
class Served:
    """The registry, and where it is served."""

    registry: FunctionRegistry
    code: LocalCodeStore
    address: str
    attached: Attached
    events: Events


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[FunctionRegistry, LocalCodeStore]]:
    """A registry with the function f, and its code store."""
    store = await Sqlite.open(folder / STORE_FILE, MIGRATIONS)
    code = await LocalCodeStore.open(folder / "code")
    sha256 = (await code.add(pieces(ordinary({"app.py": "code"})))).sha256
    registry = await FunctionRegistry.open(store, code, runtimes=["python3.11"], default_runtime="python3.11")
    await registry.create("f", ConfigChange(), sha256)
    try:
        yield registry, code
    finally:
        await code.close()
        await store.close()


@contextlib.asynccontextmanager
async def served(folder: Path, **settings: Any) -> AsyncIterator[Served]:
    """One with the function f, on a free port."""
    async with opened(folder) as (registry, code):
        attached = await Attached.open(folder / ATTACHED_FILE, registry)
        invoker = StubInvoker()
        told = Settings(data_dir=str(folder), **settings)
        events = await Events.open(folder, registry, attached, invoker, lambda: told)
        rooms = (registry, code, invoker, StubLogs(), host, attached, events)
        server = RpcServer(*rooms, region=REGION, account=ACCOUNT)
        address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
        try:
            yield Served(registry, code, address, attached, events)
        finally:
            await server.stop(0)
            await events.close()
            await attached.close()
