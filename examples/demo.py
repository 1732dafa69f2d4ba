"""The demo: start an engine, deploy a function, invoke it cold and warm over gRPC and once by boto3, print the timings.

It uses what any user has: the `cleave` command, the stubs of engine.v1, and boto3. The engine has ports and a data
directory of its own, so it disturbs no other one, and nothing is left when it ends. Exit status: 0 when all went well.

Times are the client's, from call to answer, in one process over one connection; microseconds are shown as measured by
time.perf_counter_ns. How the engine compares with a bare gRPC server is `make bench`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
import grpc
from botocore.config import Config
from rich.console import Console
from rich.table import Table

from engine.v1 import (
    functions_pb2,
    functions_pb2_grpc,
    invocations_pb2,
    invocations_pb2_grpc,
    reports_pb2,
    resources_pb2,
)

HERE = Path(__file__).resolve().parent
CLEAVE = Path(sys.executable).parent / "cleave"
NAME = "functions/hello"
EVENT = json.dumps({"name": "world"}).encode()
MEMORY_MB = 1769  # one full vCPU
COLD_CALLS = 20
WARM_CALLS = 200
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


class DemoFailed(Exception):
    """Something did not go as it has to; the text says what."""


@dataclass(frozen=True)
class Ports:
    """Where the demo's engine listens."""

    grpc: int
    http: int


@dataclass(frozen=True)
class Call:
    """One invocation, as its caller saw it."""

    client_us: float
    report: reports_pb2.Report


def main() -> int:
    """Run it all."""
    console = Console(highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="cleave-demo-") as folder, engine(Path(folder), console) as ports:
            show(console, ports)
    except DemoFailed as failure:
        console.print(f"\nThe demo failed: {failure}", style="bold red", markup=False)
        return 1
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        console.print(f"\nThe demo failed: {error.code().name}: {error.details()}", style="bold red", markup=False)
        return 1
    console.print("\nThe engine has stopped and its data directory is gone. Start one to keep: make serve")
    return 0


@contextlib.contextmanager
def engine(folder: Path, console: Console) -> Iterator[Ports]:
    """An engine of our own, stopped by SIGTERM as a service manager would do it."""
    data, log = folder / "data", folder / "engine.log"
    # The reader's own settings are for the reader's own engine.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLEAVE_")}
    environment["CLEAVE_CONFIG"] = os.devnull
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [CLEAVE, "serve", "--data-dir", data, "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        ports = wait_for_ports(data / "ports.json", process, log)
        console.print(
            f"An engine is up after {time.monotonic() - began:.1f} s: gRPC on port {ports.grpc}, HTTP on {ports.http}"
        )
        yield ports
        process.send_signal(signal.SIGTERM)
        if process.wait(STOP_TIMEOUT_S) != 0:
            raise DemoFailed(f"the engine ended with status {process.returncode}:\n{tail(log)}")
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"the engine did not stop within {STOP_TIMEOUT_S:g} s of SIGTERM:\n{tail(log)}") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for_ports(file: Path, process: subprocess.Popen[bytes], log: Path) -> Ports:
    """The ports, once the engine serves: it writes the file last."""
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise DemoFailed(f"the engine ended with status {process.returncode}:\n{tail(log)}")
        with contextlib.suppress(FileNotFoundError, ValueError):
            found = json.loads(file.read_bytes())
            return Ports(grpc=found["grpc_port"], http=found["http_port"])
        time.sleep(0.02)
    raise DemoFailed(f"the engine was not up after {START_TIMEOUT_S:g} s:\n{tail(log)}")


