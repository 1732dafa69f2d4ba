"""AWS's error documents for endings of which the function itself could say nothing: one table over Outcome.

Leaves to others: the documents that a function's own runtime makes (engine.guest), which pass verbatim. Guarantees:
each outcome that is a function's own failure has a document. Texts: those of AWS Lambda.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import orjson

from engine.model.invocation import FunctionError
from engine.model.outcome import OUTCOMES, Outcome
from engine.sandbox.api import Ending


class Facts(NamedTuple):
    """What a document speaks of."""

    request_id: str
    timeout_ms: int
    exit_status: str = ""


def timed_out(limit_ms: int) -> str:
    """AWS's words for it."""
    return f"Task timed out after {limit_ms / 1000:.2f} seconds"


def _exited(facts: Facts) -> str:
    if not facts.exit_status:
        return "Runtime exited without providing a reason"
    return f"Runtime exited with error: {facts.exit_status}"


MESSAGES: Mapping[Outcome, Callable[[Facts], str]] = MappingProxyType(
    {
        Outcome.TIMEOUT: lambda facts: timed_out(facts.timeout_ms),
        Outcome.OUT_OF_MEMORY: lambda facts: "Runtime exited with error: signal: killed",
        Outcome.EXITED: _exited,
        Outcome.INIT_ERROR: lambda facts: "The function's init phase failed without saying why",
        Outcome.HANDLER_ERROR: lambda facts: "The function failed without saying why",
    }
)
"""What comes after "RequestId: … Error: "."""


def error_message(outcome: Outcome, facts: Facts) -> str:
    """The errorMessage, which is also what the log says of a process that ended."""
    return f"RequestId: {facts.request_id} Error: {MESSAGES[outcome](facts)}"


def function_error(ending: Ending, facts: Facts) -> FunctionError:
    """The error of an ending that is a function's own failure: the sandbox's own document if there is one."""
    if ending.error is not None:
        return ending.error
    error_type = OUTCOMES[ending.outcome].aws
    document = {"errorType": error_type, "errorMessage": error_message(ending.outcome, facts)}
    return FunctionError(error_type, orjson.dumps(document))
