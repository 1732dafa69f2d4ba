"""Whole engines for tests, and both of their doors: gRPC by the stubs of engine.v1, HTTP by an unmodified boto3.

`engine()` runs one in this process, on this event loop; `served()` runs one as `cleave serve` does, in a process of its
own that a test may kill. Both have a data directory of their own and free ports.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import boto3
import grpc
import msgspec
import psutil
from botocore.config import Config
from botocore.exceptions import ClientError
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from engine.config import Settings
from engine.service import Service
from engine.v1 import (
    functions_pb2,
    functions_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    invocations_pb2,
    invocations_pb2_grpc,
    logs_pb2_grpc,
    reports_pb2,
    resources_pb2,
)

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

M = TypeVar("M", bound=Message)

REGION = "us-east-1"
ROLE = "arn:aws:iam::000000000000:role/any"
RUNTIME = f"python3.{sys.version_info.minor}"
ARN = f"arn:aws:lambda:{REGION}:000000000000:function:"
UID_BASE = 1_950_000_000
CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def zip_of(files: dict[str, str] | str) -> bytes:
    """A zip of these files; of app.py where it is one text."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in ({"app.py": files} if isinstance(files, str) else files).items():
            archive.writestr(name, textwrap.dedent(text))
    return data.getvalue()


async def until(condition: Callable[[], Any], *, within_s: float = 10.0, what: str = "") -> Any:
    """Wait for what happens outside of this process, of which nobody tells."""
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {within_s:g} s: {what or condition}"
        await asyncio.sleep(0.005)
    return found


# What an engine answers, by either door


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


class Door(Protocol):
    """One way into an engine."""

    name: str

    async def create(self, name: str, code: bytes, **config: Any) -> None:
        """Create a function; `config` has the names of engine.v1's FunctionConfig."""

    async def invoke(self, name: str, payload: bytes = b"{}") -> Answer:
        """Invoke it, with the end of its log."""


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

        return (await self._unless_refused(self.functions.UploadCode(frames()))).code_blob

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

    async def counts(self) -> host_pb2.GetHostResponse:
        """How many sandboxes there are."""
        return await self.hosts.GetHost(host_pb2.GetHostRequest())

    async def settled(self, sandboxes: int, **settings: Any) -> None:
        """Wait until there are so many sandboxes, all of them idle."""

        async def reached() -> None:
            while True:
                host = await self.counts()
                if (host.sandboxes, host.idle_sandboxes, host.concurrency) == (sandboxes, sandboxes, 0):
                    return
                await asyncio.sleep(0.02)

        await asyncio.wait_for(reached(), 10)

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
        return await self._call(self.invoke_now, name, payload)

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


# Engines


@dataclass
class Engine:
    """One in this process."""

    service: Service
    data_dir: Path
    grpc: GrpcDoor
    http: HttpDoor

    @property
    def instance(self) -> str:
        """The id that all it makes carries."""
        return instance_of(self.data_dir)

    def door(self, name: str) -> GrpcDoor | HttpDoor:
        """One of the two."""
        return self.grpc if name == "grpc" else self.http


def settings(data_dir: Path, **changes: Any) -> Settings:
    """Those of a test's engine."""
    values: dict[str, Any] = {
        "data_dir": str(data_dir),
        "grpc_address": "127.0.0.1:0",
        "http_address": "127.0.0.1:0",
        "uid_base": UID_BASE,
        "drain_s": 5.0,
    }
    return msgspec.convert(values | changes, Settings)


@contextlib.asynccontextmanager
async def engine(data_dir: Path, **changes: Any) -> AsyncIterator[Engine]:
    """One in this process."""
    service = Service(settings(data_dir, **changes))
    await service.start()
    try:
        grpc_door, http_door = GrpcDoor(service.grpc_port), HttpDoor(service.http_port)
        try:
            yield Engine(service, data_dir, grpc_door, http_door)
        finally:
            await grpc_door.close()
            await http_door.close()
    finally:
        await service.stop()


@dataclass
class Served:
    """One in a process of its own. Starting, killing and looking do not wait on the event loop."""

    data_dir: Path
    process: subprocess.Popen[bytes]
    log: Path
    grpc_port: int = 0
    http_port: int = 0
    doors: list[GrpcDoor | HttpDoor] = field(default_factory=list)

    @property
    def grpc(self) -> GrpcDoor:
        """A gRPC client, the same one each time."""
        return self._door(GrpcDoor, self.grpc_port)

    @property
    def http(self) -> HttpDoor:
        """A boto3 client, the same one each time."""
        return self._door(HttpDoor, self.http_port)

    def _door(self, kind: type[Any], port: int) -> Any:
        for door in self.doors:
            if isinstance(door, kind):
                return door
        self.doors.append(kind(port))
        return self.doors[-1]

    @property
    def instance(self) -> str:
        """The id that all it makes carries."""
        return instance_of(self.data_dir)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, within_s: float = 20.0) -> int:
        """Wait for its end; returns its exit status."""
        return await asyncio.to_thread(self.process.wait, within_s)

    async def stopped(self) -> None:
        """Stop it as a service manager does, and hold it to a clean end."""
        await self.close_doors()
        self.signal(signal.SIGTERM)
        assert await self.ended() == 0, self.said()

    async def close_doors(self) -> None:
        """Let its clients go."""
        while self.doors:
            await self.doors.pop().close()

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4_000:]


