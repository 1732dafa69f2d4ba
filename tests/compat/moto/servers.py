"""What answers moto's tests: its own server, and an engine for each region that they name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.engines import Served, end, ready, spawn

REGIONS = (
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "ap-southeast-1",
    "cn-northwest-1",
    "us-isob-east-1",
)
ACCOUNT = "123456789012"
_SERVE = """
import os, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.read(0, 1)
"""


@contextlib.contextmanager
def moto_server(python: Path) -> Iterator[str]:
    """moto's server in a process of its own; gives its URL. It ends when its standard input is closed."""
    variables = {"MOTO_ENABLE_ISO_REGIONS": "true", "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
    serving = subprocess.Popen(
        [python, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **variables},
    )
    assert serving.stdin is not None
    assert serving.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(serving.stdout.readline())}"
    finally:
        serving.stdin.close()
        serving.stdout.close()
        serving.wait(30)


@contextlib.asynccontextmanager
async def engines(folder: Path, s3_endpoint: str) -> AsyncIterator[dict[str, str]]:
    """An engine for each of REGIONS, with its data under `folder`; gives their URLs by region."""
    started: dict[str, Served] = {}
    try:
        for region in REGIONS:
            flags = {"account": ACCOUNT, "region": region, "s3-endpoint": s3_endpoint, "shutdown-grace-ms": 0}
            started[region] = spawn(folder / region, flags)
        for one in started.values():
            await ready(one)
        yield {region: f"http://127.0.0.1:{one.http_port}" for region, one in started.items()}
        for one in started.values():
            one.signal(signal.SIGTERM)
        for one in started.values():
            assert await one.ended() == 0, one.said()
    finally:
        for one in started.values():
            end(one)
