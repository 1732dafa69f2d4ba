"""Counts of what the engine makes on its host and takes away again, and of what befell its sandboxes.

Leaves to others who shows them (`cleave doctor`, GetHost). Guarantees: thread-safe; what was made and not yet removed
is what is there, so that at the end of an engine the two are equal.
"""

from __future__ import annotations

import enum
import threading

from engine.model.host import EventCount, ResourceCount
from engine.model.outcome import Outcome


class Resource(enum.Enum):
    """What the engine makes on its host."""

    SANDBOXES = "sandboxes"  # from the decision to start one until nothing of it is left
    PARKED = "parked"  # sandboxes made ahead of need, until one becomes a function's or is given up
    LEAVES = "leaves"  # cgroup directories of one sandbox, in all hierarchies together; those that wait too
    TMP_MOUNTS = "tmp_mounts"  # those that wait too; one that is emptied and used again counts once
    ZYGOTES = "zygotes"
    NETWORKS = "networks"  # network namespaces made ahead of a sandbox


class Happening(enum.Enum):
    """What can befall a sandbox, or the removal of one."""

    OUT_OF_MEMORY = "out_of_memory"  # runs that the kernel killed at the memory tier
    TIMEOUT = "timeouts"  # runs whose time was up
    DISK_FULL = "full_disks"  # runs that stored in /tmp while the disk under it was full
    START_FAILED = "failed_starts"  # starts that ended in an error; what they had made was taken away
    PARKED_LOST = "lost_parked"  # sandboxes that died, or could not be used, before they had a function
    PARKED_MISSED = "missed_parked"  # starts that forked, since none of their shape was parked
    MEMORY_SHORT = "short_memory"  # times that the host had too little memory left for any to be parked
    ZYGOTE_LOST = "lost_zygotes"  # zygotes that died, or did not answer, and were replaced
    ZYGOTE_ROTATED = "rotated_zygotes"  # zygotes that were old, or had forked often, and were replaced
    ROTATION_FAILED = "failed_rotations"  # those for which no other could be made: they go on
    PRELOAD_REFUSED = "refused_preloads"  # zygotes that were not made, for a module that was to be imported ahead
    FAREWELL = "farewells"  # sandboxes whose function heard of their end, and had ended by itself
    FAREWELL_LATE = "late_farewells"  # those that were killed, since it had not
    REMOVAL_RETRIED = "retried_removals"  # steps of a removal that failed and were tried again
    REMOVAL_LATE = "late_removals"  # sandboxes whose close returned before the last of them was gone


_OF_RUNS = {Outcome.OUT_OF_MEMORY: Happening.OUT_OF_MEMORY, Outcome.TIMEOUT: Happening.TIMEOUT}


class Counts:
    """One engine's, from its start on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = dict.fromkeys(Resource, 0)
        self._removed = dict.fromkeys(Resource, 0)
        self._happened = dict.fromkeys(Happening, 0)

    def made(self, resource: Resource) -> None:
        """One more is there."""
        with self._lock:
            self._made[resource] += 1

    def removed(self, resource: Resource) -> None:
        """One of them is gone, wholly."""
        with self._lock:
            self._removed[resource] += 1

    def happened(self, what: Happening) -> None:
        """It happened once more."""
        with self._lock:
            self._happened[what] += 1

    def ended(self, outcome: Outcome) -> None:
        """A run ended so."""
        if outcome in _OF_RUNS:
            self.happened(_OF_RUNS[outcome])

    def alive(self, resource: Resource) -> int:
        """How many are there."""
        with self._lock:
            return self._made[resource] - self._removed[resource]

    def resources(self) -> tuple[ResourceCount, ...]:
        """All of them, also those of which there was none."""
        with self._lock:
            return tuple(ResourceCount(kind.value, self._made[kind], self._removed[kind]) for kind in Resource)

    def events(self) -> tuple[EventCount, ...]:
        """All of them, also those that never happened."""
        with self._lock:
            return tuple(EventCount(kind.value, self._happened[kind]) for kind in Happening)
