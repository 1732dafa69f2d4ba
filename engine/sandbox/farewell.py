"""The end of an idle sandbox whose function has registered for it: SIGTERM and exit handlers, for a bounded time.

What runs inside is engine.guest.farewell's. A function that has registered for nothing is killed where it idles; so is
one whose event failed, and whatever has to make room for an event. Guarantees: nobody waits longer than the grace;
`kill` of the sandbox ends it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.guest import wire
from engine.sandbox.counts import Counts, Happening
from engine.sandbox.link import GuestLink


class Farewell:
    """Of one sandbox."""

    __slots__ = ("_counts", "_gone", "_link", "wanted")

    def __init__(self, link: GuestLink, gone: asyncio.Event, counts: Counts) -> None:
        self._link = link
        self._gone = gone
        self._counts = counts
        self.wanted = False  # by the guest's own word: it can say so as often as it likes

    def say(self, grace_ms: int) -> bool:
        """Tell the guest of its end, if it wants that and there is time for it; False where it can be killed."""
        return self.wanted and grace_ms > 0 and self._link.send(wire.frame(wire.LEAVE))

    async def over(self, grace_ms: int, kill: Callable[[], None], killed: Callable[[], bool]) -> None:
        """Wait for its end: after `say` for so long, and then `kill`. 0: it is killed already."""
        if grace_ms:
            try:
                async with asyncio.timeout(grace_ms / 1000):
                    await self._gone.wait()
            except TimeoutError:
                kill()
            self._counts.happened(Happening.FAREWELL_LATE if killed() else Happening.FAREWELL)
        await self._gone.wait()
