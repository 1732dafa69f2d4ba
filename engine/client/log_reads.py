"""Which lines of a function's log a caller of `logs` wants, whichever way the call goes.

Leaves to others: reading them. Imports no gRPC, which an engine in the caller's process does without.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from engine.errors import InvalidArgument
from engine.observe.log_query import NO_END, LogQuery

When = datetime | timedelta | None
"""A moment (without a time zone: this machine's time), or how long ago."""


def log_query(request_id: str, limit: int, since: When, until: When, contains: str | bytes) -> LogQuery:
    """The conditions together. Raises InvalidArgument for a limit below 0 and a time that no calendar has."""
    if limit < 0:
        raise InvalidArgument(
            f"{limit} lines cannot be sent", fix="use 0 for all", fields={"limit": "must not be negative"}
        )
    now = datetime.now(UTC)
    return LogQuery(
        request_id=request_id,
        since_us=0 if since is None else _microseconds("since", since, now),
        until_us=NO_END if until is None else _microseconds("until", until, now),
        contains=contains.encode() if isinstance(contains, str) else contains,
        limit=limit,
    )


def _microseconds(name: str, when: datetime | timedelta, now: datetime) -> int:
    """Since the epoch; not before it, since nothing of a log is."""
    try:
        moment = now - when if isinstance(when, timedelta) else when.astimezone(UTC)
    except (OverflowError, ValueError, OSError):
        raise InvalidArgument(
            f"{name}={when} is not a time",
            fix="give a datetime, or a timedelta for how long ago",
            fields={name: "must be a time"},
        ) from None
    return max(0, (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
