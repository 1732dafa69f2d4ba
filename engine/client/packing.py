"""From a folder to a zip: the same files give the same bytes, whatever their times, owners and order on the disk.

Entries are sorted, dated 1980, and keep of their mode only whether they can be executed. Links are followed, as
`zip -r` does. What ALWAYS_SKIPPED and the folder's own .cleaveignore name stays out. Sizes are the engine's to judge.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from engine.errors import InvalidArgument

IGNORE_FILE = ".cleaveignore"
ALWAYS_SKIPPED = frozenset({".git", "__pycache__", ".venv", "node_modules", IGNORE_FILE})
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold


class Unpackable(InvalidArgument):
    """What cannot be packed: `what` failed, for the reason `why`."""

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(f"{what}: {why}", fix=fix)
        self.what = what
        self.why = why


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to pack: where it is, and its path in the zip."""

    path: Path
    name: str
    executable: bool


def pack(folder: Path, target: IO[bytes]) -> list[str]:
    """Write the zip of `folder` to `target` and return the names in it, sorted. Raises Unpackable."""
    entries = sorted(_walk(folder, "", _ignored(folder), ()), key=lambda entry: entry.name)
    if not entries:
        raise Unpackable(f"cannot pack {folder}", "there is no file in it to deploy", f"cleave init {folder}")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for entry in entries:
            info = zipfile.ZipInfo(entry.name, _DATE)
            info.create_system = 3  # Unix, which makes the mode count
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (0o755 if entry.executable else 0o644)) << 16
            info.file_size = entry.path.stat().st_size  # decides on zip64
            with entry.path.open("rb") as source, archive.open(info, "w") as sink:
                while block := source.read(1 << 20):
                    sink.write(block)
    return [entry.name for entry in entries]


def packed(code: str | Path | bytes) -> bytes:
    """The zip of a folder, of a zip's path, or of a zip's bytes. Raises Unpackable."""
    if isinstance(code, bytes):
        return code
    path = Path(code)
    try:
        if not path.is_dir():
            return path.read_bytes()
        target = io.BytesIO()
        pack(path, target)
        return target.getvalue()
    except OSError as error:
        raise Unpackable(f"cannot read {path}", error.strerror or str(error), "give a folder or a zip") from None


def names_in(zip_path: Path) -> list[str]:
    """The names in a zip that exists. Raises Unpackable if it is none."""
    try:
        with zipfile.ZipFile(zip_path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as error:
        raise Unpackable(
            f"cannot deploy {zip_path}", str(error), "give a folder or a zip: cleave deploy FOLDER"
        ) from None


def _ignored(folder: Path) -> list[str]:
    try:
        lines = (folder / IGNORE_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    patterns = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for pattern in patterns:
        if pattern.startswith("!"):
            fix = f"name what stays out, without {pattern}"
            raise Unpackable(f"cannot read {folder / IGNORE_FILE}", f"{pattern!r}: exceptions are not known", fix)
    return patterns


def _matches(name: str, is_folder: bool, patterns: list[str]) -> bool:
    """`logs/` is a folder of that name anywhere, `*.csv` a name anywhere, `data/raw` and `/data` paths from the top."""
    base = name.rpartition("/")[2]
    if base in ALWAYS_SKIPPED:
        return True
    for pattern in patterns:
        wanted = pattern.rstrip("/")
        if pattern.endswith("/") and not is_folder:
            continue
        if fnmatchcase(name, wanted.lstrip("/")) if "/" in wanted else fnmatchcase(base, wanted):
            return True
    return False


def _walk(folder: Path, prefix: str, patterns: list[str], above: tuple[tuple[int, int], ...]) -> Iterator[Entry]:
    here = folder.stat()
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        raise _unpackable(folder, "a link leads back to a folder that it is in")
    with os.scandir(folder) as listing:
        items = list(listing)
    for item in items:
        name = prefix + item.name
        try:
            info = item.stat()
        except OSError as error:
            if _matches(name, False, patterns):
                continue
            raise _unpackable(Path(item.path), error.strerror or str(error)) from None
        if _matches(name, stat.S_ISDIR(info.st_mode), patterns):
            continue
        if stat.S_ISDIR(info.st_mode):
            yield from _walk(Path(item.path), f"{name}/", patterns, (*above, identity))
        elif stat.S_ISREG(info.st_mode):
            yield Entry(Path(item.path), name, bool(info.st_mode & 0o111))
        else:
            raise _unpackable(Path(item.path), "it is neither a file nor a folder")


def _unpackable(path: Path, why: str) -> Unpackable:
    return Unpackable(f"cannot pack {path}", why, f"remove it, or name it in {IGNORE_FILE}")
