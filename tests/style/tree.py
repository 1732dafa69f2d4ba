"""The files that are the project's own: what git tracks or would add, without what is built or generated."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BUILT = {"build", "dist", "__pycache__"}


@cache
def files() -> tuple[Path, ...]:
    """Every file, as a path from ROOT; from the file system where there is no git, as in an unpacked archive."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        names = [Path(name) for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        names = [name for name in names if not any(map(_is_built, name.parts[:-1]))]
    return tuple(sorted(name for name in names if (ROOT / name).is_file() and not generated(name)))


def _is_built(folder: str) -> bool:
    # Environments and caches of tools have names with a dot.
    return folder in _BUILT or folder.endswith(".egg-info") or (folder.startswith(".") and folder != ".ci")


def generated(path: Path) -> bool:
    """Whether the build makes it."""
    return path.parts[:2] == ("engine", "v1") or path.suffix == ".so"


def sources(*suffixes: str) -> list[Path]:
    """The files with these suffixes."""
    return [path for path in files() if path.suffix in suffixes]


def text(path: Path) -> str:
    """What is in it; bytes that are no UTF-8 are replaced."""
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")
