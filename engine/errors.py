"""Every error that leaves a room of the engine, and what each is called outside.

    EngineError
     ├─ InvalidArgument        a value that cannot be accepted; names the fields
     │   ├─ InvalidPayload     an event that is not JSON
     │   └─ InvalidCode        a zip that cannot be accepted
     ├─ PayloadTooLarge        an event over its limit
     ├─ NotFound               no such function, version, alias, blob
     │   └─ NotProvisioned     nothing is provisioned for this version or alias
     ├─ AlreadyExists          the name is taken
     ├─ InUse                  something else depends on it
     ├─ StaleEtag              somebody else wrote in between
     ├─ CodeStorageExceeded    no room for code
     ├─ NotInvocable           the function's state does not allow it
     ├─ PermissionDenied       the caller may not
     ├─ Throttled              no concurrency is free
     │   └─ QueueFull          no room for another asynchronous event
     ├─ NotServed              known to the API, not to this release
     ├─ Unavailable            starting or draining
     ├─ HostUnfit              a limit was asked for that this host cannot enforce
     ├─ StoreUnusable          the data directory cannot be used: newer, locked, damaged
     └─ SandboxFault           a sandbox could not be started; carries {stage, errno, text}

A function's own failure is no error: it is an Outcome (engine.model.outcome). The fronts translate by the class
attributes below and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class EngineError(Exception):
    """Something the engine refuses or failed at. `fix` says what to do next; it is never empty in what users see."""

    grpc_code: ClassVar[str] = "INTERNAL"  # the name of a grpc.StatusCode
    http_status: ClassVar[int] = 500
    aws_type: ClassVar[str] = "ServiceException"  # AWS Lambda's modelled error
    reason: ClassVar[str] = "ENGINE_FAULT"  # google.rpc.ErrorInfo.reason

    def __init__(self, message: str, *, fix: str = "", metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.metadata: dict[str, str] = dict(metadata or {})


class InvalidArgument(EngineError):
    """A value that cannot be accepted. `fields` maps a path such as "config.memory_mb" to what is wrong with it."""

    grpc_code = "INVALID_ARGUMENT"
    http_status = 400
    aws_type = "InvalidParameterValueException"
    reason = "INVALID_ARGUMENT"

    def __init__(
        self,
        message: str,
        *,
        fix: str = "",
        metadata: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, fix=fix, metadata=metadata)
        self.fields: dict[str, str] = dict(fields or {})


class InvalidPayload(InvalidArgument):
    """An event that is not JSON."""

    aws_type = "InvalidRequestContentException"
    reason = "INVALID_PAYLOAD"


class InvalidCode(InvalidArgument):
    """A zip that cannot be accepted: damaged, or with a path or a size that would do harm."""

    reason = "INVALID_CODE"


class PayloadTooLarge(EngineError):
    """An event over its limit."""

    grpc_code = "INVALID_ARGUMENT"
    http_status = 413
    aws_type = "RequestTooLargeException"
    reason = "PAYLOAD_TOO_LARGE"


class NotFound(EngineError):
    """No such function, version, alias or blob."""

    grpc_code = "NOT_FOUND"
    http_status = 404
    aws_type = "ResourceNotFoundException"
    reason = "NOT_FOUND"


class NotProvisioned(NotFound):
    """Nothing is provisioned for this version or alias."""

    aws_type = "ProvisionedConcurrencyConfigNotFoundException"
    reason = "NOT_PROVISIONED"


class AlreadyExists(EngineError):
    """The name is taken."""

    grpc_code = "ALREADY_EXISTS"
    http_status = 409
    aws_type = "ResourceConflictException"
    reason = "ALREADY_EXISTS"


class InUse(EngineError):
    """Something else depends on it being as it is: an alias on its version, one configuration on another."""

    grpc_code = "FAILED_PRECONDITION"
    http_status = 409
    aws_type = "ResourceConflictException"
    reason = "IN_USE"


class StaleEtag(EngineError):
    """Somebody else wrote in between."""

    grpc_code = "ABORTED"
    http_status = 412
    aws_type = "PreconditionFailedException"
    reason = "STALE_ETAG"


class CodeStorageExceeded(EngineError):
    """No room for code: a quota, or the disk."""

    grpc_code = "RESOURCE_EXHAUSTED"
    http_status = 400
    aws_type = "CodeStorageExceededException"
    reason = "CODE_STORAGE_EXCEEDED"


class NotInvocable(EngineError):
    """The function is in a state in which it cannot be invoked: being prepared, or failed."""

    grpc_code = "FAILED_PRECONDITION"
    http_status = 409
    aws_type = "ResourceConflictException"
    reason = "NOT_INVOCABLE"


class PermissionDenied(EngineError):
    """The caller may not do this."""

    grpc_code = "PERMISSION_DENIED"
    http_status = 403
    aws_type = "AccessDeniedException"
    reason = "PERMISSION_DENIED"


class Throttled(EngineError):
    """No concurrency is free. `throttle_reason` is one of AWS's, such as "ConcurrentInvocationLimitExceeded"."""

    grpc_code = "RESOURCE_EXHAUSTED"
    http_status = 429
    aws_type = "TooManyRequestsException"
    reason = "THROTTLED"

    def __init__(
        self,
        message: str,
        *,
        throttle_reason: str,
        retry_after_ms: int,
        fix: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, fix=fix, metadata=metadata)
        self.throttle_reason = throttle_reason
        self.retry_after_ms = retry_after_ms


class QueueFull(Throttled):
    """No room for another asynchronous event."""

    reason = "QUEUE_FULL"


class NotServed(EngineError):
    """Known to the API, not served by this release."""

    grpc_code = "UNIMPLEMENTED"
    http_status = 501
    reason = "NOT_SERVED"


class Unavailable(EngineError):
    """The engine is starting or draining; another try may go through."""

    grpc_code = "UNAVAILABLE"
    http_status = 503
    reason = "UNAVAILABLE"


class HostUnfit(EngineError):
    """A limit was asked for that this host cannot enforce (DESIGN: fail closed)."""

    grpc_code = "FAILED_PRECONDITION"
    http_status = 500
    reason = "HOST_UNFIT"


class StoreUnusable(EngineError):
    """The data directory cannot be used: written by a newer release, held by another engine, or damaged."""

    grpc_code = "FAILED_PRECONDITION"
    reason = "STORE_UNUSABLE"


class SandboxFault(EngineError):
    """A sandbox could not be started or ended. `stage` names the step, `errno` is the kernel's answer (0: none)."""

    reason = "SANDBOX_FAULT"

    def __init__(self, stage: str, errno: int, text: str, *, fix: str = "") -> None:
        super().__init__(
            f"{stage}: {text}", fix=fix or "see `cleave doctor`", metadata={"stage": stage, "errno": str(errno)}
        )
        self.stage = stage
        self.errno = errno
        self.text = text


def field_violations(error: EngineError) -> Sequence[tuple[str, str]]:
    """The (field, what is wrong) pairs of an error, empty where it has none."""
    return list(error.fields.items()) if isinstance(error, InvalidArgument) else []
