"""Unpacks a function's zip into an empty folder, whatever is in it.

Reading the zip's directory is engine.registry.zipdir's work; where the folder is, its durability and what becomes of it
after an error are the caller's. Guarantees, whatever the archive says:

* nothing is written outside the folder, and no symbolic link in it leads out of it;
* at most `Limits.bytes` are written and `Limits.nodes` files and folders made, whatever is announced;
* there are only folders (0555), files (0444, or 0555 if executable) and relative symbolic links: no set-user-id bit, no
  device, nothing that may be written to;
* every file has the length and the CRC-32 that the zip gives it.

Blocks: call it in a thread.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InvalidCode
from engine.registry import zipdir
from engine.registry.zipdir import Entry

_CHUNK_BYTES = 262_144
_FOLDER, _FILE, _LINK = "folder", "file", "link"
_LINK_HOPS = 40
"""As the kernel's: path_resolution(7)."""
_LINK_STEPS = 1_000_000
"""Components followed for all links of a zip together: each may lead through 40 others of 500 components."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may come out of a zip. Lambda's own is 262,144,000 bytes, layers included."""

    bytes: int = 262_144_000
    nodes: int = 50_000  # files, links and folders, those that are only implied too
    path_bytes: int = 1_024
    name_bytes: int = 255  # NAME_MAX
    depth: int = 64
    link_bytes: int = 1_024


def unpack(archive: Path, folder: Path, limits: Limits) -> int:
    """Unpack `archive` into `folder`, which exists and is empty; return the bytes of its files. Raises InvalidCode;
    OSError for what the disk refuses."""
    descriptor = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    try:
        entries = zipdir.read_directory(descriptor, entry_limit=limits.nodes)
        if not entries:
            raise InvalidCode("Uploaded file must be a non-empty zip", fix="put the function's files into it")
        plan = _Plan(limits)
        for entry in entries:
            plan.add(entry)
        # What is announced is checked here, and each entry's bytes against what it announced as they come.
        if sum(entry.size_bytes for entry in entries) > limits.bytes:
            raise InvalidCode(
                f"Unzipped size must be smaller than {limits.bytes} bytes",
                fix="leave out what the function does not need",
            )
        return _carry_out(plan, descriptor, folder, limits)
    finally:
        os.close(descriptor)