def tail(log: Path) -> str:
    """The end of the engine's log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def show(console: Console, ports: Ports) -> None:
    """Deploy, invoke, print."""
    address = f"127.0.0.1:{ports.grpc}"
    deploy = ["deploy", "examples/hello", "--name", "hello", "--memory", str(MEMORY_MB)]
    console.print(f"\n$ cleave {' '.join(deploy)}", style="bold", markup=False)
    ran = subprocess.run(
        [CLEAVE, *deploy, "--address", address],
        cwd=HERE.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if ran.returncode != 0:
        raise DemoFailed(f"cleave deploy ended with status {ran.returncode}:\n{ran.stdout}{ran.stderr}")
    console.print(ran.stdout.partition("Invoke it with")[0].strip(), markup=False)

    # No proxy leads to loopback.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        functions = functions_pb2_grpc.FunctionServiceStub(channel)
        invocations = invocations_pb2_grpc.InvocationServiceStub(channel)
        first = invoke(invocations)
        cold = [first] + [invoke(invocations, renew(functions, number)) for number in range(1, COLD_CALLS)]
        warm = [invoke(invocations) for _ in range(WARM_CALLS)]
    if any(call.report.start_kind == reports_pb2.START_KIND_WARM for call in cold):
        raise DemoFailed("a call that had to be a cold start was warm")
    if any(call.report.start_kind != reports_pb2.START_KIND_WARM for call in warm):
        raise DemoFailed("a call that had to be warm was a cold start")
    boto3_ms, answer = invoke_by_boto3(ports.http)

    table = Table(
        title=f"\nhello, {MEMORY_MB} MB, on {os.cpu_count()} CPUs, Linux {platform.release()}", title_justify="left"
    )
    for heading in ("", "calls", "p50 ms", "p99 ms", "in the engine, p50 ms"):
        table.add_column(heading, justify="left" if not heading else "right")
    kind = reports_pb2.StartKind.Name(first.report.start_kind).removeprefix("START_KIND_").lower()
    for label, calls in ((f"cold start ({kind}), gRPC", cold), ("warm, gRPC", warm)):
        client = [call.client_us / 1000 for call in calls]
        inside = [call.report.total_us / 1000 for call in calls]
        table.add_row(label, str(len(calls)), ms(client, 50), ms(client, 99), ms(inside, 50))
    table.add_row("warm, boto3", "1", f"{boto3_ms:.2f}", "", "")
    console.print(table)
    console.print(f"boto3 got: {answer}", markup=False)


def renew(functions: functions_pb2_grpc.FunctionServiceStub, number: int) -> Callable[[], object]:
    """A change of the function, after which its next start is a cold one."""
    change = functions_pb2.UpdateFunctionRequest(
        function=resources_pb2.Function(
            name=NAME, config=resources_pb2.FunctionConfig(description=f"cold start {number}")
        )
    )
    change.update_mask.paths.append("config.description")
    return lambda: functions.UpdateFunction(change, timeout=10)


def invoke(invocations: invocations_pb2_grpc.InvocationServiceStub, before: Callable[[], object] | None = None) -> Call:
    """One call, timed, and checked for what it returned."""
    if before is not None:
        before()
    request = invocations_pb2.InvokeRequest(name=NAME, payload=EVENT)
    began = time.perf_counter_ns()
    response = invocations.Invoke(request, timeout=30)
    took = time.perf_counter_ns() - began
    if response.WhichOneof("result") != "payload":
        raise DemoFailed(f"the function failed: {response.function_error.document.decode(errors='replace')}")
    return Call(took / 1000, response.report)


def invoke_by_boto3(port: int) -> tuple[float, str]:
    """The same function through the AWS Lambda API: milliseconds and the answer. Any keys will do."""
    client = boto3.client(
        "lambda",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="demo",
        aws_secret_access_key="demo",
        config=Config(retries={"max_attempts": 0}, proxies={}),
    )
    client.get_function(FunctionName="hello")  # The first call opens the connection.
    began = time.perf_counter_ns()
    response = client.invoke(FunctionName="hello", Payload=EVENT)
    answer = response["Payload"].read().decode()
    took = time.perf_counter_ns() - began
    if "FunctionError" in response:
        raise DemoFailed(f"the function failed: {answer}")
    return took / 1_000_000, answer


def ms(values: Sequence[float], percent: int) -> str:
    """A percentile, by the nearest rank: a value that was measured, not one between two."""
    ranked = sorted(values)
    return f"{ranked[max(0, -(-len(ranked) * percent // 100) - 1)]:.2f}"


if __name__ == "__main__":
    sys.exit(main())
