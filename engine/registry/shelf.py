"""All that the registry holds, in memory, and the one way to write it: what engine.registry.functions, .versions,
.aliases and .concurrency have in common.

Guarantees that writes happen one after another, that a write which has begun ends even if its caller goes away (SQLite
commits it, and memory has to follow), and that who listens is told on the event loop, after the write.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self, TypeVar

import apsw

from engine.errors import NotFound, StaleEtag, StoreUnusable
from engine.fabric.sqlite import Sqlite
from engine.model.alias import Alias
from engine.model.concurrency import ProvisionedConfig
from engine.model.function import LATEST, Function, FunctionState
from engine.model.names import FunctionRef
from engine.registry import more_rows, rows, validate
from engine.registry.api import Change, Changed, ChangeListener, ChangeObserver

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Published:
    """A version, and the description that $LATEST had when it was published: the version may have another."""

    function: Function
    latest_description: str


@dataclass(slots=True)
class Entry:
    """A function with everything that belongs to it. What is in it is replaced as a whole and never changed."""

    function: Function  # $LATEST
    last_version: int = 0  # the highest number ever given, also to a version or a function that was deleted
    versions: dict[str, Published] = field(default_factory=dict)  # by number, in the order of numbers
    aliases: dict[str, Alias] = field(default_factory=dict)
    reserved: int | None = None
    provisioned: dict[str, ProvisionedConfig] = field(default_factory=dict)  # by version or alias


class Shelf:
    """The entries by function, over SQLite. Make one with `open`; the caller closes the database."""

    def __init__(
        self,
        store: Sqlite,
        entries: dict[str, Entry],
        last_versions: dict[str, int],
        *,
        trouble: validate.Trouble,
        now: Callable[[], datetime],
        etag: Callable[[], str],
    ) -> None:
        self.entries = entries
        self.names = sorted(entries)
        self.now = now
        self.etag = etag
        self.layer_bytes = 0  # of the zips of all layer versions
        self._store = store
        self._last_versions = last_versions
        self._trouble = trouble
        self._listeners: list[ChangeListener] = []
        self._observers: list[ChangeObserver] = []
        self._turn = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(
        cls,
        store: Sqlite,
        *,
        trouble: validate.Trouble,
        now: Callable[[], datetime],
        etag: Callable[[], str],
    ) -> Self:
        """Load everything. Raises StoreUnusable."""
        try:
            entries, last_versions = await store.run(_read)
        except (KeyError, ValueError) as error:
            raise StoreUnusable(
                f"{store.path} holds a function that cannot be read: {error}",
                fix="put back a copy of the data directory, or give an empty folder with --data-dir and deploy again",
            ) from error
        return cls(store, entries, last_versions, trouble=trouble, now=now, etag=etag)

    async def close(self) -> None:
        """Wait for the writes under way."""
        if self._writes:
            await asyncio.wait(set(self._writes))

    def entry(self, name: str) -> Entry:
        """A function. Raises NotFound."""
        entry = self.entries.get(name)
        if entry is None:
            raise NotFound(f"Function not found: {name}", fix="see what there is with `cleave list`")
        return entry

    def version(self, ref: FunctionRef) -> Function:
        """What a name stands for: $LATEST, a version, or an alias' version that has no weight of its own. Raises
        NotFound."""
        entry = self.entry(ref.name)
        qualifier = ref.qualifier
        if qualifier == LATEST:
            return entry.function
        alias = entry.aliases.get(qualifier)
        if alias is not None:
            qualifier = alias.version
            if qualifier == LATEST:
                return entry.function
        published = entry.versions.get(qualifier)
        if published is None:
            raise NotFound(
                f"Function not found: {ref.name}:{ref.qualifier}",
                fix=f"see what there is with `cleave versions list {ref.name}` and `cleave aliases list {ref.name}`",
            )
        return published.function

    def as_it_is(self, function: Function) -> Function:
        """What is known against starting it now is no part of what is stored."""
        why = self._trouble(function.config)
        return replace(function, state=FunctionState.FAILED, state_reason=why) if why else function

    def add(self, function: Function) -> Entry:
        """Remember a function that is stored and was not there."""
        entry = Entry(function, last_version=self._last_versions.get(function.name, 0))
        self.entries[function.name] = entry
        insort(self.names, function.name)
        return entry

    def remove(self, name: str) -> None:
        """Forget a function that is stored no more."""
        self._last_versions[name] = self.entries.pop(name).last_version
        self.names.remove(name)

    async def write(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work` when it is its turn, to its end."""

        async def in_turn() -> T:
            async with self._turn:
                return await work()

        task = asyncio.ensure_future(in_turn())
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    async def store(self, fn: Callable[[apsw.Connection], T]) -> T:
        """Durably, in one transaction; see Sqlite.run."""
        return await self._store.run(fn)

    def subscribe(self, listener: ChangeListener) -> None:
        """See engine.registry.api.Registry. A listener that raises is reported to the loop and hinders no other."""
        self._listeners.append(listener)

    def observe(self, observer: ChangeObserver) -> None:
        """As above."""
        self._observers.append(observer)

    def tell(self, name: str, what: Changed, qualifier: str = "", *, gone: bool = False) -> None:
        """Tell everybody of a write that is done."""
        if what is Changed.FUNCTION:
            function = None if gone else self.entries[name].function
            for listener in self._listeners:
                _call(name, partial(listener, name, function))
        change = Change(name, what, qualifier, gone)
        for observer in self._observers:
            _call(name, partial(observer, change))

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be left to


def _call(name: str, tell: Callable[[], None]) -> None:
    try:
        tell()
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"a listener failed at the change of function {name}", "exception": error}
        )


def page_of(names: list[str], *, limit: int, after: str) -> tuple[list[str], str]:
    """At most `limit` of sorted names after `after`, at least 1, and the one to go on after ("": no more)."""
    start = bisect_right(names, after) if after else 0
    page = names[start : start + max(limit, 1)]
    return page, page[-1] if start + len(page) < len(names) else ""


def check_etag(current: str, etag: str | None, what: str, read_it: str) -> None:
    """Raise StaleEtag if `etag` is given and is not the current one; `read_it` is the command that shows it."""
    if etag and etag != current:
        raise StaleEtag(
            f"{what} was changed by somebody else: its etag is no longer {etag}",
            fix=f"read it again with `{read_it}` and repeat the change",
        )


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def _read(connection: apsw.Connection) -> tuple[dict[str, Entry], dict[str, int]]:
    last_versions = more_rows.read_last_versions(connection)
    entries = {
        function.name: Entry(function, last_version=last_versions.get(function.name, 0))
        for function in rows.read_all(connection)
    }
    for function, latest_description in rows.read_versions(connection):
        entries[function.name].versions[function.version] = Published(function, latest_description)
    for alias in more_rows.read_aliases(connection):
        entries[alias.function_name].aliases[alias.name] = alias
    for name, executions in more_rows.read_reserved(connection).items():
        entries[name].reserved = executions
    for config in more_rows.read_provisioned(connection):
        entries[config.function_name].provisioned[config.qualifier] = config
    return entries, last_versions
