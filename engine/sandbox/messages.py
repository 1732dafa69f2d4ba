"""What the engine says to a guest, and what it reads of a guest's answers: the bodies of engine.guest.wire's frames.

When each is sent is engine.sandbox.linux's. A guest's document is hostile: what cannot be read is a ProtocolError.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cache

import orjson

from engine.guest import wire
from engine.model.invocation import FunctionError
from engine.sandbox.api import Event, SandboxSpec
from engine.sandbox.link import ProtocolError

_EMPTY_EVENT = b"{}"


@cache
def guest_limits(result_limit_bytes: int) -> Mapping[int, int]:
    """The frames that a guest may send, with the most bytes of their bodies."""
    return {
        wire.HELLO: wire.BOOT_LIMIT_BYTES,
        wire.READY: 0,
        wire.INIT_ERROR: wire.ERROR_LIMIT_BYTES,
        wire.RESULT: result_limit_bytes,
        wire.ERROR: wire.ERROR_LIMIT_BYTES,
        wire.TOO_LARGE: 0,
        wire.TIMELINE: wire.MOMENTS.size,
        wire.CHUNK: wire.CHUNK_LIMIT_BYTES,
        wire.FAREWELL: 0,
    }


def spec_frame(spec: SandboxSpec) -> bytes:
    """What a guest has to know before its first event."""
    return wire.frame(wire.SPEC, _spec_body(spec))


def event_frame(event: Event) -> tuple[bytes, bytes]:
    """One event, up to its payload and the payload itself; an empty one counts as {}, unless it is raw."""
    if event.ahead:
        return wire.frame(wire.PREPARE), b""
    payload = event.payload if event.payload or event.raw else _EMPTY_EVENT
    meta = _event_meta(event)
    length = wire.META.size + len(meta) + len(payload)
    return b"".join((wire.HEADER.pack(length, wire.EVENT), wire.META.pack(len(meta)), meta)), payload


def _spec_body(spec: SandboxSpec) -> bytes:
    environment = dict(spec.environment)
    return json.dumps(
        {
            "handler": spec.handler,
            "environment": environment,
            "memory_mb": spec.memory_mb,
            "function_name": environment.get("AWS_LAMBDA_FUNCTION_NAME", spec.key[0]),
            "function_version": environment.get("AWS_LAMBDA_FUNCTION_VERSION", spec.key[1]),
            "log_group_name": environment.get("AWS_LAMBDA_LOG_GROUP_NAME", ""),
            "log_stream_name": environment.get("AWS_LAMBDA_LOG_STREAM_NAME", ""),
            "result_limit_bytes": spec.result_limit_bytes,
            "log_format": environment.get("AWS_LAMBDA_LOG_FORMAT", "Text"),
        }
    ).encode()


def _event_meta(event: Event) -> bytes:
    meta: dict[str, object] = {
        "request_id": event.request_id,
        "timeout_ms": event.timeout_ms,
        "deadline_ms": time.time_ns() // 1_000_000 + event.timeout_ms,
        "function_arn": event.function_arn,
    }
    if event.client_context:
        meta["client_context"] = event.client_context.decode()
    if event.trace_id:
        meta["trace_id"] = event.trace_id
    if event.tenant_id is not None:
        meta["tenant_id"] = event.tenant_id
    if event.identity is not None:
        identity = event.identity
        meta["identity"] = {"cognitoIdentityId": identity.id, "cognitoIdentityPoolId": identity.pool_id}
    if event.input is not None:
        meta["input"] = True
    if event.stream_limit_bytes:
        meta["stream_limit_bytes"] = event.stream_limit_bytes
    if event.timeline:
        meta["timeline"] = True
    if event.covers_init:
        meta["covers_init"] = True
    if event.raw:
        meta["raw_payload"] = True
    return orjson.dumps(meta)


def function_error(document: bytes | bytearray) -> FunctionError:
    """The guest's document, as it came; its type is read from it, and a document that has none is not one."""
    try:
        error_type = json.loads(str(document, "utf-8"))["errorType"]
        if not isinstance(error_type, str):
            raise TypeError
        error_type.encode()  # a lone surrogate could not be told to anybody
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ProtocolError("an error document without an errorType") from None
    return FunctionError(error_type, bytes(document))


def too_large(limit_bytes: int) -> FunctionError:
    """AWS's document for an answer over its limit."""
    message = f"Response payload size exceeded maximum allowed payload size ({limit_bytes} bytes)."
    error_type = "Function.ResponseSizeTooLarge"
    return FunctionError(error_type, json.dumps({"errorMessage": message, "errorType": error_type}).encode())
