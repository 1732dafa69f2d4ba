"""What the gRPC front's tests are made of: small stand-ins for the rooms behind it, a real server, real clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from engine.errors import AlreadyExists, InvalidArgument, NotFound, StaleEtag
from engine.model.function import CodeBlob, Function, FunctionConfig
from engine.model.host import (
    Check,
    Distribution,
    EventCount,
    HostReport,
    ResourceCount,
    RuntimeFound,
    StartStats,
    StepTimes,
    ZygoteFound,
)
from engine.model.invocation import Completion, InvokeRequest, LogLine, Pending, Report, Sink
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome, StartKind
from engine.observe.log_query import LogQuery
from engine.registry.api import ChangeListener, ChangeObserver, ConfigChange, Route
from engine.registry.code_links import CodeLinks
from engine.registry.code_s3 import S3Object
from engine.rpc.server import RpcServer
from engine.v1 import functions_pb2_grpc, host_pb2_grpc, invocations_pb2_grpc, logs_pb2_grpc

SHA256 = "ab" * 32
REGION, ACCOUNT = "us-east-1", "000000000000"
ETAG = "5e0d6d2c-0000-4000-8000-000000000001"
M = TypeVar("M", bound=Message)


def function(name: str = "thumbs", **config: Any) -> Function:
    """A function as the registry would return it."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
    settings = FunctionConfig(**({"runtime": "python3.11", "handler": "app.handler"} | config))
    return Function(name, settings, SHA256, 10, ETAG, moment, moment)


def report(outcome: Outcome = Outcome.OK, **fields: Any) -> Report:
    """A report of a fork."""
    values: dict[str, Any] = {"request_id": "r-1", "start_kind": StartKind.FORK, "memory_mb": 128}
    return Report(outcome=outcome, **(values | fields))


def line(text: bytes, request_id: str = "r-1", time_us: int = 1_700_000_000_000_001) -> LogLine:
    """A line of a log."""
    return LogLine(time_us, text, request_id)


NOTHING_ATTACHED: Any = None
"""Tests of what is attached to functions have a real registry: tests/registries.py."""
NO_EVENTS: Any = SimpleNamespace(configs=None)
"""As above."""


class StubRegistry:
    """Functions in a dict; remembers what it was asked."""

    versions: Any = None
    aliases: Any = None
    concurrency: Any = None
    layers: Any = None

    def __init__(self, *names: str) -> None:
        self.functions = {name: function(name) for name in names}
        self.created: list[tuple[str, ConfigChange, str, bool]] = []
        self.updated: list[tuple[str, ConfigChange, str | None, str | None]] = []

    async def create(
        self, name: str, change: ConfigChange, code_sha256: str, *, validate_only: bool = False
    ) -> Function:
        self.created.append((name, change, code_sha256, validate_only))
        if name in self.functions:
            raise AlreadyExists(f"Function already exist: {name}", fix="delete it first")
        if change.memory_mb is not None and change.memory_mb < 128:
            wrong = {"config.memory_mb": "must be 128 to 10,240 MB", "config.timeout_ms": "must be so too"}
            raise InvalidArgument("two fields are out of range", fix="correct them", fields=wrong)
        made = function(name)
        if not validate_only:
            self.functions[name] = made
        return made

    def get(self, ref: FunctionRef) -> Function:
        if ref.name not in self.functions:
            raise NotFound(f"Function not found: {ref.name}", fix="see `cleave list`")
        return self.functions[ref.name]

    def list(self, *, limit: int, after: str = "") -> tuple[list[Function], str]:
        names = sorted(name for name in self.functions if name > after)
        page = names[:limit]
        return [self.functions[name] for name in page], page[-1] if len(names) > limit else ""

    async def update(
        self, name: str, change: ConfigChange, *, code_sha256: str | None = None, etag: str | None = None
    ) -> Function:
        self.updated.append((name, change, code_sha256, etag))
        current = self.get(FunctionRef(name))
        if etag not in (None, current.etag):
            raise StaleEtag(f"{name} was changed in between", fix="read it again")
        return replace(current, etag="changed")

    async def delete(self, name: str, *, etag: str | None = None) -> None:
        if etag not in (None, self.get(FunctionRef(name)).etag):
            raise StaleEtag(f"{name} was changed in between", fix="read it again")
        del self.functions[name]

    def resolve(self, ref: FunctionRef, route: Route) -> Function:
        return self.get(ref)

    def observe(self, observer: ChangeObserver) -> None:
        raise NotImplementedError

    def subscribe(self, listener: ChangeListener) -> None:
        raise NotImplementedError


