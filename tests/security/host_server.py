"""The bare host, for attacks that have to succeed there: a process that forks one child for each.

Started once, since starting an interpreter is most of what a small attack costs. A child has root and every
privilege, and the prelude's names.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from typing import Any

_LOOP = """
import traceback
def answer(program, payload, into):
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    try:
        names = dict(globals())
        exec(compile(program, "attack", "exec"), names)
        said = {"value": names["handler"](payload)}
    except BaseException:
        said = {"error": traceback.format_exc()}
    with open(into, "w") as file:
        file.write(json.dumps(said) + "\\n")
    os._exit(0)

for line in sys.stdin:
    program, payload = json.loads(line)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        os.setpgid(0, 0)
        answer(program, payload, into)
    os.close(into)
    with open(out) as file:
        said = file.readline()  # not to its end, which what an attack leaves behind may keep open
    os.waitpid(child, 0)
    print(said or json.dumps({"error": "it died"}), end="" if said else "\\n", flush=True)
"""


class HostServer:
    """Ended by `close`."""

    def __init__(self, prelude: str) -> None:
        self._prelude = prelude
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """From here on what changes in this process changes nothing there."""
        if self._process is None:
            command = [sys.executable, "-I", "-S", "-c", self._prelude + _LOOP]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )

    def run(self, program: str, payload: Any, timeout_s: float) -> Any:
        """What the program's handler returns."""
        self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([program, payload]).encode() + b"\n")
        self._process.stdin.flush()
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], timeout_s)[0]:
                self.close()
                raise TimeoutError(f"no answer from the host in {timeout_s} s")
            block = os.read(self._process.stdout.fileno(), 1 << 20)
            assert block, "the host's process has ended"
            line += block
        said = json.loads(line)
        assert "error" not in said, said["error"]
        return said["value"]

    def close(self) -> None:
        """End it, and the attack that it may be waiting for."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        children = f"/proc/{process.pid}/task/{process.pid}/children"
        with open(children) as file:
            left = [int(pid) for pid in file.read().split()]
        for pid in left:
            os.killpg(pid, signal.SIGKILL)
        process.stdin.close()
        process.stdout.close()
        process.wait(10)
