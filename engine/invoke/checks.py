"""What is checked of a request before anything runs.

Leaves to others: who may invoke (the pipeline's authorize hook), whether there is room (the scheduler). Guarantees:
whatever passes is JSON in UTF-8 within its limit, and a checked event was scanned, not built: msgspec's Raw skips over
the text (1 µs a KB; a third of what orjson takes to build the objects of small events, a twentieth for large ones), but
does not look into strings, so UTF-8 is checked beside it.
"""

from __future__ import annotations

import re

import msgspec

from engine.errors import InvalidArgument, InvalidPayload, NotInvocable, PayloadTooLarge
from engine.model.function import Function, FunctionState
from engine.model.invocation import EVENT_LIMIT_BYTES

CLIENT_CONTEXT_LIMIT_BYTES = 3_583
"""docs.aws.amazon.com/lambda/latest/api/API_Invoke.html, X-Amz-Client-Context."""

_SCAN = msgspec.json.Decoder(msgspec.Raw)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def check_payload(
    payload: bytes, *, raw: bool = False, limit_bytes: int = EVENT_LIMIT_BYTES, kind: str = "RequestResponse"
) -> bytes:
    """The event to run: {} for an empty one, unless it is raw. `kind` is AWS's name of the invocation type. Raises
    PayloadTooLarge, InvalidPayload."""
    if len(payload) > limit_bytes:
        raise PayloadTooLarge(
            f"{len(payload)} byte payload is too large for the {kind} invocation type (limit {limit_bytes} bytes)",
            fix="send less, or a reference to where the data is",
            metadata={"limit_bytes": str(limit_bytes), "size_bytes": str(len(payload))},
        )
    if raw:
        return payload
    if not payload:
        return b"{}"
    problem = _json_problem(payload)
    if problem:
        raise InvalidPayload(
            f"Could not parse request body into json: {problem}",
            fix="send the event as JSON in UTF-8",
            fields={"payload": problem},
        )
    return payload


def check_client_context(client_context: bytes) -> None:
    """Raises InvalidArgument over the limit, InvalidPayload if it is not a JSON object."""
    if len(client_context) > CLIENT_CONTEXT_LIMIT_BYTES:
        raise InvalidArgument(
            f"The client context has {len(client_context)} bytes, over the limit of {CLIENT_CONTEXT_LIMIT_BYTES}.",
            fix="send less in the client context; the event may have 6 MB",
            fields={"client_context": f"at most {CLIENT_CONTEXT_LIMIT_BYTES} bytes"},
        )
    problem = _json_problem(client_context)
    if problem or not client_context.lstrip().startswith(b"{"):
        raise InvalidPayload(
            f"The client context is not a JSON object{': ' + problem if problem else '.'}",
            fix="send the client context as a JSON object in UTF-8",
            fields={"client_context": problem or "must be a JSON object"},
        )


def is_request_id(request_id: str) -> bool:
    """Whether it is a UUID."""
    return _UUID.fullmatch(request_id) is not None


def check_request_id(request_id: str) -> None:
    """Raises InvalidArgument if it is not a UUID."""
    if not is_request_id(request_id):
        raise InvalidArgument(
            f"{request_id!r} is not a UUID",
            fix="give a request id such as 5f0c0c5e-7f57-4d6e-a1c8-1d6c1f1f2b3a, or none",
            fields={"request_id": "must be a UUID"},
        )


def check_invocable(function: Function) -> None:
    """Raises NotInvocable in the states that cannot be invoked."""
    state = function.state
    if state is FunctionState.ACTIVE or state is FunctionState.INACTIVE:
        return
    because = f": {function.state_reason}" if function.state_reason else ""
    raise NotInvocable(
        "The operation cannot be performed at this time. The function is currently in the following state: "
        f"{state.value.capitalize()}{because}",
        fix="invoke it again when its state is Active" if state is FunctionState.PENDING else "update the function",
        metadata={"state": state.value},
    )


def _json_problem(text: bytes) -> str:
    """What keeps this text from being JSON, "" if it is."""
    try:
        try:
            _SCAN.decode(text)
        except msgspec.DecodeError:
            # It refuses half a surrogate pair, which RFC 8259 allows when escaped, and AWS and Python read. Something
            # else stands in its place; where the backslash is itself an escaped one, that changes nothing.
            whole, pairs = _SURROGATE.subn(rb"\\u0041", text)
            if not pairs:
                raise
            _SCAN.decode(whole)
        if not text.isascii():
            text.decode()
    except msgspec.DecodeError as error:
        return str(error)
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 (byte {error.start})"
    except RecursionError:
        return "nested too deeply"
    return ""