@contextlib.asynccontextmanager
async def served(data_dir: Path, *, flags: dict[str, Any] | None = None) -> AsyncIterator[Served]:
    """One as `cleave serve` runs it. A test that did not end it has it killed."""
    started = spawn(data_dir, flags)
    try:
        await ready(started)
        yield started
    finally:
        await started.close_doors()
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()


def spawn(data_dir: Path, flags: dict[str, Any] | None = None) -> Served:
    """Start the process and do not wait."""
    values = {
        "grpc-address": "127.0.0.1:0",
        "http-address": "127.0.0.1:0",
        "uid-base": UID_BASE,
        "drain-s": 5,
        "log-format": "json",
    } | {name.replace("_", "-"): value for name, value in (flags or {}).items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLEAVE_")}
    environment["CLEAVE_CONFIG"] = os.devnull
    log = data_dir.with_name(data_dir.name + ".log")
    command = [sys.executable, "-m", "engine.cli.main", "serve", f"--data-dir={data_dir}"]
    command += [f"--{name}={value}" for name, value in values.items()]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=Path(__file__).resolve().parent.parent,
        )
    return Served(data_dir, process, log)


async def ready(started: Served) -> None:
    """Wait until it serves."""
    path = started.data_dir / "ports.json"

    def ports() -> dict[str, int] | None:
        assert started.process.poll() is None, f"the engine ended:\n{started.said()}"
        try:
            found: dict[str, int] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        # A predecessor that was killed left its own file.
        return found if found["pid"] == started.process.pid else None

    found = await until(ports, within_s=30, what="ports.json")
    started.grpc_port, started.http_port = found["grpc_port"], found["http_port"]


# What an engine has on its host


def instance_of(data_dir: Path) -> str:
    """The id of a data directory."""
    return (data_dir / "instance").read_text().strip()


def cgroups_of(instance: str) -> list[str]:
    """Directories of an engine, and the leaves below."""
    roots = Path("/sys/fs/cgroup").glob(f"*/cleave-{instance}")
    unified = Path(f"/sys/fs/cgroup/cleave-{instance}")
    return [folder for root in (*roots, unified) for folder, _, _ in os.walk(root)]


def leaves_of(instance: str) -> list[str]:
    """Its sandboxes' cgroups."""
    return [folder for folder in cgroups_of(instance) if not folder.endswith(instance)]


def members_of(instance: str) -> list[int]:
    """The processes in its sandboxes, grandchildren and all."""
    found = set()
    for folder in leaves_of(instance):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()}
    return sorted(found)


HOLD = """
    import os, secrets, time
    me = secrets.token_hex(8)
    calls = 0

    def handler(event, context):
        global calls
        calls += 1
        if event.get("hold"):
            open("/tmp/waits", "w").close()
            while os.path.exists("/tmp/waits"):
                time.sleep(0.002)
        return {"me": me, "calls": calls}
"""
"""A function that a test can hold, with {"hold": true}, and let go with `let_go`."""


def waiting(instance: str) -> dict[str, Path]:
    """What holds each sandbox of HOLD that is held, by the sandbox's id: a file in its /tmp."""
    found = {}
    for leaf in sorted(leaves_of(instance)):
        with contextlib.suppress(OSError):
            for pid in Path(leaf, "cgroup.procs").read_text().split():
                held_by = Path("/proc", pid, "root/tmp/waits")
                if held_by.exists():
                    found[Path(leaf).name] = held_by
    return found


async def held(instance: str, count: int) -> dict[str, Path]:
    """Wait until so many are held."""

    def enough() -> dict[str, Path] | None:
        found = waiting(instance)
        return found if len(found) >= count else None

    found: dict[str, Path] = await until(enough, within_s=30, what=f"{count} sandboxes hold")
    return found


async def let_go(instance: str, count: int = 1) -> None:
    """Wait until so many are held, and let them go."""
    for file in (await held(instance, count)).values():
        file.unlink()


def loops_of(data_dir: Path) -> list[str]:
    """Loop devices over its files."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if str(data_dir) in path.read_text():
                found.append(path.parts[3])
    return found


def mounts_of(data_dir: Path, pid: int | str = "self") -> list[str]:
    """Mounts at or over its folder."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return [line for line in lines if str(data_dir) in line]


def zombies_of(pid: int) -> list[int]:
    """Children that ended and were not waited for."""
    return [
        child.pid for child in psutil.Process(pid).children(recursive=True) if child.status() == psutil.STATUS_ZOMBIE
    ]


async def nothing_left(data_dir: Path) -> None:
    """Hold a stopped engine to having left its data and nothing else."""
    instance = instance_of(data_dir)
    await until(lambda: not loops_of(data_dir), within_s=5, what="loop devices gone")
    assert cgroups_of(instance) == []
    assert mounts_of(data_dir) == []
    assert [process for process in psutil.process_iter(["cmdline"]) if _speaks_of(process, str(data_dir))] == []
    assert {path.name for path in data_dir.iterdir()} <= DATA


def _speaks_of(process: psutil.Process, text: str) -> bool:
    return any(text in part for part in process.info["cmdline"] or ())


DATA = {"lock", "instance", "code", "scratch", "registry.db"}
"""What a data directory holds when no engine runs."""
