"""What sandboxes use now, all together and one by one, read from the engine's cgroups.

For who looks from time to time: a file is opened and read for each question, some 15 µs. What the host does not count
is 0. Sources: cgroup-v1/memory.rst, cgroup-v1/cpuacct.rst and cgroup-v2.rst of the kernel's documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.model.metrics import Usage

_MEMORY = (("unified", "memory.current"), ("memory", "memory.usage_in_bytes"))
"""Where the memory in use stands, in the hierarchies of LinuxPool.cgroup_directories: v2 first."""


def usage_of_all(directories: Mapping[str, str]) -> Usage:
    """Of all sandboxes together; CPU time of those included that are gone."""
    cpu_us = 0
    stat = _read(directories.get("unified", ""), "cpu.stat")
    if stat.startswith("usage_usec "):
        cpu_us = int(stat.split(maxsplit=2)[1])
    elif spent_ns := _read(directories.get("cpuacct", ""), "cpuacct.usage"):
        cpu_us = int(spent_ns) // 1_000
    return Usage(_memory(directories, ""), cpu_us)


def memory_of_each(directories: Mapping[str, str], sandbox_ids: Iterable[str]) -> dict[str, int]:
    """Bytes of each sandbox that is still there."""
    return {one: found for one in sandbox_ids if (found := _memory(directories, one))}


def _memory(directories: Mapping[str, str], leaf: str) -> int:
    for hierarchy, file in _MEMORY:
        if found := _read(directories.get(hierarchy, ""), f"{leaf}/{file}" if leaf else file):
            return int(found)
    return 0


def _read(directory: str, file: str) -> str:
    if not directory:
        return ""
    try:
        with open(f"{directory}/{file}", encoding="ascii") as opened:
            return opened.read()
    except OSError:  # the sandbox is gone, or this hierarchy does not have it
        return ""
