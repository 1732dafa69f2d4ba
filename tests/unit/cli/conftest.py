"""A real gRPC server on a free port whose services are small stand-ins, and the command run against it."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from engine.cli.main import main
from engine.v1 import (
    functions_pb2,
    functions_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    invocations_pb2,
    invocations_pb2_grpc,
    logs_pb2,
    logs_pb2_grpc,
    metrics_pb2,
    metrics_pb2_grpc,
    reports_pb2,
    resources_pb2,
    timelines_pb2,
    timelines_pb2_grpc,
)


def refuse(context: grpc.ServicerContext, code: str, message: str, *, fix: str, **fields: str) -> NoReturn:
    """Abort with a google.rpc.Status as the engine's front does."""
    details = []
    for detail in (
        error_details_pb2.ErrorInfo(reason=code, domain="cleave", metadata={"fix": fix}),
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=name, description=what)
                for name, what in fields.items()
            ]
        ),
    ):
        packed = any_pb2.Any()
        packed.Pack(detail)
        details.append(packed)
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message, details=details)
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError


def report(kind: reports_pb2.StartKind.ValueType = reports_pb2.START_KIND_FORK) -> reports_pb2.Report:
    return reports_pb2.Report(
        request_id="11111111-2222-3333-4444-555555555555",
        executed_version="$LATEST",
        outcome=reports_pb2.OUTCOME_OK,
        start_kind=kind,
        start_us=1500,
        init_us=2500,
        handler_us=1234,
        total_us=6000,
        billed_ms=4,
        peak_memory_bytes=10_000_000,
        memory_mb=128,
        timeline=[
            reports_pb2.TimelineMark(phase="admitted", offset_us=10),
            reports_pb2.TimelineMark(phase="answered", offset_us=5900),
        ],
    )


