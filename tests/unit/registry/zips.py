"""Makes zips for tests: ordinary ones with zipfile, lying and hostile ones byte by byte."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

FILE = stat.S_IFREG | 0o644
LINK = stat.S_IFLNK | 0o777
FOLDER = stat.S_IFDIR | 0o755


def ordinary(files: Mapping[str, bytes | str]) -> bytes:
    """A zip as `zip -r` makes it. The same files are the same bytes at any time of the day."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o40775 << 16 | 0x10 if entry.is_dir() else 0o600 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Member:
    """One entry; what is None is told as it is."""

    name: str | bytes
    content: bytes = b""
    mode: int = FILE
    method: int = 8
    flags: int = 0
    crc32: int | None = None
    size: int | None = None
    packed: bytes | None = None
    local_name: bytes | None = None
    extra: bytes = b""


def hostile(members: Sequence[Member], *, count: int | None = None, comment: bytes = b"", prefix: bytes = b"") -> bytes:
    """A zip that says what its members say."""
    body, directory = b"", b""
    for member in members:
        name = member.name if isinstance(member.name, bytes) else member.name.encode(errors="surrogateescape")
        packed = member.packed
        if packed is None:
            deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
            deflated = deflater.compress(member.content) + deflater.flush()
            packed = deflated if member.method == 8 else member.content
        crc32 = zlib.crc32(member.content) if member.crc32 is None else member.crc32
        size = len(member.content) if member.size is None else member.size
        shared = (member.flags, member.method, 0, 0x21, crc32, len(packed), size)
        local_name = name if member.local_name is None else member.local_name
        offset = len(body)
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, *shared, len(local_name), 0) + local_name + packed
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 3 << 8 | 20, 20, *shared, len(name), len(member.extra), 0, 0, 0,
            member.mode << 16, offset,
        )  # fmt: skip
        directory += name + member.extra
    total = len(members) if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, total, total, len(directory), len(body), len(comment))
    return prefix + body + directory + end + comment


async def pieces(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    """As an upload arrives."""
    for at in range(0, len(data), size):
        yield data[at : at + size]
