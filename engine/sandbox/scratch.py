"""/tmp for sandboxes: ext4 images of the quota's size, mounted ahead of need and handed out as detached mounts.

How an image becomes a mount, and why nothing of it outlives its descriptors, is native/box/scratch.c's. Taking one off
the pool costs nothing; the pool refills in the background. Where the host has no loop devices or no mkfs.ext4, and the
operator accepted the weaker form, /tmp is a tmpfs instead, whose pages count as the sandbox's memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from engine.errors import CodeStorageExceeded, HostUnfit, SandboxFault
from engine.sandbox import box

Submit = Callable[[Callable[[], None]], object]
"""Run something later, in another thread."""


def make_template(folder: Path, size_mb: int) -> Path:
    """The formatted image that others are copied from, made if it is not there. Sparse: some 100 KB on disk."""
    path = folder / f"{size_mb}.ext4"
    if path.exists():
        return path
    mkfs = shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if mkfs is None:
        raise HostUnfit("mkfs.ext4 is missing, which /tmp needs", fix="apt-get install e2fsprogs")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    making = folder / f"{size_mb}.making.{os.getpid()}.{threading.get_ident()}"
    try:
        with open(making, "wb") as image:
            image.truncate(size_mb << 20)
        # No journal: what it would recover nobody will read. No reserved blocks: the quota is all the function's.
        formatted = subprocess.run(
            [mkfs, "-q", "-F", "-O", "^has_journal", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", str(making)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        if formatted.returncode != 0:
            raise SandboxFault("tmp image", 0, f"mkfs.ext4 failed: {formatted.stderr.decode(errors='replace')[-200:]}")
        os.replace(making, path)
    except OSError as error:
        raise CodeStorageExceeded(f"cannot make an image for /tmp: {error}", fix=f"free space for {folder}") from error
    finally:
        making.unlink(missing_ok=True)
    return path


class ScratchPool:
    """Mounts for /tmp. Thread-safe."""

    def __init__(self, folder: Path, *, target: int, submit: Submit, tmpfs: bool = False) -> None:
        self._folder = folder
        self._target = target  # mounts kept ready for each size in use
        self._submit = submit
        self._tmpfs = tmpfs
        self._lock = threading.Lock()
        self._ready: dict[int, deque[int]] = {}
        self._closed = False

    @property
    def mechanism(self) -> str:
        """How the quota is enforced."""
        return "tmpfs (counts as memory)" if self._tmpfs else "ext4 image on a loop device"

    def take(self, size_mb: int) -> int:
        """A fresh, empty /tmp of `size_mb`: the descriptor of a detached mount, the caller's to close."""
        with self._lock:
            ready = self._ready.setdefault(size_mb, deque())
            fd = ready.popleft() if ready else -1
            short = self._target - len(ready)
        if short > 0 and not self._tmpfs:
            self._submit(lambda: self.fill(size_mb, 1))
        return fd if fd >= 0 else self._make(size_mb)

    def fill(self, size_mb: int, count: int) -> None:
        """Make up to `count` more ahead of need; what cannot be made is left for `take` to complain of."""
        for _ in range(count):
            with self._lock:
                if self._closed or len(self._ready.setdefault(size_mb, deque())) >= self._target:
                    return
            try:
                fd = self._make(size_mb)
            except (SandboxFault, HostUnfit, CodeStorageExceeded):
                return
            with self._lock:
                if not self._closed:
                    self._ready[size_mb].append(fd)
                    continue
            os.close(fd)

    def close(self) -> None:
        """Give back what is ready."""
        with self._lock:
            self._closed = True
            fds = [fd for ready in self._ready.values() for fd in ready]
            self._ready.clear()
        for fd in fds:
            os.close(fd)

    def _make(self, size_mb: int) -> int:
        if self._tmpfs:
            return box.scratch_tmpfs(size_mb << 20)
        template = make_template(self._folder, size_mb)
        return box.scratch_mount(os.fsencode(template), os.fsencode(self._folder))
