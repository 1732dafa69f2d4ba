"""The rooms below a front, in memory, and a front on a port of its own over them.

Settings are checked by the registry's own rules; what is stored, and how a function runs, is the test's to say.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
import zipfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import apsw

from engine.config import Settings
from engine.errors import InvalidCode, NotFound
from engine.events.configs import EventInvokeConfigs
from engine.events.room import Events
from engine.events.store import MIGRATIONS as EVENT_MIGRATIONS
from engine.events.store import EventStore
from engine.fabric.sqlite import Migration
from engine.model.function import CodeBlob, Function, FunctionState
from engine.model.invocation import Completion, FunctionError, InvokeRequest, Pending, Report, Sink
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome, StartKind
from engine.observe.function_logs import FunctionLogs
from engine.registry.api import ChangeListener, ConfigChange
from engine.registry.attached import MIGRATIONS, Attached
from engine.registry.code_links import CodeLinks
from engine.registry.code_s3 import S3Object
from engine.registry.functions import FunctionRegistry, account_default, new_etag
from engine.registry.layers import LayerRegistry
from engine.registry.schema import MIGRATIONS as REGISTRY_MIGRATIONS
from engine.registry.shelf import Shelf
from engine.registry.validate import no_trouble, nothing_to_prepare, only_none
from engine.rest.server import RestServer

T = TypeVar("T")

ACCOUNT = "000000000000"
REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/any"
LOG_DAYS = 14
CREATED = datetime(2026, 1, 1, 0, 0, 0, 120_000, tzinfo=UTC)


def make_zip(source: str = "def handler(event, context):\n    return event\n") -> bytes:
    """A zip of one module, app.py. The same source is the same bytes at any time of the day."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        entry = zipfile.ZipInfo("app.py")
        entry.external_attr = 0o600 << 16
        archive.writestr(entry, source)
    return data.getvalue()


class StubCodeStore:
    """engine.registry.api.CodeStore in memory."""

    def __init__(self) -> None:
        self.zips: dict[str, bytes] = {}
        self.objects: dict[S3Object, bytes] = {}
        self.links = CodeLinks(bytes(32), lambda: self.now_s)
        self.now_s = 1_767_225_600.0

    async def add(
        self, chunks: AsyncIterable[bytes], *, sha256: str | None = None, size_bytes: int | None = None
    ) -> CodeBlob:
        data = b"".join([chunk async for chunk in chunks])
        if not zipfile.is_zipfile(io.BytesIO(data)):
            raise InvalidCode("Could not unzip uploaded file", fix="check the file, then upload it again")
        digest = hashlib.sha256(data).hexdigest()
        self.zips[digest] = data
        return self.get(digest)

    async def fetch(self, wanted: S3Object) -> CodeBlob:
        async def pieces() -> AsyncIterator[bytes]:
            yield self.objects[wanted]

        return await self.add(pieces())

    def get(self, sha256: str) -> CodeBlob:
        data = self.zips.get(sha256)
        if data is None:
            raise NotFound("no such blob", fix="upload it")
        return CodeBlob(sha256, len(data), len(data), "/nowhere")

    async def read_zip(self, sha256: str) -> AsyncGenerator[bytes]:
        self.get(sha256)
        yield self.zips[sha256]


class MemoryStore:
    """engine.fabric.sqlite.Sqlite in memory, on the caller's thread."""

    def __init__(self, migrations: Sequence[Migration]) -> None:
        self._connection = apsw.Connection(":memory:")
        for migration in migrations:
            assert isinstance(migration, str)
            self._connection.execute(migration)

    async def run(self, fn: Callable[[apsw.Connection], T]) -> T:
        return fn(self._connection)

    async def close(self) -> None:
        self._connection.close()


class AnyRuntime(frozenset[str]):
    """Whatever a client names can be had here."""

    def __contains__(self, runtime: object) -> bool:
        return True


class StubRegistry(FunctionRegistry):
    """The registry over a database in memory. `states` are what the next reads of a function see, in turn."""

    def __init__(self, code: StubCodeStore) -> None:
        store: Any = MemoryStore(REGISTRY_MIGRATIONS)
        self.shelf = Shelf(store, {}, {}, trouble=no_trouble, now=lambda: CREATED, etag=new_etag)
        super().__init__(
            self.shelf,
            code,
            LayerRegistry(self.shelf, code, {}, {}),
            runtimes=AnyRuntime(),
            default_runtime="",
            refuse_egress=only_none,
            prepare=nothing_to_prepare,
            account_concurrency=account_default,
        )
        self.states: list[FunctionState] = []

    @property
    def listeners(self) -> list[ChangeListener]:
        """Who is told."""
        return self.shelf._listeners

    @property
    def functions(self) -> dict[str, Function]:
        """All of them, by name."""
        return {name: entry.function for name, entry in self.shelf.entries.items()}

    def get(self, ref: FunctionRef) -> Function:
        function = super().get(ref)
        return replace(function, state=self.states.pop(0)) if self.states else function


