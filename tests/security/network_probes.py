"""What a function does to find out what it reaches: bodies of handlers, and the same outside."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from engine.model.function import Egress
from engine.model.outcome import Outcome
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import run, spec, write_code

TCP = """
    import socket
    try:
        with socket.create_connection(({address!r}, {port}), 1.5) as sock:
            return sock.recv(100).decode()
    except OSError as error:
        return type(error).__name__ + " " + str(error.errno)
"""
UDP = """
    import socket
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.3)
            sock.connect(({address!r}, {port}))
            sock.send(b"ping")
            return sock.recv(100).decode()
    except OSError as error:
        return type(error).__name__ + " " + str(error.errno)
"""
OWN_ADDRESS = """
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("198.51.100.7", 1))
        return sock.getsockname()[0]
"""
SOURCE = """
    state = {}
    def handler(event, context):
        scope = {"state": state}
        exec(event["program"], scope)
        return scope["body"]()
"""


def program(body: str) -> str:
    """A body with `return`, as a function called body."""
    return "def body():\n" + textwrap.indent(textwrap.dedent(body), "    ")


def outside(body: str) -> Any:
    """What a body returns where the calling thread is, as root."""
    scope: dict[str, Any] = {"state": {}}
    exec(program(body), scope)
    return scope["body"]()


async def started(pool: LinuxPool, folder: Path, egress: Egress = Egress.INTERNET) -> LinuxSandbox:
    """A sandbox that runs what `inside` gives it."""
    return await pool.start(spec(write_code(folder / "code", SOURCE), egress=egress))


async def inside(sandbox: LinuxSandbox, body: str, *, timeout_ms: int = 20_000) -> Any:
    """What a body returns in a sandbox. `state` is a dictionary that its later bodies see too."""
    ending, seen = await run(sandbox, {"program": program(body)}, timeout_ms=timeout_ms)
    assert ending.outcome is Outcome.OK, (ending, bytes(seen.written))
    return json.loads(ending.payload)
