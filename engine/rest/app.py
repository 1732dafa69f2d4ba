"""The ASGI application: guard, route, read, run, write. One request in, one answer out, whatever is sent.

Listening is engine.rest.server's work. Guarantees that every answer is one of the API's own documents with a request
id, and that an unexpected exception becomes a ServiceException that names only the id under which it was logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

import orjson

from engine.errors import EngineError, NotServed, PayloadTooLarge, Unavailable
from engine.events.room import Events
from engine.model.invocation import EVENT_LIMIT_BYTES, Invoker
from engine.registry.api import CodeStore, Registry
from engine.registry.attached import Attached
from engine.rest.code_downloads import asked_for, download
from engine.rest.configuration import Documents
from engine.rest.connection import CUT_OFF
from engine.rest.errors import BodyTooLarge, ErrorDocuments, OnlyRead, UnsupportedMedia
from engine.rest.eventstream import failure
from engine.rest.express import RESUMED, Resumed
from engine.rest.guard import check_request
from engine.rest.handlers import served
from engine.rest.invocations import result_of
from engine.rest.logs_api import LogsApi
from engine.rest.messages import (
    ClientGone,
    Receive,
    Request,
    Response,
    Send,
    StreamedResponse,
    respond,
    respond_streamed,
)
from engine.rest.metrics import Observe, metrics_response
from engine.rest.model import Model
from engine.rest.named import Named
from engine.rest.past import Past
from engine.rest.routes import Routes
from engine.rest.shapes import Params, read_params, write_response
from engine.rest.streams import Streams
from engine.rest.table import Rooms
from engine.rest.urls import Unfinished, Urls, answer_of

CODE_BODY_LIMIT_BYTES = 70_167_211
"""AWS's own: a zip of 50 MB in Base64."""
BODY_LIMIT_BYTES = EVENT_LIMIT_BYTES
"""Of any other operation that carries no event."""
LAST_WORD_S = 0.5

StreamedOperation = Callable[[Params, Request], Awaitable[Response | StreamedResponse]]

_WITH_CODE = frozenset({"CreateFunction", "PublishLayerVersion", "UpdateFunctionCode"})
_LIMIT_NAMES = {"Invoke": "InvokeFunction", "InvokeWithResponseStream": "InvokeFunction"}
"""The operations with an event for a body, and what AWS's message about one that is too large calls them."""


class FaultLogger(Protocol):
    """Where unexpected exceptions go."""

    def error(self, event: str, **fields: Any) -> Any:
        """Log an event with its fields."""


