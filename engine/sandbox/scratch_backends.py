"""The ways in which this host can make a /tmp with a quota, and which of them the engine uses.

    images   ext4 images on loop devices, encrypted: the full form
    tmpfs    memory: the weaker form, since what is stored there counts as the sandbox's memory

Both refuse what is over the quota with ENOSPC, start empty, and leave nothing once closed. Project quotas and btrfs
qgroups are not among them: both answer EDQUOT, and neither is encrypted with a key of the sandbox's own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from engine.errors import EngineError, HostUnfit, SandboxFault
from engine.sandbox import box
from engine.sandbox.scratch_template import FILES_PER_MB, make_template

WEAKER_TMP = "tmp"
"""In accept_weaker: a /tmp in memory will do."""
WEAKER_ENCRYPTION = "tmp-encryption"
"""In accept_weaker: a /tmp that lies on the disk unencrypted will do."""
PROBE_MB = 512
"""The size that is tried: the smallest, and every function's unless it asks for more."""
FLOOR_MB = 16
"""On a disk with less free, no /tmp is made or handed out."""
_CRYPT_STAGE = "tmp encryption"


class Backend(Protocol):
    """One way. Thread-safe."""

    @property
    def mechanism(self) -> str:
        """What enforces the quota, for people."""

    @property
    def encrypted(self) -> bool:
        """Whether what is stored can be read by nobody once the sandbox is gone."""

    @property
    def costs(self) -> bool:
        """Whether making one takes so long that it should be done ahead of need."""

    def make(self, size_mb: int) -> box.Scratch:
        """A fresh, empty /tmp. Raises SandboxFault, HostUnfit."""

    def admit(self, size_mb: int) -> None:
        """Raise SandboxFault if one of that size, already made, may not be handed out now."""


class Images:
    """ext4 images in files of `folder`, nameless ones but for the template of each size."""

    mechanism = "ext4 image on a loop device"
    costs = True

    def __init__(self, folder: Path, *, encrypt: bool = True, reserve: bool = False) -> None:
        self._folder = folder
        self._reserve = reserve
        self._templates: dict[int, bytes] = {}
        self.encrypted = encrypt

    def make(self, size_mb: int) -> box.Scratch:
        """See the protocol."""
        self.admit(size_mb)
        template = self._templates.get(size_mb)
        if template is None or not os.path.exists(template):
            template = self._templates[size_mb] = os.fsencode(make_template(self._folder, size_mb))
        try:
            return box.scratch_image(template, os.fsencode(self._folder), encrypt=self.encrypted, reserve=self._reserve)
        except SandboxFault as fault:
            if fault.errno == errno.ENOSPC:
                raise SandboxFault(fault.stage, fault.errno, fault.text, fix=self._fix(size_mb)) from fault
            raise

    def admit(self, size_mb: int) -> None:
        """An image takes of the disk what is stored in it. On one that is all but full, a /tmp could hold nothing."""
        if self._reserve:
            return
        try:
            disk = os.statvfs(self._folder)
        except FileNotFoundError:
            return
        free_mb = disk.f_bavail * disk.f_frsize >> 20
        if free_mb < FLOOR_MB:
            text = f"No space left for another /tmp: {free_mb} MB are free on the disk of {self._folder}"
            raise SandboxFault("tmp image", errno.ENOSPC, text, fix=self._fix(size_mb))

    def _fix(self, size_mb: int) -> str:
        return f"free {size_mb} MB on the disk of {self._folder}, or give the function a smaller /tmp"


class Tmpfs:
    """Memory."""

    mechanism = "tmpfs (counts as memory)"
    encrypted = True  # never on a disk: swap is off for sandboxes
    costs = False

    def make(self, size_mb: int) -> box.Scratch:
        """See the protocol."""
        return box.scratch_tmpfs(size_mb << 20, size_mb * FILES_PER_MB)

    def admit(self, size_mb: int) -> None:
        """The memory tier is the limit."""


def choose(folder: Path, accept_weaker: Collection[str], *, encrypt: bool = True, reserve: bool = False) -> Backend:
    """The strongest that works here, found by making one; some 20 ms. Raises HostUnfit, with what to do, where that
    would be weaker than asked and the operator did not accept it. For a full disk it raises SandboxFault."""
    try:
        return _working(Images(folder, encrypt=encrypt, reserve=reserve))
    except EngineError as problem:
        if isinstance(problem, SandboxFault) and problem.errno == errno.ENOSPC:
            raise
        if isinstance(problem, SandboxFault) and problem.stage == _CRYPT_STAGE:
            if WEAKER_ENCRYPTION in accept_weaker:
                return _working(Images(folder, encrypt=False, reserve=reserve))
            raise HostUnfit(
                f"/tmp cannot be encrypted on this host: {problem.text}",
                fix="use a kernel with CONFIG_FS_ENCRYPTION and AES-XTS, or accept the weaker form: "
                f'accept_weaker = ["{WEAKER_ENCRYPTION}"], or do not ask for it: tmp_encryption = false',
            ) from problem
        if WEAKER_TMP in accept_weaker:
            return _working(Tmpfs())
        raise HostUnfit(
            f"/tmp cannot have a quota on this host: {problem.message}",
            fix=f"{problem.fix if isinstance(problem, HostUnfit) else 'run as root, with the loop module and ext4'}"
            f', or accept a /tmp that counts as memory: accept_weaker = ["{WEAKER_TMP}"]',
        ) from problem


def _working(backend: Backend) -> Backend:
    backend.make(PROBE_MB).close()
    return backend
