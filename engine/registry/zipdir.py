"""Reads the central directory of a zip without trusting it.

Unpacking is engine.registry.unzip's work. zipfile is not used because it builds its whole list, of any length, before
anything can be counted. Guarantees bounded memory and that each entry's bytes lie in the file, before the directory,
and in no other entry. Names and modes are as they stand there: harmful ones too.

Source: APPNOTE.TXT 6.3.10 (zip and zip64), the Info-ZIP extra field 0x5455 for times.
"""

from __future__ import annotations

import calendar
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from engine.errors import InvalidCode

STORED = 0
DEFLATED = 8

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_COMMENT_LIMIT = 65_535
_MEAN_ENTRY_LIMIT_BYTES = 1_024  # of the directory: a name of 1,024 bytes is refused anyway

_ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # traditional, strong, masked headers
_UTF8 = 0x0800


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `mode` is the Unix st_mode, 0 where the zip names none; `start` is the offset of its bytes."""

    name: str
    method: int
    mode: int
    crc32: int
    packed_bytes: int
    size_bytes: int
    time_s: int  # seconds since the epoch, UTC
    start: int


def read_directory(descriptor: int, *, entry_limit: int) -> list[Entry]:
    """Every entry, in the directory's order. Raises InvalidCode: not a zip, damaged, encrypted, compressed in a way
    other than deflate, or more than `entry_limit` entries."""
    total, size, start, shift = _find_directory(descriptor)
    if total > entry_limit or size > entry_limit * _MEAN_ENTRY_LIMIT_BYTES:
        raise _too_many(entry_limit)
    directory = os.pread(descriptor, size, start)
    entries: list[Entry] = []
    taken: list[tuple[int, int]] = []
    for entry, begin in _entries(descriptor, directory, shift):
        if len(entries) == entry_limit:
            raise _too_many(entry_limit)
        end = entry.start + entry.packed_bytes
        if end > start:
            raise damaged(f"{entry.name!a} is cut short")
        entries.append(entry)
        taken.append((begin, end))
    if len(entries) != total:
        raise damaged(f"it says {total} entries and has {len(entries)}")
    taken.sort()
    if any(end > begin for (_, end), (begin, _) in pairwise(taken)):
        raise damaged("entries overlap")
    return entries


def damaged(how: str) -> InvalidCode:
    """The error for a zip that contradicts itself."""
    return InvalidCode(f"Could not unzip uploaded file, it is damaged: {how}", fix="make it again and upload that")


def _too_many(entry_limit: int) -> InvalidCode:
    return InvalidCode(
        f"the zip has more than {entry_limit:,} entries", fix="leave out what the function does not need"
    )


def _find_directory(descriptor: int) -> tuple[int, int, int, int]:
    """(entries, bytes, where it starts, by how much all offsets are short because something precedes the zip)."""
    length = os.fstat(descriptor).st_size
    window = min(length, _END.size + _COMMENT_LIMIT)
    tail = os.pread(descriptor, window, length - window)
    at = tail.rfind(b"PK\x05\x06", 0, max(len(tail) - _END.size + 4, 0))
    if at < 0:
        raise InvalidCode(
            "Could not unzip uploaded file: it is not a zip, or its end is missing",
            fix="upload a .zip with the function's files in it",
        )
    end = length - window + at
    _, disk, first_disk, here, total, size, offset, _ = _END.unpack_from(tail, at)
    if 0xFFFF in (here, total) or 0xFFFFFFFF in (size, offset):
        wide = _END64_LOCATOR.size + _END64.size
        record = os.pread(descriptor, wide, end - wide) if end >= wide else b""
        if record[:4] == b"PK\x06\x06" and record[_END64.size :][:4] == b"PK\x06\x07":
            _, _, _, _, disk, first_disk, here, total, size, offset = _END64.unpack_from(record)
            end -= wide
    if disk or first_disk or here != total:
        raise InvalidCode("the zip is one part of several", fix="upload it as one file")
    start = end - size
    if start < 0 or offset > start:
        raise damaged("its directory is not where it says")
    return total, size, start, start - offset


def _entries(descriptor: int, directory: bytes, shift: int) -> Iterator[tuple[Entry, int]]:
    """Each entry, with where its local header begins."""
    at = 0
    while at < len(directory):
        if at + _CENTRAL.size > len(directory):
            raise damaged("its directory is cut short")
        (
            signature, _, _, flags, method, clock, date, crc32, packed, size,
            name_len, extra_len, comment_len, _, _, attributes, offset,
        ) = _CENTRAL.unpack_from(directory, at)  # fmt: skip
        at += _CENTRAL.size
        raw_name = directory[at : at + name_len]
        extra = _extra_fields(directory[at + name_len : at + name_len + extra_len])
        at += name_len + extra_len + comment_len
        if signature != b"PK\x01\x02" or at > len(directory):
            raise damaged("its directory is cut short")
        name = _decoded(raw_name, flags)
        if flags & _ENCRYPTED:
            raise InvalidCode(f"{name!a} is encrypted", fix="make the zip without a password")
        if method not in (STORED, DEFLATED):
            raise InvalidCode(
                f"{name!a} is compressed by method {method}, which cannot be read", fix="make the zip with deflate"
            )
        wide = extra.get(0x0001, b"")
        size, wide = _widened(size, wide)
        packed, wide = _widened(packed, wide)
        offset, wide = _widened(offset, wide)
        begin = offset + shift
        local = os.pread(descriptor, _LOCAL.size + name_len, begin) if begin < 2**63 else b""
        if len(local) < _LOCAL.size + name_len or local[:4] != b"PK\x03\x04" or local[_LOCAL.size :] != raw_name:
            raise damaged(f"{name!a} is not where the directory says")
        local_name_len, local_extra_len = _LOCAL.unpack_from(local)[-2:]
        if local_name_len != name_len:
            raise damaged(f"{name!a} is not where the directory says")
        entry = Entry(
            name=name,
            method=method,
            mode=attributes >> 16,
            crc32=crc32,
            packed_bytes=packed,
            size_bytes=size,
            time_s=_time_s(date, clock, extra.get(0x5455, b"")),
            start=begin + _LOCAL.size + local_name_len + local_extra_len,
        )
        yield entry, begin


def _decoded(name: bytes, flags: int) -> str:
    """UTF-8, which many write without the flag that says so, else the code page that the format began with."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        if flags & _UTF8:
            raise damaged(f"the name {name!r} is not UTF-8") from None
        return name.decode("cp437")


def _extra_fields(data: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    while len(data) >= 4:
        kind, length = struct.unpack_from("<2H", data)
        fields[kind] = data[4 : 4 + length]
        data = data[4 + length :]
    return fields


def _widened(value: int, wide: bytes) -> tuple[int, bytes]:
    """The 64-bit value where the 32-bit field says that it is elsewhere, and what is left of the zip64 field."""
    if value != 0xFFFFFFFF or len(wide) < 8:
        return value, wide
    return int.from_bytes(wide[:8], "little"), wide[8:]


def _time_s(date: int, clock: int, extended: bytes) -> int:
    """The exact time where Info-ZIP's field has it, else the zip's own, in steps of two seconds and taken as UTC. A
    .pyc in the zip is used only if its source's time is the one that it was compiled at."""
    if len(extended) >= 5 and extended[0] & 1:
        return max(int.from_bytes(extended[1:5], "little", signed=True), 0)
    day = ((date >> 9) + 1980, max((date >> 5) & 15, 1), max(date & 31, 1))
    hour = (clock >> 11, (clock >> 5) & 63, (clock & 31) * 2)
    try:
        return calendar.timegm((*day, *hour))
    except ValueError:  # a month 13
        return calendar.timegm((1980, 1, 1, 0, 0, 0))
