"""The closed vocabulary of how an invocation ends and how its sandbox came to be, and the one table of their names
outside: protobuf, gRPC, HTTP and AWS's error document. Guarantees that each outcome has exactly one row.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Outcome(enum.Enum):
    """How an invocation ended. The user's fault and the engine's never mix."""

    __hash__ = object.__hash__  # enum's own is a call in Python, some ten times for each run

    OK = "ok"  # the handler returned
    HANDLER_ERROR = "handler_error"  # the handler raised, or returned what cannot be sent
    INIT_ERROR = "init_error"  # module code failed, or there is no such handler
    TIMEOUT = "timeout"  # the time was up and the sandbox was killed
    OUT_OF_MEMORY = "out_of_memory"  # the kernel killed the sandbox at its memory tier
    EXITED = "exited"  # the process ended by its own doing
    CANCELLED = "cancelled"  # the caller left and the sandbox was killed
    THROTTLED = "throttled"  # nothing ran: no concurrency was free
    REFUSED = "refused"  # nothing ran: bad request or no permission
    ENGINE_FAULT = "engine_fault"  # the engine failed


class StartKind(enum.Enum):
    """How a sandbox came to be. All but WARM are cold starts."""

    __hash__ = object.__hash__  # as above

    WARM = "warm"  # has served before
    PARKED = "parked"  # forked and isolated ahead of need
    TEMPLATE = "template"  # forked from a zygote grown after this function's init phase
    FORK = "fork"  # forked from a zygote for this invocation
    EXEC = "exec"  # started from nothing


class Row(NamedTuple):
    """What an outcome is called outside."""

    proto: str  # engine.v1.Outcome
    grpc: str  # grpc.StatusCode: OK where the failure travels inside a successful response
    http: int  # status of the Invoke operation
    aws: str  # errorType of AWS's document where the function itself names none; "" where there is no document


OUTCOMES: dict[Outcome, Row] = {
    Outcome.OK: Row("OUTCOME_OK", "OK", 200, ""),
    Outcome.HANDLER_ERROR: Row("OUTCOME_HANDLER_ERROR", "OK", 200, "Unhandled"),
    Outcome.INIT_ERROR: Row("OUTCOME_INIT_ERROR", "OK", 200, "Runtime.ImportModuleError"),
    Outcome.TIMEOUT: Row("OUTCOME_TIMEOUT", "OK", 200, "Sandbox.Timedout"),
    Outcome.OUT_OF_MEMORY: Row("OUTCOME_OUT_OF_MEMORY", "OK", 200, "Runtime.ExitError"),
    Outcome.EXITED: Row("OUTCOME_EXITED", "OK", 200, "Runtime.ExitError"),
    Outcome.CANCELLED: Row("OUTCOME_CANCELLED", "CANCELLED", 499, ""),
    Outcome.THROTTLED: Row("OUTCOME_THROTTLED", "RESOURCE_EXHAUSTED", 429, "TooManyRequestsException"),
    Outcome.REFUSED: Row("OUTCOME_REFUSED", "INVALID_ARGUMENT", 400, "InvalidParameterValueException"),
    Outcome.ENGINE_FAULT: Row("OUTCOME_ENGINE_FAULT", "INTERNAL", 500, "ServiceException"),
}

FUNCTION_FAILED = frozenset(
    {Outcome.HANDLER_ERROR, Outcome.INIT_ERROR, Outcome.TIMEOUT, Outcome.OUT_OF_MEMORY, Outcome.EXITED}
)
"""The outcomes that are the function's own failure: a successful call that carries a function error."""