class _Plan:
    """What is to be made at which path. A path is the tuple of its components; the empty one is the folder itself."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.kinds: dict[tuple[str, ...], str] = {(): _FOLDER}
        self.entries: dict[tuple[str, ...], Entry] = {}
        self._steps = 0

    def add(self, entry: Entry) -> None:
        """Take in one entry. Raises InvalidCode."""
        path = self._path(entry.name)
        kind = _kind(entry)
        for depth in range(1, len(path)):
            self._make(path[:depth], _FOLDER, entry)
        if kind is _FOLDER:
            self._make(path, kind, entry)
        elif path in self.kinds:
            raise _harmful(entry, "is there twice")
        else:
            self._make(path, kind, entry)
            self.entries[path] = entry

    def of_kind(self, kind: str) -> Iterator[tuple[str, ...]]:
        """The paths of one kind; folders before what is in them."""
        return (path for path, is_kind in self.kinds.items() if is_kind is kind)

    def _make(self, path: tuple[str, ...], kind: str, entry: Entry) -> None:
        there = self.kinds.setdefault(path, kind)
        if there is not kind:
            raise _harmful(entry, f"needs a {kind} where the zip has a {there}")
        if len(self.kinds) > self._limits.nodes:
            raise InvalidCode(
                f"the zip has more than {self._limits.nodes:,} files and folders",
                fix="leave out what the function does not need",
            )

    def _path(self, name: str) -> tuple[str, ...]:
        limits = self._limits
        raw = name.encode(errors="surrogateescape")
        path = tuple(part for part in name.split("/") if part not in ("", "."))
        if not raw or b"\0" in raw or "\\" in name:
            raise InvalidCode(
                f"the zip has a name that cannot be unpacked: {name!a}",
                fix="use / between folders, and no null characters",
            )
        if name.startswith("/") or ".." in path:
            raise InvalidCode(
                f"the zip has a path that leads outside of it: {name!a}",
                fix="make the zip inside the function's folder, with relative paths",
            )
        if (
            len(raw) > limits.path_bytes
            or len(path) > limits.depth
            or len(max(raw.split(b"/"), key=len)) > limits.name_bytes
        ):
            raise InvalidCode(
                f"the zip has a path that is too long: {name[:100]!a}…",
                fix=f"paths have at most {limits.path_bytes:,} bytes, {limits.depth} folders"
                f" and {limits.name_bytes} bytes a name",
            )
        return path

    def check_link(self, path: tuple[str, ...], targets: dict[tuple[str, ...], str]) -> None:
        """Follow the link at `path` as the kernel would, through other links too; raises InvalidCode if it gets out."""
        here, hops = path[:-1], 1
        todo = targets[path].split("/")[::-1]
        while todo:
            part = todo.pop()
            self._steps += 1
            if self._steps > _LINK_STEPS:
                raise _harmful(self.entries[path], "is one of too many links that lead through each other")
            if part in ("", "."):
                continue
            if part == "..":
                if not here:
                    raise _harmful(self.entries[path], "is a link that leads outside of the zip")
                here = here[:-1]
                continue
            here = (*here, part)
            if here in targets:
                hops += 1
                if hops > _LINK_HOPS:
                    raise _harmful(self.entries[path], "is a link that leads in a circle")
                todo += targets[here].split("/")[::-1]
                here = here[:-1]


def _kind(entry: Entry) -> str:
    form = stat.S_IFMT(entry.mode)
    if entry.name.endswith("/") or form == stat.S_IFDIR:
        if form not in (0, stat.S_IFDIR, stat.S_IFREG) or entry.size_bytes:
            raise _harmful(entry, "is named as a folder and is none")
        return _FOLDER
    if form == stat.S_IFLNK:
        return _LINK
    if form not in (0, stat.S_IFREG):
        raise _harmful(entry, "is neither a file, a folder nor a link")
    return _FILE


def _carry_out(plan: _Plan, descriptor: int, folder: Path, limits: Limits) -> int:
    root = os.fspath(folder)
    folders = [os.path.join(root, *path) for path in plan.of_kind(_FOLDER)]
    for inner in folders[1:]:
        os.mkdir(inner, 0o700)
    written = 0
    for path in plan.of_kind(_FILE):
        written += _write_file(plan.entries[path], descriptor, os.path.join(root, *path))
    # Links come last, so that nothing is ever written through one.
    targets = {path: _link_target(plan.entries[path], descriptor, limits) for path in plan.of_kind(_LINK)}
    for path, target in targets.items():
        plan.check_link(path, targets)
        os.symlink(target, os.path.join(root, *path))
    for name in folders:
        os.chmod(name, 0o555)
    return written


def _write_file(entry: Entry, descriptor: int, path: str) -> int:
    written = 0
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(target, "wb", buffering=0) as file:
        for data in _content(entry, descriptor):
            written += len(data)
            _write_all(target, data)
        os.utime(file.fileno(), (entry.time_s, entry.time_s))
        os.fchmod(file.fileno(), 0o555 if entry.mode & 0o111 else 0o444)
    return written


def _write_all(descriptor: int, data: bytes) -> None:
    """write(2) stops short where the disk gets full, and says so only the next time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _link_target(entry: Entry, descriptor: int, limits: Limits) -> str:
    raw = b""
    for data in _content(entry, descriptor):
        raw += data
        if len(raw) > limits.link_bytes:
            raise _harmful(entry, f"is a link to more than {limits.link_bytes:,} bytes")
    target = raw.decode(errors="surrogateescape")
    if not target or "\0" in target or target.startswith("/"):
        raise _harmful(entry, "is a link that leads outside of the zip")
    return target


def _content(entry: Entry, descriptor: int) -> Iterator[bytes]:
    """The entry's bytes in pieces of bounded size; raises InvalidCode at the end if they are not those announced, and
    as soon as there are more."""
    crc32, size = 0, 0
    pieces = _stored(entry, descriptor) if entry.method == zipdir.STORED else _inflated(entry, descriptor)
    for data in pieces:
        crc32 = zlib.crc32(data, crc32)
        size += len(data)
        if size > entry.size_bytes:
            break
        yield data
    if size != entry.size_bytes or crc32 != entry.crc32:
        raise zipdir.damaged(f"{entry.name!a} is not what its checksum says")


def _stored(entry: Entry, descriptor: int) -> Iterator[bytes]:
    at, end = entry.start, entry.start + entry.packed_bytes
    while at < end:
        data = os.pread(descriptor, min(_CHUNK_BYTES, end - at), at)
        if not data:
            return
        at += len(data)
        yield data


def _inflated(entry: Entry, descriptor: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for packed in _stored(entry, descriptor):
            while packed and not stream.eof:
                yield stream.decompress(packed, _CHUNK_BYTES)
                packed = stream.unconsumed_tail
        while data := stream.decompress(b"", _CHUNK_BYTES):
            yield data
    except zlib.error as error:
        raise zipdir.damaged(f"{entry.name!a} cannot be inflated") from error
    if not stream.eof or stream.unused_data:
        raise zipdir.damaged(f"{entry.name!a} is cut short")


def _harmful(entry: Entry, how: str) -> InvalidCode:
    return InvalidCode(f"the zip's {entry.name!a} {how}", fix="leave it out, or put the file itself there")
