"""File systems of the test's own: made in an image, mounted while the test runs.

Which kinds there are is the kernel's matter: those with quotas are tried once, and what this kernel cannot mount is not
in KINDS. tests/hosts runs the same tests in a kernel that has them all, and holds that it does.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from pathlib import Path

from engine.sandbox.scratch_choice import TmpBackend

_TOOLS = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
MB = 1 << 20


@dataclass(frozen=True)
class Kind:
    """One kind, and how a /tmp on it behaves."""

    name: str
    backend: TmpBackend
    make: tuple[str, ...]
    options: str
    over: int  # the errno of a write over the quota
    limits_files: bool
    encrypts: bool
    mb: int  # of the whole, where a test does not say


_EXT4 = ("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard")
ALL = {
    kind.name: kind
    for kind in (
        Kind("ext4", "project", (*_EXT4, "-O", "project,quota,encrypt"), "prjquota", EDQUOT, True, True, 160),
        Kind("xfs", "project", ("mkfs.xfs", "-q", "-f"), "prjquota", ENOSPC, True, False, 320),
        Kind("btrfs", "btrfs", ("mkfs.btrfs", "-q", "-f"), "defaults", EDQUOT, False, False, 256),
    )
}
UNLIMITED = Kind("xfs", "project", ("mkfs.xfs", "-q", "-f"), "defaults", 0, False, False, 320)
"""Files belong to projects, and nothing is limited: as in a kernel without quotas."""


@contextlib.contextmanager
def mounted(kind: Kind, folder: Path, *, mb: int = 0) -> Iterator[Path]:
    """One of this kind, on `folder`/disk."""
    disk, image = folder / "disk", folder / "disk.image"
    disk.mkdir(parents=True)
    with open(image, "wb") as file:
        file.truncate((mb or kind.mb) * MB)
    _run(*kind.make, str(image))
    _run("mount", "-o", f"loop,{kind.options}", str(image), str(disk))
    try:
        yield disk
    finally:
        _unmount(disk)
        image.unlink()


def _run(*command: str) -> None:
    done = subprocess.run(command, env=_TOOLS, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def _unmount(disk: Path) -> None:
    """What a test ended may take the kernel a moment to let go of."""
    until = time.monotonic() + 10
    while True:
        try:
            return _run("umount", str(disk))
        except OSError:
            if time.monotonic() > until:
                _run("umount", "--lazy", str(disk))  # a test that failed may hold files of it
                raise
            time.sleep(0.05)


@functools.cache
def kinds() -> tuple[str, ...]:
    """The names of those that this kernel can mount; all where that cannot be tried. btrfs is on every distribution, so
    that its lack is a failure and not a choice."""
    if os.geteuid() != 0:
        return tuple(ALL)
    return tuple(name for name, kind in ALL.items() if name == "btrfs" or _mounts(kind))


def _mounts(kind: Kind) -> bool:
    with tempfile.TemporaryDirectory(prefix="cleave-mounts-") as made:
        try:
            with mounted(kind, Path(made)):
                return True
        except OSError as error:
            # A tool that is missing is no property of the kernel.
            if isinstance(error, FileNotFoundError):
                raise
            return False


def fill(disk: Path) -> Path:
    """Take all the room there is; returns the file that has it."""
    refused = 0
    with open(disk / "ballast", "wb", buffering=0) as file:
        while not refused:
            try:
                file.write(bytes(1 << 16))
            except OSError as error:
                refused = error.errno or -1
    assert refused == ENOSPC
    return disk / "ballast"
