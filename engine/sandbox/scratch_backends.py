"""What makes a /tmp with a quota, and its two forms that need nothing of the host's file system.

    Images   ext4 images on loop devices, encrypted: the full form
    Tmpfs    memory: the weaker form, since what is stored there counts as the sandbox's memory

Both refuse what is over the quota with ENOSPC, start empty, and leave nothing once closed. Those that are folders of
the host's file system are engine.sandbox.scratch_folders'; which one an engine uses is engine.sandbox.scratch_choice's.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from engine.errors import SandboxFault
from engine.sandbox import box
from engine.sandbox.scratch_template import FILES_PER_MB, make_template

FLOOR_MB = 16
"""On a disk with less free, no /tmp is made or handed out."""


class Backend(Protocol):
    """One way. Thread-safe."""

    @property
    def mechanism(self) -> str:
        """What enforces the quota, for people."""

    @property
    def promise(self) -> str:
        """What holds beside the limit of bytes, for people."""

    @property
    def encrypted(self) -> bool:
        """Whether what is stored can be read by nobody once the sandbox is gone."""

    @property
    def costs(self) -> bool:
        """Whether making one takes so long that it should be done ahead of need."""

    @property
    def on_disk(self) -> bool:
        """Whether it takes of the disk what is stored in it."""

    def prepare(self, size_mb: int) -> None:
        """Do what only the first of a size needs; up to a second. Raises SandboxFault, HostUnfit."""

    def make(self, size_mb: int) -> box.Scratch:
        """A fresh, empty /tmp. Raises SandboxFault, HostUnfit."""

    def admit(self, size_mb: int) -> None:
        """Raise SandboxFault if one of that size, already made, may not be handed out now."""


class Images:
    """ext4 images in files of `folder`, nameless ones but for the template of each size."""

    mechanism = "ext4 image on a loop device"
    promise = "its own quota; does not count as memory"
    costs = True
    on_disk = True

    def __init__(self, folder: Path, *, encrypt: bool = True, reserve: bool = False) -> None:
        self._folder = folder
        self._reserve = reserve
        self._lock = threading.Lock()
        self._templates: dict[int, bytes] = {}
        self._making: dict[int, threading.Lock] = {}
        self._near: Iterator[int] = itertools.repeat(-1)
        self.encrypted = encrypt

    def prepare(self, size_mb: int) -> None:
        """Format the template that images of this size are copied from, if it is not there."""
        self._template(size_mb)

    def make(self, size_mb: int) -> box.Scratch:
        """See the protocol."""
        self.admit(size_mb)
        template, folder = self._template(size_mb), os.fsencode(self._folder)
        try:
            return self._next_to_the_last(template, folder)
        except SandboxFault as fault:
            if fault.errno == errno.ENOSPC:
                raise SandboxFault(
                    fault.stage, fault.errno, fault.text, fix=fix_of_full(self._folder, size_mb)
                ) from fault
            raise

    def _next_to_the_last(self, template: bytes, folder: bytes) -> box.Scratch:
        """One on the loop device after that of the one before, where that is free: on a host with a thousand of them
        asking for a free one takes as long as all the rest of it."""
        near = next(self._near)
        made = box.scratch_image(template, folder, encrypt=self.encrypted, reserve=self._reserve, near=near)
        if made.loop != near:
            self._near = itertools.count(made.loop + 1)
        return made

    def admit(self, size_mb: int) -> None:
        """An image takes of the disk what is stored in it. On one that is all but full, a /tmp could hold nothing."""
        if not self._reserve:
            refuse_if_full(self._folder, size_mb)

    def _template(self, size_mb: int) -> bytes:
        with self._lock:
            making = self._making.setdefault(size_mb, threading.Lock())
        with making:  # who needs one that is being made waits for it
            template = self._templates.get(size_mb)
            if template is None or not os.path.exists(template):
                template = self._templates[size_mb] = os.fsencode(make_template(self._folder, size_mb))
            return template


class Tmpfs:
    """Memory."""

    mechanism = "tmpfs (counts as memory)"
    promise = "limits of bytes and files; what is stored counts as the function's memory, whose limit has room for it"
    encrypted = True  # never on a disk: swap is off for sandboxes
    costs = False
    on_disk = False

    def prepare(self, size_mb: int) -> None:
        """Nothing."""

    def make(self, size_mb: int) -> box.Scratch:
        """See the protocol."""
        return box.scratch_tmpfs(size_mb << 20, size_mb * FILES_PER_MB)

    def admit(self, size_mb: int) -> None:
        """The memory tier is the limit."""


def refuse_if_full(folder: Path, size_mb: int) -> None:
    """Raise SandboxFault where the disk of `folder` has next to nothing free."""
    try:
        disk = os.statvfs(folder)
    except FileNotFoundError:
        return
    free_mb = disk.f_bavail * disk.f_frsize >> 20
    if free_mb < FLOOR_MB:
        text = f"No space left for another /tmp: {free_mb} MB are free on the disk of {folder}"
        raise SandboxFault("tmp image", errno.ENOSPC, text, fix=fix_of_full(folder, size_mb))


def fix_of_full(folder: Path, size_mb: int) -> str:
    """What to do about a full disk."""
    return f"free {size_mb} MB on the disk of {folder}, or give the function a smaller /tmp"
