"""InvokeWithResponseStream: a function's answer as AWS's event stream, each chunk when it is made.

What a message looks like is engine.rest.eventstream's. Guarantees: what is refused before the function runs is an
ordinary error answer; a stream ends with one InvokeComplete, or with an error message where the engine failed; a client
that reads slowly holds the function up, one that leaves does not stop it unless the operator has said so.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator

from engine.errors import EngineError
from engine.invoke.chunks import Chunks
from engine.invoke.stopping import stop
from engine.model.invocation import Completion, InvokeRequest, LogLine
from engine.model.outcome import Outcome, StartKind
from engine.rest.eventstream import CONTENT_TYPE, failure, invoke_complete, payload_chunk
from engine.rest.invocations import client_context, not_run
from engine.rest.messages import Request, Response, StreamedResponse
from engine.rest.shapes import Params
from engine.rest.table import Rooms

PIECE_BYTES = 131_072
"""Of an answer that was made at once."""


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
        ref = self._named.check(params)
        if params.get("InvocationType") == "DryRun":
            return Response(204, [])
        tail = params.get("LogType") == "Tail"
        call = InvokeRequest(
            ref, params.get("Payload", b""), request_id=request.id, client_context=context, log_tail=tail
        )
        answer = _Answer()
        running = asyncio.ensure_future(self._invoker.invoke(call, answer))
        running.add_done_callback(lambda _: answer.news.set())
        try:
            await answer.news.wait()
            if running.done():
                running.result()  # raises what was refused
        except BaseException:
            await stop(running)
            raise
        headers = [("content-type", CONTENT_TYPE), ("x-amz-executed-version", answer.version or ref.qualifier)]
        return StreamedResponse(200, headers, _messages(running, answer))


class _Answer:
    """The sink of one invocation."""

    def __init__(self) -> None:
        self.version = ""
        self.chunks = Chunks()
        self.news = asyncio.Event()

    def started(self, request_id: str, executed_version: str, kind: StartKind) -> None:
        self.version = executed_version
        self.news.set()

    def log(self, line: LogLine) -> None:
        """Logs are not streamed over this API."""

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        self.news.set()
        return self.chunks.add(data)


async def _messages(running: asyncio.Future[Completion], answer: _Answer) -> AsyncGenerator[bytes]:
    """The event stream. Closing it before its end stops the function."""
    try:
        while True:
            if answer.chunks.first_order is not None:
                yield payload_chunk(answer.chunks.take())
            elif running.done():
                break
            else:
                answer.news.clear()
                await answer.news.wait()
        try:
            completion = running.result()
            if completion.error is None and completion.report.outcome is not Outcome.OK:
                raise not_run(completion.report.outcome)
        except EngineError as error:
            yield failure(error.aws_type, error.message)
            return
        for at in range(0, len(completion.payload), PIECE_BYTES):
            yield payload_chunk(completion.payload[at : at + PIECE_BYTES])
        yield invoke_complete(_last(completion))
    finally:
        await stop(running)


def _last(completion: Completion) -> dict[str, str]:
    members = {}
    if completion.error is not None:
        members["ErrorCode"] = completion.error.type
        members["ErrorDetails"] = completion.error.document.decode(errors="replace")
    if completion.log_tail:
        members["LogResult"] = base64.b64encode(completion.log_tail).decode()
    return members
