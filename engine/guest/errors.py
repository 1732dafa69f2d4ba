"""Error documents and their record in the log, in the words and the shape of AWS's Python runtime client.

Source: awslambdaric/bootstrap.py (make_error, log_error). Guarantees: whatever an exception is, its document is JSON
of at most wire.ERROR_LIMIT_BYTES.
"""

from __future__ import annotations

import time

from . import marshal, stack, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    Document = dict[str, Any]

MALFORMED_HANDLER_NAME = "Runtime.MalformedHandlerName"
BUILT_IN_MODULE_CONFLICT = "Runtime.BuiltInModuleConflict"
IMPORT_MODULE_ERROR = "Runtime.ImportModuleError"
USER_CODE_SYNTAX_ERROR = "Runtime.UserCodeSyntaxError"
HANDLER_NOT_FOUND = "Runtime.HandlerNotFound"
UNMARSHAL_ERROR = "Runtime.UnmarshalError"
MARSHAL_ERROR = "Runtime.MarshalError"
CONTEXT_UNMARSHAL_ERROR = "Runtime.LambdaContextUnmarshalError"

_TYPE_LIMIT_CHARS = 256
_FRAME_LIMIT_BYTES = 4_096
_SHORTENED = "... (shortened)"
_INDENT = "\u00a0"  # AWS's log agents strip plain leading spaces


class Fault(Exception):
    """A failure that AWS's runtime client names itself, without frames of user code."""

    def __init__(self, error_type: str, message: str, trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.trace = trace or []


def document(error: BaseException, request_id: str = "") -> Document:
    """The document of a Fault, or of an exception that user code raised. Every text in it is within its limit."""
    if type(error) is Fault:  # isinstance would ask the error itself for its class
        return _fitting(error.error_type, error.message, error.trace, request_id)
    return _fitting(_type_name(error), _message(error), stack.format_trace(trace_of(error)), request_id)


def trace_of(error: BaseException) -> TracebackType | None:
    """Its traceback, also where its class makes a secret of its attributes."""
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return trace


def _type_name(error: BaseException) -> str:
    return str(type.__dict__["__name__"].__get__(type(error)))  # a metaclass may have a __name__ that raises


def _message(error: BaseException) -> str:
    try:
        return "".join((str(error),))  # a plain str, also where __str__ gives an object of a subclass
    except BaseException:  # user code: even an exit raised here must not hide the error
        return "<exception str() failed>"


def _fitting(error_type: str, message: str, trace: list[str], request_id: str) -> Document:
    found = {
        "errorMessage": message[: wire.ERROR_LIMIT_BYTES],
        "errorType": error_type[:_TYPE_LIMIT_CHARS],
        "requestId": request_id,
        "stackTrace": trace,
    }
    if len(message) <= wire.ERROR_LIMIT_BYTES and len(marshal.encode(found)) <= wire.ERROR_LIMIT_BYTES:
        return found
    found["errorMessage"] = _shorten(message, wire.ERROR_LIMIT_BYTES // 2)
    kept: list[str] = []
    found["stackTrace"] = kept
    room = wire.ERROR_LIMIT_BYTES - len(marshal.encode(found)) - 2 * _FRAME_LIMIT_BYTES
    for entry in trace:
        entry = _shorten(entry, _FRAME_LIMIT_BYTES)
        room -= len(marshal.encode(entry)) + 2
        if room < 0:
            kept.append(f"  {_SHORTENED}\n")
            break
        kept.append(entry)
    return found


def _shorten(text: str, limit_bytes: int) -> str:
    short = text[:limit_bytes]
    size = len(marshal.encode(short))
    if size <= limit_bytes and len(short) == len(text):
        return text
    while size > limit_bytes - len(_SHORTENED):
        short = short[: min(len(short) - 1, len(short) * (limit_bytes - len(_SHORTENED)) // size)]
        size = len(marshal.encode(short))
    return short + _SHORTENED


def log_record(found: Document, json_format: bool) -> str:
    """What the log shows of a document. In the text form the lines of one record are held together by CR."""
    if json_format:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return marshal.encode({"timestamp": stamp, "log_level": "ERROR", **found}).decode() + "\n"
    head = "[ERROR]"
    if found["errorType"]:
        head += " " + found["errorType"]
    if found["errorMessage"]:
        head += (": " if found["errorType"] else " ") + found["errorMessage"]
    lines = [head, "Traceback (most recent call last):"]
    for entry in found["stackTrace"]:
        for line in entry.splitlines() or [""]:
            text = line.lstrip(" ")
            lines.append(_INDENT * (len(line) - len(text)) + text)
    return "\r".join(lines) + "\n"
