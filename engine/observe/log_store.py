"""The logs of functions on disk: one folder a function, of segments that are appended to and then removed whole.

    <folder>/<function>/<number>.log   blocks of engine.observe.log_blocks, oldest first; the highest is appended to

Retention is the removal of whole segments, oldest first: by age, by the bytes of one function's log, and by the bytes
of all, where the largest log gives first. Leaves to others: which thread; `write`, `forget`, `remove_old` and
`snapshot` belong to one, what a snapshot is read by may be any other.

Guarantees: bytes on the disk never exceed the bounds; an engine killed anywhere loses at most what it was writing, and
the next one reads all before it, since it begins segments of its own; what cannot be written, or was forgotten, leaves
nothing behind. Nothing is synced: what a crash of the machine takes is the last seconds, as for any log.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from engine.fabric.files import PRIVATE_FILE, make_private_folder, remove_tree
from engine.model.invocation import LogBatch
from engine.observe.log_blocks import pack

SEGMENT_BYTES = 4_194_304
"""At most, and at most an eighth of what a function may keep: so much is removed at a time."""
SEGMENTS_A_LIFE = 8
"""A segment takes no lines for longer than this part of the age at which they are removed."""
BLOCK_LINES = 2_000
"""So that encoding a block holds the interpreter, which the event loop needs, for a fraction of a millisecond."""
NO_AGES: Mapping[str, int] = MappingProxyType({})
_SEGMENT = re.compile(r"(\d{10})\.log")
_TRASH = ".trash-"


class Limits(msgspec.Struct, frozen=True):
    """How much is kept, and for how long."""

    function_bytes: int
    total_bytes: int
    age_us: int


class _Segment(msgspec.Struct):
    number: int
    size: int
    born_us: int  # 0: of a former life, never written to
    last_us: int


class _Log(msgspec.Struct):
    segments: deque[_Segment]
    size: int = 0
    next_number: int = 1


class Piece(msgspec.Struct, frozen=True):
    """A segment as it was: its first `size` bytes, the newest line of which is not newer than `last_us`."""

    path: str
    size: int
    last_us: int

    @property
    def number(self) -> int:
        """Of its file, among those of its function."""
        return int(self.path[-14:-4])

    def read(self) -> bytes:
        """What is there; nothing if it has been removed since."""
        try:
            with open(self.path, "rb") as file:
                return file.read(self.size)
        except FileNotFoundError:
            return b""


class LogStore:
    """The folder of all logs."""

    def __init__(self, folder: Path, limits: Limits, wall_us: Callable[[], int]) -> None:
        self._folder = folder
        self._limits = limits
        self._wall_us = wall_us
        self._segment_bytes = max(1, min(SEGMENT_BYTES, limits.function_bytes // 8))
        self._logs: dict[str, _Log] = {}
        self._size = 0
        self._trashed = 0

    @property
    def size(self) -> int:
        """What all logs have on the disk."""
        return self._size

    def sizes(self) -> dict[str, int]:
        """What each function's log has there, of those that have one."""
        return {name: log.size for name, log in self._logs.items() if log.size}

    def open(self, functions: Collection[str]) -> None:
        """Find what is there, and remove what belongs to no function of these. Raises OSError."""
        make_private_folder(self._folder)
        for entry in sorted(os.scandir(self._folder), key=lambda entry: entry.name):
            if entry.name not in functions:
                remove_tree(self._folder / entry.name)
                continue
            found = []
            for file in os.scandir(entry.path):
                match = _SEGMENT.fullmatch(file.name)
                if match is not None:
                    status = file.stat()
                    found.append(_Segment(int(match[1]), status.st_size, 0, status.st_mtime_ns // 1000))
            found.sort(key=lambda segment: segment.number)
            size = sum(segment.size for segment in found)
            self._logs[entry.name] = _Log(deque(found), size, found[-1].number + 1 if found else 1)
            self._size += size
        self.remove_old()
        for name in list(self._logs):
            self._make_room(name, 0)

    def write(self, function_name: str, batches: Sequence[LogBatch]) -> int:
        """Append; returns how many lines were lost because the disk would not take them."""
        lost = 0
        some: list[LogBatch] = []
        lines = 0
        for batch in batches:
            some.append(batch)
            lines += len(batch.texts)
            if lines >= BLOCK_LINES:
                lost += self._write_block(function_name, some, lines)
                some, lines = [], 0
        if some:
            lost += self._write_block(function_name, some, lines)
        return lost

    def forget(self, function_name: str) -> None:
        """Remove a function's log. Killed half-way, the rest goes when the next engine opens."""
        log = self._logs.pop(function_name, None)
        if log is None:
            return
        self._size -= log.size
        self._trashed += 1
        trash = self._folder / f"{_TRASH}{self._trashed}"
        try:
            os.rename(self._folder / function_name, trash)
            remove_tree(trash)
        except OSError:  # then it has no lines, or they go with the next engine's start
            pass

    def remove_old(self, ages_us: Mapping[str, int] = NO_AGES) -> None:
        """Remove the segments whose lines are all too old; `ages_us` has the functions whose lines are so earlier."""
        now_us, age_us = self._wall_us(), self._limits.age_us
        for name, log in self._logs.items():
            oldest_us = now_us - min(age_us, ages_us.get(name, age_us))
            while log.segments and log.segments[0].last_us < oldest_us:
                self._remove_first(name)

    def snapshot(self, function_name: str) -> tuple[Piece, ...]:
        """What there is of a function's log, oldest first: later lines are not in it."""
        log = self._logs.get(function_name)
        if log is None:
            return ()
        return tuple(Piece(self._path(function_name, one.number), one.size, one.last_us) for one in log.segments)

    def _write_block(self, name: str, batches: Sequence[LogBatch], lines: int) -> int:
        block = pack(batches)
        if len(block) > min(self._limits.function_bytes, self._limits.total_bytes):
            return lines
        self._make_room(name, len(block))
        try:
            segment = self._segment(name, len(block))
            _append(self._path(name, segment.number), segment.size, block)
        except OSError:
            return lines
        log = self._logs[name]
        segment.size += len(block)
        segment.last_us = max(segment.last_us, *[batch.time_us for batch in batches])
        log.size += len(block)
        self._size += len(block)
        return 0

    def _segment(self, name: str, size: int) -> _Segment:
        """The segment to append to."""
        log = self._logs.get(name)
        if log is None:
            (self._folder / name).mkdir(mode=0o700, exist_ok=True)
            log = self._logs[name] = _Log(deque())
        now_us = self._wall_us()
        if log.segments:
            last = log.segments[-1]
            young = now_us - last.born_us < self._limits.age_us // SEGMENTS_A_LIFE
            if last.born_us and young and (not last.size or last.size + size <= self._segment_bytes):
                return last
        segment = _Segment(log.next_number, 0, now_us, 0)
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(self._path(name, segment.number), flags, PRIVATE_FILE))
        log.next_number += 1
        log.segments.append(segment)
        return segment

    def _make_room(self, name: str, size: int) -> None:
        log = self._logs.get(name)
        while log is not None and log.segments and log.size + size > self._limits.function_bytes:
            self._remove_first(name)
        while self._size and self._size + size > self._limits.total_bytes:
            self._remove_first(max(self._logs, key=lambda one: self._logs[one].size))

    def _remove_first(self, name: str) -> None:
        log = self._logs[name]
        segment = log.segments.popleft()
        log.size -= segment.size
        self._size -= segment.size
        try:
            os.unlink(self._path(name, segment.number))
        except OSError:  # removed by hand, or a disk that takes nothing any more
            pass

    def _path(self, name: str, number: int) -> str:
        return f"{self._folder}/{name}/{number:010d}.log"


def _append(path: str, offset: int, block: bytes) -> None:
    """Write a block at the end of a file, or leave the file as it was. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.pwrite(descriptor, block, offset) != len(block):
            raise OSError("the disk took a part of a block")
    except OSError:
        os.ftruncate(descriptor, offset)
        raise
    finally:
        os.close(descriptor)