class StubCode:
    """Takes any bytes for a zip."""

    def __init__(self) -> None:
        self.received = b""
        self.pieces: list[bytes] = []
        self.fetched: list[S3Object] = []
        self.announced: tuple[str | None, int | None] = (None, None)
        self.began = asyncio.Event()
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def add(
        self, chunks: AsyncIterable[bytes], *, sha256: str | None = None, size_bytes: int | None = None
    ) -> CodeBlob:
        self.announced = (sha256, size_bytes)
        try:
            async for chunk in chunks:
                self.received += chunk
                self.began.set()
        except BaseException as error:
            self.ended.set_result(error)
            raise
        self.ended.set_result(None)
        return CodeBlob(SHA256, len(self.received), 3 * len(self.received), "/nowhere")

    def get(self, sha256: str) -> CodeBlob:
        raise NotImplementedError

    async def fetch(self, wanted: S3Object) -> CodeBlob:
        self.fetched.append(wanted)
        return CodeBlob(SHA256, 1, 1, "/nowhere")

    @property
    def links(self) -> CodeLinks:
        raise NotImplementedError

    async def read_zip(self, sha256: str) -> AsyncGenerator[bytes]:
        for piece in self.pieces:
            yield piece


Answer = Callable[[InvokeRequest, Sink | None], Awaitable[Completion]]


async def echo(request: InvokeRequest, sink: Sink | None) -> Completion:
    """Give the event back."""
    return Completion(report(), payload=request.payload)


class StubInvoker:
    """Answers by a function; knows what was asked, what began and what was cancelled."""

    def __init__(self, answer: Answer = echo) -> None:
        self.answer = answer
        self.requests: list[InvokeRequest] = []
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    def express(self, function_name: str, payload: bytes, request_id: str = "") -> Pending | None:
        return None

    async def invoke(self, request: InvokeRequest, sink: Sink | None = None) -> Completion:
        self.requests.append(request)
        self.began.set()
        try:
            return await self.answer(request, sink)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def never(request: InvokeRequest, sink: Sink | None) -> Completion:
    """Run until it is cancelled."""
    await asyncio.Event().wait()
    raise AssertionError


class StubLogs:
    """Kept lines, a queue of later ones, and what was asked for."""

    def __init__(self) -> None:
        self.kept: list[LogLine] = []
        self.later: asyncio.Queue[LogLine] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.queries: list[LogQuery] = []

    async def read(
        self, function_name: str, query: LogQuery, *, follow: bool = False
    ) -> AsyncGenerator[list[LogLine], None]:
        self.queries.append(query)
        try:
            lines = [line for line in self.kept if query.request_id in ("", line.request_id)]
            if lines:
                yield lines[-query.limit :]
            while follow:
                yield [await self.later.get()]
        finally:
            self.closed.set()


