"""Room for sandboxes: one slot for each that exists, from the decision to start it until nothing of it is left.

Leaves to others: which sandbox has to go when there is no room. Guarantees: no more slots are out than the limit; those
who wait are served in their order; a slot given to somebody who left meanwhile goes to the next.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """At most `limit` slots at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """Slots that are out."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    def try_take(self) -> bool:
        """Take a slot if one is free; none is while somebody waits, who is given what comes back."""
        if self._taken >= self._limit:
            return False
        self._taken += 1
        return True

    async def take(self) -> None:
        """Wait for a slot. Raises what `refuse` was given."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give()  # it came in the moment of the cancellation
            raise
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def give(self) -> None:
        """Give a slot back, to the first who waits if there is one."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)  # the slot stays taken and changes its owner
                return
        self._taken -= 1

    def refuse(self, error: Exception) -> None:
        """Send everybody who waits away with `error`."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)
