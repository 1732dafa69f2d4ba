"""Puts bytecode, compiled in a sandbox (engine/guest/bytecode.py), beside the modules of a function's code.

Who compiles is engine.invoke.bytecode; the store that it is in, engine.registry.code. What comes out of the sandbox is
hostile. Guarantees, whatever it says: only files that Python would look for are made, each for a source that is there,
in a folder __pycache__ beside it; each appears whole or not at all, for good; nothing follows a link. It goes to
sandboxes of the same code, and to no other process.

Blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from engine.errors import InvalidCode
from engine.fabric.files import sync_tree
from engine.guest.wire import RECORD

_FOLDER_MODE, _FILE_MODE = 0o555, 0o444
_CACHE = "__pycache__"
_PATH_LIMIT_BYTES = 4_096
_FILE_LIMIT_BYTES = 67_108_864


def cache_tag(python: str) -> str:
    """What the names of bytecode files say of their Python: "cpython-311" for "3.11.7" (PEP 3147)."""
    major, minor = python.split(".")[:2]
    return f"cpython-{major}{minor}"


def sources(task: Path) -> dict[str, Path]:
    """Where the bytecode of each module goes: the folder of its source, by the source's path within `task`."""
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(task):
        folders[:] = [name for name in folders if name != _CACHE]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                found[os.path.relpath(path, task)] = Path(folder)
    return found


def stage(records: BinaryIO, staging: Path, task: Path, tag: str) -> list[tuple[Path, Path]]:
    """Write each record's file into `staging`, durably: pairs of what is there and the path that it is meant for.
    Raises InvalidCode for records that are none; OSError for what the disk refuses."""
    allowed = sources(task)
    staged: list[tuple[Path, Path]] = []
    while header := records.read(RECORD.size):
        place, data = _record(records, header)
        folder = allowed.pop(place, None)
        if folder is None:
            raise InvalidCode(f"bytecode was compiled for {place[:100]!a}, which is no module of the code, or twice")
        target = folder / _CACHE / f"{os.path.basename(place)[:-3]}.{tag}.pyc"
        file = staging / str(len(staged))
        file.write_bytes(data)
        os.chmod(file, _FILE_MODE)
        staged.append((file, target))
    sync_tree(staging)
    return staged


def _record(records: BinaryIO, header: bytes) -> tuple[str, bytes]:
    if len(header) == RECORD.size:
        place_bytes, data_bytes = RECORD.unpack(header)
        if place_bytes <= _PATH_LIMIT_BYTES and data_bytes <= _FILE_LIMIT_BYTES:
            place = records.read(place_bytes)
            data = records.read(data_bytes)
            if len(place) == place_bytes and len(data) == data_bytes:
                return place.decode(errors="surrogateescape"), data
    raise InvalidCode("what came of compiling the code ends within a record")


def install(staged: list[tuple[Path, Path]]) -> None:
    """Move staged files to where they belong, beside code that sandboxes may be running. Killed half-way, what is there
    is good. Raises OSError."""
    by_folder: dict[Path, list[tuple[Path, Path]]] = {}
    for pair in staged:
        by_folder.setdefault(pair[1].parent, []).append(pair)
    for cache, pairs in by_folder.items():
        if not os.path.lexists(cache):
            with _writable(cache.parent):
                cache.mkdir(mode=_FOLDER_MODE)
        if not stat.S_ISDIR(os.lstat(cache).st_mode):  # a link or a file that the code came with
            continue
        with _writable(cache):
            for file, target in pairs:
                if not target.is_dir():
                    os.rename(file, target)


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """A folder of the code's, open to the engine for a moment: no sandbox can write to what is mounted read-only."""
    os.chmod(folder, _FOLDER_MODE | 0o200)
    try:
        yield
    finally:
        os.chmod(folder, _FOLDER_MODE)
