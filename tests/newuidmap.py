"""newuidmap and newgidmap for tests, whether the host has any or not: programs of the user that ask the test, which is
root, by a file each, and wait for the answer.

They map whatever they are asked to: what the real ones refuse is theirs to refuse.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unprivileged import UID, own_folder

FIRST = 1_700_000_000
"""The first of the ids that are set aside for the user."""
COUNT = 65_536
_PROGRAM = """#!{python} -ISB
import os, sys, time
asked = "{folder}/" + os.path.basename(sys.argv[0]) + "-" + sys.argv[1]
with open(asked + ".new", "w") as file:
    file.write(" ".join(sys.argv[1:]))
os.rename(asked + ".new", asked + ".asked")
while not os.path.exists(asked + ".done"):
    time.sleep(0.005)
"""


@contextmanager
def set_id_programs(home: Path) -> Iterator[str]:
    """Commands of root's that give the user such programs, and ids in /etc/subuid and /etc/subgid: `before` of
    tests.unprivileged. Whoever starts the user's program has `home`/bin on its PATH."""
    folder = own_folder(home / "ids")
    programs, etc = own_folder(home / "bin"), home / "etc"
    etc.mkdir()
    for name in ("newuidmap", "newgidmap"):
        (programs / name).write_text(_PROGRAM.format(python=sys.executable, folder=folder))
        (programs / name).chmod(0o755)
    for name in ("subuid", "subgid"):
        (etc / name).write_text(f"other:1:65536\n{UID}:5:10\n{UID}:{FIRST}:{COUNT}\n")
    etc.chmod(0o755)
    stop = threading.Event()
    answering = threading.Thread(target=_answer, args=(folder, stop))
    answering.start()
    try:
        yield f"mount -t overlay overlay -o lowerdir={etc}:/etc /etc"
    finally:
        stop.set()
        answering.join()


def _answer(folder: Path, stop: threading.Event) -> None:
    while not stop.wait(0.005):
        for asked in folder.glob("*.asked"):
            kind = "uid_map" if asked.name.startswith("newuidmap") else "gid_map"
            pid, *numbers = asked.read_text().split()
            lines = [" ".join(numbers[at : at + 3]) for at in range(0, len(numbers), 3)]
            Path("/proc", pid, kind).write_text("\n".join(lines))
            asked.rename(asked.with_suffix(".done"))
