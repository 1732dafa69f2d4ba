"""Turns an error into the answer that AWS's clients understand: status, `x-amzn-errortype`, and the error's document.

Status and type come from the class attributes of engine.errors; the model decides whether a document has `Message` or
`message`. Adds the few errors that only an HTTP front can have. Guarantees that nothing of an unexpected exception
leaves the engine but the id under which it was logged.
"""

from __future__ import annotations

import orjson

from engine.errors import (
    AlreadyExists,
    EngineError,
    InUse,
    InvalidArgument,
    NotFound,
    NotServed,
    PayloadTooLarge,
    PermissionDenied,
    QueueFull,
    StaleEtag,
    Throttled,
)
from engine.rest.messages import Response
from engine.rest.model import Model

_AS_AWS_SAYS_IT = (NotFound, AlreadyExists, InUse, StaleEtag, Throttled)
"""Errors whose message is AWS's own text, to which nothing is added."""


class UnknownOperation(PermissionDenied):
    """No operation of the API has this path. AWS, which asks first whether the caller may, says it so. `detail` is what
    is wrong."""

    reason = "UNKNOWN_OPERATION"

    def __init__(self, detail: str, *, fix: str) -> None:
        super().__init__("Unable to determine service/operation name to be authorized", fix=fix)
        self.detail = detail


class MethodNotAllowed(UnknownOperation):
    """Operations have this path, none of them with this method. `allowed` are the methods that they have."""

    def __init__(self, detail: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(detail, fix=f"use {', '.join(allowed)}")
        self.allowed = allowed


class OnlyRead(MethodNotAllowed):
    """A page of this engine, and no operation of AWS's."""

    http_status = 405


class BodyTooLarge(PayloadTooLarge):
    """A body over its limit that is no event."""

    aws_type = "RequestEntityTooLargeException"


class UnsupportedMedia(InvalidArgument):
    """A body in an encoding that is not read."""

    http_status = 415
    aws_type = "UnsupportedMediaTypeException"
    reason = "UNSUPPORTED_MEDIA"


class ErrorDocuments:
    """Writes error answers by the model's error shapes."""

    def __init__(self, model: Model) -> None:
        self._modelled = {
            name: "message" if "message" in shape.members else "Message" for name, shape in model.errors.items()
        }

    def response(self, error: EngineError) -> Response:
        """The answer for what the engine refuses or failed at."""
        headers: list[tuple[str, str]] = []
        status, kind = error.http_status, error.aws_type
        if isinstance(error, NotServed):
            # Every operation is known to refuse a request so, and no client takes it for a failure and tries again.
            status, kind = InvalidArgument.http_status, InvalidArgument.aws_type
        document: dict[str, str] = {}
        if kind in self._modelled:
            document["Type"] = "User" if status < 500 else "Service"
        document[self._modelled.get(kind, "Message" if isinstance(error, PermissionDenied) else "message")] = text_of(
            error
        )
        if isinstance(error, Throttled):
            document["Reason"] = error.throttle_reason
            headers.append(("retry-after", str(max(1, -(-error.retry_after_ms // 1000)))))
        if isinstance(error, UnknownOperation):
            document["Detail"] = f"{error.detail}; {error.fix}"
        if isinstance(error, MethodNotAllowed):
            headers.append(("allow", ", ".join(error.allowed)))
        return Response(
            status,
            [("content-type", "application/json"), ("x-amzn-errortype", kind), *headers],
            orjson.dumps(document),
        )

    def fault(self, fault_id: str) -> Response:
        """The answer for an exception that nobody expected, logged under `fault_id`."""
        return self.response(EngineError("The engine failed", fix=f"its log has the reason under id {fault_id}"))


def text_of(error: EngineError) -> str:
    """What an answer says of an error."""
    if isinstance(error, QueueFull):
        return f"{error.message}; {error.fix}"
    if isinstance(error, Throttled):
        return "Rate Exceeded."
    if not error.fix or isinstance(error, (*_AS_AWS_SAYS_IT, UnknownOperation)):
        return error.message
    return f"{error.message.rstrip('.')}; {error.fix}"
