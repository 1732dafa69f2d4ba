"""What a scheduler holds its callers to, and how a refusal reads.

The rules and their names are AWS Lambda's: docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html and
scaling-behavior.html, and API_Invoke.html for the reasons. native/sched/admit.c applies them.
"""

from __future__ import annotations

from engine.errors import InvalidArgument, Throttled, Unavailable
from engine.scheduler import core

KEPT_UNRESERVED = 100
"""Of the account's concurrency, what no function can have for itself."""
BURST_S = 10
"""The time in which the burst of starts comes back."""

_FIX = {
    core.CONCURRENCY: "try again after the time given, or raise the engine's max_concurrency",
    core.RESERVED_CONCURRENCY: "try again after the time given, or reserve more concurrency for the function",
    core.RATE: "send fewer requests a second, or raise the engine's max_concurrency or requests_per_concurrency",
    core.RESERVED_RATE: "send fewer requests a second, or reserve more concurrency for the function",
    core.BURST: "try again after the time given, or raise the engine's burst_sandboxes",
}


def throttled(reason: int, retry_after_ms: int, limit: int) -> Throttled:
    """What the caller of a throttled event is told. `reason` is one of the native scheduler's."""
    return Throttled(
        "Rate Exceeded.",
        throttle_reason=core.REASON_NAMES[reason],
        retry_after_ms=retry_after_ms,
        fix=_FIX[reason],
        metadata={"limit": str(limit)},
    )


def not_reserved(error: core.Rejected | OverflowError, what: str, number: int | None, limit: int) -> InvalidArgument:
    """A reservation, or provisioned concurrency, for which there is not enough."""
    code = error.code if isinstance(error, core.Rejected) else core.VALUE
    if code == core.UNRESERVED:
        why = f"{number} would leave less than {KEPT_UNRESERVED} of the account's {limit} to functions without any"
        fix = "take less, or raise the engine's max_concurrency"
    elif code == core.PROVISIONED:
        why = f"{number} does not fit: a function's provisioned concurrency is part of what is reserved for it"
        fix = "reserve more for the function, or provision less of it"
    else:
        why, fix = f"{number} is no number of sandboxes", "give a whole number from 0 on"
    return InvalidArgument(f"The {what} cannot be set: {why}.", fix=fix, fields={what: why})


def draining() -> Unavailable:
    """The engine takes nothing any longer."""
    return Unavailable(
        "The engine is shutting down and takes no new invocations.",
        fix="try again when the engine is back, or invoke another one",
    )


def killed() -> Unavailable:
    """The engine did not wait for this event to end."""
    return Unavailable(
        "The engine shut down before the function ended.",
        fix="invoke again when the engine is back; the function may have run in part",
    )
