"""Folders in which Pythons are commonly installed beside PATH: version managers, images, distributions.

What a version manager puts on PATH are scripts that need an environment of their own; what they stand for is here.
Looks at names only; whether a file is a Python that the engine runs is for engine.runtimes.interpreters to find out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_SYSTEM = ("/usr/local/bin", "/usr/bin")
_IMAGES = ("/opt/python", "/opt/pythons")  # the first is that of the manylinux images


def python_folders(environ: Mapping[str, str], home: str) -> tuple[str, ...]:
    """The folders that are there, of each manager the newest version first. Never raises."""
    data = environ.get("XDG_DATA_HOME") or os.path.join(home, ".local/share")
    roots = (
        os.path.join(environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv"), "versions"),
        environ.get("UV_PYTHON_INSTALL_DIR") or os.path.join(data, "uv/python"),
        os.path.join(environ.get("MISE_DATA_DIR") or os.path.join(data, "mise"), "installs/python"),
        os.path.join(environ.get("ASDF_DATA_DIR") or os.path.join(home, ".asdf"), "installs/python"),
        *_IMAGES,
    )
    found = [folder for root in roots if os.path.isabs(root) for folder in _versions(Path(root))]
    return (*found, *_SYSTEM)


def _versions(root: Path) -> list[str]:
    try:
        names = sorted((entry.name for entry in root.iterdir()), key=_newness, reverse=True)
    except OSError:
        return []
    return [str(folder) for name in names if (folder := root / name / "bin").is_dir()]


def _newness(name: str) -> tuple[tuple[int, ...], str]:
    return tuple(int(number) for number in re.findall(r"\d+", name)), name
