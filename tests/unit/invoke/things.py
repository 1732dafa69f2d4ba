"""What the pipeline's tests are made of: functions in a dictionary, a real scheduler over the stub pool, fixed time."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from datetime import UTC, datetime
from typing import Any

from engine.errors import NotFound
from engine.invoke.pipeline import Authorize, Pipeline, allow_all
from engine.model.function import CodeBlob, Function, FunctionConfig
from engine.model.invocation import InvokeRequest, LogBatch, LogLine, Moments, Report
from engine.model.names import FunctionRef
from engine.model.outcome import StartKind
from engine.registry.api import ChangeListener, ChangeObserver, ConfigChange, Route
from engine.registry.code_links import CodeLinks
from engine.registry.code_s3 import S3Object
from engine.sandbox.stub import Script, StubPool, echo
from engine.scheduler.dispatch import LocalScheduler

REQUEST_ID = "6f0a2c1e-98d1-4c5e-9d4f-1f2e3d4c5b6a"
WHEN = datetime(2026, 11, 23, 12, tzinfo=UTC)
WALL_NS = round(WHEN.timestamp()) * 1_000_000_000 + 123_456_789


class Functions:
    """A Registry of which only what the pipeline asks is there."""

    versions: Any = None
    aliases: Any = None
    concurrency: Any = None
    layers: Any = None

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.listeners: list[ChangeListener] = []
        self.observers: list[ChangeObserver] = []
        self.gets = 0

    def get(self, ref: FunctionRef) -> Function:
        self.gets += 1
        if ref.name not in self.functions or ref.qualifier != "$LATEST":
            raise NotFound(f"Function not found: {ref.name}", fix="create it")
        return self.functions[ref.name]

    def resolve(self, ref: FunctionRef, route: Route) -> Function:
        return self.get(ref)

    def observe(self, observer: ChangeObserver) -> None:
        self.observers.append(observer)

    def subscribe(self, listener: ChangeListener) -> None:
        self.listeners.append(listener)

    def put(self, function: Function) -> None:
        self.functions[function.name] = function
        for listener in self.listeners:
            listener(function.name, function)

    def remove(self, name: str) -> None:
        del self.functions[name]
        for listener in self.listeners:
            listener(name, None)

    async def create(
        self, name: str, change: ConfigChange, code_sha256: str, *, validate_only: bool = False
    ) -> Function:
        raise NotImplementedError

    def list(self, *, limit: int, after: str = "") -> tuple[builtins.list[Function], str]:
        raise NotImplementedError

    async def update(
        self, name: str, change: ConfigChange, *, code_sha256: str | None = None, etag: str | None = None
    ) -> Function:
        raise NotImplementedError

    async def delete(self, name: str, *, etag: str | None = None) -> None:
        raise NotImplementedError


class Code:
    """A CodeStore of which only what the pipeline asks is there."""

    def __init__(self) -> None:
        self.gets = 0

    def get(self, sha256: str) -> CodeBlob:
        self.gets += 1
        return CodeBlob(sha256, 1, 1, f"/code/{sha256}")

    async def add(
        self, chunks: AsyncIterable[bytes], *, sha256: str | None = None, size_bytes: int | None = None
    ) -> CodeBlob:
        raise NotImplementedError

    async def fetch(self, wanted: S3Object) -> CodeBlob:
        raise NotImplementedError

    @property
    def links(self) -> CodeLinks:
        raise NotImplementedError

    def read_zip(self, sha256: str) -> AsyncGenerator[bytes]:
        raise NotImplementedError


class Front:
    """A front's sink that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []

    def started(self, request_id: str, executed_version: str, kind: StartKind) -> None:
        self.seen.append(("started", (request_id, executed_version, kind)))

    def log(self, line: LogLine) -> None:
        self.seen.append(("log", line.text.decode()))

    def chunk(self, data: bytes) -> None:
        self.seen.append(("chunk", data))


class Logs:
    """What the pipeline writes to, as lists."""

    def __init__(self) -> None:
        self.kept: dict[str, list[LogBatch]] = {}
        self.lost = 0

    def missed(self, lines: int) -> None:
        self.lost += lines

    def append(self, function_name: str, batch: LogBatch) -> None:
        self.kept.setdefault(function_name, []).append(batch)

    def forget(self, function_name: str) -> None:
        self.kept.pop(function_name, None)


class House:
    """A pipeline and all below it."""

    def __init__(self, script: Script = echo, *, max_concurrency: int = 10, authorize: Authorize = allow_all) -> None:
        self.registry = Functions()
        self.code = Code()
        self.pool = StubPool(script)
        self.scheduler = LocalScheduler(self.pool, max_concurrency=max_concurrency, max_sandboxes=10, keep_alive_s=600)
        self.logs = Logs()
        self.recorded: list[Report] = []
        self.lost: list[tuple[str, StartKind | None, Moments, BaseException]] = []
        self.ids = 0
        self.pipeline = Pipeline(
            self.registry,
            self.code,
            self.scheduler,
            self.logs,
            region="us-east-1",
            account="000000000000",
            python_versions={"python3.11": "3.11.2"},
            wall_ns=lambda: WALL_NS,
            new_uuid=self.new_uuid,
            authorize=authorize,
            record=lambda function, report, moments: self.recorded.append(report),
            lost=lambda function, request_id, kind, moments, error: self.lost.append(
                (request_id, kind, moments, error)
            ),
        )
        self.registry.put(function())

    def new_uuid(self) -> str:
        self.ids += 1
        return f"00000000-0000-4000-8000-{self.ids:012d}"

    def lines(self, name: str = "f", request_id: str = "") -> list[str]:
        batches = [batch for batch in self.logs.kept.get(name, ()) if request_id in ("", batch.request_id)]
        return [text.decode() for batch in batches for text in batch.texts]


def function(
    name: str = "f",
    etag: str = "1",
    *,
    timeout_ms: int = 60_000,
    environment: Mapping[str, str] | None = None,
    **log: Any,
) -> Function:
    config = FunctionConfig(
        "python3.11", "app.handler", memory_mb=128, timeout_ms=timeout_ms, environment=environment or {}, **log
    )
    return Function(name, config, "a" * 64, 1, etag, WHEN, WHEN)


def request(
    payload: bytes = b"{}",
    *,
    name: str = "f",
    request_id: str = REQUEST_ID,
    client_context: bytes = b"",
    timeline: bool = False,
) -> InvokeRequest:
    return InvokeRequest(FunctionRef(name), payload, request_id, client_context, timeline, log_tail=True)
