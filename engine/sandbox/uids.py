"""The user ids of sandboxes: one each, from a range of the engine's own.

Two engines on a host must not share ids: the kernel counts a user's processes over all of the host (RLIMIT_NPROC), so
that one engine's fork bomb would stop another's sandboxes from starting. A range that the data directory decides by its
random id is the same after a restart and hardly ever another's.
"""

from __future__ import annotations

import heapq
import itertools

from engine.errors import SandboxFault

FIRST = 0x7000_0000
"""Above what distributions and systemd give to users and containers: systemd.io/UIDS-GIDS."""
_LIMIT = 2**31  # uids from here on are negative to programs that keep them in an int


def base_of(instance_id: str, count: int) -> int:
    """The first of `count` ids for the engine with this id (hexadecimal)."""
    ranges = (_LIMIT - FIRST) // count
    return FIRST + int(instance_id, 16) % ranges * count


class Uids:
    """Which of the range are in use. The lowest that is free is taken next."""

    def __init__(self, base: int, count: int) -> None:
        self.base = base
        self.count = count
        self._free: list[int] = []
        self._next = itertools.count()

    def take(self) -> tuple[int, int]:
        """A slot of the range, to be given back, and its id. Raises SandboxFault where all are in use."""
        slot = heapq.heappop(self._free) if self._free else next(self._next)
        if slot >= self.count:
            raise SandboxFault("user ids", 0, f"all {self.count} are in use", fix="lower max_sandboxes")
        return slot, self.base + slot

    def give_back(self, slot: int) -> None:
        """Nothing of its sandbox is left."""
        heapq.heappush(self._free, slot)
