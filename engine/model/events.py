"""Asynchronous invocation as every room speaks of it: how a function's events are delivered, and those that wait."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from engine.model.host import Distribution

ASYNC_EVENT_LIMIT_BYTES = 1_048_576
"""An asynchronous event, 1 MB: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
RETRIES_MOST = 2
"""Also the default: docs.aws.amazon.com/lambda/latest/dg/invocation-async-configuring.html."""
AGE_LEAST_S, AGE_MOST_S = 60, 21_600
"""Of MaximumEventAgeInSeconds; the longest is also the default: as above."""


class Dropped(enum.Enum):
    """Why an event was given up. The values of the first three are AWS's conditions of an invocation record
    (docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html)."""

    RETRIES_EXHAUSTED = "RetriesExhausted"
    EVENT_AGE_EXCEEDED = "EventAgeExceeded"
    ZERO_RESERVED_CONCURRENCY = "ZeroReservedConcurrency"
    FUNCTION_DELETED = "FunctionDeleted"
    QUALIFIER_DELETED = "QualifierDeleted"  # the version or the alias that it was for
    REFUSED = "Refused"  # what was accepted may not be run any more: a limit has changed since


@dataclass(frozen=True, slots=True)
class EventInvokeConfig:
    """How the events of a function ($LATEST), a version or an alias are delivered. None: the default."""

    function_name: str
    qualifier: str
    update_time: float  # seconds since the epoch
    maximum_retry_attempts: int | None = None  # 0 to RETRIES_MOST
    maximum_event_age_s: int | None = None  # AGE_LEAST_S to AGE_MOST_S
    on_success: str = ""  # ARNs; kept, nothing is delivered to them
    on_failure: str = ""


@dataclass(frozen=True, slots=True)
class EventInvokeChange:
    """The settings of a put or an update. None: as it is, on a put the default; "": no destination."""

    maximum_retry_attempts: int | None = None
    maximum_event_age_s: int | None = None
    on_success: str | None = None
    on_failure: str | None = None


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An event that was accepted and is not done with."""

    request_id: str
    function_name: str
    qualifier: str
    accepted_us: int  # since the epoch
    due_us: int  # not tried before; 0: as soon as there is room
    failed_attempts: int  # runs in which the function failed
    size_bytes: int
    running: bool
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class AsyncEventCounts:
    """The events of one function since the engine started, and those that wait now."""

    function_name: str
    received: int
    succeeded: int
    retried: int  # runs that failed and were to be followed by another
    dropped: tuple[tuple[str, int], ...]  # (a value of Dropped, how many)
    age: Distribution  # from acceptance until the function was invoked, at each attempt
    waiting: int = 0  # now, those that run included
    waiting_bytes: int = 0