@dataclass
class StubEngine(
    functions_pb2_grpc.FunctionServiceServicer,
    invocations_pb2_grpc.InvocationServiceServicer,
    logs_pb2_grpc.LogServiceServicer,
    host_pb2_grpc.HostServiceServicer,
    metrics_pb2_grpc.MetricsServiceServicer,
    timelines_pb2_grpc.TimelineServiceServicer,
):
    """Keeps functions in memory and answers what a test tells it to."""

    functions: dict[str, resources_pb2.Function] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    masks: list[list[str]] = field(default_factory=list)
    invoked: list[invocations_pb2.InvokeRequest] = field(default_factory=list)
    frames: list[invocations_pb2.InvokeStreamResponse] = field(default_factory=list)
    answer: invocations_pb2.InvokeResponse = field(
        default_factory=lambda: invocations_pb2.InvokeResponse(payload=b'{"n": 1.10}', report=report())
    )
    log_lines: list[bytes] = field(default_factory=list)
    tailed: list[logs_pb2.TailLogsRequest] = field(default_factory=list)
    checks: list[host_pb2.Check] = field(default_factory=list)
    resources: list[host_pb2.ResourceCount] = field(default_factory=list)
    events: list[host_pb2.EventCount] = field(default_factory=list)
    starts: list[host_pb2.StartStats] = field(default_factory=list)
    interpreters: list[host_pb2.Interpreter] = field(default_factory=list)
    zygotes: list[host_pb2.Zygote] = field(default_factory=list)
    moments: list[metrics_pb2.Metrics] = field(default_factory=list)
    interval_ms: int = 0
    past: list[timelines_pb2.PastInvocation] = field(default_factory=list)
    listed: list[timelines_pb2.ListTimelinesRequest] = field(default_factory=list)
    endless: bool = False  # who watches gets the last moment again and again

    def add(self, name: str) -> None:
        self.functions[f"functions/{name}"] = resources_pb2.Function(
            name=f"functions/{name}",
            etag="etag-1",
            state=resources_pb2.STATE_ACTIVE,
            config=resources_pb2.FunctionConfig(
                runtime="python3.11", handler="app.handler", memory_mb=128, timeout_ms=3000, environment={"A": "b"}
            ),
        )

    def _found(self, name: str, context: grpc.ServicerContext) -> resources_pb2.Function:
        if name not in self.functions:
            refuse(context, "NOT_FOUND", f"no function {name}; create it first", fix="create it first")
        return self.functions[name]

    def GetFunction(self, request: Any, context: grpc.ServicerContext) -> Any:
        return functions_pb2.GetFunctionResponse(function=self._found(request.name, context))

    def CreateFunction(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.function.config.memory_mb > 10_240:
            refuse(
                context, "INVALID_ARGUMENT", "one field is wrong", fix="use less", **{"config.memory_mb": "over 10240"}
            )
        function = request.function
        function.name, function.etag, function.state = (
            f"functions/{request.function_id}",
            "etag-1",
            resources_pb2.STATE_ACTIVE,
        )
        self.functions[function.name] = function
        return functions_pb2.CreateFunctionResponse(function=function)

    def UpdateFunction(self, request: Any, context: grpc.ServicerContext) -> Any:
        function = self._found(request.function.name, context)
        if request.function.etag != function.etag:
            refuse(context, "ABORTED", "somebody else wrote", fix="read it again")
        self.masks.append(list(request.update_mask.paths))
        request.update_mask.MergeMessage(request.function, function, True, True)
        return functions_pb2.UpdateFunctionResponse(function=function)

    def DeleteFunction(self, request: Any, context: grpc.ServicerContext) -> Any:
        del self.functions[self._found(request.name, context).name]
        return functions_pb2.DeleteFunctionResponse()

    def ListFunctions(self, request: Any, context: grpc.ServicerContext) -> Any:
        names = sorted(name for name in self.functions if name > request.page_token)
        page = names[:2]  # small pages, so that paging is walked
        return functions_pb2.ListFunctionsResponse(
            functions=[self.functions[name] for name in page], next_page_token=page[-1] if len(names) > 2 else ""
        )

    def UploadCode(self, request_iterator: Any, context: grpc.ServicerContext) -> Any:
        header = next(request_iterator).header
        data = b"".join(frame.chunk for frame in request_iterator)
        assert hashlib.sha256(data).hexdigest() == header.sha256
        assert len(data) == header.size_bytes
        self.blobs[header.sha256] = data
        return functions_pb2.UploadCodeResponse(code_blob=f"blobs/{header.sha256}", size_bytes=len(data))

    def InvokeStream(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._found(request.name, context)
        yield from self.frames

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._found(request.name, context)
        self.invoked.append(request)
        return self.answer

    def TailLogs(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._found(request.name, context)
        self.tailed.append(request)
        assert request.batch_lines > 1
        for text in self.log_lines:
            yield logs_pb2.TailLogsResponse(lines=[invocations_pb2.LogLine(text=text, request_id="r")])

    def GetMetrics(self, request: Any, context: grpc.ServicerContext) -> Any:
        return metrics_pb2.GetMetricsResponse(metrics=self.moments[-1])

    def WatchMetrics(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.interval_ms = request.interval_ms
        for moment in self.moments:
            yield metrics_pb2.WatchMetricsResponse(metrics=moment)
        left = threading.Event()
        context.add_callback(left.set)
        while self.endless and not left.wait(0.05):
            yield metrics_pb2.WatchMetricsResponse(metrics=self.moments[-1])

    def GetTimeline(self, request: Any, context: grpc.ServicerContext) -> Any:
        for one in self.past:
            if one.report.request_id == request.request_id:
                return timelines_pb2.GetTimelineResponse(invocation=one)
        refuse(context, "NOT_FOUND", "no such invocation is known; list them", fix="list them")

    def ListTimelines(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.listed.append(request)
        return timelines_pb2.ListTimelinesResponse(invocations=self.past[: request.limit])

    def GetHost(self, request: Any, context: grpc.ServicerContext) -> Any:
        return host_pb2.GetHostResponse(
            checks=self.checks,
            engine_version="9.9.9",
            runtimes=["python3.11"],
            resources=self.resources,
            events=self.events,
            starts=self.starts,
            interpreters=self.interpreters,
            zygotes=self.zygotes,
        )


@dataclass
class Ran:
    """What a run of the command left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


Cleave = Callable[..., Ran]


@pytest.fixture
def engine() -> StubEngine:
    return StubEngine()  # type: ignore[abstract]


@pytest.fixture
def address(engine: StubEngine) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    functions_pb2_grpc.add_FunctionServiceServicer_to_server(engine, server)
    invocations_pb2_grpc.add_InvocationServiceServicer_to_server(engine, server)
    logs_pb2_grpc.add_LogServiceServicer_to_server(engine, server)
    host_pb2_grpc.add_HostServiceServicer_to_server(engine, server)
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(engine, server)
    timelines_pb2_grpc.add_TimelineServiceServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Cleave:
    """Run the command in this process; `stdin` is what it can read."""

    def run(*arguments: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        code = main(arguments)
        out, err = capfdbinary.readouterr()
        return Ran(code, out.decode(), err.decode())

    return run


@pytest.fixture
def cleave(run: Cleave, address: str, monkeypatch: pytest.MonkeyPatch) -> Cleave:
    """Run the command against the stub engine, which CLEAVE_GRPC_ADDRESS names."""
    monkeypatch.setenv("CLEAVE_GRPC_ADDRESS", address)
    return run


@pytest.fixture
def unpacked() -> Callable[[bytes], dict[str, bytes]]:
    def unpacked(data: bytes) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    return unpacked
