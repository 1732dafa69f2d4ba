"""The room over stubs: a registry and a disk in memory, a function that is the test's to say, and its clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from engine.config import Settings
from engine.events.configs import EventInvokeConfigs
from engine.events.room import Events
from engine.events.store import MIGRATIONS, EventStore
from engine.model.events import AsyncEventCounts
from engine.model.invocation import InvokeRequest
from engine.model.names import FunctionRef
from tests.compat.stub_rooms import ACCOUNT, REGION, MemoryStore, Rooms

S = 1_000_000


class Log:
    """The engine's log, kept."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    error = warning


class Queue:
    """The room, and all that a test needs of it."""

    def __init__(self, **settings: Any) -> None:
        self.now_us = 1_000 * S
        self.rooms = Rooms()
        self.disk = MemoryStore(MIGRATIONS)
        self.log = Log()
        self.settings = Settings(data_dir="/nowhere", **settings)
        self.events = self.made()

    def made(self) -> Events:
        """A room over the same disk, as another start of the engine has it."""
        rooms = self.rooms
        configs = EventInvokeConfigs(rooms.registry, rooms.attached, region=REGION, account=ACCOUNT)
        log: Any = self.log
        return Events(
            EventStore(self.disk),
            rooms.registry,
            configs,
            rooms.invoker,
            lambda: self.settings,
            log=log,
            wall_us=lambda: self.now_us,
        )

    @property
    def runs(self) -> list[InvokeRequest]:
        """What the function got."""
        return self.rooms.invoker.requests

    @property
    def counts(self) -> AsyncEventCounts:
        """Of the one function."""
        (found,) = self.events.counts()
        return found

    async def put(self, name: str = "thumbs", payload: bytes = b"{}", **fields: Any) -> str:
        """Accept an event."""
        return await self.events.enqueue(InvokeRequest(FunctionRef(name), payload, **fields))

    async def later(self, s: float) -> None:
        """Some time has passed."""
        self.now_us += round(s * S)
        self.events.reload()
        await turns()

    def stored(self) -> list[str]:
        """The request ids on the disk."""
        return [row[0] for row in self.disk._connection.execute("SELECT request_id FROM event ORDER BY id")]


async def turns(many: int = 60) -> None:
    """Let all that can go on go on."""
    for _ in range(many):
        await asyncio.sleep(0)


async def until(holds: Callable[[], object]) -> None:
    """Wait for it."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0)


@pytest.fixture
async def queue(request: pytest.FixtureRequest) -> AsyncIterator[Queue]:
    it = Queue(**getattr(request, "param", {}))
    await it.rooms.add_function("thumbs")
    yield it
    it.events.pause()
    await it.events._delivery.close(0)
