"""A server of the engine's own gRPC front with one method of each kind, over bytes, and a client of grpc.aio's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc

from engine.rpc.front import Server
from engine.sandbox.box import Door, NativeOwner
from tests.remains import until

LIMIT = 1 << 20
PATH = "/engine.v1.InvocationService/Invoke"


class Methods(grpc.GenericRpcHandler):
    """One of each kind, over bytes."""

    def __init__(self) -> None:
        self.written = 0
        self.cancelled = asyncio.Event()
        self.begun = asyncio.Event()
        self.done = 0
        self.contexts: list[Any] = []
        self.extra: dict[str, Any] = {}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return {
            PATH: grpc.unary_unary_rpc_method_handler(self.echo),
            "/t/Hang": grpc.unary_unary_rpc_method_handler(self.hang),
            "/t/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/t/Raise": grpc.unary_unary_rpc_method_handler(self.broken),
            "/t/Flood": grpc.unary_stream_rpc_method_handler(self.flood),
            "/t/Count": grpc.stream_unary_rpc_method_handler(self.count),
            "/t/Deaf": grpc.stream_unary_rpc_method_handler(self.hang),
            "/t/Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            **self.extra,
        }.get(details.method)

    async def echo(self, request: bytes, context: Any) -> bytes:
        context.add_done_callback(self.ended)
        self.contexts.append(context)
        return request

    def ended(self, _: Any) -> None:
        self.done += 1

    async def hang(self, request: object, context: Any) -> bytes:
        context.add_done_callback(self.ended)
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b""

    async def fail(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "nöt here: 100 %\n", (("why-bin", b"\0\xff"), ("plain", "x")))
        return b""

    async def broken(self, request: bytes, context: Any) -> bytes:
        raise ZeroDivisionError

    async def flood(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        context.add_done_callback(self.ended)
        for _ in range(int(request)):
            yield bytes(65_536)
            self.written += 1

    async def count(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"%d" % sum([len(request) async for request in requests])

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


class Served:
    """A server, its methods, and a channel of grpc.aio's."""

    def __init__(self, server: Server, methods: Methods, port: int, channel: Any) -> None:
        self.server = server
        self.methods = methods
        self.port = port
        self.channel = channel

    async def echoes(self, data: bytes = b"hello") -> None:
        """It serves."""
        assert await self.channel.unary_unary(PATH)(data, timeout=30) == data

    async def idle(self) -> None:
        await until(lambda: not self.server.calls, what="no call is left")


def _nobody(_: object) -> NoReturn:
    raise AssertionError("nothing goes natively")


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    """One, of which no call is left afterwards."""
    server, methods = Server(LIMIT), Methods()
    server.add_generic_rpc_handlers([methods])
    # No function has a line: each call that might go to the dispatch loop is the servicer's after all.
    door = Door(NativeOwner(_nobody, _nobody, _nobody), 6_000_000)
    server.join(door.capsule(), grpc.unary_unary_rpc_method_handler(methods.echo), _nobody, lambda: None)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        yield Served(server, methods, port, channel)
        await server.stop(0)
    assert not server.calls
