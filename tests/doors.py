"""Both doors of an engine, as its users have them: gRPC by the stubs of engine.v1, HTTP by an unmodified boto3."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import grpc
from botocore.config import Config
from botocore.exceptions import ClientError
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from engine.v1 import (
    functions_pb2,
    functions_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    invocations_pb2,
    invocations_pb2_grpc,
    logs_pb2_grpc,
    metrics_pb2,
    metrics_pb2_grpc,
    reports_pb2,
    resources_pb2,
    timelines_pb2_grpc,
)

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

M = TypeVar("M", bound=Message)

REGION = "us-east-1"
ROLE = "arn:aws:iam::000000000000:role/any"
RUNTIME = f"python3.{sys.version_info.minor}"
ARN = f"arn:aws:lambda:{REGION}:000000000000:function:"
CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def zip_of(files: dict[str, str] | str) -> bytes:
    """A zip of these files; of app.py where it is one text."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in ({"app.py": files} if isinstance(files, str) else files).items():
            archive.writestr(name, textwrap.dedent(text))
    return data.getvalue()


@dataclass(frozen=True)
class Answer:
    """How an invocation ended that was not refused."""

    payload: bytes  # the result, or AWS's error document
    failed: bool
    request_id: str
    log: bytes
    report: reports_pb2.Report | None  # gRPC only
    error_type: str = ""  # gRPC only

    def json(self) -> Any:
        """The result, or the document."""
        return json.loads(self.payload)

    def report_line(self) -> dict[str, str]:
        """The fields of the log's REPORT line."""
        line = next(line for line in self.log.decode(errors="replace").split("\n") if line.startswith("REPORT "))
        return dict(re.findall(r"([A-Z][A-Za-z ]*): ([^\t]+)", line.removeprefix("REPORT ")))


class Refused(Exception):
    """What an engine refused: the code or status, its reason or AWS's type, and what it said."""

    def __init__(self, code: str | int, kind: str, message: str, details: Any) -> None:
        super().__init__(f"{code} {kind}: {message}")
        self.code = code
        self.kind = kind
        self.message = message
        self.details = details


class GrpcDoor:
    """By the stubs of engine.v1."""

    name = "grpc"

    def __init__(self, port: int) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS)
        self.functions: functions_pb2_grpc.FunctionServiceAsyncStub = functions_pb2_grpc.FunctionServiceStub(
            self.channel
        )
        self.invocations: invocations_pb2_grpc.InvocationServiceAsyncStub = invocations_pb2_grpc.InvocationServiceStub(
            self.channel
        )
        self.logs: logs_pb2_grpc.LogServiceAsyncStub = logs_pb2_grpc.LogServiceStub(self.channel)
        self.watching: metrics_pb2_grpc.MetricsServiceAsyncStub = metrics_pb2_grpc.MetricsServiceStub(self.channel)
        self.timelines: timelines_pb2_grpc.TimelineServiceAsyncStub = timelines_pb2_grpc.TimelineServiceStub(
            self.channel
        )
        self.hosts: host_pb2_grpc.HostServiceAsyncStub = host_pb2_grpc.HostServiceStub(self.channel)

    async def close(self) -> None:
        await self.channel.close()

    async def upload(self, code: bytes) -> str:
        """Store a zip; returns its name."""

        def frames() -> Iterator[functions_pb2.UploadCodeRequest]:
            header = functions_pb2.UploadCodeHeader(size_bytes=len(code))
            yield functions_pb2.UploadCodeRequest(header=header)
            for at in range(0, len(code), 1 << 20):
                yield functions_pb2.UploadCodeRequest(chunk=code[at : at + (1 << 20)])

        stored: functions_pb2.UploadCodeResponse = await self._unless_refused(self.functions.UploadCode(frames()))
        return stored.code_blob

    async def create(self, name: str, code: bytes, **config: Any) -> None:
        function = resources_pb2.Function(
            config=resources_pb2.FunctionConfig(**config), code_blob=await self.upload(code)
        )
        request = functions_pb2.CreateFunctionRequest(function_id=name, function=function)
        await self._unless_refused(self.functions.CreateFunction(request))

    async def update(self, name: str, *, code: bytes | None = None, **config: Any) -> None:
        """Change a function's code, its settings, or both."""
        function = resources_pb2.Function(name=f"functions/{name}", config=resources_pb2.FunctionConfig(**config))
        paths = [f"config.{key}" for key in config]
        if code is not None:
            function.code_blob = await self.upload(code)
            paths.append("code_blob")
        request = functions_pb2.UpdateFunctionRequest(function=function)
        request.update_mask.paths.extend(paths)
        await self._unless_refused(self.functions.UpdateFunction(request))

    async def delete(self, name: str) -> None:
        """Delete a function."""
        request = functions_pb2.DeleteFunctionRequest(name=f"functions/{name}")
        await self._unless_refused(self.functions.DeleteFunction(request))

    async def names(self) -> list[str]:
        """The functions there are."""
        listed = await self._unless_refused(
            self.functions.ListFunctions(functions_pb2.ListFunctionsRequest(page_size=1000))
        )
        return [function.name.removeprefix("functions/") for function in listed.functions]

    async def function(self, name: str) -> resources_pb2.Function:
        """All about one."""
        request = functions_pb2.GetFunctionRequest(name=f"functions/{name}")
        found: functions_pb2.GetFunctionResponse = await self._unless_refused(self.functions.GetFunction(request))
        return found.function

    async def metrics(self) -> metrics_pb2.Metrics:
        """What the engine has counted."""
        return (await self.watching.GetMetrics(metrics_pb2.GetMetricsRequest())).metrics

    async def counts(self) -> host_pb2.GetHostResponse:
        """How many sandboxes there are."""
        return await self.hosts.GetHost(host_pb2.GetHostRequest())

    def call(self, name: str, payload: bytes = b"{}", **options: Any) -> Any:
        """An invocation under way."""
        request = invocations_pb2.InvokeRequest(
            name=f"functions/{name}", payload=payload, log_mode=invocations_pb2.LOG_MODE_TAIL
        )
        return self.invocations.Invoke(request, **options)

    def stream(self, name: str, payload: bytes = b"{}") -> Any:
        """An InvokeStream with its log under way."""
        return self.invocations.InvokeStream(
            invocations_pb2.InvokeStreamRequest(
                name=f"functions/{name}", payload=payload, log_mode=invocations_pb2.LOG_MODE_TAIL
            )
        )

    async def invoke(self, name: str, payload: bytes = b"{}") -> Answer:
        return self.read(await self._unless_refused(self.call(name, payload)))

    @staticmethod
    def read(answer: invocations_pb2.InvokeResponse) -> Answer:
        """An answer taken apart."""
        report = answer.report
        if answer.WhichOneof("result") == "payload":
            return Answer(answer.payload, False, report.request_id, answer.log_tail, report)
        error = answer.function_error
        return Answer(error.document, True, report.request_id, answer.log_tail, report, error.type)

    @staticmethod
    async def _unless_refused(call: Any) -> Any:
        try:
            return await call
        except grpc.aio.AioRpcError:
            raise await refusal(call) from None