class LambdaApi:
    """AWS's Lambda API over the rooms of the engine."""

    def __init__(
        self,
        model: Model,
        registry: Registry,
        code: CodeStore,
        invoker: Invoker,
        attached: Attached,
        events: Events,
        documents: Documents,
        *,
        logger: FaultLogger,
        new_uuid: Callable[[], uuid.UUID],
        stop_on_disconnect: bool = False,
        event_limit_bytes: int = EVENT_LIMIT_BYTES,
        observe: Observe | None = None,
        logs: LogsApi | None = None,
    ) -> None:
        """Without `observe` there are no /metrics, without `logs` no CloudWatch Logs."""
        self.routes = Routes(model)
        self._invoke = model.operations["Invoke"]
        self._errors = ErrorDocuments(model)
        self._code = code
        self._logger = logger
        self._new_uuid = new_uuid
        named = Named(registry, documents)
        rooms = Rooms(registry, code, invoker, documents, named, attached, events, stop_on_disconnect)
        self._stop_on_disconnect = stop_on_disconnect
        self._event_limit_bytes = event_limit_bytes
        self._observe = observe
        self._logs = logs
        self.operations = served(rooms)
        self._urls = Urls(rooms, event_limit_bytes)
        self.streamed: Mapping[str, StreamedOperation] = {"InvokeWithResponseStream": Streams(rooms).invoke}
        self.served = sorted([*self.operations, *self.streamed])

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        resumed: Resumed | None = scope.get("extensions", {}).get(RESUMED)
        request = Request.of(scope, receive, resumed.request_id if resumed else str(self._new_uuid()))
        linger = True
        response: Response | StreamedResponse
        try:
            response = await (self._resume(resumed, request) if resumed else self._answer(request))
        except ClientGone:
            return
        except asyncio.CancelledError:
            # The server's grace is over. The task ends here by itself, with an answer for whoever still waits.
            response = self._errors.response(Unavailable("The engine is shutting down", fix="try again in a moment"))
            linger = False
        except EngineError as error:
            response = self._errors.response(error)
        except Exception as error:
            self._logger.error("request_failed", request_id=request.id, method=request.method, exc_info=error)
            response = self._errors.fault(request.id)
        if isinstance(response, Response):
            await respond(request, response, send, linger=linger)
            return
        try:
            stops = self._stop_on_disconnect
            await respond_streamed(request, response, send, stop_on_disconnect=stops, past=Past.of(scope))
        except asyncio.CancelledError:
            # The server's grace is over: a last word, if the client takes it at once.
            last = failure(Unavailable.aws_type, "The engine is shutting down")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await send({"type": "http.response.body", "body": last, "more_body": False})
        except Unfinished:
            scope["extensions"][CUT_OFF]["now"]()
        except Exception as error:
            self._logger.error("stream_failed", request_id=request.id, method=request.method, exc_info=error)

    async def _answer(self, request: Request) -> Response | StreamedResponse:
        call = self._urls.match(request)
        if call is not None:
            return await self._urls.answer(call, request)
        check_request(request)
        if self._logs is not None and self._logs.is_for(request):
            return await self._logs.answer(request)
        if request.path in ("/", "/health"):
            return self._about(request)
        if request.path == "/metrics" and self._observe is not None:
            _check_read(request)
            return await metrics_response(self._observe, request)
        if sha256 := asked_for(request):
            _check_read(request)
            return download(request, self._code, sha256)
        match = self.routes.match(request.method, request.path, request.query())
        name = match.route.name
        operation = self.operations.get(name)
        limit = self._event_limit_bytes if name in _LIMIT_NAMES else BODY_LIMIT_BYTES
        if name in _WITH_CODE:
            limit = CODE_BODY_LIMIT_BYTES
        streamed = self.streamed.get(name)
        if operation is None and streamed is None:
            raise NotServed(
                f"{name} is an operation of AWS Lambda that this release does not serve",
                fix=f"served are {', '.join(self.served)}",
            )
        if (request.header("content-encoding") or "identity").lower() != "identity":
            raise UnsupportedMedia("A body with a Content-Encoding is not read", fix="send it as it is")
        try:
            body = await request.body.read(limit, _LIMIT_NAMES.get(name, name))
        except PayloadTooLarge as error:
            raise error if name in _LIMIT_NAMES else BodyTooLarge(error.message) from None
        params = read_params(match, request, body)
        if operation is None:
            assert streamed is not None
            return await streamed(params, request)
        return write_response(match.route.operation, await operation(params, request))

    async def _resume(self, resumed: Resumed, request: Request) -> Response:
        """The answer to a request of which the function runs already."""
        # It is there, whole: what comes after it is the client's leaving, or its next request.
        await request.body.discard()
        running = resumed.completion()
        completion = await (request.body.unless_gone(running) if self._stop_on_disconnect else running)
        if resumed.by_url:
            return answer_of(completion)
        return write_response(self._invoke, result_of(completion))

    def _about(self, request: Request) -> Response:
        """What is here, for whoever looks with a browser or a health check."""
        _check_read(request)
        about = {"service": "cleave", "status": "ok", "api": "AWS Lambda 2015-03-31", "serves": self.served}
        return Response(200, [("content-type", "application/json")], orjson.dumps(about))


def _check_read(request: Request) -> None:
    if request.method not in ("GET", "HEAD"):
        raise OnlyRead(f"{request.path} is only read", allowed=("GET", "HEAD"))
