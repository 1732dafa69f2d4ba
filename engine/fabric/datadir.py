"""The data directory: one engine at a time, known by an instance id that it keeps.

    <data_dir>/lock      held with flock(2) as long as the engine lives; says the instance id and the process id
    <data_dir>/instance  the instance id, made once

All that an engine creates outside carries the instance id, so that the next holder of the lock may remove what a dead
one left. What else lies in the directory is left to the rooms that put it there. Guarantees that no two engines hold
the same directory, and that the kernel frees it when the engine dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Self

from engine.errors import StoreUnusable
from engine.fabric.files import PRIVATE_FILE, PRIVATE_FOLDER, write_atomic

INSTANCE_ID = re.compile(r"[0-9a-f]{16}")
_ELSEWHERE = "give another folder with --data-dir"


def new_instance_id() -> str:
    """64 random bits in hex: short enough for the names of cgroups and interfaces."""
    return secrets.token_hex(8)


class DataDir:
    """A data directory that this process holds. Make one with `open`."""

    def __init__(self, path: Path, instance_id: str, lock: int) -> None:
        self.path = path
        self.instance_id = instance_id
        self._lock = lock

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, new_id: Callable[[], str] = new_instance_id) -> Self:
        """Create the directory if it is not there and take it. Raises StoreUnusable: held by another engine (says
        which process), open to others, or not usable at all."""
        folder = Path(path).absolute()
        try:
            folder = _private_folder(folder)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
        except OSError as error:
            raise _unusable(folder, error) from error
        try:
            _take(lock, folder)
            instance_id = _instance_id(folder, new_id)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{instance_id}\n{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(lock)
            raise _unusable(folder, error) from error
        except BaseException:
            os.close(lock)
            raise
        return cls(folder, instance_id, lock)

    def close(self) -> None:
        """Let another engine have it. Closing twice is fine."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _private_folder(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    folder = folder.resolve()
    status = folder.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise StoreUnusable(
            f"{folder} belongs to another user (uid {status.st_uid})", fix=f"chown it to this user, or {_ELSEWHERE}"
        )
    names = set(os.listdir(folder))
    if "instance" in names or names <= {"lock", "lost+found"}:
        os.chmod(folder, PRIVATE_FOLDER)
    elif status.st_mode & 0o022:  # others' files are in it, so it is not ours to close: it might be /tmp
        raise StoreUnusable(
            f"{folder} holds other files, and other users may write to it", fix=f"chmod 700 {folder}, or {_ELSEWHERE}"
        )
    return folder


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.pread(lock, 256, 0).decode(errors="replace").split()
        holder = f"process {said[1]}" if len(said) == 2 and said[1].isdigit() else "another process"
        raise StoreUnusable(
            f"{folder} is in use by another engine, {holder}", fix=f"stop that engine, or {_ELSEWHERE}"
        ) from None


def _instance_id(folder: Path, new_id: Callable[[], str]) -> str:
    file = folder / "instance"
    try:
        found = file.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        found = new_id()
        write_atomic(file, f"{found}\n".encode())
    if not INSTANCE_ID.fullmatch(found):
        raise StoreUnusable(
            f"{file} does not hold an instance id", fix=f"remove it after a restart of the host, or {_ELSEWHERE}"
        )
    return found


def _unusable(folder: Path, error: OSError) -> StoreUnusable:
    return StoreUnusable(
        f"{folder} cannot be used as data directory: {error.strerror}",
        fix=f"make it a folder that this user can write to, or {_ELSEWHERE}",
    )
