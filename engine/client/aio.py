"""AsyncClient: the calls of an engine over gRPC, on the event loop of its first call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from engine.client import resource_wire, wire
from engine.client.calls import PAGE, AsyncCalls, OnLog
from engine.client.resource_calls import Call
from engine.client.results import FunctionOptions
from engine.client.stored_calls import StoredCall
from engine.client.streams import Items
from engine.model.function import Function
from engine.model.invocation import Completion, InvokeRequest, LogLine
from engine.observe.log_query import LogQuery
from engine.v1 import (
    code_pb2,
    code_pb2_grpc,
    functions_pb2,
    functions_pb2_grpc,
    invocations_pb2,
    invocations_pb2_grpc,
    logs_pb2_grpc,
    resources_pb2,
)

T = TypeVar("T")


class AsyncClient(AsyncCalls):
    """`async with AsyncClient() as client`. `address` is host:port of an engine's gRPC; default: CLEAVE_GRPC_ADDRESS,
    else 127.0.0.1:50051. `timeout_s` is for calls that run no function, five times it for those of code."""

    def __init__(self, address: str | None = None, *, timeout_s: float = 30.0, retries: int = 3) -> None:
        super().__init__(retries=retries)
        self._address = wire.address_of(address)
        self._timeout_s = timeout_s
        self._channel: grpc.aio.Channel | None = None

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled. Closing twice is fine."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _connected(self) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=wire.CHANNEL_OPTIONS)
        return self._channel

    @property
    def _functions(self) -> functions_pb2_grpc.FunctionServiceAsyncStub:
        stub: functions_pb2_grpc.FunctionServiceAsyncStub = functions_pb2_grpc.FunctionServiceStub(self._connected())
        return stub

    @property
    def _invocations(self) -> invocations_pb2_grpc.InvocationServiceAsyncStub:
        channel = self._connected()
        stub: invocations_pb2_grpc.InvocationServiceAsyncStub = invocations_pb2_grpc.InvocationServiceStub(channel)
        return stub

    async def _upload(self, code: bytes) -> str:
        call = self._functions.UploadCode(wire.upload_frames(code), timeout=5 * self._timeout_s)
        return (await self._answer(call)).code_blob.removeprefix("blobs/")

    async def _download(self, resource_name: str) -> bytes:
        stub: code_pb2_grpc.CodeServiceAsyncStub = code_pb2_grpc.CodeServiceStub(self._connected())
        call: Any = stub.DownloadCode(code_pb2.DownloadCodeRequest(name=resource_name), timeout=5 * self._timeout_s)
        chunks = []
        try:
            while (frame := await self._answer(call.read())) is not grpc.aio.EOF:
                chunks.append(frame.chunk)
        finally:
            call.cancel()
        return b"".join(chunks)

    async def _create(self, name: str, sha256: str, options: FunctionOptions) -> Function:
        config, _ = wire.config_to_proto(options)
        function = resources_pb2.Function(config=config, code_blob=f"blobs/{sha256}")
        request = functions_pb2.CreateFunctionRequest(function_id=name, function=function)
        call = self._functions.CreateFunction(request, timeout=self._timeout_s)
        return wire.function_from_proto((await self._answer(call)).function)

    async def _update(self, name: str, sha256: str | None, etag: str, options: FunctionOptions) -> Function:
        request = wire.update_request(name, sha256, etag, options)
        call = self._functions.UpdateFunction(request, timeout=self._timeout_s)
        return wire.function_from_proto((await self._answer(call)).function)

    async def _get(self, resource_name: str) -> Function:
        request = functions_pb2.GetFunctionRequest(name=resource_name)
        call = self._functions.GetFunction(request, timeout=self._timeout_s)
        return wire.function_from_proto((await self._answer(call)).function)

    async def _list(self, after: str) -> tuple[list[Function], str]:
        request = functions_pb2.ListFunctionsRequest(page_size=PAGE, page_token=after)
        page = await self._answer(self._functions.ListFunctions(request, timeout=self._timeout_s))
        return [wire.function_from_proto(function) for function in page.functions], page.next_page_token

    async def _delete(self, name: str, etag: str) -> None:
        request = functions_pb2.DeleteFunctionRequest(name=f"functions/{name}", etag=etag)
        await self._answer(self._functions.DeleteFunction(request, timeout=self._timeout_s))

    async def _ask(self, call: StoredCall[T]) -> T:
        return await self._make(call)

    async def _make(self, call: Call[T] | StoredCall[T]) -> T:
        rpc, request = resource_wire.RPCS[call.method], resource_wire.request_of(call.method, call.fields)
        make = getattr(rpc.stub(self._connected()), call.method)
        found: Any = []
        while rpc.paged:
            page = await self._answer(make(request, timeout=self._timeout_s))
            found += rpc.read(page)
            if not page.next_page_token:
                return found  # type: ignore[no-any-return]
            request.page_token = page.next_page_token
        timeout_s = (5 if rpc.slow else 1) * self._timeout_s
        return rpc.read(await self._answer(make(request, timeout=timeout_s)))  # type: ignore[no-any-return]

    async def _invoke(self, request: InvokeRequest) -> Completion:
        message = invocations_pb2.InvokeRequest(**wire.invoke_fields(request))
        return wire.completion_from_proto(await self._answer(self._invocations.Invoke(message)))

    async def _stream(self, request: InvokeRequest, on_log: OnLog | None) -> Items:
        fields = wire.invoke_fields(request)
        begun = asyncio.Event()
        call: Any
        if request.input is None:
            call = self._invocations.InvokeStream(invocations_pb2.InvokeStreamRequest(**fields))
        else:
            call = self._invocations.Converse(_input(fields, request.input, begun))
        # Not by read(), which after a write that failed hides what has arrived: github.com/grpc/grpc/issues/36066. The
        # function had ended meanwhile, and that is told by a frame.
        frames: AsyncIterator[wire.Frame] = call.__aiter__()
        try:
            while (frame := await self._answer(anext(frames, None))) is not None:
                begun.set()
                item = wire.item_from_frame(frame)
                if isinstance(item, LogLine):
                    if on_log is not None:
                        on_log(item)
                elif item is not None:
                    yield item
        finally:
            call.cancel()

    async def _logs(self, resource_name: str, query: LogQuery, follow: bool) -> AsyncGenerator[LogLine, None]:
        stub: logs_pb2_grpc.LogServiceAsyncStub = logs_pb2_grpc.LogServiceStub(self._connected())
        request = wire.tail_request(resource_name, query, follow=follow)
        call: Any = stub.TailLogs(request, timeout=None if follow else self._timeout_s)
        try:
            while (answer := await self._answer(call.read())) is not grpc.aio.EOF:
                for line in wire.lines_from_proto(answer):
                    yield line
        finally:
            call.cancel()

    async def _answer(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise wire.error_from_rpc(error, self._address, self._timeout_s) from None


async def _input(
    fields: dict[str, Any], chunks: AsyncIterator[bytes], begun: asyncio.Event
) -> AsyncIterator[invocations_pb2.ConverseRequest]:
    """A start, and once a sandbox has it the chunks: until then the call may be refused, and be made again."""
    yield invocations_pb2.ConverseRequest(start=invocations_pb2.ConverseStart(**fields))
    await begun.wait()
    async for chunk in chunks:
        yield invocations_pb2.ConverseRequest(chunk=chunk)