def completed(request: InvokeRequest, payload: bytes, log_tail: bytes = b"") -> Completion:
    """The completion of a handler that returned."""
    report = Report(request.request_id, Outcome.OK, StartKind.WARM, memory_mb=128)
    return Completion(report, payload=payload, log_tail=log_tail)


def failed(request: InvokeRequest, outcome: Outcome, document: bytes) -> Completion:
    """The completion of a function that failed."""
    report = Report(request.request_id, outcome, StartKind.FORK, memory_mb=128)
    return Completion(report, error=FunctionError("Any", document))


async def echo(request: InvokeRequest) -> Completion:
    """A function that returns its event."""
    return completed(request, request.payload or b"{}")


class StubInvoker:
    """engine.model.invocation.Invoker: `run` is the function."""

    def __init__(self) -> None:
        self.requests: list[InvokeRequest] = []
        self.run: Callable[[InvokeRequest], Awaitable[Completion]] = echo
        self.stream: Callable[[InvokeRequest, Sink], Awaitable[Completion]] | None = None
        self.cancelled = threading.Event()

    def express(self, function_name: str, payload: bytes, request_id: str = "") -> Pending | None:
        return None

    async def invoke(self, request: InvokeRequest, sink: Sink | None = None) -> Completion:
        self.requests.append(request)
        try:
            if sink is not None and self.stream is not None:
                return await self.stream(request, sink)
            return await self.run(request)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Faults:
    """engine.rest.app.FaultLogger that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def error(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))


class Rooms:
    """What a front stands on."""

    def __init__(self, logs_folder: Path | None = None) -> None:
        """With a folder there are logs, on the disk."""
        self.faults = Faults()
        self.logs: FunctionLogs | None = None
        self._logs_folder = logs_folder
        self.reset()

    async def open_logs(self) -> None:
        """In the front's loop, before there is a front."""
        if self._logs_folder is not None:
            folder = self._logs_folder
            self.logs = await FunctionLogs.open(folder, (), keep_days=LOG_DAYS, keep_mb=64, total_mb=64, mb_per_s=100)

    async def close_logs(self) -> None:
        """After the front."""
        if self.logs is not None:
            await self.logs.close()

    def reset(self) -> None:
        """Empty, as at first."""
        self.code = StubCodeStore()
        self.registry = StubRegistry(self.code)
        self.attached = Attached(MemoryStore(MIGRATIONS), self.registry)
        self.invoker = StubInvoker()
        self.events = _events(self)
        self.faults.events.clear()

    async def add_function(self, name: str) -> None:
        """A function as a client would have created it."""

        async def pieces() -> AsyncIterator[bytes]:
            yield make_zip()

        blob = await self.code.add(pieces())
        change = ConfigChange(runtime="python3.11", handler="app.handler", role=ROLE)
        await self.registry.create(name, change, blob.sha256)

    def front(self, *, stop_on_disconnect: bool = False, workers: int = 0) -> RestServer:
        """An HTTP front that sees these rooms, also after a reset."""
        return RestServer(
            _Current(self, "registry"),
            _Current(self, "code"),
            _Current(self, "invoker"),
            _Current(self, "attached"),  # type: ignore[arg-type]
            _Current(self, "events"),  # type: ignore[arg-type]
            region=REGION,
            account=ACCOUNT,
            logger=self.faults,
            stop_on_disconnect=stop_on_disconnect,
            logs=self.logs,
            workers=workers,
        )


def _events(rooms: Rooms) -> Events:
    """Asynchronous events, in memory."""
    settings = Settings(data_dir="/nowhere", async_retry_s=0.01, async_backoff_s=0.01)
    configs = EventInvokeConfigs(rooms.registry, rooms.attached, region=REGION, account=ACCOUNT)
    store = EventStore(MemoryStore(EVENT_MIGRATIONS))
    return Events(store, rooms.registry, configs, rooms.invoker, lambda: settings)


class _Current:
    """Stands for one of the rooms as it is at the time of each call."""

    def __init__(self, rooms: Rooms, name: str) -> None:
        self._rooms = rooms
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(self._rooms, self._name), attribute)


class Front:
    """A front over `rooms` in an event loop of its own thread, so that blocking clients can be used in tests."""

    def __init__(self, rooms: Rooms, *, stop_on_disconnect: bool = False, workers: int = 0) -> None:
        self.rooms = rooms
        self._stop_on_disconnect = stop_on_disconnect
        self._workers = workers
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="front")
        self._server: RestServer | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def worker_pids(self) -> list[int]:
        """The processes that speak HTTP for it."""
        return [] if self._server is None else self._server.worker_pids

    def __enter__(self) -> Front:
        self._thread.start()
        self.call(self.rooms.open_logs())
        self._server = self.call(_make(self.rooms, self._stop_on_disconnect, self._workers))
        self.port = self.call(self._server.start("127.0.0.1", 0))
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self.call(self._server.stop(1.0))
        self.call(self.rooms.close_logs())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the front's loop, and wait for it."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(20)


async def _make(rooms: Rooms, stop_on_disconnect: bool, workers: int) -> RestServer:
    return rooms.front(stop_on_disconnect=stop_on_disconnect, workers=workers)