async def host() -> HostReport:
    """A host that can enforce one limit of two."""
    checks = (
        Check("memory", True, "cgroup v1 memory", "found"),
        Check("seccomp", False, "", "no filter", "build the kernel with it"),
    )
    made, befell = ResourceCount("leaves", 5, 2), EventCount("timeouts", 1)
    python = RuntimeFound("python3.11", "3.11.2", "/usr/bin/python3.11")
    queue, start, init, handler, total = (
        Distribution(count, 10 * count, 9, 10, 11, ((7, 1), (9, count - 1))) for count in (2, 3, 4, 5, 6)
    )
    outcomes, steps = ((Outcome.OK, 5), (Outcome.TIMEOUT, 1)), (StepTimes("leaf", 3, 30, 20),)
    started = StartStats(StartKind.PARKED, outcomes, queue, start, init, handler, total, steps)
    zygote = ZygoteFound("python3.11", ("json",), 7, 1_500, 9, 4_096, "none")
    return HostReport(
        checks, "0.1.0", ("python3.11",), 3, 2, 1, (made,), (befell,), (python,), starts=(started,), zygotes=(zygote,)
    )


@dataclass
class Front:
    """A running server, what is behind it, and clients in front of it."""

    registry: StubRegistry
    code: StubCode
    invoker: StubInvoker
    logs: StubLogs
    server: RpcServer
    faults: list[MutableMapping[str, Any]]
    port: int = 0
    channel: grpc.aio.Channel = field(init=False)

    @property
    def functions(self) -> functions_pb2_grpc.FunctionServiceAsyncStub:
        return functions_pb2_grpc.FunctionServiceStub(self.channel)

    @property
    def invocations(self) -> invocations_pb2_grpc.InvocationServiceAsyncStub:
        return invocations_pb2_grpc.InvocationServiceStub(self.channel)

    @property
    def tails(self) -> logs_pb2_grpc.LogServiceAsyncStub:
        return logs_pb2_grpc.LogServiceStub(self.channel)

    @property
    def hosts(self) -> host_pb2_grpc.HostServiceAsyncStub:
        return host_pb2_grpc.HostServiceStub(self.channel)


@asynccontextmanager
async def front(*names: str, answer: Answer = echo) -> AsyncIterator[Front]:
    """A front with these functions, on a free port."""
    faults: list[MutableMapping[str, Any]] = []

    def keep(logger: object, level: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        faults.append(entry)
        raise structlog.DropEvent

    registry, code, invoker, logs = StubRegistry(*names), StubCode(), StubInvoker(answer), StubLogs()
    log = structlog.wrap_logger(None, processors=[keep])
    server = RpcServer(
        registry, code, invoker, logs, host, NOTHING_ATTACHED, NO_EVENTS, region=REGION, account=ACCOUNT, log=log
    )
    front = Front(registry, code, invoker, logs, server, faults)
    front.port = await server.start("127.0.0.1:0")
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    front.channel = grpc.aio.insecure_channel(f"127.0.0.1:{front.port}", options=options)
    try:
        yield front
    finally:
        await front.channel.close()
        await server.stop(0)


async def refusal(call: Any) -> status_pb2.Status:
    """The status that a call ends with; fails if it ends well."""
    try:
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError:
        pass
    status = await rpc_status.aio.from_call(call)
    assert isinstance(status, status_pb2.Status)
    return status


def detail(status: status_pb2.Status, kind: type[M]) -> M | None:
    """The detail of a kind that a status has; None if it has none."""
    unpacked = [message for packed in status.details if packed.Unpack(message := kind())]
    assert len(unpacked) <= 1
    return unpacked[0] if unpacked else None


def info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo, which every status has."""
    found = detail(status, error_details_pb2.ErrorInfo)
    assert found is not None
    assert found.domain == "cleave"
    assert found.metadata["fix"]
    assert status.message.endswith(f"; {found.metadata['fix']}")
    return found


def fields(status: status_pb2.Status) -> dict[str, str]:
    """The field violations."""
    found = detail(status, error_details_pb2.BadRequest)
    return {violation.field: violation.description for violation in found.field_violations} if found else {}


def code(status: status_pb2.Status) -> str:
    """The code's name."""
    return next(code.name for code in grpc.StatusCode if code.value[0] == status.code)


def flat(parts: Sequence[bytes]) -> bytes:
    """All of it."""
    return b"".join(parts)
