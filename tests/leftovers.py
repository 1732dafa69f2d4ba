"""What a test run can leave on its host, looked at before and after.

Other engines and other runs may live on the host meanwhile, so a thing counts as this run's only where it leads back to
this run: a child process of it, or the instance id or a path of a data directory that it made. What cannot be told
apart from others' is not reported, unless the host is the run's alone.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
NETNS = Path("/run/netns")
LINK = "clv"
INSTANCE_FILE = "instance"
"""In a data directory: the id that all its engine makes carries."""


@dataclass(frozen=True)
class Host:
    """What there is: each a readable name, so that a difference can be shown as it is."""

    processes: frozenset[str]
    cgroups: frozenset[str]
    loops: frozenset[str]
    mounts: frozenset[str]
    netns: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]


def look() -> Host:
    """The host as it is: descendants of this process, and the engine's kinds of things of anybody."""
    return Host(
        processes=frozenset(_processes()),
        cgroups=frozenset(_cgroups()),
        loops=frozenset(_loops()),
        mounts=frozenset(_mounts()),
        netns=frozenset(path.name for path in _listed(NETNS)),
        links=frozenset(name for _, name in socket.if_nameindex()),
        tables=frozenset(_tables()),
    )


def left(before: Host, after: Host, roots: Iterable[Path], *, alone: bool = False) -> list[str]:
    """What is there after and was not before, and is this run's: each a line for people. `alone`: what carries the
    engine's name is this run's, since nobody else's engine is there."""
    folders = [str(root) for root in roots]
    marks = ["cleave-"] if alone else []
    marks += folders + [mark for root in roots for mark in _instances(root)]

    # The name of an interface has no room for the whole of an id, and that of a table none for a hyphen.
    short = [LINK + mark[:12] for mark in marks] + ([LINK, "cleave_"] if alone else [])

    def ours(name: str) -> bool:
        return any(mark in name for mark in marks) or any(name.startswith(mark) for mark in short)

    lines = [f"process {name}" for name in sorted(after.processes - before.processes)]
    for kind in ("cgroups", "loops", "mounts", "netns", "links", "tables"):
        extra: frozenset[str] = getattr(after, kind) - getattr(before, kind)
        lines += [f"{kind.rstrip('s')} {name}" for name in sorted(extra) if ours(name)]
    return lines


def _processes() -> Iterable[str]:
    for child in psutil.Process().children(recursive=True):
        try:
            yield f"{child.pid} {child.status()} {' '.join(child.cmdline()) or child.name()}"
        except psutil.NoSuchProcess:
            continue


def _cgroups() -> Iterable[str]:
    for folder, names, _ in os.walk(CGROUPS):
        yield from (f"{folder}/{name}" for name in names if "cleave" in f"{folder}/{name}")


def _loops() -> Iterable[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            yield f"{path.parts[3]} on {path.read_text().strip()}"
        except OSError:
            continue


def _mounts() -> Iterable[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        yield f"{fields[4]} ({fields[fields.index('-') + 2]})"


def _tables() -> Iterable[str]:
    nft = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if nft is not None and os.geteuid() == 0:
        said = subprocess.run([nft, "list", "tables"], capture_output=True, text=True, timeout=20).stdout
        yield from (line.split()[-1] for line in said.splitlines())


def _instances(root: Path) -> Iterable[str]:
    for path in root.rglob(INSTANCE_FILE):
        try:
            text = path.read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) >= 6:
            yield text


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
