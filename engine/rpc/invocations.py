"""InvocationService: from a request to the engine's one narrow call, and from its completion to a response.

Leaves to the pipeline what an event may be, and to engine.rpc.calls what an error is on the wire. Guarantees that a
stream which ends well has one Started first and one Finished last, and that a call that is cancelled has cancelled its
invocation before it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from engine.errors import EngineError, InvalidArgument, InvalidPayload
from engine.events.room import Events
from engine.invoke.stopping import stop
from engine.model.invocation import Completion, Invoker, InvokeRequest, Pending
from engine.model.names import parse_resource_name
from engine.model.outcome import OUTCOMES, Outcome
from engine.rpc.calls import Method, Write
from engine.rpc.convert import function_error_to_proto, identity_of, report_to_proto, tenant_of
from engine.rpc.frames import CHUNK_BYTES, Frame, FrameSink, started
from engine.v1 import invocations_pb2 as pb

_FUNCTIONS = "functions/"
SERVICE = pb.DESCRIPTOR.services_by_name["InvocationService"]


class Cancelled(EngineError):
    """The sandbox was killed because nobody waited for its answer."""

    grpc_code = OUTCOMES[Outcome.CANCELLED].grpc
    http_status = OUTCOMES[Outcome.CANCELLED].http
    reason = "CANCELLED"


class InvocationService:
    """Runs functions."""

    def __init__(self, invoker: Invoker, events: Events) -> None:
        self._invoker = invoker
        self._events = events

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "Invoke": self.invoke,
            "InvokeStream": self.invoke_stream,
            "Converse": self.converse,
            "InvokeAsync": self.invoke_async,
        }

    async def invoke(self, request: pb.InvokeRequest) -> pb.InvokeResponse:
        """Run a function and return its whole answer."""
        tail = False
        pending = self._express(request)
        if pending is not None:
            completion = await pending.result()
        else:
            tail = _wants_log(request.log_mode)
            completion = await self._invoker.invoke(
                InvokeRequest(
                    parse_resource_name(request.name),
                    request.payload,
                    request.request_id,
                    request.client_context,
                    request.timeline,
                    tail,
                    raw=_is_raw(request.payload_encoding),
                    tenant_id=tenant_of(request),
                    identity=identity_of(request),
                )
            )
        response = _response(completion)
        if tail:
            response.log_tail = completion.log_tail
        return response

    async def go_on(self, begun: Pending) -> pb.InvokeResponse:
        """The same for an invocation that has begun."""
        return _response(await begun.result())

    def _express(self, request: pb.InvokeRequest) -> Pending | None:
        """Where it asks for nothing but an answer. A function's name has no slash; those of versions have."""
        payload, name = request.payload, request.name
        if len(request.ListFields()) != 2 or not payload or not name.startswith(_FUNCTIONS):
            return None
        return self._invoker.express(name[len(_FUNCTIONS) :], payload)

    async def invoke_stream(self, request: pb.InvokeStreamRequest, write: Write) -> None:
        """Run a function and write what it makes as it is made; a buffered answer goes out in chunks at its end."""
        invoke = InvokeRequest(
            parse_resource_name(request.name),
            request.payload,
            request.request_id,
            request.client_context,
            request.timeline,
            raw=_is_raw(request.payload_encoding),
            tenant_id=tenant_of(request),
            identity=identity_of(request),
        )
        await self._stream(invoke, pb.InvokeStreamResponse, _wants_log(request.log_mode), write)

    async def converse(self, requests: AsyncIterator[pb.ConverseRequest], write: Write) -> None:
        """Run a function that reads its input while its output is written."""
        first = await anext(requests, pb.ConverseRequest())
        start = first.start
        if first.WhichOneof("frame") != "start":
            raise InvalidArgument(
                "a conversation begins with a start",
                fix="send a ConverseStart first, then the chunks",
                fields={"start": "must come first"},
            )
        if start.payload and not start.payload.lstrip().startswith(b"{"):
            raise InvalidPayload(
                "the event of a conversation is a JSON object",
                fix="send an object, or none; what is not an event goes into the chunks",
                fields={"start.payload": "must be a JSON object"},
            )
        invoke = InvokeRequest(
            parse_resource_name(start.name),
            start.payload,
            start.request_id,
            start.client_context,
            start.timeline,
            input=_chunks_of(requests),
            tenant_id=tenant_of(start),
            identity=identity_of(start),
        )
        await self._stream(invoke, pb.ConverseResponse, _wants_log(start.log_mode), write)

    async def _stream(self, invoke: InvokeRequest, frame: type[Frame], logs: bool, write: Write) -> None:
        sink = FrameSink(logs=logs, frame=frame)
        running = asyncio.ensure_future(self._invoker.invoke(invoke, sink))
        running.add_done_callback(lambda _: sink.wake())
        try:
            while True:
                if (made := sink.take()) is not None:
                    await write(made)
                elif running.done():
                    break
                else:
                    await sink.news()
        finally:
            await stop(running)

        completion = running.result()
        report, error = completion.report, completion.error
        if error is None and report.outcome is not Outcome.OK:
            raise _refusal(completion)
        if not sink.has_started:
            await write(frame(started=started(report.request_id, report.executed_version, report.start_kind)))
        for start in range(0, len(completion.payload), CHUNK_BYTES):
            await write(frame(chunk=completion.payload[start : start + CHUNK_BYTES]))
        finished = pb.Finished(
            function_error=None if error is None else function_error_to_proto(error), report=report_to_proto(report)
        )
        await write(frame(finished=finished))

    async def invoke_async(self, request: pb.InvokeAsyncRequest) -> pb.InvokeAsyncResponse:
        """Store an event, and answer once it is safe."""
        request_id = await self._events.enqueue(
            InvokeRequest(
                parse_resource_name(request.name),
                request.payload,
                request.request_id,
                request.client_context,
                raw=_is_raw(request.payload_encoding),
                tenant_id=tenant_of(request),
            )
        )
        return pb.InvokeAsyncResponse(request_id=request_id)


