"""A server that speaks S3 on a free port of loopback: moto's, in a process of its own, empty at first."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
_SERVE = """
import threading, os
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.read(0, 1)
"""


@dataclass(frozen=True)
class S3Server:
    """Where it is, and a client of it."""

    url: str
    client: Any


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """One, for as long as the context lasts. Where moto is not installed the test is skipped, and under CI it fails."""
    if importlib.util.find_spec("moto") is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail("moto is not installed: .ci/setup dev", pytrace=False)
        pytest.skip("needs moto: .ci/setup dev")
    serving = subprocess.Popen(
        [sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert serving.stdout is not None
        url = f"http://127.0.0.1:{int(serving.stdout.readline())}"
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
        )
        yield S3Server(url, client)
        client.close()
    finally:
        for pipe in (serving.stdin, serving.stdout):
            assert pipe is not None
            pipe.close()
        serving.wait(30)
