"""The functions: all of them in memory, each write through SQLite first.

Checking settings is engine.registry.validate's work, rows are engine.registry.rows', what the disk and memory have in
common is engine.registry.shelf's. Guarantees that memory never shows what the disk does not have, and that it shows all
that the disk has, also where the caller of a write went away in the middle of it. Called on one event loop.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Self

import apsw

from engine.errors import AlreadyExists, InvalidArgument, NotInvocable
from engine.fabric.sqlite import Sqlite
from engine.model.function import Function, FunctionConfig
from engine.model.names import FunctionRef, check_function_name
from engine.registry import more_rows, rows, validate
from engine.registry.aliases import AliasRegistry
from engine.registry.api import Changed, ChangeListener, ChangeObserver, CodeStore, ConfigChange, Route
from engine.registry.concurrency import ConcurrencyRegistry
from engine.registry.layers import LayerRegistry, check_size
from engine.registry.shelf import Entry, Shelf, check_etag, page_of, utc_now
from engine.registry.versions import VersionRegistry

ACCOUNT_CONCURRENCY = 1_000
"""What an account may run at once: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""


def new_etag() -> str:
    """A UUID."""
    return str(uuid.uuid4())


def account_default() -> int:
    """AWS's own."""
    return ACCOUNT_CONCURRENCY


