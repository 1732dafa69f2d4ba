"""How many sandboxes of each shape should be parked: by the starts of the last minute, within a floor, a ceiling and a
memory budget.

A burst is answered by what is parked when it comes, and the pool is refilled while it goes on: so a shape gets as many
as were started in its busiest second of the last minute, and half as many again. Pure bookkeeping: no clock, no kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from engine.sandbox.parking import Shape

WINDOW_S = 60
_GUESSED_BYTES = 4 << 20
"""What a parked sandbox takes, until one was measured."""


class ParkSettings(msgspec.Struct, frozen=True):
    """How many to keep."""

    floor: int = 0  # of the default shape, also when nothing was started for long
    ceiling: int = 0  # of all shapes together; 0 parks none
    memory_mb: int = 256  # what all parked ones may take together
    free_mb: int = 0  # of the host's memory that has to be left beside them
    rate_per_s: float = 100.0  # at which they are made


@dataclass(slots=True)
class _Starts:
    """Of one shape: [second, starts in it], oldest first, and the memory that the last one asked for."""

    seconds: deque[list[int]] = field(default_factory=deque)
    memory_mb: int = 128


class Demand:
    """What was started lately."""

    def __init__(self, settings: ParkSettings, default: Shape) -> None:
        self._settings = settings
        self._default = default
        self._starts: dict[Shape, _Starts] = {default: _Starts()}
        self._bytes = _GUESSED_BYTES

    def started(self, shape: Shape, memory_mb: int, now_s: float) -> None:
        """A sandbox of this shape was asked for."""
        starts = self._starts.setdefault(shape, _Starts())
        starts.memory_mb = memory_mb
        if starts.seconds and starts.seconds[-1][0] == int(now_s):
            starts.seconds[-1][1] += 1
        else:
            starts.seconds.append([int(now_s), 1])

    def forget(self, runtimes: Collection[str]) -> None:
        """Nobody is expected to ask for these; the default shape keeps its floor."""
        for shape in [shape for shape in self._starts if shape.runtime in runtimes]:
            if shape == self._default:
                self._starts[shape] = _Starts()
            else:
                del self._starts[shape]

    def measured(self, used_bytes: int) -> None:
        """A parked sandbox takes so much memory."""
        if used_bytes:  # a host that counts nobody's memory says 0
            self._bytes = used_bytes

    def memory_mb(self, shape: Shape) -> int:
        """The memory that the last function of this shape asked for: the best guess for the next."""
        starts = self._starts.get(shape)
        return starts.memory_mb if starts else 128

    def targets(self, now_s: float) -> Mapping[Shape, int]:
        """How many of each shape should be there; the busiest come first. Forgets shapes that nobody asked for in the
        last minute."""
        wanted: dict[Shape, int] = {}
        for shape, starts in list(self._starts.items()):
            while starts.seconds and starts.seconds[0][0] < now_s - WINDOW_S:
                starts.seconds.popleft()
            busiest = max((count for _, count in starts.seconds), default=0)
            need = busiest + (busiest + 1) // 2
            if shape == self._default:
                need = max(need, self._settings.floor)
            elif not need:
                del self._starts[shape]
                continue
            wanted[shape] = need
        room = min(self._settings.ceiling, (self._settings.memory_mb << 20) // self._bytes)
        found = {}
        for shape, need in sorted(wanted.items(), key=lambda item: -item[1]):
            found[shape] = min(need, room)
            room -= found[shape]
        return found
