"""What an engine has on its host, seen from outside of it; and a function that a test can hold in the middle of an
event."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil


async def until(condition: Callable[[], Any], *, within_s: float = 10.0, what: str = "") -> Any:
    """Wait for what happens outside of this process, of which nobody tells."""
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {within_s:g} s: {what or condition}"
        await asyncio.sleep(0.005)
    return found


def instance_of(data_dir: Path) -> str:
    """The id of a data directory."""
    return (data_dir / "instance").read_text().strip()


def cgroups_of(instance: str) -> list[str]:
    """Directories of an engine, and the leaves below."""
    roots = Path("/sys/fs/cgroup").glob(f"*/cleave-{instance}")
    unified = Path(f"/sys/fs/cgroup/cleave-{instance}")
    return [folder for root in (*roots, unified) for folder, _, _ in os.walk(root)]


def leaves_of(instance: str) -> list[str]:
    """Its sandboxes' cgroups."""
    return [folder for folder in cgroups_of(instance) if not folder.endswith(instance)]


def members_of(instance: str) -> list[int]:
    """The processes in its sandboxes, grandchildren and all."""
    found = set()
    for folder in leaves_of(instance):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()}
    return sorted(found)


HOLD = """
    import os, secrets, time
    me = secrets.token_hex(8)
    calls = 0

    def handler(event, context):
        global calls
        calls += 1
        if event.get("hold"):
            open("/tmp/waits", "w").close()
            while os.path.exists("/tmp/waits"):
                time.sleep(0.002)
        return {"me": me, "calls": calls}
"""
"""A function that a test can hold, with {"hold": true}, and let go with `let_go`."""


def waiting(instance: str) -> dict[str, Path]:
    """What holds each sandbox of HOLD that is held, by the sandbox's id: a file in its /tmp."""
    found = {}
    for leaf in sorted(leaves_of(instance)):
        with contextlib.suppress(OSError):
            for pid in Path(leaf, "cgroup.procs").read_text().split():
                held_by = Path("/proc", pid, "root/tmp/waits")
                if held_by.exists():
                    found[Path(leaf).name] = held_by
    return found


async def held(instance: str, count: int) -> dict[str, Path]:
    """Wait until so many are held."""

    def enough() -> dict[str, Path] | None:
        found = waiting(instance)
        return found if len(found) >= count else None

    found: dict[str, Path] = await until(enough, within_s=30, what=f"{count} sandboxes hold")
    return found


async def let_go(instance: str, count: int = 1) -> None:
    """Wait until so many are held, and let them go."""
    for file in (await held(instance, count)).values():
        file.unlink()


def loops_of(data_dir: Path) -> list[str]:
    """Loop devices over its files."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if str(data_dir) in path.read_text():
                found.append(path.parts[3])
    return found


def mounts_of(data_dir: Path, pid: int | str = "self") -> list[str]:
    """Mounts at or over its folder."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return [line for line in lines if str(data_dir) in line]


def networks_of(pid: int) -> int:
    """Network namespaces that a process holds by a descriptor."""
    found = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/{pid}/fd/{fd}").startswith("net:")
    return found


def zombies_of(pid: int) -> list[int]:
    """Children that ended and were not waited for."""
    return [
        child.pid for child in psutil.Process(pid).children(recursive=True) if child.status() == psutil.STATUS_ZOMBIE
    ]


async def nothing_left(data_dir: Path) -> None:
    """Hold a stopped engine to having left its data and nothing else."""
    instance = instance_of(data_dir)
    await until(lambda: not loops_of(data_dir), within_s=5, what="loop devices gone")
    assert cgroups_of(instance) == []
    assert mounts_of(data_dir) == []
    assert [process for process in psutil.process_iter(["cmdline"]) if _speaks_of(process, str(data_dir))] == []
    assert {path.name for path in data_dir.iterdir()} <= DATA


def _speaks_of(process: psutil.Process, text: str) -> bool:
    return any(text in part for part in process.info["cmdline"] or ())


DATA = {"lock", "instance", "code", "logs", "scratch", "registry.db", "attached.db", "events.db"}
"""What a data directory holds when no engine runs."""
