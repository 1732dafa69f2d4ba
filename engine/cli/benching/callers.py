"""The clients that calls are timed with: gRPC's blocking one and its asyncio one, one connection each.

A caller's `call` is what is timed, so it does nothing else. For the asyncio client it includes the loop's own start and
stop, some 20 µs, at the echo server as at the engine.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Protocol, Self

import grpc

from engine.v1 import invocations_pb2_grpc
from engine.v1.invocations_pb2 import InvokeRequest, InvokeResponse

CALL_TIMEOUT_S = 30.0
OPTIONS = [
    ("grpc.enable_http_proxy", 0),  # no proxy leads to loopback
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
]


class Caller(Protocol):
    """One connection."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: Any) -> None: ...

    def call(self, request: InvokeRequest) -> InvokeResponse:
        """One call, from the message to the message. Raises grpc.RpcError."""

    def settle(self) -> None:
        """Finish what the last call has left; not timed."""


class SyncCaller:
    """grpc's blocking client."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        self._invoke = invocations_pb2_grpc.InvocationServiceStub(self._channel).Invoke

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._channel.close()

    def call(self, request: InvokeRequest) -> InvokeResponse:
        """See Caller.call."""
        return self._invoke(request, timeout=CALL_TIMEOUT_S)

    def settle(self) -> None:
        """See Caller.settle."""


class AioCaller:
    """grpc.aio's client, on an event loop of its own."""

    def __init__(self, address: str) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._channel, self._invoke = self._loop.run_until_complete(self._connect(address))

    async def _connect(self, address: str) -> tuple[grpc.aio.Channel, Any]:
        channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        return channel, invocations_pb2_grpc.InvocationServiceStub(channel).Invoke

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.run_until_complete(self._channel.close(None))
        self._runner.close()

    def call(self, request: InvokeRequest) -> InvokeResponse:
        """See Caller.call."""
        return self._loop.run_until_complete(self._await(request))

    def settle(self) -> None:
        """See Caller.settle."""

    async def _await(self, request: InvokeRequest) -> InvokeResponse:
        response: InvokeResponse = await self._invoke(request, timeout=CALL_TIMEOUT_S)
        return response
