"""CloudWatch Logs on the port of the Lambda API: the JSON 1.1 protocol, from the server's side.

A request is for it that is posted to / with an X-Amz-Target of the service; what is asked is read by the service's own
model as engine.rest.shapes reads Lambda's. What operations do is engine.rest.logs_groups' and engine.rest.logs_events'.
Source: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html. Guarantees that an operation which is not
served is refused with an error that its clients know for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from engine.errors import (
    AlreadyExists,
    EngineError,
    InvalidArgument,
    NotFound,
    NotServed,
    PermissionDenied,
    Unavailable,
)
from engine.model.invocation import EVENT_LIMIT_BYTES
from engine.registry.api import Registry
from engine.registry.attached import Attached
from engine.rest.configuration import Documents
from engine.rest.errors import UnsupportedMedia, text_of
from engine.rest.logs_events import LogEvents
from engine.rest.logs_groups import LogGroups, Logs
from engine.rest.messages import Request, Response
from engine.rest.model import LOGS_MODEL, Operation, load_model
from engine.rest.shapes import SerializationError, read_document
from engine.rest.table import Operation as Handler

TARGET = "Logs_20140328."
CONTENT_TYPE = "application/x-amz-json-1.1"
_KINDS: tuple[tuple[type[EngineError], str, int], ...] = (
    (SerializationError, "SerializationException", 400),
    (InvalidArgument, "InvalidParameterException", 400),
    (NotFound, "ResourceNotFoundException", 400),
    (AlreadyExists, "ResourceAlreadyExistsException", 400),
    (PermissionDenied, "AccessDeniedException", 400),
    (Unavailable, "ServiceUnavailableException", 503),
)
"""What CloudWatch Logs calls the engine's errors."""
_REFUSALS = ("InvalidParameterException", "InvalidOperationException", "ValidationException", "LimitExceededException")
"""Of these, one that an operation knows says that it is not served."""


class UnknownTarget(InvalidArgument):
    """No operation of the service has this name."""


class LogsApi:
    """The operations on logs."""

    def __init__(
        self,
        logs: Logs,
        registry: Registry,
        attached: Attached,
        documents: Documents,
        *,
        wall_ms: Callable[[], int],
    ) -> None:
        self._model = load_model(LOGS_MODEL)
        groups = LogGroups(logs, registry, attached, documents, wall_ms=wall_ms)
        logs.retain(groups.ages_us)
        self._handlers: Mapping[str, Handler] = {**groups.operations(), **LogEvents(logs, groups).operations()}
        self.served = sorted(self._handlers)

    def is_for(self, request: Request) -> bool:
        """Whether it is a request to this service."""
        targets = request.header_values("x-amz-target")
        return request.path == "/" and request.method == "POST" and bool(targets) and targets[0].startswith(TARGET)

    async def answer(self, request: Request) -> Response:
        """What the operation gives, or refuses."""
        name = (request.header("x-amz-target") or "").removeprefix(TARGET)
        operation = self._model.operations.get(name)
        try:
            if operation is None:
                raise UnknownTarget(f"No operation is called {name[:200]}", fix=f"served are {', '.join(self.served)}")
            return await self._answer(operation, request)
        except EngineError as error:
            return _refusal(error, operation)

    async def _answer(self, operation: Operation, request: Request) -> Response:
        handler = self._handlers.get(operation.name)
        if handler is None:
            raise NotServed(
                f"{operation.name} is an operation of CloudWatch Logs that this release does not serve",
                fix=f"served are {', '.join(self.served)}",
            )
        if (request.header("content-encoding") or "identity").lower() != "identity":
            raise UnsupportedMedia("A body with a Content-Encoding is not read", fix="send it as it is")
        params = read_document(operation.input, await request.body.read(EVENT_LIMIT_BYTES, operation.name))
        document = await handler(params, request)
        return _response(200, orjson.dumps(document) if operation.output is not None else b"")


def _refusal(error: EngineError, operation: Operation | None) -> Response:
    kind, status = error.aws_type, error.http_status
    if isinstance(error, NotServed):
        known = operation.errors if operation is not None else ()
        kind, status = next((one for one in _REFUSALS if one in known), _REFUSALS[0]), 400
    elif isinstance(error, UnknownTarget):
        kind, status = "UnknownOperationException", 400
    else:
        for cls, name, own in _KINDS:
            if isinstance(error, cls):
                kind, status = name, own
                break
    document: dict[str, Any] = {"__type": kind, "message": text_of(error)}
    return _response(status, orjson.dumps(document))


def _response(status: int, body: bytes) -> Response:
    return Response(status, [("content-type", CONTENT_TYPE)], body)
