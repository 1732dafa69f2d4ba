"""Makes the mounts of functions' code and layers, read-only and detached, so that no sandbox can read where on the host
they lie.

A process finds in its mountinfo the folder at which each mount begins on its file system. So code is shown through an
overlay, which begins at its own root and has no upper layer. One is made for each code and cloned for each sandbox,
which takes no longer than a bind mount; a kernel before Linux 6.15 clones no detached mount, and one is made for each
sandbox there (0.1 ms). Where there is no overlay at all, code is shown by bind mounts, and `check` says so. Layers are
one overlay over all of them, and cost a sandbox no more than code does, whatever their number.

Guarantees: a mount that is handed out has what was in the folder when it was first asked for, or after `forget`; of a
folder that was replaced, or whose own entries have changed, it has what is there now. Thread-safe.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
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


_Paths = tuple[str, ...]  # folders, the first on top of the others
_Versions = tuple[_Version, ...]


class CodeMounts:
    """Nothing is made before `open`."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the engine's own, and is made."""
        self._folder = folder
        self._nothing = folder / "nothing"
        self._make: Callable[[bytes, bytes | None], int] = box.code_mount
        self._merge: Callable[[Sequence[bytes], bytes], int] = box.merged_mount
        self._overlays = False
        self._lock = threading.Lock()
        self._clones = True  # until the kernel says that it does not
        self._kept: OrderedDict[_Paths, tuple[_Versions, int]] = OrderedDict()  # the one asked for last comes last

    def open(
        self,
        make: Callable[[bytes, bytes | None], int],
        merge: Callable[[Sequence[bytes], bytes], int] = box.merged_mount,
    ) -> Check:
        """Find out by doing it which mounts there can be. `make` makes one as box.code_mount does, `merge` as
        box.merged_mount."""
        self._make = make
        self._merge = merge
        try:
            tried = self._folder / "tried"
            for folder in (self._nothing, tried):
                folder.mkdir(parents=True, exist_ok=True)
            os.close(self._overlay((os.fspath(tried),)))
        except (OSError, SandboxFault) as error:
            why = error.message if isinstance(error, SandboxFault) else str(error)
            return Check(_LIMIT, True, _BIND, _BIND_TOLD + why, "use a kernel with CONFIG_OVERLAY_FS")
        self._overlays = True
        return Check(_LIMIT, True, _OVERLAY)

    def take(self, path: str) -> int:
        """A mount of the folder, for one sandbox: the caller closes it. Raises SandboxFault."""
        return self._take((path,)) if self._overlays else self._make(os.fsencode(path), None)

    def take_layers(self, paths: Sequence[str]) -> int:
        """A mount of these folders as one, lowest first: what is in a later one hides what is in earlier ones. For one
        sandbox: the caller closes it. Raises SandboxFault, for several also where there is no overlay."""
        if self._overlays:
            return self._take(tuple(reversed(paths)))
        if len(paths) > 1:
            raise SandboxFault(
                "code mount", 0, "several layers cannot be merged without overlays", fix="use a kernel with them"
            )
        return self._make(os.fsencode(paths[0]), None)

    def forget(self, path: str) -> None:
        """What is in it has changed, or it is gone: sandboxes from now on see that."""
        with self._lock:
            for paths in [paths for paths in self._kept if path in paths]:
                self._drop(paths)

    def close(self) -> None:
        """Give them all back. Safe to call again; sandboxes keep theirs."""
        with self._lock:
            self._clones = False
            for paths in list(self._kept):
                self._drop(paths)

    def _take(self, paths: _Paths) -> int:
        try:
            found = [os.stat(path) for path in paths]
        except OSError as error:
            raise SandboxFault("code mount", error.errno or 0, f"cannot take the code: {error.strerror}") from error
        versions = tuple(_Version(now.st_dev, now.st_ino, now.st_ctime_ns) for now in found)
        with self._lock:
            if self._clones:
                clone = self._clone(paths, versions)
                if clone is not None:
                    return clone
        mount = self._overlay(paths)
        return self._keep(paths, versions, mount)

    def _overlay(self, paths: _Paths) -> int:
        """The first is on top."""
        nothing = os.fsencode(self._nothing)
        if len(paths) == 1:
            return self._make(os.fsencode(paths[0]), nothing)
        return self._merge([os.fsencode(path) for path in paths], nothing)

    def _clone(self, paths: _Paths, versions: _Versions) -> int | None:
        kept = self._kept.get(paths)
        if kept is None:
            return None
        if kept[0] != versions:
            self._drop(paths)
            return None
        self._kept.move_to_end(paths)
        return box.mount_clone(kept[1])

    def _keep(self, paths: _Paths, versions: _Versions, mount: int) -> int:
        """Keep a mount that was just made, and return another of the same; or, where that cannot be, itself."""
        with self._lock:
            if not self._clones or paths in self._kept:
                return mount
            try:
                clone = box.mount_clone(mount)
            except SandboxFault as fault:
                if fault.errno in (errno.EINVAL, errno.EPERM):
                    self._clones = False
                return mount
            self._kept[paths] = versions, mount
            while len(self._kept) > KEPT:
                self._drop(next(iter(self._kept)))
            return clone

    def _drop(self, paths: _Paths) -> None:
        kept = self._kept.pop(paths, None)
        if kept is not None:
            with contextlib.suppress(OSError):
                os.close(kept[1])
