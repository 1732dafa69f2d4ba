"""What is kept beside functions: tags, policies, URLs, mappings and whatever else a client stores and reads back.

Each is a JSON document with a kind, an owner and a key; the owner is a function, and its documents end with it, or ""
for a resource of its own. A document of which the key is an alias or a version ends with that too. What is in a
document is the owner room's matter. Guarantees, as engine.registry.functions does: reads from memory, writes one after
another and durable when they return; and that a function or an alias never meets the documents of an earlier one of its
name, wherever the engine was killed. Called on one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import apsw
import orjson

from engine.errors import NotFound
from engine.fabric.sqlite import Migration, Sqlite
from engine.model.function import LATEST, Function
from engine.model.names import FunctionRef
from engine.registry.api import Change, Changed, Registry

T = TypeVar("T")
Document = Mapping[str, Any]

STORE_FILE = "attached.db"
"""The database's name in the data directory."""

_V1 = """
CREATE TABLE attached (
    kind     TEXT NOT NULL,
    owner    TEXT NOT NULL,     -- a function's name, or empty
    key      TEXT NOT NULL,     -- a qualifier or an id, or empty
    born_us  INTEGER NOT NULL,  -- when the owner was created, microseconds since the epoch; 0 without an owner
    document TEXT NOT NULL,     -- a JSON object
    PRIMARY KEY (kind, owner, key)
) STRICT, WITHOUT ROWID;
"""
_V2 = """
ALTER TABLE attached ADD COLUMN alias_us INTEGER NOT NULL DEFAULT -1; -- when the alias that is the key was created;
                                                                      -- 0 where none is, -1 for not known
"""
MIGRATIONS: tuple[Migration, ...] = (_V1, _V2)

_WRITE = "INSERT OR REPLACE INTO attached (kind, owner, key, born_us, alias_us, document) VALUES (?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM attached WHERE kind = ? AND owner = ? AND key = ?"
_FORGET = "DELETE FROM attached WHERE owner = ? AND born_us = ?"
# What is not known of is from before all that is, so it is of the alias that goes, or of an earlier one.
_FORGET_PART = "DELETE FROM attached WHERE owner = ? AND key = ? AND born_us = ? AND alias_us IN (?, -1)"
_READ = "SELECT kind, owner, key, born_us, alias_us, document FROM attached ORDER BY kind, owner, key"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Store(Protocol):
    """What is used of engine.fabric.sqlite.Sqlite."""

    async def run(self, fn: Callable[[apsw.Connection], T]) -> T:
        """In a transaction of its own, durable when it returns."""

    async def close(self) -> None:
        """No more is written."""