class FunctionRegistry:
    """engine.registry.api.Registry over SQLite. Make one with `open`; the caller closes the database."""

    def __init__(
        self,
        shelf: Shelf,
        code: CodeStore,
        layers: LayerRegistry,
        *,
        runtimes: Collection[str],
        default_runtime: str,
        refuse_egress: validate.RefuseEgress,
        prepare: validate.Prepare,
        account_concurrency: Callable[[], int],
    ) -> None:
        self._shelf = shelf
        self._code = code
        self._runtimes = runtimes
        self._default_runtime = default_runtime
        self._refuse_egress = refuse_egress
        self._prepare = prepare
        self.versions = VersionRegistry(shelf)
        self.aliases = AliasRegistry(shelf)
        self.concurrency = ConcurrencyRegistry(shelf, account_concurrency)
        self.layers = layers

    @classmethod
    async def open(
        cls,
        store: Sqlite,
        code: CodeStore,
        *,
        runtimes: Collection[str],
        default_runtime: str = "",
        refuse_egress: validate.RefuseEgress = validate.only_none,
        prepare: validate.Prepare = validate.nothing_to_prepare,
        trouble: validate.Trouble = validate.no_trouble,
        now: Callable[[], datetime] = utc_now,
        etag: Callable[[], str] = new_etag,
        account_concurrency: Callable[[], int] = account_default,
    ) -> Self:
        """Load every function. `runtimes` are the names that this host can start; `default_runtime` is for a create
        that names none ("": it has to); `refuse_egress` raises for a kind that this host cannot have;
        `prepare` is asked before a write that changes what sandboxes are forked from, `trouble` at each read;
        `account_concurrency` says how many invocations the account may run at once. Raises StoreUnusable."""
        shelf = await Shelf.open(store, trouble=trouble, now=now, etag=etag)
        return cls(
            shelf,
            code,
            await LayerRegistry.open(shelf, code),
            runtimes=runtimes,
            default_runtime=default_runtime,
            refuse_egress=refuse_egress,
            prepare=prepare,
            account_concurrency=account_concurrency,
        )

    async def close(self) -> None:
        """Wait for the writes under way."""
        await self._shelf.close()

    async def create(
        self, name: str, change: ConfigChange, code_sha256: str, *, validate_only: bool = False
    ) -> Function:
        """See engine.registry.api.Registry; HostUnfit or NotServed for an egress that cannot be had here."""
        base = FunctionConfig(runtime=self._default_runtime, handler=validate.DEFAULT_HANDLER)
        config = validate.merged(base, change)
        wrong = (
            _wrong_name(name) | validate.wrong_runtime(config.runtime, self._runtimes) | validate.wrong_fields(config)
        )
        if not code_sha256:
            wrong["code_blob"] = "is required: upload the code first"
        validate.refuse_if(wrong)
        validate.refuse_unserved(config, self._refuse_egress)
        await self._prepared(config)

        async def write() -> Function:
            shelf = self._shelf
            if name in shelf.entries:
                raise AlreadyExists(
                    f"Function already exist: {name}", fix=f"update it, or delete it first: `cleave delete {name}`"
                )
            blob = self._code.get(code_sha256)
            layered = replace(config, layers=self.layers.used(change.layers or ()))
            check_size(layered.layers, blob)
            now = shelf.now()
            function = Function(
                name=name,
                config=layered,
                code_sha256=blob.sha256,
                code_size_bytes=blob.size_bytes,
                etag=shelf.etag(),
                create_time=now,
                update_time=now,
            )
            if not validate_only:
                await shelf.store(lambda connection: rows.write(connection, function))
                shelf.add(function)
                shelf.tell(name, Changed.FUNCTION)
            return function

        return await self._shelf.write(write)

    def get(self, ref: FunctionRef) -> Function:
        """See engine.registry.api.Registry."""
        return self._shelf.as_it_is(self._shelf.version(ref))

    def resolve(self, ref: FunctionRef, route: Route) -> Function:
        """See engine.registry.api.Registry."""
        alias = self._shelf.entry(ref.name).aliases.get(ref.qualifier)
        if alias is None or not alias.weights:
            return self.get(ref)
        functions = [self._shelf.version(FunctionRef(ref.name, version)) for version, _ in alias.shares]
        return self._shelf.as_it_is(functions[route(alias, functions)])

    def list(self, *, limit: int, after: str = "") -> tuple[list[Function], str]:
        """See engine.registry.api.Registry. A `limit` below 1 counts as 1."""
        shelf = self._shelf
        page, after = page_of(shelf.names, limit=limit, after=after)
        return [shelf.as_it_is(shelf.entries[name].function) for name in page], after

    def everything(self) -> Iterator[Function]:
        """Every function and every version, as stored."""
        for entry in self._shelf.entries.values():
            yield entry.function
            for published in entry.versions.values():
                yield published.function

    async def update(
        self, name: str, change: ConfigChange, *, code_sha256: str | None = None, etag: str | None = None
    ) -> Function:
        """See engine.registry.api.Registry. A function keeps a runtime and an
        egress that the host no longer has."""
        wanted = validate.merged(self._shelf.entry(name).function.config, change)
        if (change.preload is not None or change.runtime is not None) and not validate.wrong_fields(wanted):
            await self._prepared(wanted)

        async def write() -> Function:
            shelf = self._shelf
            entry = self._current(name, etag)
            current = entry.function
            config = validate.merged(current.config, change)
            wrong = validate.wrong_fields(config)
            if change.runtime is not None and change.runtime != current.config.runtime:
                wrong |= validate.wrong_runtime(change.runtime, self._runtimes)
            validate.refuse_if(wrong)
            if config.egress is not current.config.egress:
                validate.refuse_unserved(config, self._refuse_egress)
            blob = None if code_sha256 is None else self._code.get(code_sha256)
            if change.layers is not None:
                config = replace(config, layers=self.layers.used(change.layers))
            if config.layers and (blob is not None or change.layers is not None):
                check_size(config.layers, blob or self._code.get(current.code_sha256))
            function = replace(
                current,
                config=config,
                code_sha256=blob.sha256 if blob else current.code_sha256,
                code_size_bytes=blob.size_bytes if blob else current.code_size_bytes,
                etag=shelf.etag(),
                update_time=shelf.now(),
            )
            await shelf.store(lambda connection: rows.write(connection, function))
            entry.function = function
            shelf.tell(name, Changed.FUNCTION)
            return function

        return await self._shelf.write(write)

    async def delete(self, name: str, *, etag: str | None = None) -> None:
        """See engine.registry.api.Registry."""

        def remove(connection: apsw.Connection) -> None:
            rows.delete(connection, name)
            more_rows.delete_all(connection, name)

        async def write() -> None:
            self._current(name, etag)
            await self._shelf.store(remove)
            self._shelf.remove(name)
            self._shelf.tell(name, Changed.FUNCTION, gone=True)

        await self._shelf.write(write)

    def subscribe(self, listener: ChangeListener) -> None:
        """See engine.registry.api.Registry. A listener that raises is reported to the loop and hinders no other."""
        self._shelf.subscribe(listener)

    def observe(self, observer: ChangeObserver) -> None:
        """See engine.registry.api.Registry. As above."""
        self._shelf.observe(observer)

    def referenced_code(self) -> set[str]:
        """The blobs that functions, their versions and layers need, for LocalCodeStore.sweep."""
        found = self.layers.referenced_code()
        for function in self.everything():
            found.add(function.code_sha256)
            found.update(layer.code_sha256 for layer in function.config.layers)
        return found

    async def _prepared(self, config: FunctionConfig) -> None:
        if not config.preload or config.runtime not in self._runtimes:
            return
        try:
            await self._prepare(config)
        except NotInvocable as error:
            raise InvalidArgument(error.message, fix=error.fix, fields={"config.preload": error.message}) from error

    def _current(self, name: str, etag: str | None) -> Entry:
        entry = self._shelf.entry(name)
        check_etag(entry.function.etag, etag, name, f"cleave get {name}")
        return entry


def _wrong_name(name: str) -> dict[str, str]:
    try:
        check_function_name(name)
    except InvalidArgument as error:
        return error.fields
    return {}
