"""Watches a sandbox's processes end, from a process of its own that nothing of the engine can hold up.

Reads lines from standard input, each the path of a cgroup.procs file and how many processes to wait for. Answers "seen"
once there are so many, and then, when the last process has ended and the file is empty, the moment of that, in
nanoseconds of CLOCK_MONOTONIC. A pidfd tells of an end without asking again and again; the file tells of processes that
were forked later. Standard library only.
"""

from __future__ import annotations

import os
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


def gone_ns(path: str, count: int) -> int:
    """See above."""
    while len(found := members(path)) < count:
        time.sleep(0.002)
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
    return time.monotonic_ns()


if __name__ == "__main__":
    for line in sys.stdin:
        folder, number = line.rsplit(" ", 1)
        print(gone_ns(folder, int(number)), flush=True)
