"""An example's code with the packages that its requirements.txt names, as `pip install -t` would lay them out.

The packages are those of the interpreter that runs the tests, in the versions of requirements/dev.lock: nothing is
downloaded. They are links, which a folder that is deployed may have.
"""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def bundle(example: str, folder: Path, *, without: frozenset[str] = frozenset()) -> Path:
    """Make `folder`: the example's files, and what it requires but for the distributions `without`."""
    shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in sorted(required(example, without)):
        files = metadata.files(name) or []
        tops = {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}
        for top in sorted(tops):
            place = folder / top
            if not place.exists():  # two distributions may share a namespace
                place.symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    return folder


def requirements(example: str) -> list[Requirement]:
    """Those of its requirements.txt; none where it has none."""
    path = EXAMPLES / example / "requirements.txt"
    return [Requirement(line) for line in path.read_text().splitlines()] if path.exists() else []


def required(example: str, without: frozenset[str] = frozenset()) -> set[str]:
    """The distributions, with what they require themselves."""
    found: set[tuple[str, str]] = set()  # with the extra, "" for what is always required
    ahead = requirements(example)
    while ahead:
        requirement = ahead.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if name not in without and (name, extra) not in found:
                found.add((name, extra))
                lines = map(Requirement, metadata.requires(name) or [])
                ahead += [line for line in lines if line.marker is None or line.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}
