"""What the processes of a sandbox have used by their own counters, for hosts on which no cgroup counts it.

The most memory is the guest's own (process 1 shares it); CPU time is that of process 1, of its children, and of
whatever those waited for. What else runs in the sandbox is not seen until it is waited for: this is the weaker form.
"""

from __future__ import annotations

import os
from pathlib import Path

_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
_PEAK = "VmHWM:"


def process_usage(pid: int) -> tuple[int, int]:
    """Of the sandbox whose process 1 is `pid`: (bytes, microseconds); zeros where it is gone."""
    return _peak(pid), sum(_cpu_us(each) for each in (pid, *_children(pid)))


def memory_of(pid: int) -> tuple[int, int]:
    """Memory that is the guest's alone, and that it shares with its zygote and others, of the sandbox whose process 1
    is `pid`: bytes, by proc_pid_smaps(5); zeros where it is gone. What its other processes have is not among it."""
    guest = next(iter(_children(pid)), pid)  # process 1 shares its memory, where the machine lets it
    kib = {"Private": 0, "Shared": 0}
    for line in _read(f"/proc/{guest}/smaps_rollup").splitlines():
        kind, separator, rest = line.partition("_")
        if separator and kind in kib and rest.startswith(("Clean:", "Dirty:")):
            kib[kind] += int(rest.split()[1])
    return kib["Private"] << 10, kib["Shared"] << 10


def _peak(pid: int) -> int:
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(_PEAK):
            return int(line.split()[1]) << 10
    return 0


def _children(pid: int) -> list[int]:
    return [int(word) for word in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _cpu_us(pid: int) -> int:
    # After the program's name in brackets: fields 14 to 17 of proc_pid_stat(5), counted from the third. In ticks of
    # some 10 ms, where the scheduler's own count of each thread that is alive is exact (kernel: sched-stats.rst).
    fields = [int(field) for field in _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[11:15]]
    exact_ns = sum(int(_read(f"/proc/{pid}/task/{thread}/schedstat").split(" ")[0] or 0) for thread in _threads(pid))
    return max(sum(fields[:2]) * _TICK_US, exact_ns // 1000) + sum(fields[2:]) * _TICK_US


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
