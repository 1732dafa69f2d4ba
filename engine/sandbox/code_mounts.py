"""Makes the mounts of functions' code, read-only and detached, so that no sandbox can read where on the host it lies.

A process finds in its mountinfo the folder at which each mount begins on its file system. So code is shown through an
overlay, which begins at its own root and has no upper layer. One is made for each code and cloned for each sandbox,
which takes no longer than a bind mount; a kernel before Linux 6.15 clones no detached mount, and one is made for each
sandbox there (0.1 ms). Where there is no overlay at all, code is shown by bind mounts, and `check` says so.

Guarantees: a mount that is handed out has what was in the folder when it was first asked for, or after `forget`; of a
folder that was replaced, or whose own entries have changed, it has what is there now. Thread-safe.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.errors import SandboxFault
from engine.model.host import Check
from engine.sandbox import box

KEPT = 64
"""As many codes have a mount ready. Each is a descriptor, and holds on to the files in it that were read."""
_LIMIT = "code"
_OVERLAY = "an overlay, read-only: nothing in a sandbox says where on the host its code lies"
_BIND = "a bind mount, read-only"
_BIND_TOLD = "a function can read in its mountinfo where on the host its code lies: "


class _Version(NamedTuple):
    """What a folder was, as far as one call of the kernel tells."""

    device: int
    inode: int
    changed_ns: int


class CodeMounts:
    """Nothing is made before `open`."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the engine's own, and is made."""
        self._folder = folder
        self._nothing = folder / "nothing"
        self._make: Callable[[bytes, bytes | None], int] = box.code_mount
        self._overlays = False
        self._lock = threading.Lock()
        self._clones = True  # until the kernel says that it does not
        self._kept: OrderedDict[str, tuple[_Version, int]] = OrderedDict()  # the one that was asked for last comes last

    def open(self, make: Callable[[bytes, bytes | None], int]) -> Check:
        """Find out by doing it which mounts there can be. `make` makes one as box.code_mount does."""
        self._make = make
        try:
            tried = self._folder / "tried"
            for folder in (self._nothing, tried):
                folder.mkdir(parents=True, exist_ok=True)
            os.close(self._overlay(os.fspath(tried)))
        except (OSError, SandboxFault) as error:
            why = error.message if isinstance(error, SandboxFault) else str(error)
            return Check(_LIMIT, True, _BIND, _BIND_TOLD + why, "use a kernel with CONFIG_OVERLAY_FS")
        self._overlays = True
        return Check(_LIMIT, True, _OVERLAY)

    def take(self, path: str) -> int:
        """A mount of the folder, for one sandbox: the caller closes it. Raises SandboxFault."""
        if not self._overlays:
            return self._make(os.fsencode(path), None)
        try:
            now = os.stat(path)
        except OSError as error:
            raise SandboxFault("code mount", error.errno or 0, f"cannot take the code: {error.strerror}") from error
        version = _Version(now.st_dev, now.st_ino, now.st_ctime_ns)
        with self._lock:
            if self._clones:
                clone = self._clone(path, version)
                if clone is not None:
                    return clone
        mount = self._overlay(path)
        return self._keep(path, version, mount)

    def forget(self, path: str) -> None:
        """What is in it has changed, or it is gone: sandboxes from now on see that."""
        with self._lock:
            self._drop(path)

    def close(self) -> None:
        """Give them all back. Safe to call again; sandboxes keep theirs."""
        with self._lock:
            self._clones = False
            for path in list(self._kept):
                self._drop(path)

    def _overlay(self, path: str) -> int:
        return self._make(os.fsencode(path), os.fsencode(self._nothing))

    def _clone(self, path: str, version: _Version) -> int | None:
        kept = self._kept.get(path)
        if kept is None:
            return None
        if kept[0] != version:
            self._drop(path)
            return None
        self._kept.move_to_end(path)
        return box.mount_clone(kept[1])

    def _keep(self, path: str, version: _Version, mount: int) -> int:
        """Keep a mount that was just made, and return another of the same; or, where that cannot be, itself."""
        with self._lock:
            if not self._clones or path in self._kept:
                return mount
            try:
                clone = box.mount_clone(mount)
            except SandboxFault as fault:
                if fault.errno in (errno.EINVAL, errno.EPERM):
                    self._clones = False
                return mount
            self._kept[path] = version, mount
            while len(self._kept) > KEPT:
                self._drop(next(iter(self._kept)))
            return clone

    def _drop(self, path: str) -> None:
        kept = self._kept.pop(path, None)
        if kept is not None:
            with contextlib.suppress(OSError):
                os.close(kept[1])
