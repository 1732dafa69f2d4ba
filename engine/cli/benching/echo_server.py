"""The reference: a bare grpc.aio server in a process of its own that sends an event back, and does nothing else.

Same messages, same library and the same kind of client as an engine's; what an engine takes above it is the engine.
Listens on a free port of loopback, prints the port, and ends when its standard input does: so with whoever started it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from engine.v1 import invocations_pb2, invocations_pb2_grpc

STREAM_CHUNK = bytes(65_536)


class Echo(invocations_pb2_grpc.InvocationServiceServicer):
    """Answers an event with itself, in each way to do it. InvokeAsync stays UNIMPLEMENTED."""

    async def Invoke(self, request: invocations_pb2.InvokeRequest, context: Any) -> invocations_pb2.InvokeResponse:
        """The same bytes."""
        return invocations_pb2.InvokeResponse(payload=request.payload)

    # grpc.aio takes a coroutine that writes for a generator that yields; the generated types do not know.
    async def InvokeStream(  # type: ignore[override]
        self, request: invocations_pb2.InvokeStreamRequest, context: Any
    ) -> None:
        """The same bytes, between the frames that an engine sends; a number asks for so many chunks of 64 KB."""
        frame = invocations_pb2.InvokeStreamResponse
        await context.write(frame(started=invocations_pb2.Started()))
        if request.payload.isdigit():
            for _ in range(int(request.payload)):
                await context.write(frame(chunk=STREAM_CHUNK))
        else:
            await context.write(frame(chunk=request.payload))
        await context.write(frame(finished=invocations_pb2.Finished()))

    async def Converse(  # type: ignore[override]
        self, requests: AsyncIterator[invocations_pb2.ConverseRequest], context: Any
    ) -> None:
        """Each chunk."""
        frame = invocations_pb2.ConverseResponse
        await context.write(frame(started=invocations_pb2.Started()))
        async for request in requests:
            if request.WhichOneof("frame") == "chunk":
                await context.write(frame(chunk=request.chunk))
        await context.write(frame(finished=invocations_pb2.Finished()))


async def serve() -> None:
    """Serve until standard input ends."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    invocations_pb2_grpc.add_InvocationServiceServicer_to_server(Echo(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve())
