"""Invoke, as AWS's clients call it, over the one narrow call into the engine, and asynchronously over its queue.

Guarantees that the answer carries the invocation's own request id, that an asynchronous one comes only when its event
is safe, and that a client which leaves does not stop a function that runs, as on AWS, unless the operator has said so.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import orjson

from engine.errors import EngineError, InvalidPayload, Unavailable
from engine.model.invocation import Completion, InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

CLIENT_CONTEXT_LIMIT_BYTES = 3_583
"""Of the Base64 text: docs.aws.amazon.com/lambda/latest/api/API_Invoke.html."""


_TRACE_ID = re.compile(r"Root=[!-~]{1,250}")
"""docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader"""


def trace_id_of(request: Request) -> str:
    """The tracing header of a caller who is traced; "" for none, and for what is none."""
    values = request.header_values("x-amzn-trace-id")
    return values[0] if len(values) == 1 and _TRACE_ID.fullmatch(values[0]) else ""


class Invocations:
    """Invoke."""

    def __init__(self, rooms: Rooms) -> None:
        self._invoker = rooms.invoker
        self._events = rooms.events
        self._named = rooms.named
        self._documents = rooms.documents
        self._stop_on_disconnect = rooms.stop_on_disconnect

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {"Invoke": self.invoke, "InvokeAsync": self.invoke_async}

    async def invoke(self, params: Params, request: Request) -> dict[str, Any]:
        """Invoke, in its three ways."""
        self._documents.check_honoured(params)
        kind = params.get("InvocationType", "RequestResponse")
        context = client_context(params.get("ClientContext", ""))
        ref = self._named.invoked(params)
        if kind == "DryRun":
            return {"StatusCode": 204}
        if kind == "Event":
            await self._enqueue(ref, params.get("Payload", b""), request, params.get("TenantId"))
            return {"StatusCode": 202}
        tail = params.get("LogType") == "Tail"
        call = InvokeRequest(
            ref,
            params.get("Payload", b""),
            request_id=request.id,
            client_context=context,
            log_tail=tail,
            tenant_id=params.get("TenantId"),
            trace_id=trace_id_of(request),
        )
        running = self._invoker.invoke(call)
        completion = await (request.body.unless_gone(running) if self._stop_on_disconnect else running)
        result = result_of(completion)
        if tail:
            result["LogResult"] = base64.b64encode(completion.log_tail).decode()
        return result

    async def invoke_async(self, params: Params, request: Request) -> dict[str, Any]:
        """InvokeAsync, what Event was called once."""
        await self._enqueue(self._named.invoked(params), params["InvokeArgs"], request)
        return {"Status": 202}

    async def _enqueue(self, ref: FunctionRef, payload: bytes, request: Request, tenant_id: str | None = None) -> None:
        # A client context is not passed on, as on AWS: docs.aws.amazon.com/lambda/latest/api/API_Invoke.html.
        call = InvokeRequest(ref, payload, request.id, tenant_id=tenant_id, trace_id=trace_id_of(request))
        await self._events.enqueue(call)


def result_of(completion: Completion) -> dict[str, Any]:
    """What Invoke says of a run."""
    report = completion.report
    result: dict[str, Any] = {"StatusCode": 200, "ExecutedVersion": report.executed_version}
    if completion.error is not None:
        return result | {"FunctionError": "Unhandled", "Payload": completion.error.document}
    if report.outcome is not Outcome.OK:
        raise not_run(report.outcome)
    return result | {"Payload": completion.payload}


def client_context(text: str) -> bytes:
    """The JSON of a client context. Raises InvalidPayload."""
    if len(text) > CLIENT_CONTEXT_LIMIT_BYTES:
        raise InvalidPayload(
            f"Client context must be at most {CLIENT_CONTEXT_LIMIT_BYTES} bytes of Base64.", fix="send less of it"
        )
    try:
        context = base64.b64decode(text, validate=True)
        if context and not isinstance(orjson.loads(context), dict):
            raise ValueError("not an object")
    except (binascii.Error, ValueError):
        raise InvalidPayload("Client context must be a valid Base64-encoded JSON object.") from None
    return context


def not_run(outcome: Outcome) -> EngineError:
    """For a completion that holds no result: the caller is still here, so the engine itself ended it."""
    if outcome is Outcome.CANCELLED:
        return Unavailable("The invocation was stopped by the engine", fix="invoke again in a moment")
    return EngineError(f"The invocation ended without a result ({outcome.value})", fix="see the engine's log")
