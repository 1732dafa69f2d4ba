"""Whose a thing is that a command makes for the time of its run, and whether that run is still under way.

A command that is killed with -9 cleans nothing up; the next one does, and leaves alone what another is using: so what
is made bears the mark of its process in its name. Marks of other hosts and of earlier boots say nothing of a process
here.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_MARK = re.compile(r"([0-9a-f]{8})-([0-9a-f]+)-([0-9a-f]+)")
_STARTED = 19  # of the fields of /proc/PID/stat after the name; proc(5) counts from the start


def mark() -> str:
    """This process's."""
    return f"{_here()}-{os.getpid():x}-{_started(os.getpid()) or 0:x}"


def is_gone(name: str) -> bool | None:
    """Whether the process whose mark is in `name` has ended; None where that cannot be told from here."""
    found = _MARK.search(name)
    if found is None or found[1] != _here():
        return None
    return _started(int(found[2], 16)) != int(found[3], 16)


@contextlib.contextmanager
def own_folder(prefix: str) -> Iterator[Path]:
    """A folder that goes with the context; and before, those that killed runs on this host left."""
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if is_gone(left.name):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{mark()}-") as folder:
        yield Path(folder)


def ending_with_this(command: list[str]) -> list[str]:
    """The command, told by SIGTERM to end when the thread that starts it does, whatever that dies of."""
    return [sys.executable, "-m", __name__, str(os.getpid()), *command]


@functools.cache
def _here() -> str:
    """This host since it booted, and the PID namespace in which its processes have their numbers."""
    try:
        said = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return "0" * 8
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def _started(pid: int) -> int | None:
    """When it started, in the kernel's ticks; None where there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_STARTED])
    except OSError:
        return None


def _run(parent: int, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == parent:  # it lived when it was asked to tell
        os.execv(command[0], command)


if __name__ == "__main__":
    _run(int(sys.argv[1]), sys.argv[2:])
