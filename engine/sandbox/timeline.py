"""Where the time of a start and of a run went, and what memory the guest has: for an event that asks.

Three tell: the engine its own moments, the sandbox those of its set-up before any user code was in it, and the guest
its own. The last is hostile: a moment of it that is not within its run is dropped, and its counts are bounded. Leaves
to others: what the moments are counted from (engine.invoke). A start that nobody asks about pays for a few readings of
the clock, a warm run for none.
"""

from __future__ import annotations

import asyncio
import struct
import time

from msgspec.structs import replace

from engine.errors import SandboxFault
from engine.guest import wire
from engine.model.invocation import Cost
from engine.sandbox import box
from engine.sandbox.api import Ending
from engine.sandbox.parts import Parts
from engine.sandbox.process_usage import memory_of

Mark = tuple[str, int]
"""What had just been done, and time.monotonic_ns() then."""
_BOOT = struct.Struct(f"={len(box.BOOT_MARKS)}Q")
_GUEST = ("guest_read", "guest_prepared", "guest_imported", "guest_ready", "guest_answered")
_MOST_FAULTS = 2**40


class Timeline:
    """Of one sandbox: of its start and its first run, then of one run after the other."""

    __slots__ = ("_boot", "_said", "marks")

    def __init__(self) -> None:
        """It is decided to start one."""
        self.marks: list[Mark] = [("leased", time.monotonic_ns())]
        self._boot = b""
        self._said: tuple[int, ...] = ()

    @property
    def started_ns(self) -> int:
        """When that was."""
        return self.marks[0][1]

    def add(self, phase: str) -> int:
        """This has just been done. Returns the moment."""
        now = time.monotonic_ns()
        self.marks.append((phase, now))
        return now

    def booted(self, body: bytes | bytearray) -> int:
        """The guest is there; `body` is its HELLO's. Returns the moment."""
        self._boot = bytes(body)
        return self.add("booted")

    def again(self) -> None:
        """Another run begins."""
        self.marks.clear()
        self._boot, self._said = b"", ()

    def told(self, body: bytes | bytearray) -> None:
        """The guest told its own moments: a TIMELINE frame's body."""
        self._said = wire.MOMENTS.unpack(body) if len(body) == wire.MOMENTS.size else ()

    def moments(self, asked: bool) -> tuple[Mark, ...]:
        """The engine's, and if they are asked for the others' too; in no order."""
        if not asked:
            return tuple(self.marks)
        boot = _BOOT.unpack(self._boot) if len(self._boot) == _BOOT.size else ()
        framed = next((at for phase, at in self.marks if phase == "framed"), 0)
        now = time.monotonic_ns()
        return (
            *self.marks,
            *((f"box_{name}", at) for name, at in zip(box.BOOT_MARKS, boot, strict=False)),
            *((phase, at) for phase, at in zip(_GUEST, self._said, strict=False) if framed < at < now),
        )

    def cost(self) -> Cost:
        """The page faults that the guest told of."""
        if not self._said:
            return Cost()
        read_minor, read_major, ready_minor, ready_major, minor, major = self._said[len(_GUEST) :]
        warm = not self._said[3]  # it was ready long ago
        return Cost(
            boot_minor_faults=0 if warm else _count(read_minor, 0),
            boot_major_faults=0 if warm else _count(read_major, 0),
            init_minor_faults=0 if warm else _count(ready_minor, read_minor),
            init_major_faults=0 if warm else _count(ready_major, read_major),
            handler_minor_faults=_count(minor, read_minor if warm else ready_minor),
            handler_major_faults=_count(major, read_major if warm else ready_major),
        )


def _count(after: int, before: int) -> int:
    return min(max(0, after - before), _MOST_FAULTS)


async def weighed(ending: Ending, parts: Parts) -> Ending:
    """The same with the memory that the guest has now; takes a thread some 0.3 ms for each 25 MB of it, and 0 where it
    is gone."""
    return (
        ending
        if not ending.reusable
        else await asyncio.get_running_loop().run_in_executor(None, _weighed, ending, parts)
    )


def _weighed(ending: Ending, parts: Parts) -> Ending:
    private_bytes, shared_bytes = memory_of(parts.pid)
    try:
        kernel_bytes = parts.leaf.kernel()
    except SandboxFault:  # this kernel does not tell
        kernel_bytes = 0
    cost = replace(ending.cost, private_bytes=private_bytes, shared_bytes=shared_bytes, kernel_bytes=kernel_bytes)
    return replace(ending, cost=cost, timeline=(*ending.timeline, ("weighed", time.monotonic_ns())))
