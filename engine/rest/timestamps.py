"""Moments as AWS's clients write them: seconds since the epoch, ISO 8601, and the dates of HTTP headers.

Source: https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html (timestampFormat).
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_timestamp(value: float | str) -> datetime:
    """The moment, in UTC. One without a zone is UTC. Raises ValueError, OverflowError, OSError."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    try:
        return datetime.fromtimestamp(float(value), UTC)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = parsedate_to_datetime(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
