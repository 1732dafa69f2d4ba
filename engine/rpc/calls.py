"""Every call that the server answers goes through here: decode, hand to the service, turn what it raises into a status.

Theory of operation: a service is a table from RPC name to method. A method gets decoded messages and returns one (or
writes several); it knows nothing of gRPC. Calls makes of each method the handler that grpc.aio runs as a task of its
own. grpc.aio cancels that task when the client leaves or its deadline passes, so the cancellation arrives where the
method waits: in the invocation.

Guarantees: a call that fails ends in exactly one google.rpc.Status; what the engine did not foresee is logged under an
id that the client also sees, and tells the client nothing else; while draining, calls are refused, but those of the
services that were registered with `always=True`.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status
from structlog.typing import FilteringBoundLogger

from engine.errors import EngineError, InvalidArgument, NotServed, Unavailable
from engine.rpc.status import status_of

Write = Callable[[Any], Awaitable[None]]
"""Sends one message of a stream; waits while the client is slow."""
Method = Callable[..., Awaitable[Any]]
"""By the kind of its RPC: (request) → response, (requests) → response, (request, write), (requests, write)."""

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Decode: TypeAlias = Callable[[bytes], Message]
Handler: TypeAlias = Callable[[Any, Context], Awaitable[Any]]


LEFT_WITHIN_S = 0.005
"""How much later grpc.aio may tell that a client has left than that its requests are over."""


class Natives(Protocol):
    """Calls of a front that it serves in native code."""

    @property
    def under_way(self) -> int:
        """How many."""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """How many were taken, ended there, went on in Python, and were cancelled."""

    def shut(self) -> None:
        """No more of them."""


class Calls:
    """The calls under way, and the door for more."""

    def __init__(self, log: FilteringBoundLogger, new_id: Callable[[], str] = lambda: uuid.uuid4().hex) -> None:
        self._log = log
        self._new_id = new_id
        self._active = 0
        self._draining = False
        self._refused = 0  # since the drain began
        self._idle = asyncio.Event()
        self._natives: Natives | None = None
        self._endless: set[asyncio.Timeout] = set()

    def handler(
        self, service: ServiceDescriptor, methods: Mapping[str, Method], *, always: bool = False
    ) -> grpc.GenericRpcHandler:
        """What serves one service on a grpc.aio server. `methods` must have each RPC of it."""
        missing = {method.name for method in service.methods} ^ set(methods)
        if missing:
            raise TypeError(f"{service.full_name}: {', '.join(sorted(missing))} on one side only")
        return grpc.method_handlers_generic_handler(
            service.full_name,
            {method.name: self._rpc(method, methods[method.name], always) for method in service.methods},
        )

    def begun_handler(self, service: ServiceDescriptor, name: str, run: Method) -> grpc.RpcMethodHandler[Any, Any]:
        """What goes on with calls of an RPC that began elsewhere, as `begun` was told: `run` gets what stands for one
        in place of its request."""
        method = service.methods_by_name[name]
        path = f"/{service.full_name}/{name}"

        async def call(standing: Any, context: Context) -> Any:
            try:
                return await run(standing)
            except BaseException as error:
                await self._refuse(path, context, error)

        encode = GetMessageClass(method.output_type).SerializeToString
        return grpc.unary_unary_rpc_method_handler(call, response_serializer=encode)

    def begun(self, context: Context) -> None:
        """A call that began elsewhere goes on by a begun_handler."""
        ended: Any = self._ended
        self._active += 1
        context.add_done_callback(ended)

    def watch(self, natives: Natives) -> None:
        """Calls are also under way there: a drain is of them too. It says when there are none left by `none_left`."""
        self._natives = natives

    def none_left(self) -> None:
        """Of those that are under way elsewhere."""
        self._look()

    def unknown_handler(self) -> grpc.GenericRpcHandler:
        """What answers calls of methods that nobody serves; register it last."""
        return _UnknownMethods(self)

    def drain(self) -> None:
        """Refuse more calls and end those that would never end by themselves."""
        self._draining = True
        if self._natives is not None:
            self._natives.shut()
        self._look()
        now = asyncio.get_running_loop().time()
        for endless in self._endless:
            endless.reschedule(now)

    async def quiet(self, turns: int, turn_s: float, timeout_s: float) -> None:
        """After `drain`, wait until none was refused for so many turns of `turn_s`, at most `timeout_s`: what waits in
        gRPC's own queue when the server stops is told CANCELLED, as if its client had cancelled it. Turns rather than
        a time, since calls come in only as fast as a busy host lets the event loop turn."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        refused, left = self._refused, turns
        while left and loop.time() < until:
            await asyncio.sleep(turn_s)
            left = left - 1 if refused == self._refused else turns
            refused = self._refused

    async def idle(self, timeout_s: float) -> bool:
        """After `drain`, wait until no call is under way; False if that takes longer than `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    @contextlib.asynccontextmanager
    async def until_drain(self) -> AsyncIterator[None]:
        """Run a body that may never end by itself; raises Unavailable in it when the engine drains."""
        try:
            async with asyncio.timeout(None) as endless:
                self._endless.add(endless)
                try:
                    yield
                finally:
                    self._endless.discard(endless)
        except TimeoutError:
            if not endless.expired():
                raise
            raise _draining() from None

    def _rpc(self, method: MethodDescriptor, run: Method, always: bool) -> grpc.RpcMethodHandler[Any, Any]:
        path = f"/{method.containing_service.full_name}/{method.name}"
        # Requests are decoded here and not by grpc.aio, so that what cannot be decoded gets a status like the rest.
        decode = GetMessageClass(method.input_type).FromString
        encode = GetMessageClass(method.output_type).SerializeToString
        if not method.client_streaming and not method.server_streaming:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(path, run, decode, always), response_serializer=encode
            )
        stream = self._stream(path, run, decode, always, method.client_streaming, method.server_streaming)
        if not method.server_streaming:
            return grpc.stream_unary_rpc_method_handler(stream, response_serializer=encode)
        if not method.client_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, response_serializer=encode)
        return grpc.stream_stream_rpc_method_handler(stream, response_serializer=encode)

    def _unary(self, path: str, run: Method, decode: Decode, always: bool) -> Handler:
        """The hot path: nothing but the steps."""
        ended: Any = self._ended  # The published types want an instance of a class that does not exist.

        async def call(request: bytes, context: Context) -> Any:
            self._active += 1
            context.add_done_callback(ended)
            try:
                if self._draining and not always:
                    self._refused += 1
                    raise _draining()
                return await run(decode(request))
            except BaseException as error:
                await self._refuse(path, context, error)

        return call

    def _stream(
        self, path: str, run: Method, decode: Decode, always: bool, many_requests: bool, many_responses: bool
    ) -> Handler:
        ended: Any = self._ended

        # A coroutine that writes, not an async generator: grpc.aio leaves a cancelled generator to the garbage
        # collector, and what it runs would go on until then.
        async def call(request: Any, context: Context) -> Any:
            self._active += 1
            context.add_done_callback(ended)
            try:
                if self._draining and not always:
                    self._refused += 1
                    raise _draining()
                decoded = _decode_each(request, context, decode, many_responses) if many_requests else decode(request)
                return await (run(decoded, context.write) if many_responses else run(decoded))
            except BaseException as error:
                await self._refuse(path, context, error)

        return call

    def _ended(self, _: Context) -> None:
        """A call is over and its response is with the kernel: later than the end of its handler."""
        self._active -= 1
        self._look()

    def _look(self) -> None:
        if self._draining and self._active == 0 and (self._natives is None or not self._natives.under_way):
            self._idle.set()

    async def _refuse(self, path: str, context: Context, error: BaseException) -> NoReturn:
        """End a call with the status of what was raised, or go on with the cancellation that came from outside."""
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is None or task.cancelling():
                try:
                    raise error
                finally:
                    # A frame that holds what was raised through it is a cycle: the sandbox would wait for a collection.
                    del error
            # Cancelled from within: grpc.aio sends no status for this and the client would wait for ever
            # (github.com/grpc/grpc/issues/29248).
            error = Unavailable("the engine stopped the call", fix="try again in a moment")
        elif isinstance(error, DecodeError):
            error = InvalidArgument(f"the request is not a message of {path}", fix="send what its .proto file says")
        elif isinstance(error, grpc.aio.BaseError) or not isinstance(error, Exception):
            try:
                raise error  # grpc.aio's own: the client has left, or there is a status already.
            finally:
                del error
        fault_id = ""
        if not isinstance(error, EngineError) or error.grpc_code == "INTERNAL":
            fault_id = self._new_id()
            self._log.error("rpc_fault", method=path, fault_id=fault_id, exc_info=error)
        if not isinstance(error, EngineError):
            error = EngineError("the engine failed", fix=f"look for fault {fault_id} in the engine's log and report it")
        status = rpc_status.to_status(status_of(error, fault_id=fault_id))
        await context.abort(status.code, status.details, status.trailing_metadata)


class _UnknownMethods(grpc.GenericRpcHandler):
    """Answers what no other handler does."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """A handler that refuses; a stream handler, since it answers calls of every kind."""
        path = handler_call_details.method

        async def call(requests: object, context: Context) -> None:
            error = NotServed(
                f"there is no method {path}", fix="list the services and methods by server reflection or in proto/"
            )
            await self._calls._refuse(path, context, error)

        return grpc.stream_stream_rpc_method_handler(call)


async def _decode_each(
    requests: AsyncIterator[bytes], context: Context, decode: Decode, many_responses: bool
) -> AsyncIterator[Message]:
    async for request in requests:
        yield decode(request)
    # grpc.aio ends the requests in the same way whether the client has sent all or has left.
    if many_responses:
        # The cancellation of a call whose client has left is on its way: it gets here first.
        await asyncio.sleep(getattr(context, "left_within_s", LEFT_WITHIN_S))
    else:
        # Only to a client that is there can something be sent; else this raises.
        await context.send_initial_metadata(())


def _draining() -> Unavailable:
    return Unavailable("the engine is shutting down", fix="try again in a moment, or at another engine")
