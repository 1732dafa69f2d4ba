"""What an EngineError is on the wire: a google.rpc.Status, by the class attributes of engine.errors and nothing else.

Guarantees that every status has an ErrorInfo of the domain "cleave" whose metadata say under "fix" what to do next,
that its message is "<what failed>; <fix>", and that it fits in the 8 KiB of trailers that a gRPC client accepts: what
is too long is cut, what is too much is left out. Models: https://google.aip.dev/193, google/rpc/error_details.proto.
"""

from __future__ import annotations

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from engine.errors import EngineError, Throttled, field_violations

DOMAIN = "cleave"

MESSAGE_BYTES = 1_000
"""A message at most: a byte of it may take three in the grpc-message trailer, and the status has it once more."""
VALUE_BYTES = 400
"""One text of a detail at most, such as what is wrong with a field."""
KEY_BYTES = 64
"""A metadata key at most (the limit of AIP-193)."""
DETAILS_BYTES = 2_000
"""All details at most, without the names of their types; in the trailer, Base64 makes four bytes of three."""

_ADVICE = {
    "INVALID_ARGUMENT": "correct what is named and send it again",
    "NOT_FOUND": "list what there is and check the name",
    "ALREADY_EXISTS": "choose another name, or update the one that is there",
    "ABORTED": "read it again and repeat the change with the current etag",
    "CANCELLED": "call again if the answer is still wanted",
    "RESOURCE_EXHAUSTED": "wait a moment and try again",
    "PERMISSION_DENIED": "ask whoever runs the engine for the permission",
    "UNIMPLEMENTED": "see what this release serves by server reflection",
    "UNAVAILABLE": "try again in a moment",
    "FAILED_PRECONDITION": "see `cleave doctor`",
}
_LAST_ADVICE = "see the engine's log"
_CODES: dict[str, int] = {code.name: code.value[0] for code in StatusCode}


def status_of(error: EngineError, *, fault_id: str = "") -> status_pb2.Status:
    """The status of an error. `fault_id` is what the engine's log has it under, "" if it was not logged."""
    fix = _cut(error.fix or _ADVICE.get(error.grpc_code, _LAST_ADVICE), VALUE_BYTES)
    what = _cut(error.message.rstrip(". "), MESSAGE_BYTES - len(fix.encode()) - 2)
    details = _details(error, fix, fault_id)
    status = status_pb2.Status(code=_CODES[error.grpc_code], message=f"{what}; {fix}")
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _details(error: EngineError, fix: str, fault_id: str) -> list[Message]:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata={"fix": fix})
    if fault_id:
        info.metadata["fault_id"] = fault_id
    details: list[Message] = [info]
    if isinstance(error, Throttled):
        info.metadata["throttle_reason"] = _cut(error.throttle_reason, VALUE_BYTES)
        seconds, ms = divmod(error.retry_after_ms, 1_000)
        delay = duration_pb2.Duration(seconds=seconds, nanos=ms * 1_000_000)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.grpc_code == "RESOURCE_EXHAUSTED":
        subject = error.throttle_reason if isinstance(error, Throttled) else error.reason
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(subject=_cut(subject, VALUE_BYTES), description=_cut(error.message, VALUE_BYTES))
        details.append(quota)

    room = DETAILS_BYTES - sum(detail.ByteSize() for detail in details)
    for key, value in error.metadata.items():
        key, value = _cut(key, KEY_BYTES), _cut(value, VALUE_BYTES)
        room -= len(key.encode()) + len(value.encode()) + 8
        if room > 0 and key not in info.metadata:
            info.metadata[key] = value
    if violations := field_violations(error):
        bad = error_details_pb2.BadRequest()
        details.append(bad)
        for field, description in violations:
            field, description = _cut(field, VALUE_BYTES), _cut(description, VALUE_BYTES)
            room -= len(field.encode()) + len(description.encode()) + 8
            if room > 0:
                bad.field_violations.add(field=field, description=description)
    return details


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, whole characters, with what UTF-8 cannot say replaced."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - 3].decode("utf-8", "ignore") + "…"
