"""What the tests of /tmp look at and do: the folder that a sandbox would see, as the user that it would be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

NOBODY = 65_534


class Mounted(Protocol):
    """What has the descriptor of a detached mount."""

    def fileno(self) -> int: ...


def loops_on(folder: Path) -> list[str]:
    """Loop devices over nameless files in `folder`."""
    found = []
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            name = device.read_text()
        except OSError:
            continue
        if name.startswith(str(folder)):
            found.append(device.parts[3])
    return found


def visible(folder: Path) -> set[str]:
    """Names in a folder."""
    return {path.name for path in folder.iterdir()}


@contextlib.contextmanager
def folder_of(scratch: Mounted) -> Iterator[int]:
    """A descriptor of what a sandbox sees as its /tmp."""
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=scratch.fileno())
    try:
        try:
            folder = os.open("tmp", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
        except FileNotFoundError:
            folder = os.dup(root)
        try:
            yield folder
        finally:
            os.close(folder)
    finally:
        os.close(root)


def create(folder: int, name: str) -> int:
    """A file to write to."""
    return os.open(name, os.O_WRONLY | os.O_CREAT, 0o666, dir_fd=folder)


def write_as_nobody(folder: int, name: str, size: int, *, really: bool = False) -> tuple[int, int]:
    """Store `size` bytes in a file as an unprivileged user, in another process: how much was stored and the errno (0:
    all was). Without `really` the blocks are taken and nothing is written."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        stored = refused = 0
        try:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            file = create(folder, name)
            block = bytes(1 << 20)
            while stored < size:
                step = min(len(block), size - stored)
                if really:
                    stored += os.write(file, block[:step])
                else:
                    step = min(16 << 20, size - stored)
                    os.posix_fallocate(file, stored, step)
                    stored += step
        except OSError as error:
            refused = error.errno or -1
        finally:
            os.write(writer, f"{stored} {refused}".encode())
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read()
    os.waitpid(pid, 0)
    stored_text, refused_text = text.split()
    return int(stored_text), int(refused_text)


def create_as_nobody(folder: int, most: int) -> tuple[int, int]:
    """Make up to `most` empty files as an unprivileged user, in another process: how many and the errno (0: all)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        made = refused = 0
        try:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            while made < most:
                os.close(create(folder, str(made)))
                made += 1
        except OSError as error:
            refused = error.errno or -1
        finally:
            os.write(writer, f"{made} {refused}".encode())
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read()
    os.waitpid(pid, 0)
    made_text, refused_text = text.split()
    return int(made_text), int(refused_text)


def image_of(folder: Path) -> int:
    """This process's descriptor of the nameless file behind the one /tmp that was made in `folder`."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith(f"{folder}/#") and target.endswith(" (deleted)"):
                found.append(int(name))
    (image,) = found
    return image
