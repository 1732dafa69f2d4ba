"""A /tmp that is a folder of the file system under the data directory, which holds it to its quota.

    Projects     ext4 or XFS with quotas of projects: limits of bytes and of files, encrypted where the file system can
    Subvolumes   btrfs with quota groups: a limit of bytes, which files count towards; never encrypted

Both refuse what is over the limit, ext4 and btrfs with EDQUOT, XFS with ENOSPC. What is made takes a fraction of a
millisecond, needs no loop device and no mkfs, and is never used again: the next has another folder, number and key.
The folders have names: `sweep` removes what a killed engine left. How they are made is native/box/scratch_folder.c's.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from engine.errors import SandboxFault
from engine.sandbox import box
from engine.sandbox.scratch_backends import fix_of_full, refuse_if_full
from engine.sandbox.scratch_template import FILES_PER_MB

CRYPT_STAGE = "tmp encryption"
_HOLDS = "folders"
_SLACK_BYTES = 256 << 10


def limit_bytes(size_mb: int) -> int:
    """What a user's own folders and extents take is added, so that the quota is all for what they store: 0.5 %."""
    return (size_mb << 20) + (size_mb << 20) // 200 + _SLACK_BYTES


class Projects:
    """Folders that are projects of their own."""

    mechanism = "project quota of the file system"
    promise = (
        "limits of bytes and of files; does not count as memory; over them writes fail with EDQUOT (ENOSPC on XFS)"
    )
    costs = True
    on_disk = True

    def __init__(self, folder: Path, *, encrypt: bool = True) -> None:
        self._folder = folder / _HOLDS
        self.encrypted = encrypt

    def prepare(self, size_mb: int) -> None:
        """Nothing."""

    def make(self, size_mb: int) -> box.Scratch:
        """See the protocol."""
        folder = _ready(self._folder, size_mb)
        files = size_mb * FILES_PER_MB
        try:
            return box.scratch_project(folder, size_bytes=limit_bytes(size_mb), files=files, encrypt=self.encrypted)
        except SandboxFault as fault:
            raise _with_fix(fault, self._folder, size_mb) from fault

    def admit(self, size_mb: int) -> None:
        """What is stored in one is taken of the disk then."""
        refuse_if_full(self._folder, size_mb)


class Subvolumes:
    """Subvolumes of a btrfs."""

    mechanism = "btrfs quota group"
    promise = "a limit of bytes, which files count towards; does not count as memory; over it writes fail with EDQUOT"
    costs = True
    on_disk = True

    def __init__(self, folder: Path, *, encrypt: bool = True, turn_on: bool = False) -> None:
        """`turn_on`: turn the file system's quotas on before the first is made, for all that use it."""
        self._folder = folder / _HOLDS
        self._turn_on = turn_on
        self.encrypted = encrypt

    def prepare(self, size_mb: int) -> None:
        """Nothing."""

    def make(self, size_mb: int) -> box.Scratch:
        """See the protocol."""
        folder = _ready(self._folder, size_mb)
        if self._turn_on:
            box.subvolume_quota(folder)
            self._turn_on = False
        try:
            made = box.scratch_subvolume(folder, size_bytes=limit_bytes(size_mb))
        except SandboxFault as fault:
            raise _with_fix(fault, self._folder, size_mb) from fault
        if self.encrypted:
            made.close()
            raise SandboxFault(CRYPT_STAGE, errno.EOPNOTSUPP, "btrfs encrypts nothing")
        return made

    def admit(self, size_mb: int) -> None:
        """What is stored in one is taken of the disk then."""
        refuse_if_full(self._folder, size_mb)


def sweep(folder: Path) -> int:
    """Remove what a killed engine with this `folder` left of either kind; returns how many. Raises SandboxFault."""
    return box.scratch_sweep(os.fsencode(folder / _HOLDS))


def _ready(folder: Path, size_mb: int) -> bytes:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        text = f"cannot make {folder}: {error.strerror}"
        raise SandboxFault("tmp folder", error.errno or 0, text, fix=fix_of_full(folder, size_mb)) from error
    refuse_if_full(folder, size_mb)
    return os.fsencode(folder)


def _with_fix(fault: SandboxFault, folder: Path, size_mb: int) -> SandboxFault:
    fix = fix_of_full(folder, size_mb) if fault.errno == errno.ENOSPC else ""
    return SandboxFault(fault.stage, fault.errno, fault.text, fix=fix)
