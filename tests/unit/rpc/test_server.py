"""How the server comes, is found, withstands garbage, and goes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from engine.errors import InvalidArgument, Unavailable
from engine.model.invocation import Completion, InvokeRequest, Sink
from engine.rpc.calls import Calls
from engine.rpc.server import RpcServer
from engine.v1 import functions_pb2, host_pb2
from engine.v1 import invocations_pb2 as pb
from tests.unit.rpc.things import (
    ACCOUNT,
    NO_EVENTS,
    NOTHING_ATTACHED,
    REGION,
    StubCode,
    StubInvoker,
    StubLogs,
    StubRegistry,
    code,
    front,
    host,
    info,
    never,
    refusal,
    report,
)

REQUEST = pb.InvokeRequest(name="functions/thumbs", payload=b"1")
ROOMS = (
    "Function",
    "Code",
    "Version",
    "Alias",
    "Concurrency",
    "Layer",
    "Tag",
    "Url",
    "Policy",
    "EventSource",
    "CodeSigning",
    "FunctionSettings",
    "Event",
    "Invocation",
    "Log",
    "Host",
)
SERVICES = [f"engine.v1.{room}Service" for room in ROOMS]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def server() -> RpcServer:
    return RpcServer(
        StubRegistry(),
        StubCode(),
        StubInvoker(),
        StubLogs(),
        host,
        NOTHING_ATTACHED,
        NO_EVENTS,
        region=REGION,
        account=ACCOUNT,
    )


@pytest.mark.parametrize("address", ["localhost:0", "127.0.0.2:0"])
async def test_a_loopback_address_is_listened_on(address: str) -> None:
    it = server()
    port = await it.start(address)
    assert port > 0
    await it.stop(0)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "example.com:50051"])
async def test_an_address_beyond_loopback_is_refused_with_the_reason(address: str) -> None:
    with pytest.raises(InvalidArgument, match="authentication") as refused:
        await server().start(address)
    assert "127.0.0.1" in refused.value.fix


@pytest.mark.parametrize("address", ["", "127.0.0.1", "unix:/x:1", "127.0.0.1:http", "127.0.0.1:65536"])
async def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await server().start(address)
    assert list(refused.value.fields) == ["address"]


@pytest.mark.parametrize("reuse_port", [0, 1])
async def test_a_port_in_use_is_refused_with_the_fix(reuse_port: int) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}: is in use") as refused:
            await server().start(f"127.0.0.1:{port}")
        assert "another address" in refused.value.fix


async def test_a_second_engine_does_not_share_the_port_of_the_first() -> None:
    async with front() as it:
        with pytest.raises(Unavailable, match="in use"):
            await server().start(f"127.0.0.1:{it.port}")


async def test_no_other_program_can_share_the_port() -> None:
    async with front() as it:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", it.port))


async def test_a_port_can_be_used_again_after_a_stop() -> None:
    first, second = server(), server()
    port = await first.start("127.0.0.1:0")
    await first.stop(0)
    assert await second.start(f"127.0.0.1:{port}") == port
    await second.stop(0)


async def test_health_knows_the_server_and_each_service() -> None:
    async with front() as it:
        stub: Any = health_pb2_grpc.HealthStub(it.channel)
        for service in ["", *SERVICES]:
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await stub.Check(health_pb2.HealthCheckRequest(service="engine.v1.Nothing"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services_and_describes_each_method() -> None:
    async with front() as it:
        channel: Any = it.channel  # The published types know the blocking channel only.
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            *(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in SERVICES),
        ]
        listed, *described = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
        names = {service.name for service in listed.list_services_response.service}
        assert names == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
        for name, answer in zip(SERVICES, described, strict=True):
            files = b"".join(answer.file_descriptor_response.file_descriptor_proto)
            assert name.rpartition(".")[2].encode() in files


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01" + bytes(500),
        bytes(range(256)) * 40,
        b"PRI * HTTP/2.0\r\n\r\n",
    ],
)
async def test_after_garbage_the_next_call_is_served(garbage: bytes) -> None:
    async with front() as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        try:
            writer.write(garbage)
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
        except OSError:
            pass  # The server has closed the connection before all was sent.
        finally:
            writer.close()
        assert (await it.invocations.Invoke(REQUEST)).payload == b"1"
        assert not it.faults


@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary", "unary_stream"])
async def test_a_message_that_cannot_be_decoded_is_refused_with_a_status(kind: str) -> None:
    path = {
        "unary_unary": "/engine.v1.InvocationService/Invoke",
        "stream_unary": "/engine.v1.FunctionService/UploadCode",
        "unary_stream": "/engine.v1.InvocationService/InvokeStream",
    }[kind]
    async with front() as it:
        method = getattr(it.channel, kind)(path)
        status = await refusal(method(iter([b"\xff\xff"]) if kind == "stream_unary" else b"\xff\xff"))
        assert code(status) == "INVALID_ARGUMENT"
        assert path in status.message
        assert (await it.invocations.Invoke(REQUEST)).payload == b"1"


@pytest.mark.parametrize("path", ["/engine.v1.InvocationService/Dance", "/x/y", "/engine.v2.HostService/GetHost"])
async def test_a_method_that_nobody_serves_gets_a_status(path: str) -> None:
    async with front() as it:
        method: Any = it.channel.unary_unary(path)
        status = await refusal(method(b""))
        assert (code(status), info(status).reason) == ("UNIMPLEMENTED", "NOT_SERVED")


async def test_the_host_tells_what_it_can_enforce() -> None:
    async with front() as it:
        answer = await it.hosts.GetHost(host_pb2.GetHostRequest())
        assert [check.limit for check in answer.checks] == ["memory", "seccomp"]


async def test_while_draining_what_runs_ends_health_says_so_and_new_calls_are_refused() -> None:
    finish = asyncio.Event()

    async def slow(request: InvokeRequest, sink: Sink | None) -> Completion:
        await finish.wait()
        return Completion(report(), payload=b"done")

    async with front("thumbs", answer=slow) as it:
        stub: Any = health_pb2_grpc.HealthStub(it.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICES[1]))
        assert (await watch.read()).status == SERVING
        running = it.invocations.Invoke(REQUEST)
        await it.invoker.began.wait()
        stopping = asyncio.create_task(it.server.stop(30))
        assert (await watch.read()).status == NOT_SERVING
        for service in ["", *SERVICES]:
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == NOT_SERVING
        refused = await refusal(it.functions.ListFunctions(functions_pb2.ListFunctionsRequest()))
        assert (code(refused), info(refused).reason) == ("UNAVAILABLE", "UNAVAILABLE")
        assert (await it.hosts.GetHost(host_pb2.GetHostRequest())).engine_version
        finish.set()
        assert (await running).payload == b"done"
        await stopping


async def test_what_outlasts_the_grace_is_cancelled() -> None:
    async with front(answer=never) as it:
        call = it.invocations.Invoke(REQUEST)
        await it.invoker.began.wait()
        await it.server.stop(0.01)
        assert it.invoker.cancelled.is_set()
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def test_a_stop_waits_for_calls_on_their_way_where_somebody_is_connected_and_only_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = []
    quiet = Calls.quiet

    async def noted(calls: Calls, turns: int, turn_s: float, timeout_s: float) -> None:
        waited.append(turns)
        await quiet(calls, turns, turn_s, timeout_s)

    monkeypatch.setattr(Calls, "quiet", noted)
    alone = server()
    await alone.start("127.0.0.1:0")
    await alone.stop(30)
    assert waited == []
    async with front() as it:
        await it.hosts.GetHost(host_pb2.GetHostRequest())
        await it.server.stop(30)
    assert len(waited) == 1


async def test_a_stop_without_calls_does_not_wait() -> None:
    it = server()
    await it.start("127.0.0.1:0")
    await it.stop(1_000)
    await it.stop(1_000)
