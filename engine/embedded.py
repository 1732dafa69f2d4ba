"""An engine in the caller's own process: `async with Engine() as engine`, with the calls of AsyncClient and no server.

No port is opened and gRPC is not imported. Sandboxes are split off interpreters that were started with exec, never off
the caller, who may have threads and anything else. They are killed when the context is left. The engine raises the
process's limit of open files; whoever waits for any child (waitpid(-1)) would take its children from it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from engine.client.calls import PAGE, AsyncCalls, OnLog
from engine.client.resource_calls import Call
from engine.client.results import FunctionOptions, checked
from engine.client.stored_calls import StoredCall
from engine.client.streams import Items
from engine.config import Settings
from engine.errors import InvalidArgument, Unavailable
from engine.invoke.chunks import Chunks
from engine.invoke.stopping import stop
from engine.model.function import Function
from engine.model.invocation import Completion, InvokeRequest, LogLine
from engine.model.names import parse_resource_name
from engine.model.outcome import StartKind
from engine.observe.log_query import LogQuery
from engine.registry.api import ConfigChange
from engine.registry.stored import Stored
from engine.service import Parts, Service

T = TypeVar("T")


class Engine(AsyncCalls):
    """`data_dir` keeps functions, and what a process that was killed left is removed when an engine starts on it again;
    without one they are gone at the end. `settings` are those of docs/settings.md but for the addresses."""

    def __init__(self, data_dir: str | None = None, *, retries: int = 3, **settings: Any) -> None:
        super().__init__(retries=retries)
        self._data_dir = data_dir
        self._given = {"drain_s": 5.0, "parked_floor": 1} | settings
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._service: Service | None = None
        self._place = ("", "")  # its region and account, once it runs

    async def start(self) -> None:
        """Begin; raises InvalidArgument for such settings, StoreUnusable, HostUnfit. `async with` does it."""
        if self._data_dir is None:
            self._folder = tempfile.TemporaryDirectory(prefix="cleave-")
        try:
            try:
                folder = self._data_dir or (self._folder.name if self._folder else "")
                # A misspelt setting would be ignored otherwise.
                unknown = self._given.keys() - set(Settings.__struct_fields__)
                if unknown:
                    raise TypeError(f"an engine has no setting {', '.join(sorted(unknown))}; see docs/settings.md")
                settings = msgspec.convert({"data_dir": str(folder)} | self._given, Settings)
            except msgspec.ValidationError as error:
                raise InvalidArgument(f"the settings cannot be used: {error}", fix="see docs/settings.md") from None
            service = Service(settings, doors=False)
            await service.start()
        except BaseException:
            self._forget()
            raise
        self._service = service
        self._place = (settings.region, settings.account)

    async def stop(self) -> None:
        """Let what runs end within drain_s (5 s), and leave nothing. Stopping twice is fine."""
        service, self._service = self._service, None
        try:
            if service is not None:
                await service.stop()
        finally:
            self._forget()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _forget(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    @property
    def _parts(self) -> Parts:
        if self._service is None:
            raise Unavailable("the engine is not running", fix="use it inside `async with Engine(...)`")
        return self._service.parts

    async def _upload(self, code: bytes) -> str:
        return (await self._parts.code.add(_once(code), size_bytes=len(code))).sha256

    async def _download(self, resource_name: str) -> bytes:
        function = self._parts.registry.get(parse_resource_name(resource_name))
        async with aclosing(self._parts.code.read_zip(function.code_sha256)) as pieces:
            return b"".join([piece async for piece in pieces])

    async def _create(self, name: str, sha256: str, options: FunctionOptions) -> Function:
        return await self._parts.registry.create(name, ConfigChange(**checked(options)), sha256)

    async def _update(self, name: str, sha256: str | None, etag: str, options: FunctionOptions) -> Function:
        change = ConfigChange(**checked(options))
        return await self._parts.registry.update(name, change, code_sha256=sha256, etag=etag or None)

    async def _get(self, resource_name: str) -> Function:
        return self._parts.registry.get(parse_resource_name(resource_name))

    async def _list(self, after: str) -> tuple[list[Function], str]:
        return self._parts.registry.list(limit=PAGE, after=after)

    async def _delete(self, name: str, etag: str) -> None:
        await self._parts.registry.delete(name, etag=etag or None)

    async def _ask(self, call: StoredCall[T]) -> T:
        parts, (region, account) = self._parts, self._place
        return await call.local(Stored(parts.registry, parts.attached, region=region, account=account))

    async def _make(self, call: Call[T]) -> T:
        return await call.local(getattr(self._parts, call.room))

    async def _invoke(self, request: InvokeRequest) -> Completion:
        return await self._parts.invoker.invoke(request)

    async def _stream(self, request: InvokeRequest, on_log: OnLog | None) -> Items:
        reader = _Reader(on_log)
        running = asyncio.ensure_future(self._parts.invoker.invoke(request, reader))
        running.add_done_callback(lambda _: reader.news.set())
        try:
            while True:
                if reader.failed is not None:
                    raise reader.failed
                if reader.chunks.first_order is not None:
                    yield reader.chunks.take()
                elif running.done():
                    break
                else:
                    reader.news.clear()
                    await reader.news.wait()
            completion = running.result()
            if completion.payload:
                yield completion.payload
            yield msgspec.structs.replace(completion, payload=b"")
        finally:
            await stop(running)

    async def _logs(self, resource_name: str, query: LogQuery, follow: bool) -> AsyncGenerator[LogLine, None]:
        parts = self._parts
        name = parts.registry.get(parse_resource_name(resource_name)).name
        async for batch in parts.logs.read(name, query, follow=follow):
            for line in batch:
                yield line


class _Reader:
    """The sink of one stream."""

    def __init__(self, on_log: OnLog | None) -> None:
        self._on_log = on_log
        self.chunks = Chunks()
        self.news = asyncio.Event()
        self.failed: BaseException | None = None  # what on_log raised, for whoever reads

    def started(self, request_id: str, executed_version: str, kind: StartKind) -> None:
        """Nobody is told."""

    def log(self, line: LogLine) -> None:
        if self._on_log is None or self.failed is not None:
            return
        try:
            self._on_log(line)
        except Exception as error:
            self.failed = error
            self.news.set()

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        self.news.set()
        return self.chunks.add(data)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
