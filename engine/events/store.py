"""Events on the disk, from before they are acknowledged until they are done with.

What is to become of an event is left to the rest of the room. Guarantees: what `add`, `forget` and `failed` returned
from is durable (WAL, synchronous=FULL); what comes while a transaction is under way shares the next one, so that an
fsync serves many callers; ids grow in the order of acceptance and are never given twice. Called on one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import apsw
import msgspec

from engine.fabric.sqlite import Migration, Sqlite

T = TypeVar("T")

STORE_FILE = "events.db"
"""The database's name in the data directory."""

_V1 = """
CREATE TABLE event (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,  -- in the order of acceptance
    request_id     TEXT NOT NULL,
    function       TEXT NOT NULL,
    born_us        INTEGER NOT NULL,  -- when the function was created, microseconds since the epoch
    qualifier      TEXT NOT NULL,
    accepted_us    INTEGER NOT NULL,  -- since the epoch
    due_us         INTEGER NOT NULL,  -- not before; 0: at once
    failed         INTEGER NOT NULL,  -- runs in which the function failed
    last_error     TEXT NOT NULL,
    trace_id       TEXT NOT NULL,
    tenant_id      TEXT,
    raw            INTEGER NOT NULL,
    client_context BLOB NOT NULL,
    size_bytes     INTEGER NOT NULL,  -- of the payload
    payload        BLOB NOT NULL
) STRICT;
CREATE INDEX event_function ON event (function, born_us);
"""
MIGRATIONS: tuple[Migration, ...] = (_V1,)

_ADD = """
INSERT INTO event (request_id, function, born_us, qualifier, accepted_us, due_us, failed, last_error, trace_id,
                   tenant_id, raw, client_context, size_bytes, payload)
VALUES (?, ?, ?, ?, ?, 0, 0, '', ?, ?, ?, ?, ?, ?)
"""
_FAILED = "UPDATE event SET failed = ?, due_us = ?, last_error = ? WHERE id = ?"
_FORGET = "DELETE FROM event WHERE id = ?"
_FORGET_FUNCTION = "DELETE FROM event WHERE function = ? AND born_us = ?"
_READ = "SELECT payload, client_context, trace_id, tenant_id, raw FROM event WHERE id = ?"
_WAITING = """
SELECT id, request_id, function, born_us, qualifier, accepted_us, due_us, failed, last_error, size_bytes
FROM event ORDER BY id
"""


class Content(msgspec.Struct, frozen=True):
    """What the function gets."""

    payload: bytes
    client_context: bytes = b""
    trace_id: str = ""
    tenant_id: str | None = None
    raw: bool = False


class Accepted(msgspec.Struct, frozen=True):
    """An event, as it is when it is accepted."""

    request_id: str
    function: str
    born_us: int
    qualifier: str
    accepted_us: int
    content: Content


class Row(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a waiting event, but for its content. In the order of _WAITING."""

    id: int
    request_id: str
    function: str
    born_us: int
    qualifier: str
    accepted_us: int
    due_us: int
    failed: int
    last_error: str
    size_bytes: int


class Store(Protocol):
    """What is used of engine.fabric.sqlite.Sqlite."""

    async def run(self, fn: Callable[[apsw.Connection], T]) -> T:
        """In a transaction of its own, durable when it returns."""

    async def close(self) -> None:
        """No more is written."""


class EventStore:
    """The events. Make it with `open`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Callable[[apsw.Connection], Any], asyncio.Future[Any]]] = []
        self._writing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Raises StoreUnusable."""
        return cls(await Sqlite.open(path, MIGRATIONS))

    async def close(self) -> None:
        """Finish what was begun, and close the database."""
        while self._writing is not None:
            await asyncio.wait({self._writing})
        await self._store.close()

    async def add(self, event: Accepted) -> int:
        """Keep one; returns its id."""
        content = event.content
        values = (
            event.request_id,
            event.function,
            event.born_us,
            event.qualifier,
            event.accepted_us,
            content.trace_id,
            content.tenant_id,
            int(content.raw),
            content.client_context,
            len(content.payload),
            content.payload,
        )

        def add(connection: apsw.Connection) -> int:
            connection.execute(_ADD, values)
            return connection.last_insert_rowid()

        return await self._together(add)

    async def failed(self, id: int, failed: int, due_us: int, last_error: str) -> None:
        """The function failed at it for the so-and-so-many-th time, and gets it again."""
        await self._together(lambda connection: _run(connection, _FAILED, (failed, due_us, last_error, id)))

    async def forget(self, id: int) -> None:
        """It is done with."""
        await self._together(lambda connection: _run(connection, _FORGET, (id,)))

    async def forget_function(self, function: str, born_us: int) -> None:
        """All of a function that was created then."""
        await self._together(lambda connection: _run(connection, _FORGET_FUNCTION, (function, born_us)))

    async def content(self, id: int) -> Content | None:
        """What the function gets; None where the event is not there any more."""

        def read(connection: apsw.Connection) -> Content | None:
            found: Any = connection.execute(_READ, (id,)).fetchone()
            if found is None:
                return None
            payload, client_context, trace_id, tenant_id, raw = found
            return Content(payload, client_context, trace_id, tenant_id, bool(raw))

        return await self._together(read)

    async def waiting(self) -> list[Row]:
        """All of them, in the order of acceptance."""
        return await self._together(lambda connection: [Row(*row) for row in connection.execute(_WAITING)])

    async def _together(self, work: Callable[[apsw.Connection], T]) -> T:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write())
        return await done

    async def _write(self) -> None:
        try:
            while self._waiting:
                together, self._waiting = self._waiting, []
                try:
                    results = await self._store.run(_all_of([work for work, _ in together]))
                except Exception as error:  # of the disk: nothing of them was written
                    for _, done in together:
                        if not done.done():
                            done.set_exception(error)
                else:
                    for (_, done), result in zip(together, results, strict=True):
                        if not done.done():
                            done.set_result(result)
        finally:
            self._writing = None


def _all_of(works: Sequence[Callable[[apsw.Connection], Any]]) -> Callable[[apsw.Connection], list[Any]]:
    return lambda connection: [work(connection) for work in works]


def _run(connection: apsw.Connection, statement: str, values: tuple[int | str, ...]) -> None:
    connection.execute(statement, values)
