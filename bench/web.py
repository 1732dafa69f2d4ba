"""What rows about HTTP share: the functions that they call, a trivial one and one that streams, and boto3's client."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import boto3

CODE = "web"
MEMORY_MB = 1_769
CHUNK_BYTES = 65_536
_HANDLER = """def ok(event, context):
    return "ok"


def stream(event, context):
    chunk = b"x" * 65_536
    for _ in range(int(event.get("queryStringParameters", event)["mb"]) * 16):
        yield chunk
"""


def code() -> bytes:
    """All of them, zipped."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("app.py"), _HANDLER)
    return archive.getvalue()


def lambda_client(address: str) -> Any:
    """boto3's, of the API at host:port."""
    return boto3.client(
        "lambda",
        endpoint_url=f"http://{address}",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
