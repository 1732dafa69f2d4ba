"""InvokeWithResponseStream: a function's answer as AWS's event stream, each chunk when it is made.

What a message looks like is engine.rest.eventstream's. Guarantees: what is refused before the function runs is an
ordinary error answer; a stream ends with one InvokeComplete, or with an error message where the engine failed; a client
that reads slowly holds the function up, one that leaves does not stop it unless the operator has said so.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator

from engine.errors import EngineError
from engine.model.invocation import Completion, InvokeRequest
from engine.model.outcome import Outcome
from engine.rest.answers import Answer, pieces
from engine.rest.eventstream import CHUNK_HEADERS, CONTENT_TYPE, failure, invoke_complete, payload_chunk
from engine.rest.invocations import client_context, not_run, trace_id_of
from engine.rest.messages import Request, Response, StreamedResponse
from engine.rest.shapes import Params
from engine.rest.table import Rooms
from engine.sandbox.outlet import Outlet


class Streams:
    """InvokeWithResponseStream."""

    def __init__(self, rooms: Rooms) -> None:
        self._invoker = rooms.invoker
        self._named = rooms.named
        self._documents = rooms.documents

    async def invoke(self, params: Params, request: Request) -> Response | StreamedResponse:
        """Begin; returns once the function has begun, or has ended before that."""
        self._documents.check_honoured(params)
        context = client_context(params.get("ClientContext", ""))
        ref = self._named.invoked(params)
        if params.get("InvocationType") == "DryRun":
            return Response(204, [])
        tail = params.get("LogType") == "Tail"
        call = InvokeRequest(
            ref,
            params.get("Payload", b""),
            request_id=request.id,
            client_context=context,
            log_tail=tail,
            tenant_id=params.get("TenantId"),
            trace_id=trace_id_of(request),
            outlet=Outlet(CHUNK_HEADERS),
        )
        answer = await Answer.begin(self._invoker, call)
        headers = [("content-type", CONTENT_TYPE), ("x-amz-executed-version", answer.version or ref.qualifier)]
        return StreamedResponse(200, headers, _messages(answer, tail), carried=answer)


async def _messages(answer: Answer, tail: bool) -> AsyncGenerator[bytes]:
    """The event stream. Closing it before its end stops the function."""
    chunks = answer.chunks()
    try:
        async for chunk in chunks:
            yield payload_chunk(chunk)
        try:
            completion = answer.completion()
            if completion.error is None and completion.report.outcome is not Outcome.OK:
                raise not_run(completion.report.outcome)
        except EngineError as error:
            yield failure(error.aws_type, error.message)
            return
        for piece in pieces(completion.payload):
            yield payload_chunk(piece)
        yield invoke_complete(_last(completion, tail))
    finally:
        await chunks.aclose()


def _last(completion: Completion, tail: bool) -> dict[str, str]:
    members = {}
    if completion.error is not None:
        members["ErrorCode"] = completion.error.type
        members["ErrorDetails"] = completion.error.document.decode(errors="replace")
    if tail and completion.log_tail:
        members["LogResult"] = base64.b64encode(completion.log_tail).decode()
    return members
