"""The functions: all of them in memory, each write through SQLite first.

Checking settings is engine.registry.validate's work, rows are engine.registry.rows'. Guarantees that writes happen one
after another, that memory never shows what the disk does not have, and that it shows all that the disk has, also where
the caller of a write went away in the middle of it. Called on one event loop.
"""

from __future__ import annotations

import asyncio
import uuid
from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from engine.errors import AlreadyExists, InvalidArgument, NotFound, NotInvocable, StaleEtag, StoreUnusable
from engine.fabric.sqlite import Sqlite
from engine.model.function import LATEST, Function, FunctionConfig, FunctionState
from engine.model.names import FunctionRef, check_function_name
from engine.registry import rows, validate
from engine.registry.api import ChangeListener, CodeStore, ConfigChange

T = TypeVar("T")


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def new_etag() -> str:
    """A UUID."""
    return str(uuid.uuid4())


class FunctionRegistry:
    """engine.registry.api.Registry over SQLite. Make one with `open`; the caller closes the database."""

    def __init__(
        self,
        store: Sqlite,
        code: CodeStore,
        functions: Collection[Function],
        *,
        runtimes: Collection[str],
        default_runtime: str,
        refuse_egress: validate.RefuseEgress,
        prepare: validate.Prepare,
        trouble: validate.Trouble,
        now: Callable[[], datetime],
        etag: Callable[[], str],
    ) -> None:
        self._store = store
        self._code = code
        self._functions = {function.name: function for function in functions}
        self._names = sorted(self._functions)
        self._runtimes = runtimes
        self._default_runtime = default_runtime
        self._refuse_egress = refuse_egress
        self._prepare = prepare
        self._trouble = trouble
        self._now = now
        self._etag = etag
        self._listeners: list[ChangeListener] = []
        self._turn = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()

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
    ) -> Self:
        """Load every function. `runtimes` are the names that this host can start; `default_runtime` is for a create
        that names none ("": it has to); `refuse_egress` raises for a kind that this host cannot have;
        `prepare` is asked before a write that changes what sandboxes are forked from, `trouble` at each read. Raises
        StoreUnusable."""
        try:
            functions = await store.run(lambda connection: list(rows.read_all(connection)))
        except ValueError as error:
            raise StoreUnusable(
                f"{store.path} holds a function that cannot be read: {error}",
                fix="put back a copy of the data directory, or give an empty folder with --data-dir and deploy again",
            ) from error
        return cls(
            store,
            code,
            functions,
            runtimes=runtimes,
            default_runtime=default_runtime,
            refuse_egress=refuse_egress,
            prepare=prepare,
            trouble=trouble,
            now=now,
            etag=etag,
        )

    async def close(self) -> None:
        """Wait for the writes under way."""
        if self._writes:
            await asyncio.wait(set(self._writes))

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
            async with self._turn:
                if name in self._functions:
                    raise AlreadyExists(
                        f"Function already exist: {name}", fix=f"update it, or delete it first: `cleave delete {name}`"
                    )
                blob = self._code.get(code_sha256)
                now = self._now()
                function = Function(
                    name=name,
                    config=config,
                    code_sha256=blob.sha256,
                    code_size_bytes=blob.size_bytes,
                    etag=self._etag(),
                    create_time=now,
                    update_time=now,
                )
                if not validate_only:
                    await self._put(function)
                return function

        return await self._to_its_end(write())

    def get(self, ref: FunctionRef) -> Function:
        """See engine.registry.api.Registry."""
        function = self._function(ref.name)
        if ref.qualifier != LATEST:
            raise NotFound(
                f"Function not found: {ref.name}:{ref.qualifier}",
                fix=f"use {ref.name} without a version or an alias, this release has none",
            )
        return self._as_it_is(function)

    def list(self, *, limit: int, after: str = "") -> tuple[list[Function], str]:
        """See engine.registry.api.Registry. A `limit` below 1 counts as 1."""
        start = bisect_right(self._names, after) if after else 0
        page = self._names[start : start + max(limit, 1)]
        more = start + len(page) < len(self._names)
        return [self._as_it_is(self._functions[name]) for name in page], page[-1] if more else ""

    async def update(
        self, name: str, change: ConfigChange, *, code_sha256: str | None = None, etag: str | None = None
    ) -> Function:
        """See engine.registry.api.Registry. A function keeps a runtime and an
        egress that the host no longer has."""
        wanted = validate.merged(self._function(name).config, change)
        if (change.preload is not None or change.runtime is not None) and not validate.wrong_fields(wanted):
            await self._prepared(wanted)

        async def write() -> Function:
            async with self._turn:
                current = self._current(name, etag)
                config = validate.merged(current.config, change)
                wrong = validate.wrong_fields(config)
                if change.runtime is not None and change.runtime != current.config.runtime:
                    wrong |= validate.wrong_runtime(change.runtime, self._runtimes)
                validate.refuse_if(wrong)
                if config.egress is not current.config.egress:
                    validate.refuse_unserved(config, self._refuse_egress)
                blob = None if code_sha256 is None else self._code.get(code_sha256)
                function = replace(
                    current,
                    config=config,
                    code_sha256=blob.sha256 if blob else current.code_sha256,
                    code_size_bytes=blob.size_bytes if blob else current.code_size_bytes,
                    etag=self._etag(),
                    update_time=self._now(),
                )
                await self._put(function)
                return function

        return await self._to_its_end(write())

    async def delete(self, name: str, *, etag: str | None = None) -> None:
        """See engine.registry.api.Registry."""

        async def write() -> None:
            async with self._turn:
                self._current(name, etag)
                await self._store.run(lambda connection: rows.delete(connection, name))
                del self._functions[name]
                self._names.remove(name)
                self._tell(name, None)

        await self._to_its_end(write())

    def subscribe(self, listener: ChangeListener) -> None:
        """See engine.registry.api.Registry. A listener that raises is reported to the loop and hinders no other."""
        self._listeners.append(listener)

    def referenced_code(self) -> set[str]:
        """The blobs that functions need, for LocalCodeStore.sweep."""
        return {function.code_sha256 for function in self._functions.values()}

    async def _prepared(self, config: FunctionConfig) -> None:
        if not config.preload or config.runtime not in self._runtimes:
            return
        try:
            await self._prepare(config)
        except NotInvocable as error:
            raise InvalidArgument(error.message, fix=error.fix, fields={"config.preload": error.message}) from error

    def _as_it_is(self, function: Function) -> Function:
        """What is known against starting it now is no part of what is stored."""
        why = self._trouble(function.config)
        return replace(function, state=FunctionState.FAILED, state_reason=why) if why else function

    def _function(self, name: str) -> Function:
        function = self._functions.get(name)
        if function is None:
            raise NotFound(f"Function not found: {name}", fix="see what there is with `cleave list`")
        return function

    def _current(self, name: str, etag: str | None) -> Function:
        function = self._function(name)
        if etag and etag != function.etag:
            raise StaleEtag(
                f"{name} was changed by somebody else: its etag is no longer {etag}",
                fix=f"read it again with `cleave get {name}` and repeat the change",
            )
        return function

    async def _put(self, function: Function) -> None:
        await self._store.run(lambda connection: rows.write(connection, function))
        if function.name not in self._functions:
            insort(self._names, function.name)
        self._functions[function.name] = function
        self._tell(function.name, function)

    def _tell(self, name: str, function: Function | None) -> None:
        for listener in self._listeners:
            try:
                listener(name, function)
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"a listener failed at the change of function {name}", "exception": error}
                )

    async def _to_its_end(self, write: Coroutine[Any, Any, T]) -> T:
        """Run a write in a task of its own: SQLite commits what has begun even if the caller is cancelled, and memory
        has to follow."""
        task = asyncio.ensure_future(write)
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be left to


def _wrong_name(name: str) -> dict[str, str]:
    try:
        check_function_name(name)
    except InvalidArgument as error:
        return error.fields
    return {}
