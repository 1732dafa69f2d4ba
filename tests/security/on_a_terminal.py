"""A program with a controlling terminal, as an operator's shell starts an engine: runs an attack on the terminal beside
the engine and in a sandbox of it, and prints what came of both."""

from __future__ import annotations

import asyncio
import fcntl
import json
import subprocess
import sys
import termios
from pathlib import Path

from tests.sandboxes import real_pool
from tests.security.probes import inside

TYPE = """
import fcntl, os, termios
fd = os.open("/dev/tty", os.O_RDWR)
fcntl.ioctl(fd, termios.TIOCSTI, b"x")
print("typed", end="")
"""

ATTACK = """
    import termios
    typed = []
    for fd in range(0, 20):
        if not isinstance(tried(fcntl.ioctl, fd, termios.TIOCSTI, b"x"), str):
            typed.append(fd)
    for path in ("/dev/tty", "/dev/console", "/dev/pts/0", "/dev/pts/1", "/dev/ptmx", "/proc/1/fd/0"):
        fd = tried(os.open, path, os.O_RDWR)
        if isinstance(fd, int) and not isinstance(tried(fcntl.ioctl, fd, termios.TIOCSTI, b"x"), str):
            typed.append(path)
    return typed
"""


async def main(folder: Path) -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # here, and not in a fork of whoever has gRPC in memory
    done = subprocess.run([sys.executable, "-c", TYPE], stdout=subprocess.PIPE, text=True)
    async with real_pool(folder / "data") as pool:
        found = await inside(pool, folder, ATTACK)
    print(json.dumps({"beside the engine": done.stdout, "inside": found}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
