"""Ids that the host's administrator has set aside for a user, and giving them to a user namespace: subuid(5).

With them each sandbox of an engine that is not root is a user of its own to the host too, and gives up its groups. Only
the set-id programs newuidmap and newgidmap may do that for a user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from engine.errors import SandboxFault

_WITHIN_S = 10
SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")


@dataclass(frozen=True, slots=True)
class SubIds:
    """`count` users from `first_uid` and groups from `first_gid` of the host are those from `base` in the namespace."""

    base: int
    first_uid: int
    first_gid: int
    count: int

    def give(self, pid: int) -> None:
        """Map them, and the engine's own ids, into the user namespace of a process that has none yet. Raises
        SandboxFault."""
        _run("newuidmap", pid, os.geteuid(), self.base, self.first_uid, self.count)
        _run("newgidmap", pid, os.getegid(), self.base, self.first_gid, self.count)


def find_subids(base: int, count: int) -> SubIds | None:
    """Those of this process's user; None where there are fewer than `count`, or no program to map them."""
    if os.geteuid() == 0 or shutil.which("newuidmap") is None or shutil.which("newgidmap") is None:
        return None
    uids, gids = _first(SUBUID, count), _first(SUBGID, count)
    return None if uids is None or gids is None else SubIds(base, uids, gids, count)


def _first(path: Path, count: int) -> int | None:
    """The first id of a range that is large enough."""
    names = {str(os.geteuid())}
    try:
        names.add(pwd.getpwuid(os.geteuid()).pw_name)
    except KeyError:  # a user without a name
        pass
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        first, _, size = rest.partition(":")
        if name in names and first.isdigit() and size.isdigit() and int(size) >= count:
            return int(first)
    return None


def _run(program: str, pid: int, own: int, base: int, first: int, count: int) -> None:
    words = [program, *(str(number) for number in (pid, own, own, 1, base, first, count))]
    try:
        done = subprocess.run(words, capture_output=True, timeout=_WITHIN_S, cwd="/", check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxFault("user namespace", 0, f"cannot run {program}: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[:300]
        raise SandboxFault("user namespace", 0, f"{program} failed: {said}")