async def _chunks_of(requests: AsyncIterator[pb.ConverseRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("frame") != "chunk":
            raise InvalidArgument(
                "a conversation goes on with chunks",
                fix="send one ConverseStart, then only chunks",
                fields={"chunk": "must be set"},
            )
        yield request.chunk


def _wants_log(mode: pb.LogMode.ValueType) -> bool:
    if mode == pb.LOG_MODE_TAIL:
        return True
    if mode not in (pb.LOG_MODE_UNSPECIFIED, pb.LOG_MODE_NONE):
        raise InvalidArgument(
            f"{mode} is not a log mode",
            fix="use LOG_MODE_NONE or LOG_MODE_TAIL",
            fields={"log_mode": "must be a LogMode"},
        )
    return False


def _is_raw(encoding: pb.PayloadEncoding.ValueType) -> bool:
    if encoding == pb.PAYLOAD_ENCODING_RAW:
        return True
    if encoding not in (pb.PAYLOAD_ENCODING_UNSPECIFIED, pb.PAYLOAD_ENCODING_JSON):
        raise InvalidArgument(
            f"{encoding} is not a payload encoding",
            fix="use PAYLOAD_ENCODING_JSON or PAYLOAD_ENCODING_RAW",
            fields={"payload_encoding": "must be a PayloadEncoding"},
        )
    return False


def _response(completion: Completion) -> pb.InvokeResponse:
    report = completion.report
    if completion.error is not None:
        return pb.InvokeResponse(
            function_error=function_error_to_proto(completion.error), report=report_to_proto(report)
        )
    if report.outcome is Outcome.OK:
        return pb.InvokeResponse(payload=completion.payload, report=report_to_proto(report))
    raise _refusal(completion)


def _refusal(completion: Completion) -> EngineError:
    """The error for a completion with neither an answer nor a failure of the function."""
    report = completion.report
    metadata = {"request_id": report.request_id, "outcome": report.outcome.value}
    if report.outcome is Outcome.CANCELLED:
        return Cancelled("the invocation was cancelled", metadata=metadata)
    return EngineError("the invocation ended without an answer", metadata=metadata)
