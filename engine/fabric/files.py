"""Files and folders that survive a crash of the process and of the machine.

What they mean is left to the callers, and so is the translation of OSError. Guarantees that `write_atomic` leaves the
old file or the new one, and that what a `sync_…` function returned for is on the disk.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from pathlib import Path

SYNC_ONE_BY_ONE = 64
"""Up to so many files are synced each; above, one syncfs(2) costs less than the journal commits of them all."""

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def is_full(error: OSError) -> bool:
    """Whether the disk, its inodes or the quota had no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def make_private_folder(path: Path) -> None:
    """Create `path` for the engine alone if it is not there; its parent must be."""
    path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def write_atomic(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """Write a whole file durably; whoever reads `path` sees what was there before or all of `data`."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable; for the content of what they name see `sync_tree`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Make everything in a folder durable. Symbolic links are names, and never followed."""
    folders: list[str] = []
    files: list[str] = []
    for folder, _, names in os.walk(path):
        folders.append(folder)
        files += [name for name in (os.path.join(folder, name) for name in names) if not os.path.islink(name)]
    if len(files) > SYNC_ONE_BY_ONE:
        _sync_file_system(path)
        return
    for name in files:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for folder in reversed(folders):
        sync_folder(Path(folder))


def remove_tree(path: Path) -> None:
    """Remove a folder of ours with all that is in it, also where it is read-only. Missing is fine. Killed half-way, it
    can be called again."""
    if not path.is_dir():
        return
    os.chmod(path, PRIVATE_FOLDER)
    for folder, names, _ in os.walk(path):  # top down: a folder is opened up before it is listed
        for name in names:
            child = os.path.join(folder, name)
            if not os.path.islink(child):
                os.chmod(child, PRIVATE_FOLDER)
    shutil.rmtree(path)


def _sync_file_system(path: Path) -> None:
    """syncfs(2), which Python does not offer; since Linux 5.8 it reports what could not be written."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
