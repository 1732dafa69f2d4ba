"""Attacks as the bodies of handlers: the same text is run in a sandbox and on the bare host.

An attack that fails inside proves nothing unless it succeeds where the defence is not: `outside` runs it as root with
every privilege, in namespaces of its own where it would leave something behind.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from engine.model.outcome import Outcome
from engine.sandbox.api import Ending
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import Collected, run_once
from tests.security.host_server import HostServer

PRELUDE = """
import ctypes, errno, fcntl, json, mmap, os, resource, select, signal, socket, stat, struct, subprocess, sys
import threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long  # an address is one
def call(name, *arguments):
    "0 or more, or the name of the error"
    result = getattr(libc, name)(*arguments)
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]
def syscall(number, *arguments):
    return call("syscall", number, *arguments)
def tried(action, *arguments, **named):
    "what it returns, or the name of its error"
    try:
        return action(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno]
def opened(path, flags=os.O_RDONLY):
    "'opened', or the name of the error"
    fd = tried(os.open, path, flags)
    if isinstance(fd, str):
        return fd
    os.close(fd)
    return "opened"
"""

_PRIVATE = """
libc.unshare(0x20000 | 0x4000000 | 0x8000000)  # mounts, hostname, System V
libc.mount(None, b"/", None, 0x44000, None)  # nothing spreads
"""


def handler(body: str) -> str:
    """A module with the body as its handler."""
    return PRELUDE + "def handler(event, context):\n" + textwrap.indent(textwrap.dedent(body), "    ")


async def ending_of(
    pool: LinuxPool, folder: Path, body: str, payload: Any = None, **settings: int
) -> tuple[Ending, Collected]:
    """How a sandbox ends that runs the body."""
    return await run_once(pool, folder, handler(body), payload, **settings)


async def inside(pool: LinuxPool, folder: Path, body: str, payload: Any = None, **settings: int) -> Any:
    """What the body returns in a sandbox."""
    ending, seen = await ending_of(pool, folder, body, payload, **settings)
    assert ending.outcome is Outcome.OK, (ending, bytes(seen.written))
    return json.loads(ending.payload)


HOST = HostServer(PRELUDE)


def outside(body: str, payload: Any = None, *, timeout_s: float = 60, afresh: bool = False) -> Any:
    """What the body returns as root on the host. `afresh` for what a process has from the one that starts it, such as
    its environment."""
    program = _PRIVATE + "def handler(event):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    if not afresh:
        return HOST.run(program, payload, timeout_s)
    server = HostServer(PRELUDE)
    try:
        return server.run(program, payload, timeout_s)
    finally:
        server.close()
