"""The formatted ext4 images that every /tmp of a size is copied from, one file a size, made when first needed.

It has the folder in it that becomes /tmp, and is empty else: what each copy would do again costs it more than copying.
Guarantees of an image for N MB: an unprivileged user can store N MiB in it and at most 2 % more; it holds N × 64 files
and folders (one for each 16 KiB) and at most 5 % more; it is sparse, some 100 KB of the disk. What is there already is
used only if it is such an image. How an image becomes a mount is native/box/scratch.c's.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from engine.errors import HostUnfit, SandboxFault
from engine.sandbox import box

FILES_PER_MB = 64
_BLOCK = 4_096
_INODE = 256
_BLOCKS_PER_MB = (1 << 20) // _BLOCK
_TEMPLATES_KEPT = 64
_TRIES = 4

# Where the superblock is and what is where in it: kernel.org, Documentation/filesystems/ext4/super.rst.
_SUPERBLOCK_AT, _SUPERBLOCK_BYTES = 1_024, 1_024
_BLOCKS, _FREE_BLOCKS, _FREE_FILES, _INCOMPATIBLE = 0x4, 0xC, 0x10, 0x60
_MAGIC_AT, _MAGIC = 0x38, 0xEF53
_ENCRYPT = 0x10000
_LABEL_AT, _LABEL_BYTES, _LABEL = 0x78, 16, b"cleave /tmp"
"""The name of the file system, which no image has that was made in another way."""


@dataclass(frozen=True, slots=True)
class _Formatted:
    """What the superblock of an image says."""

    blocks: int
    free_blocks: int
    free_files: int
    encrypt: bool
    label: bytes

    @property
    def usable_blocks(self) -> int:
        """Blocks for an unprivileged user: ext4 keeps 2 %, at most 4,096, for its own work when it is full (fs/ext4/
        super.c, ext4_calculate_resv_clusters)."""
        return self.free_blocks - min(self.blocks // 50, 4_096)


def make_template(folder: Path, size_mb: int) -> Path:
    """The image for a /tmp of `size_mb`, made if it is not there. Raises HostUnfit without mkfs.ext4, SandboxFault if
    it fails, such as for a full disk."""
    path = folder / f"{size_mb}.ext4"
    if _fits(path, size_mb):
        return path
    making = folder / f"{size_mb}.making.{os.getpid()}.{threading.get_ident()}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _format(making, size_mb)
        box.scratch_template(os.fsencode(making))
        os.replace(making, path)
        _drop_oldest(folder)
    except OSError as error:
        text = f"cannot make one in {folder}: {error.strerror}"
        raise SandboxFault("tmp image", error.errno or 0, text, fix=f"see that {folder} has space") from error
    finally:
        making.unlink(missing_ok=True)
    return path


def find_mkfs() -> str:
    """The path of mkfs.ext4. Raises HostUnfit if there is none."""
    mkfs = shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if mkfs is None:
        raise HostUnfit("mkfs.ext4 is missing, which /tmp needs", fix="apt-get install e2fsprogs")
    return mkfs


def _format(path: Path, size_mb: int) -> None:
    # What a user's own folders and extents take is added, so that the quota is all for what they store.
    wanted = size_mb * _BLOCKS_PER_MB * 201 // 200 + 64
    blocks = wanted + size_mb * FILES_PER_MB * _INODE // _BLOCK + min(wanted // 50, 4_096)
    for _ in range(_TRIES):
        _run_mkfs(path, blocks, size_mb * FILES_PER_MB + 16)
        made = _read(path)
        if made is None:
            raise SandboxFault("tmp image", 0, f"mkfs.ext4 made something else than ext4 of {path.name}")
        missing = wanted - made.usable_blocks
        if missing <= 0:
            return
        # A whole group more, with its tables: the last one may be too small to be used at all.
        blocks = made.blocks + missing + missing // 10 + 64
    raise SandboxFault("tmp image", 0, f"mkfs.ext4 left too little room for {size_mb} MB")


def _run_mkfs(path: Path, blocks: int, files: int) -> None:
    with open(path, "wb") as image:
        image.truncate(blocks * _BLOCK)
    # No journal: what it would recover nobody will read. No reserved blocks, no room to grow: all is the function's.
    # No copies of the superblock, which every image would have to have: nobody repairs one.
    done = subprocess.run(
        [find_mkfs(), "-q", "-F", "-b", str(_BLOCK), "-I", str(_INODE), "-N", str(files), "-m", "0",
         "-L", _LABEL.decode(), "-O", "^has_journal,^resize_inode,encrypt,sparse_super2",
         "-E", "lazy_itable_init=1,nodiscard,num_backup_sb=0", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )  # fmt: skip
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-200:]
        raise SandboxFault("tmp image", 0, f"mkfs.ext4 failed: {said}", fix=f"see that {path.parent} has space")


def _read(path: Path) -> _Formatted | None:
    """None if it is no ext4 image of its own size."""
    try:
        with open(path, "rb") as image:
            image.seek(_SUPERBLOCK_AT)
            block = image.read(_SUPERBLOCK_BYTES)
            size = os.fstat(image.fileno()).st_size
    except FileNotFoundError:
        return None
    if len(block) < _SUPERBLOCK_BYTES or struct.unpack_from("<H", block, _MAGIC_AT)[0] != _MAGIC:
        return None
    blocks, free_blocks, free_files, features = (
        struct.unpack_from("<I", block, at)[0] for at in (_BLOCKS, _FREE_BLOCKS, _FREE_FILES, _INCOMPATIBLE)
    )
    if blocks * _BLOCK != size:
        return None
    label = block[_LABEL_AT : _LABEL_AT + _LABEL_BYTES].rstrip(b"\0")
    return _Formatted(blocks, free_blocks, free_files, bool(features & _ENCRYPT), label)


def _fits(path: Path, size_mb: int) -> bool:
    found = _read(path)
    return (
        found is not None
        and found.encrypt
        and found.label == _LABEL
        and found.usable_blocks >= size_mb * _BLOCKS_PER_MB
        and found.free_files >= size_mb * FILES_PER_MB
    )


def _drop_oldest(folder: Path) -> None:
    """Sizes are whatever functions ask for: those not made lately are made again when they are needed."""
    made = sorted(folder.glob("*.ext4"), key=lambda path: path.stat().st_mtime)
    for path in made[:-_TEMPLATES_KEPT]:
        path.unlink(missing_ok=True)