async def refusal(call: Any) -> Refused:
    """What a failed gRPC call was told."""
    status = await rpc_status.aio.from_call(call)
    if not isinstance(status, status_pb2.Status):
        code: grpc.StatusCode = await call.code()
        return Refused(code.name, "", await call.details() or "", None)
    info = detail(status, error_details_pb2.ErrorInfo)
    assert info is not None
    assert info.domain == "cleave"
    assert info.metadata["fix"], "a refusal that does not say what to do"
    name = next(code.name for code in grpc.StatusCode if code.value[0] == status.code)
    return Refused(name, info.reason, status.message, status)


def detail(status: status_pb2.Status, kind: type[M]) -> M | None:
    """The detail of a kind that a status has; None if it has none."""
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    return None


class HttpDoor:
    """By boto3, in threads of its own."""

    name = "http"

    def __init__(self, port: int) -> None:
        self.client: LambdaClient = boto3.client(
            "lambda",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name=REGION,
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(
                retries={"total_max_attempts": 1},
                read_timeout=50,
                max_pool_connections=64,
                # What is out of range is the engine's to refuse.
                parameter_validation=False,
            ),
        )

    async def close(self) -> None:
        self.client.close()

    async def create(self, name: str, code: bytes, **config: Any) -> None:
        settings: dict[str, Any] = {"Runtime": RUNTIME, "Role": ROLE, "Handler": config.get("handler", "app.handler")}
        if "memory_mb" in config:
            settings["MemorySize"] = config["memory_mb"]
        if "timeout_ms" in config:
            settings["Timeout"] = config["timeout_ms"] // 1000
        if "tmp_mb" in config:
            settings["EphemeralStorage"] = {"Size": config["tmp_mb"]}
        if "environment" in config:
            settings["Environment"] = {"Variables": config["environment"]}
        await self._call(self.client.create_function, FunctionName=name, Code={"ZipFile": code}, **settings)

    async def invoke(self, name: str, payload: bytes = b"{}") -> Answer:
        answer: Answer = await self._call(self.invoke_now, name, payload)
        return answer

    def invoke_now(self, name: str, payload: bytes = b"{}") -> Answer:
        """In the calling thread."""
        answer = self.client.invoke(FunctionName=name, Payload=payload, LogType="Tail")
        assert answer["StatusCode"] == 200
        assert answer["ExecutedVersion"] == "$LATEST"
        failed = answer.get("FunctionError")
        assert failed in (None, "Unhandled")
        body = answer["Payload"].read()
        log = base64.b64decode(answer["LogResult"])
        return Answer(body, failed is not None, answer["ResponseMetadata"]["RequestId"], log, None)

    @staticmethod
    async def _call(call: Callable[..., Any], *args: Any, **parameters: Any) -> Any:
        try:
            return await asyncio.to_thread(call, *args, **parameters)
        except ClientError as error:
            raise http_refusal(error) from None


def http_refusal(error: ClientError) -> Refused:
    """What a failed call of boto3 was told: the document in full is in its details."""
    response: dict[str, Any] = dict(error.response)
    metadata = response.pop("ResponseMetadata")
    described = response.pop("Error")
    assert metadata["RequestId"]
    assert metadata["HTTPHeaders"]["x-amzn-errortype"] == described["Code"]
    return Refused(
        metadata["HTTPStatusCode"],
        described["Code"],
        described["Message"],
        response | {"headers": metadata["HTTPHeaders"]},
    )
