"""Somebody in a sandbox's namespaces who is not behind its other walls: what a function would be that had got past one.

It has the sandbox's user, mounts, processes, network and System V objects, and neither its Landlock domain nor its
filter. So what it can do, and the function cannot, one of those two keeps from the function.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from tests.security.probes import PRELUDE

_ENTER = """
for kind in ("ipc", "uts", "net", "pid", "mnt"):
    assert libc.setns(os.open(f"/proc/{sys.argv[1]}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC), 0) == 0
uid = int(sys.argv[2])
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
libc.prctl(1, 9, 0, 0, 0)  # gone with who started it
"""
_BECOME = """
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
libc.prctl(4, 1, 0, 0, 0)  # as open to its like as any process
"""
_ANSWER = """
def say(what):
    print(json.dumps(what), flush=True)
def until_told():
    sys.stdin.read()
"""


def process_of(pool: LinuxPool, sandbox: LinuxSandbox) -> int:
    """The guest's process, by its number on the host."""
    members = Path(pool.cgroup_directories["pids"]) / sandbox.id / "cgroup.procs"
    return max(int(pid) for pid in members.read_text().split())


@contextlib.contextmanager
def beside(
    pool: LinuxPool, sandbox: LinuxSandbox, body: str, *, first: str = "", as_root: bool = False
) -> Iterator[Any]:
    """What the body says (by `say`) once it is there; it is told to end (`until_told` returns) when the block is
    left. `first` is run as root on the host; `host` is a descriptor of the host's root."""
    pid = process_of(pool, sandbox)
    uid = Path(f"/proc/{pid}").stat().st_uid
    program = PRELUDE + "host = os.open('/', os.O_RDONLY | os.O_DIRECTORY)\n" + textwrap.dedent(first) + _ENTER
    program += ("" if as_root else _BECOME) + _ANSWER + textwrap.dedent(body)
    intruder = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program, str(pid), str(uid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with intruder:
        assert intruder.stdout is not None
        assert intruder.stdin is not None
        assert intruder.stderr is not None
        line = intruder.stdout.readline()
        assert line, intruder.stderr.read()
        try:
            yield json.loads(line)
        finally:
            intruder.stdin.close()
            intruder.wait(30)
