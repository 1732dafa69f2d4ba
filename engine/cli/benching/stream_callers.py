"""The clients that streams are timed with: to an answer's first chunk, and from a word to its echo in a conversation.

A connection each, by grpc's asyncio client on an event loop of its own, as callers.AioCaller. Guarantees that what is
left of a stream is read before the next is timed, so that no two of them are under way.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import grpc

from engine.cli.benching.callers import CALL_TIMEOUT_S, OPTIONS
from engine.v1 import invocations_pb2 as pb
from engine.v1 import invocations_pb2_grpc, reports_pb2


class _StreamCaller:
    """A connection and its event loop."""

    def __init__(self, address: str) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._channel, self._stub = self._loop.run_until_complete(self._connect(address))

    async def _connect(self, address: str) -> tuple[grpc.aio.Channel, Any]:
        channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        return channel, invocations_pb2_grpc.InvocationServiceStub(channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.settle()
        self._loop.run_until_complete(self._channel.close(None))
        self._runner.close()

    def settle(self) -> None:
        """See Caller.settle."""


class FirstChunkCaller(_StreamCaller):
    """Times a streamed call up to its first chunk."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._open: tuple[Any, pb.InvokeResponse] | None = None

    def call(self, request: pb.InvokeRequest) -> pb.InvokeResponse:
        """The response has its report once the stream is settled."""
        return self._loop.run_until_complete(self._first(request))

    def settle(self) -> None:
        """Read the rest of the stream."""
        if self._open is not None:
            (stream, response), self._open = self._open, None
            self._loop.run_until_complete(_rest(stream, response))

    async def _first(self, request: pb.InvokeRequest) -> pb.InvokeResponse:
        asked = pb.InvokeStreamRequest(name=request.name, payload=request.payload)
        stream = self._stub.InvokeStream(asked, timeout=CALL_TIMEOUT_S)
        response = pb.InvokeResponse()
        self._open = (stream, response)
        while (frame := await stream.read()) is not grpc.aio.EOF:
            match frame.WhichOneof("frame"):
                case "chunk":
                    response.payload = frame.chunk
                    break
                case "finished":
                    response.report.CopyFrom(frame.finished.report)
        return response


class TalkCaller(_StreamCaller):
    """Times a word and its echo, in one conversation for all of them."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._talk: Any = None
        self._report = reports_pb2.Report()

    def call(self, request: pb.InvokeRequest) -> pb.InvokeResponse:
        """See Caller.call. The report says only how the conversation's sandbox came to be."""
        return self._loop.run_until_complete(self._say(request))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and self._talk is not None:
            self._loop.run_until_complete(_end(self._talk))
        super().__exit__(kind, error, at)

    async def _say(self, request: pb.InvokeRequest) -> pb.InvokeResponse:
        if self._talk is None:
            await _end((await self._begin(request.name))[0])  # so that the one that is timed finds a warm sandbox
            self._talk, self._report.start_kind = await self._begin(request.name)
        await self._talk.write(pb.ConverseRequest(chunk=request.payload))
        answer = await self._talk.read()
        payload = b"" if answer is grpc.aio.EOF else answer.chunk
        return pb.InvokeResponse(payload=payload, report=self._report)

    async def _begin(self, name: str) -> tuple[Any, reports_pb2.StartKind.ValueType]:
        talk = self._stub.Converse()
        await talk.write(pb.ConverseRequest(start=pb.ConverseStart(name=name)))
        started = await talk.read()
        return talk, reports_pb2.START_KIND_UNSPECIFIED if started is grpc.aio.EOF else started.started.start_kind


async def _rest(stream: Any, response: pb.InvokeResponse) -> None:
    while (frame := await stream.read()) is not grpc.aio.EOF:
        if frame.WhichOneof("frame") == "finished":
            response.report.CopyFrom(frame.finished.report)


async def _end(talk: Any) -> None:
    await talk.done_writing()
    while await talk.read() is not grpc.aio.EOF:
        pass
