"""Watches a sandbox's processes end, from a process of its own that nothing of the engine can hold up.

Reads lines from standard input, each the path of a cgroup.procs file, how many processes to wait for, and "notes" where
they note the time in their /tmp/notes. Answers "seen" once there are so many, and then, when the last process has ended
and the file is empty, the moment of that and the newest note, in nanoseconds of CLOCK_MONOTONIC; 0 where none is. A
pidfd tells of an end without asking again and again; the file tells of processes that were forked later. Standard
library only.
"""

from __future__ import annotations

import array
import os
import resource
import select
import sys
import time


def members(path: str) -> list[int]:
    """The processes in it; none where it is gone."""
    try:
        with open(path) as file:
            return [int(line) for line in file]
    except OSError:
        return []


def gone_ns(path: str, count: int, notes: bool) -> tuple[int, int]:
    """See above."""
    while len(found := members(path)) < count:
        time.sleep(0.002)
    noted = os.open(f"/proc/{found[-1]}/root/tmp/notes", os.O_RDONLY) if notes else -1
    poller = select.poll()
    pidfds = set()
    for pid in found:
        try:
            pidfds.add(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    for pidfd in pidfds:
        poller.register(pidfd, select.POLLIN)
    print("seen", flush=True)
    while pidfds:
        for pidfd, _ in poller.poll():
            poller.unregister(pidfd)
            pidfds.remove(pidfd)
            os.close(pidfd)
    while members(path):
        pass
    gone = time.monotonic_ns()
    if noted < 0:
        return gone, 0
    with os.fdopen(noted, "rb") as file:
        return gone, max(array.array("q", file.read()))


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for line in sys.stdin:
        folder, number, notes = line.split()
        print(*gone_ns(folder, int(number), notes == "notes"), flush=True)
