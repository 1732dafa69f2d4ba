"""The reference of HTTP: uvicorn as the HTTP front sets it up, in a process of its own, with an application that does
nothing: a constant for whatever is asked, and for /stream/MB so many megabytes in chunks.

Same protocol class, event loop and settings as an engine's; what an engine takes above it is the engine. Listens on a
free port of loopback, prints the port, and ends when its standard input does: so with whoever started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn
import uvloop

from bench.web import CHUNK_BYTES
from engine.cli.benching.facts import ROOT
from engine.cli.benching.scenarios import EVENT
from engine.cli.problems import Problem
from engine.rest.listening import front_config

STREAM = "/stream/"
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"x-amz-executed-version", b"$LATEST"),
    (b"x-amzn-requestid", b"1b2f4c1e-5d0a-4f0e-9c59-9a2b5f1c7d10"),
]
_CONSTANT = [*_HEADERS, (b"content-length", b"%d" % len(EVENT))]
_CHUNK = b"x" * CHUNK_BYTES


async def application(scope: MutableMapping[str, Any], receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    """The constant is as long as a function's answer with the event that it was sent."""
    if scope["path"].startswith(STREAM):
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        for _ in range((int(scope["path"].removeprefix(STREAM)) << 20) // CHUNK_BYTES):
            await send({"type": "http.response.body", "body": _CHUNK, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    await send({"type": "http.response.start", "status": 200, "headers": _CONSTANT})
    await send({"type": "http.response.body", "body": EVENT, "more_body": False})


@contextlib.contextmanager
def asgi_server() -> Iterator[str]:
    """The process; yields its address. Raises Problem."""
    command = [sys.executable, "-m", "bench.asgi_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().decode().strip()
        if not port:
            raise Problem("cannot measure", "the bare server did not start; its error is above", "make build")
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.stdin.close()
            process.wait(30)


async def _serve() -> None:
    # With its protocol named, as the front does, so that asyncio sets TCP_NODELAY.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(front_config(application))
        # As an engine does at the end of its start: engine/service.py.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)
        serving = asyncio.create_task(server.serve([listener]))
        print(listener.getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
