"""Turns an error into the answer that AWS's clients understand: status, `x-amzn-errortype`, and the error's document.

Status and type come from the class attributes of engine.errors; the model decides whether a document has `Message` or
`message`. Adds the few errors that only an HTTP front can have. Guarantees that nothing of an unexpected exception
leaves the engine but the id under which it was logged.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from botocore.model import ServiceModel, StructureShape

from engine.errors import (
    AlreadyExists,
    EngineError,
    InvalidArgument,
    NotFound,
    StaleEtag,
    Throttled,
)
from engine.rest.messages import Response

_AS_AWS_SAYS_IT = (NotFound, AlreadyExists, StaleEtag, Throttled)
"""Errors whose message is AWS's own text, to which nothing is added."""


class UnknownOperation(NotFound):
    """No operation of the API has this path."""

    aws_type = "UnknownOperationException"
    reason = "UNKNOWN_OPERATION"


class MethodNotAllowed(UnknownOperation):
    """Operations have this path, none of them with this method. `allowed` are the methods that they have."""

    http_status = 405

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message, fix=f"use {', '.join(allowed)}")
        self.allowed = allowed


class UnsupportedMedia(InvalidArgument):
    """A body in an encoding that is not read."""

    http_status = 415
    aws_type = "UnsupportedMediaTypeException"
    reason = "UNSUPPORTED_MEDIA"


class ErrorDocuments:
    """Writes error answers by the model's error shapes."""

    def __init__(self, model: ServiceModel) -> None:
        self._message_member: Mapping[str, str] = {
            shape.name: "message" if "message" in shape.members else "Message"
            for shape in model.error_shapes
            if isinstance(shape, StructureShape)
        }

    def response(self, error: EngineError) -> Response:
        """The answer for what the engine refuses or failed at."""
        headers: list[tuple[str, str]] = []
        document: dict[str, str] = {
            "Type": "User" if error.http_status < 500 else "Service",
            self._message_member.get(error.aws_type, "Message"): _text(error),
        }
        if isinstance(error, Throttled):
            document["Reason"] = error.throttle_reason
            headers.append(("retry-after", str(max(1, -(-error.retry_after_ms // 1000)))))
        if isinstance(error, MethodNotAllowed):
            headers.append(("allow", ", ".join(error.allowed)))
        return Response(
            error.http_status,
            [("content-type", "application/json"), ("x-amzn-errortype", error.aws_type), *headers],
            orjson.dumps(document),
        )

    def fault(self, fault_id: str) -> Response:
        """The answer for an exception that nobody expected, logged under `fault_id`."""
        return self.response(EngineError("The engine failed", fix=f"its log has the reason under id {fault_id}"))


def _text(error: EngineError) -> str:
    if isinstance(error, Throttled):
        return "Rate Exceeded."
    if not error.fix or (isinstance(error, _AS_AWS_SAYS_IT) and not isinstance(error, UnknownOperation)):
        return error.message
    return f"{error.message.rstrip('.')}; {error.fix}"
