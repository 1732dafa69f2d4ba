"""Who may run: a lease for each event, or a throttle.

Leaves to others: where the event runs. Guarantees: there are never more leases out than the limit, a lease comes back
once however often it is released, and `empty` is set exactly while none is out.
"""

from __future__ import annotations

import asyncio

from engine.errors import Throttled, Unavailable

CONCURRENCY_REASON = "ConcurrentInvocationLimitExceeded"
"""AWS's Reason for a limit that the whole account shares: docs.aws.amazon.com/lambda/latest/api/API_Invoke.html."""


class Lease:
    """The right to run one event, until it is released."""

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission: Admission | None = admission

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._returned()


class Admission:
    """At most `max_concurrency` leases at once."""

    def __init__(self, max_concurrency: int, *, retry_after_ms: int = 1_000) -> None:
        self._limit = max_concurrency
        self._retry_after_ms = retry_after_ms
        self._in_use = 0
        self._open = True
        self.empty = asyncio.Event()
        self.empty.set()

    @property
    def in_use(self) -> int:
        """Leases that are out."""
        return self._in_use

    @property
    def limit(self) -> int:
        """Leases that may be out."""
        return self._limit

    def admit(self) -> Lease:
        """A lease. Raises Throttled when all are out, Unavailable once closed."""
        if not self._open:
            raise Unavailable(
                "The engine is shutting down and takes no new invocations.",
                fix="try again when the engine is back, or invoke another one",
            )
        if self._in_use >= self._limit:
            raise Throttled(
                "Rate Exceeded.",
                throttle_reason=CONCURRENCY_REASON,
                retry_after_ms=self._retry_after_ms,
                fix="try again after the time given, or raise the engine's max_concurrency",
                metadata={"limit": str(self._limit)},
            )
        if self._in_use == 0:
            self.empty.clear()
        self._in_use += 1
        return Lease(self)

    def resize(self, max_concurrency: int) -> None:
        """Another limit; leases over a smaller one run out by themselves."""
        self._limit = max_concurrency

    def close(self) -> None:
        """Refuse every further event."""
        self._open = False

    def _returned(self) -> None:
        self._in_use -= 1
        if self._in_use == 0:
            self.empty.set()