class Attached:
    """The documents. Make it with `open`, after the registry."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._documents: dict[str, dict[str, dict[str, Document]]] = {}
        self._born: dict[str, int] = {}
        self._part_born: dict[tuple[str, str], tuple[int, int]] = {}
        self.revision = object()
        """Another one after each change, for whoever keeps an index."""
        self._turn = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()
        registry.subscribe(self._changed)
        registry.observe(self._part_changed)

    @classmethod
    async def open(cls, path: Path, registry: Registry) -> Self:
        """Load every document, and drop those of functions that are gone. Raises StoreUnusable."""
        self = cls(await Sqlite.open(path, MIGRATIONS), registry)
        orphans: set[tuple[str, int]] = set()
        parts: set[tuple[str, str, int, int]] = set()
        rows: list[Any] = await self._store.run(lambda connection: connection.execute(_READ).fetchall())
        for kind, owner, key, born, alias_born, text in rows:
            if owner and born != self._birth(owner):
                orphans.add((owner, born))
            elif owner and self._is_left(owner, key, alias_born):
                parts.add((owner, key, born, alias_born))
            else:
                self._keep(kind, owner, key, orjson.loads(text), (born, alias_born))
        for orphan in orphans:
            await self._run(_FORGET, orphan)
        for part in parts:
            await self._run(_FORGET_PART, part)
        return self

    async def close(self) -> None:
        """Wait for the writes under way, and close the store."""
        while self._writes:
            await asyncio.wait(set(self._writes))
        await self._store.close()

    def get(self, kind: str, owner: str, key: str = "") -> Document | None:
        """One document; None if it is not there."""
        return self.of(kind, owner).get(key)

    def of(self, kind: str, owner: str) -> Mapping[str, Document]:
        """Every document of this kind that an owner has, by its key."""
        return self._documents.get(kind, {}).get(owner, {})

    def all(self, kind: str) -> Iterator[tuple[str, str, Document]]:
        """Every document of this kind, with its owner and its key."""
        for owner, documents in self._documents.get(kind, {}).items():
            for key, document in documents.items():
                yield owner, key, document

    async def change(
        self, kind: str, owner: str, key: str, change: Callable[[Document | None], Document | None]
    ) -> Document | None:
        """Put in place of a document what `change` makes of it; None: nothing. Nothing else is written between. Raises
        what `change` raises, and NotFound if the owner is gone."""
        return await self._to_its_end(self._write(kind, owner, key, change))

    async def put(self, kind: str, owner: str, key: str, document: Document) -> None:
        """Write a document, whatever is there. Raises NotFound if the owner is gone."""
        await self.change(kind, owner, key, lambda _: document)

    async def delete(self, kind: str, owner: str, key: str = "") -> bool:
        """Whether it was there."""
        found = self.get(kind, owner, key) is not None
        if found:
            await self.change(kind, owner, key, lambda _: None)
        return found

    async def _write(
        self, kind: str, owner: str, key: str, change: Callable[[Document | None], Document | None]
    ) -> Document | None:
        async with self._turn:
            born = self._birth(owner) if owner else 0
            if born is None:
                raise _gone(owner)
            before = self.get(kind, owner, key)
            after = change(before)
            if after is None:
                if before is not None:
                    await self._run(_DELETE, (kind, owner, key))
                    self._drop(kind, owner, key)
                return None
            text = orjson.dumps(dict(after)).decode()
            alias_born = self._alias_birth(owner, key)
            await self._run(_WRITE, (kind, owner, key, born, alias_born, text))
            # Deleted meanwhile: its other documents are being forgotten, this one may have come too late for it.
            if owner and self._birth(owner) != born:
                await self._run(_FORGET, (owner, born))
                raise _gone(owner)
            if owner and self._is_left(owner, key, alias_born):
                await self._run(_FORGET_PART, (owner, key, born, alias_born))
                raise _gone(f"{owner}:{key}")
            self._keep(kind, owner, key, orjson.loads(text), (born, alias_born))
            return after

    def _changed(self, name: str, function: Function | None) -> None:
        """Called after each write of a function."""
        if function is not None:
            return
        self.revision = object()
        for owners in self._documents.values():
            owners.pop(name, None)
        self._part_born = {part: born for part, born in self._part_born.items() if part[0] != name}
        born = self._born.pop(name, None)
        if born is not None:
            self._start(self._run(_FORGET, (name, born)))

    def _part_changed(self, change: Change) -> None:
        """Called after each write of what belongs to a function."""
        if not change.gone or change.what not in (Changed.ALIAS, Changed.VERSION):
            return
        name, qualifier = change.function_name, change.qualifier
        self.revision = object()
        for owners in self._documents.values():
            owners.get(name, {}).pop(qualifier, None)
        born = self._part_born.pop((name, qualifier), None)
        if born is not None:
            self._start(self._run(_FORGET_PART, (name, qualifier, *born)))

    async def _run(self, statement: str, values: tuple[str | int, ...]) -> None:
        def write(connection: apsw.Connection) -> None:
            connection.execute(statement, values)

        await self._store.run(write)

    def _birth(self, owner: str) -> int | None:
        try:
            return (self._registry.get(FunctionRef(owner)).create_time - _EPOCH) // _MICROSECOND
        except NotFound:
            return None

    def _alias_birth(self, owner: str, key: str) -> int:
        """0 where the key is no alias of the owner."""
        try:
            return (self._registry.aliases.get(owner, key).create_time - _EPOCH) // _MICROSECOND if owner and key else 0
        except NotFound:
            return 0

    def _is_left(self, owner: str, key: str, alias_born: int) -> bool:
        """Whether a document is of an alias or a version that is gone."""
        if key in ("", LATEST):
            return False
        if alias_born == 0 and not key.isdigit():
            return False  # a key of another kind
        if alias_born > 0:
            return self._alias_birth(owner, key) != alias_born
        try:
            self._registry.get(FunctionRef(owner, key))
        except NotFound:
            return True
        return False

    def _keep(self, kind: str, owner: str, key: str, document: Document, born: tuple[int, int]) -> None:
        self.revision = object()
        self._documents.setdefault(kind, {}).setdefault(owner, {})[key] = document
        if owner:
            self._born[owner] = born[0]
            self._part_born[owner, key] = born

    def _drop(self, kind: str, owner: str, key: str) -> None:
        self.revision = object()
        self._documents.get(kind, {}).get(owner, {}).pop(key, None)

    async def _to_its_end(self, write: Coroutine[Any, Any, T]) -> T:
        """Run a write in a task of its own: what has begun is committed even if the caller is cancelled."""
        return await asyncio.shield(self._start(write))

    def _start(self, write: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(write)
        self._writes.add(task)
        task.add_done_callback(self._written)
        return task

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be left to


def _gone(owner: str) -> NotFound:
    return NotFound(f"Function not found: {owner}", fix="see what there is with `cleave list`")
