"""The test's end of the step counter: the page that the debug build of the box shares; see native/box/steps.h."""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_HEAD = struct.Struct("<IIII64s")
_RECORD = struct.Struct("<60sI")
_RECORDS = 1024
_OFF, _ARMED, _STOPPED, _RELEASED = range(4)


class Step(NamedTuple):
    """One place, the nth time that it is reached."""

    name: str
    nth: int

    def __str__(self) -> str:
        return f"{self.name} #{self.nth}"


class StepsPage:
    """A page in a file, for processes of the debug build that are given its path in CLEAVE_STEPS_PAGE."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = _HEAD.size + _RECORDS * _RECORD.size
        path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size)

    def close(self) -> None:
        """Nobody waits here any more."""
        self.release()
        self._memory.close()

    def arm(self, step: Step | None = None) -> None:
        """Forget what was reached, and count from here on; the process that reaches `step` waits there."""
        self._memory[:] = bytes(len(self._memory))
        name = step.name.encode() if step else b""
        _HEAD.pack_into(self._memory, 0, _ARMED, 0, step.nth if step else 0, 0, name)

    def off(self) -> None:
        """Count no more."""
        struct.pack_into("<I", self._memory, 0, _OFF)

    @property
    def stopped(self) -> bool:
        """Whether somebody waits at the step."""
        return bool(struct.unpack_from("<I", self._memory)[0] == _STOPPED)

    def wait(self, unless: Callable[[], bool], within_s: float = 30.0) -> bool:
        """Wait until somebody waits at the step; False if `unless` comes true before that."""
        until = time.monotonic() + within_s
        while not self.stopped:
            if unless():
                return self.stopped
            assert time.monotonic() < until, "the step was not reached, and the scenario did not end either"
            time.sleep(0.0005)
        return True

    def release(self) -> None:
        """Let whoever waits go on; nobody waits again until the next `arm`."""
        struct.pack_into("<I", self._memory, 0, _RELEASED)

    def reached(self) -> list[Step]:
        """What was reached since `arm`, in order."""
        count = struct.unpack_from("<I", self._memory, 4)[0]
        assert count <= _RECORDS, "more steps than the page has room for"
        seen: dict[str, int] = {}
        steps = []
        for which in range(count):
            raw, whole = _RECORD.unpack_from(self._memory, _HEAD.size + which * _RECORD.size)
            if whole:
                name = raw.rstrip(b"\0").decode()
                seen[name] = seen.get(name, 0) + 1
                steps.append(Step(name, seen[name]))
        return steps
